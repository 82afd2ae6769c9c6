//! Damage is named, and stays alone.

use tessera_core::stream::{StreamId, StreamKind};
use tessera_ports::event_store::{EventStore, ReadError};
use tessera_scylla::Moves;

use crate::place::Place;
use crate::writing::{read, request, tenant, write};

fn damaged<T: std::fmt::Debug>(read: Result<T, ReadError>, named: &str) {
    match read {
        Err(ReadError::Damaged(damage)) => assert!(damage.contains(named), "{damage}"),
        other => panic!("{named}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_stream_is_named_and_others_flow() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    for name in ["flipped", "stateless", "request", "gap", "end", "tail", "good"] {
        for n in 1..=3 {
            write(&store, &tenant(name), &format!("{name}-{n}")).await;
        }
    }
    for statement in [
        "UPDATE KS.tenant SET state = 0x00 WHERE key = 'flipped'",
        "UPDATE KS.tenant SET state = null WHERE key = 'stateless'",
        "UPDATE KS.tenant SET cell = 0x0102 WHERE key = 'request' AND class = 1 AND request = 'request-2' AND seq = 0",
        "DELETE FROM KS.tenant WHERE key = 'gap' AND class = 0 AND request = '' AND seq = 2",
        "UPDATE KS.tenant SET cell = 0x00 WHERE key = 'end' AND class = 0 AND request = '' AND seq = 3",
        "DELETE FROM KS.tenant WHERE key = 'tail' AND class = 0 AND request = '' AND seq = 3",
    ] {
        place.run(statement).await?;
    }
    damaged(store.read(&tenant("flipped"), &[], None).await, "stream `tenant/flipped`: seq 3");
    damaged(store.read(&tenant("stateless"), &[], None).await, "stream `tenant/stateless`: seq 3");
    damaged(store.read(&tenant("request"), &[request("request-2")], None).await, "request `request-2`");
    damaged(store.requests(&tenant("request"), None, 10).await, "request `request-2`");
    damaged(store.events(&tenant("gap"), 0, 10).await, "event 2: it is missing");
    damaged(store.events(&tenant("end"), 0, 10).await, "event 3: it is not the one");
    damaged(store.events(&tenant("tail"), 0, 10).await, "event 3: it is missing");
    damaged(store.events(&tenant("tail"), 2, 10).await, "event 3: it is missing");
    assert_eq!(read(&store, &tenant("good")).await.head.seq, 3);
    assert_eq!(store.events(&tenant("good"), 3, 10).await, Ok(Vec::new()));

    let mut found = Vec::new();
    for range in store.scan_ranges(StreamKind::Tenant).await? {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = store.scan(&range, 2).await?;
            found.extend(page.changes);
            rest = page.rest;
        }
    }
    assert_eq!(found.len(), 7);
    for change in found {
        let StreamId::Tenant(id) = &change.stream else { panic!("{change:?}") };
        let unreadable = ["flipped", "stateless"].contains(&id.as_str());
        assert_eq!((change.seq, change.state.is_empty()), (3, unreadable), "{id}");
    }
    place.end().await
}
