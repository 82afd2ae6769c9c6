//! Many streams are scanned while they are written.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_ports::event_store::{Appended, EventStore as _, Head, StreamRead};
use tessera_scylla::{Moves, Scylla};

use crate::place::Place;
use crate::writing::{append_of, tenant, write};

const STREAMS: usize = 20_000;

async fn lap(store: &Scylla) -> anyhow::Result<BTreeMap<StreamId, Seq>> {
    let ranges = store.scan_ranges(StreamKind::Tenant).await?;
    let scans = ranges.into_iter().map(async |range| {
        let (mut found, mut rest) = (Vec::new(), Some(range));
        while let Some(range) = rest {
            let page = store.scan(&range, 1_000).await?;
            found.extend(page.changes.into_iter().map(|change| (change.stream, change.seq)));
            rest = page.rest;
        }
        anyhow::Ok(found)
    });
    let found: Vec<_> = futures::stream::iter(scans).buffer_unordered(4).try_collect().await?;
    let found: Vec<_> = found.into_iter().flatten().collect();
    let count = found.len();
    let found: BTreeMap<_, _> = found.into_iter().collect();
    assert_eq!(found.len(), count, "a stream twice in one lap");
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_all_of_many_streams_while_they_are_written() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    let epoch = store.identity().await?.epoch;
    let nothing = StreamRead { epoch, head: Head::default(), state: None, requests: Vec::new() };
    let streams: Vec<StreamId> = (0..STREAMS).map(|n| tenant(&format!("tenant-{n}"))).collect();
    for some in streams.chunks(2_000) {
        let appends: Vec<_> = some.iter().map(|stream| Arc::new(append_of(&nothing, stream, "made"))).collect();
        let outcomes = store.append_many(&appends).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(Appended::Committed)));
    }
    let counted = store.count(StreamKind::Tenant).await?;
    assert!((STREAMS as u64 * 19 / 20..=STREAMS as u64 * 21 / 20).contains(&counted), "{counted}");

    let writing = async {
        for stream in streams.iter().step_by(100) {
            write(&store, stream, "moved").await;
            write(&store, &tenant(&format!("young-{}", stream.key())), "made").await;
        }
    };
    let scanning = async {
        for _ in 0..3 {
            let found = lap(&store).await.expect("a lap");
            let missing: Vec<_> = streams.iter().filter(|stream| !found.contains_key(stream)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
    futures::join!(writing, scanning);
    let found = lap(&store).await?;
    assert_eq!(found.len(), STREAMS + STREAMS / 100);
    assert_eq!(found.values().filter(|seq| **seq == 2).count(), STREAMS / 100);
    place.end().await
}
