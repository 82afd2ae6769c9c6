//! A reader follows a restore into another keyspace, and nowhere else.

use tessera_ports::event_store::{EventStore as _, StoreIdentity};
use tessera_scylla::Moves;

use crate::place::{Place, keyspace};
use crate::writing::{read, tenant, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_moves_to_exactly_the_store_it_heard_of() -> anyhow::Result<()> {
    let Some(old) = Place::shared().await? else { return Ok(()) };
    let (reader, writer) = (old.open(Moves::Yes).await?, old.open(Moves::No).await?);
    write(&writer, &tenant("a"), "old").await;
    let new = old.next(2).await?;
    let identity = new.migrated.identity.clone();
    write(&new.open(Moves::No).await?, &tenant("a"), "new").await;

    let heard = |store: &str, epoch| StoreIdentity { epoch, store: store.to_owned() };
    let (here, there) = (&old.config.keyspace, &new.config.keyspace);
    for other in [
        heard(&identity.store, 1),
        heard(&identity.store, 3),
        heard(&format!("{there}/somebody-else"), 2),
        heard(&format!("{here}/x"), 2),
        heard(&format!("{}/x", keyspace()), 2),
        heard(there, 2),
        heard("\"; DROP KEYSPACE system; --/x", 2),
        heard("", 2),
    ] {
        reader.heard_of(&other).await;
        assert_eq!(reader.identity().await?, old.migrated.identity, "moved to {other:?}");
    }
    for store in [&reader, &writer] {
        store.heard_of(&identity).await;
    }
    assert_eq!(writer.identity().await?, old.migrated.identity, "a writer never moves");
    assert_eq!(reader.identity().await?, identity);
    let moved = read(&reader, &tenant("a")).await;
    assert_eq!((moved.epoch, moved.state.as_deref()), (2, Some(&b"new"[..])));
    // Nor back.
    reader.heard_of(&old.migrated.identity).await;
    assert_eq!(reader.identity().await?, identity);
    new.end().await?;
    old.end().await
}

/// Tables that are newer than the software are left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_does_not_move_to_tables_it_does_not_know() -> anyhow::Result<()> {
    let Some(old) = Place::shared().await? else { return Ok(()) };
    let reader = old.open(Moves::Yes).await?;
    let new = old.next(2).await?;
    new.run("INSERT INTO KS.schema_version (one, version) VALUES (1, 2)").await?;
    reader.heard_of(&new.migrated.identity).await;
    assert_eq!(reader.identity().await?, old.migrated.identity);
    new.end().await?;
    old.end().await
}
