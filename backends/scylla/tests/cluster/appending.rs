//! Appends: on partitions that are not there, in conflict with others, with guards taken away, and too big.

use bytes::Bytes;
use tessera_core::stream::StreamId;
use tessera_ports::event_store::{AppendError, Appended, CellHash, EventStore as _, Head};
#[cfg(feature = "test-hooks")]
use tessera_ports::hooks::{self, Guard};
use tessera_scylla::Moves;

use crate::place::Place;
use crate::writing::{append_of, names, read, request, tenant, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_append_makes_the_partition_and_every_conflict_is_one() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    for stream in [tenant("first"), StreamId::Catalog] {
        let nothing = read(&store, &stream).await;
        // A condition on a partition that is not there is answered with no other column.
        let mut beyond = append_of(&nothing, &stream, "beyond");
        beyond.expected = Head { seq: 5, hash: CellHash([1; 32]) };
        assert_eq!(store.append(beyond).await, Ok(Appended::Conflict));
        assert_eq!(read(&store, &stream).await, nothing);

        let first = append_of(&nothing, &stream, "one");
        assert_eq!(store.append(first.clone()).await, Ok(Appended::Committed));
        // Now there are rows to tell of.
        assert_eq!(store.append(first).await, Ok(Appended::Conflict));
        assert_eq!(store.append(append_of(&nothing, &stream, "other")).await, Ok(Appended::Conflict));
        write(&store, &stream, "two").await;
        assert_eq!(names(&store, &stream).await, ["one", "two"]);
        // Requests and events that were refused left nothing.
        let read = store.read(&stream, &["one", "two", "other", "beyond"].map(request), Some(2)).await?;
        assert_eq!((read.head.seq, read.state, read.requests.len()), (2, None, 2));
    }
    place.end().await
}

/// More ids than one question can name, while the stream moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_request_ids_are_looked_up_at_one_moment() -> anyhow::Result<()> {
    const WRITES: u64 = 120;
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    let stream = tenant("many-ids");
    let ids: Vec<_> = (1..=WRITES).map(|n| request(&format!("id-{n}"))).collect();
    let writing = async {
        for id in &ids {
            write(&store, &stream, id.as_str()).await;
        }
    };
    let reading = async {
        let mut newest = 0;
        while newest < WRITES {
            let read = store.read(&stream, &ids, None).await.expect("a read");
            assert_eq!(read.requests.len() as u64, read.head.seq);
            newest = read.head.seq;
        }
    };
    futures::join!(writing, reading);
    place.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_is_too_big_is_not_attempted() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    let stream = tenant("big");
    let mut append = append_of(&read(&store, &stream).await, &stream, "big");
    append.state = Bytes::from(vec![1; 9 * 1024 * 1024]);
    let answer = store.append(append).await;
    let Err(AppendError::NotAttempted(why)) = answer else { panic!("{answer:?}") };
    assert!(why.contains("allowed are 8388608"), "{why}");
    assert_eq!(read(&store, &stream).await.head, Head::default());
    place.end().await
}

/// Guards are taken away for the thread on which the append is called.
#[cfg(feature = "test-hooks")]
#[tokio::test]
async fn without_its_guards_an_append_overwrites() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    let stream = tenant("unguarded");
    write(&store, &stream, "one").await;
    let after_one = read(&store, &stream).await;
    write(&store, &stream, "two").await;

    let stale = append_of(&after_one, &stream, "stale");
    let mut forked = append_of(&read(&store, &stream).await, &stream, "forked");
    forked.expected.hash = CellHash([9; 32]);
    assert_eq!(store.append(stale.clone()).await, Ok(Appended::Conflict));
    assert_eq!(store.append(forked.clone()).await, Ok(Appended::Conflict));
    {
        let _removed = hooks::remove(&[Guard::AppendComparesHash]);
        assert_eq!(store.append(stale.clone()).await, Ok(Appended::Conflict), "the head is compared all the same");
        assert_eq!(store.append(forked).await, Ok(Appended::Committed), "another history goes on");
    }
    {
        let _removed = hooks::remove(&[Guard::AppendComparesHead]);
        assert_eq!(store.append(stale).await, Ok(Appended::Committed), "what was there is lost");
    }
    assert_eq!(read(&store, &stream).await.head.seq, 2, "the head fell");
    place.end().await
}
