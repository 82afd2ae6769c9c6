//! The scan of all current states.

use std::collections::BTreeMap;

use futures::future::{join, join_all};
use tessera_core::stream::{Seq, StreamId, StreamKind};

use crate::change_feed::Change;
use crate::conformance::Run;
use crate::conformance::sample::{epoch, write};
use crate::event_store::{EventStore, ScanRange};

/// A whole range in small pages.
async fn scan_range(store: &dyn EventStore, range: ScanRange) -> Vec<Change> {
    const PAGE: usize = 7;
    let mut found = Vec::new();
    let mut rest = Some(range);
    while let Some(range) = rest {
        let page = store.scan(&range, PAGE).await.expect("a page");
        assert!(page.changes.len() <= PAGE, "{} changes in a page of {PAGE}", page.changes.len());
        found.extend(page.changes);
        rest = page.rest;
    }
    found
}

/// Every stream of a kind that a scan finds, at what seq and with which state; each at most once.
async fn scan_kind(store: &dyn EventStore, kind: StreamKind) -> BTreeMap<StreamId, Change> {
    let ranges = store.scan_ranges(kind).await.expect("ranges");
    let mut found = BTreeMap::new();
    for change in join_all(ranges.into_iter().map(|range| scan_range(store, range))).await.into_iter().flatten() {
        assert_eq!(change.stream.kind(), kind, "{} in a scan of another kind", change.stream);
        let twice = found.insert(change.stream.clone(), change);
        assert_eq!(twice, None, "the same stream twice in one lap");
    }
    found
}

/// Streams of every kind are in the ranges of their kind, with seq and state.
pub async fn ranges_cover_every_stream(store: &dyn EventStore, run: &Run) {
    let mut expected: BTreeMap<StreamId, (Seq, String)> = BTreeMap::new();
    for n in 0..40 {
        let name = format!("covered-{n}");
        for stream in [run.tenant(&name), run.plan(&name), run.add_on(&name), StreamId::Catalog] {
            let text = format!("{stream} {n}");
            let head = write(store, &stream, &[&text]).await;
            expected.insert(stream, (head.seq, text));
        }
    }
    let epoch = epoch(store).await;
    for kind in StreamKind::ALL {
        let found = scan_kind(store, kind).await;
        for (stream, (seq, text)) in expected.iter().filter(|(stream, _)| stream.kind() == kind) {
            let state = bytes::Bytes::copy_from_slice(text.as_bytes());
            let change = Change { epoch, stream: stream.clone(), seq: *seq, state };
            assert_eq!(found.get(stream), Some(&change));
        }
    }
}

/// A page shows what was committed before it was asked for, also when the ranges are older.
pub async fn scan_sees_what_was_committed_before(store: &dyn EventStore, run: &Run) {
    let streams: Vec<StreamId> = (0..20).map(|n| run.tenant(&format!("newer-{n}"))).collect();
    for stream in &streams {
        write(store, stream, &["old"]).await;
    }
    let ranges = store.scan_ranges(StreamKind::Tenant).await.expect("ranges");
    for stream in &streams {
        write(store, stream, &["new"]).await;
    }
    let pages = join_all(ranges.into_iter().map(|range| scan_range(store, range))).await;
    let found: BTreeMap<_, _> = pages.into_iter().flatten().map(|change| (change.stream.clone(), change)).collect();
    for stream in &streams {
        let change = found.get(stream).unwrap_or_else(|| panic!("{stream} is missing"));
        assert_eq!((change.seq, &change.state[..]), (2, &b"new"[..]), "{stream}");
    }
}

/// While streams come and move, a lap finds each that was there when it began, at least at the seq it then had.
pub async fn scan_overlaps_writes(store: &dyn EventStore, run: &Run) {
    let old: Vec<StreamId> = (0..30).map(|n| run.tenant(&format!("old-{n}"))).collect();
    for stream in &old {
        write(store, stream, &["a"]).await;
    }
    let writing = async {
        for round in 0..3 {
            for (n, stream) in old.iter().enumerate() {
                write(store, stream, &["b"]).await;
                write(store, &run.tenant(&format!("young-{round}-{n}")), &["a"]).await;
            }
        }
    };
    let scanning = async {
        let mut least: BTreeMap<StreamId, Seq> = old.iter().map(|stream| (stream.clone(), 1)).collect();
        for _ in 0..5 {
            let found = scan_kind(store, StreamKind::Tenant).await;
            for (stream, least) in &mut least {
                let seq = found.get(stream).unwrap_or_else(|| panic!("{stream} is missing")).seq;
                assert!(seq >= *least, "{stream} fell from {least} to {seq}");
                *least = seq;
            }
        }
    };
    join(writing, scanning).await;
    let found = scan_kind(store, StreamKind::Tenant).await;
    assert!(old.iter().all(|stream| found.get(stream).is_some_and(|change| change.seq == 4)));
}

/// The count is rough, but it grows with the streams.
pub async fn count_follows(store: &dyn EventStore, run: &Run) {
    let before = store.count(StreamKind::Plan).await.expect("a count");
    for n in 0..200 {
        write(store, &run.plan(&format!("counted-{n}")), &["a"]).await;
    }
    let after = store.count(StreamKind::Plan).await.expect("a count");
    assert!(after >= before.saturating_add(100), "{before} plans, then 200 more, then {after}");
}
