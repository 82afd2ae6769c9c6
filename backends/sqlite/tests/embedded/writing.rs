//! Groups of writes in one transaction, closing, and the guards of the append.

use std::time::Duration;

use futures::future::join_all;
use tessera_core::stream::StreamKind;
use tessera_ports::event_store::{Appended, EventStore, Head};
use tokio::time::Instant;

use crate::setup::{Place, append_of, tenant, write};

/// Waiting at once, they share transactions; a conflict among them is only its own.
#[tokio::test]
async fn one_conflict_fails_nobody_else() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("taken"), 1, "x").await;
    let appends = (0..300).map(|n| {
        let stream = if n % 3 == 0 { tenant("taken") } else { tenant(&format!("t{n}")) };
        sqlite.append(append_of(&stream, Head::default(), 1, "x"))
    });
    for (n, outcome) in join_all(appends).await.into_iter().enumerate() {
        let expected = if n % 3 == 0 { Appended::Conflict } else { Appended::Committed };
        assert_eq!(outcome, Ok(expected), "append {n}");
    }
}

/// Several appends to one stream in one transaction see each other.
#[tokio::test]
async fn appends_of_one_group_follow_each_other() {
    let place = Place::new();
    let sqlite = place.open();
    let stream = tenant("a");
    let mut head = Head::default();
    let mut appends = Vec::new();
    for _ in 0..100 {
        let append = append_of(&stream, head, 1, "x");
        head = append.head_after();
        // Polled once, in order, so that they stand in the queue in order.
        let mut handed_in = Box::pin(sqlite.append(append));
        assert!(futures::poll!(&mut handed_in).is_pending());
        appends.push(handed_in);
    }
    assert!(join_all(appends).await.into_iter().all(|outcome| outcome == Ok(Appended::Committed)));
    assert_eq!(sqlite.read(&stream, &[], None).await.expect("a read").head, head);
    assert_eq!(sqlite.events(&stream, 0, 1000).await.expect("events").len(), 100);
}

/// What was handed in is written although nobody waits for it any more, and what was acknowledged is there after closing.
#[tokio::test]
async fn closing_loses_nothing() {
    let place = Place::new();
    let sqlite = place.open();
    for n in 0..50 {
        write(&sqlite, &tenant(&format!("waited-{n}")), 2, "x").await;
    }
    let handed_in = sqlite.append(append_of(&tenant("abandoned"), Head::default(), 1, "x"));
    // Polled once, it is in the queue.
    assert!(futures::FutureExt::now_or_never(handed_in).is_none());
    drop(sqlite);
    let sqlite = place.open();
    assert_eq!(sqlite.count(StreamKind::Tenant).await, Ok(51));
    assert_eq!(sqlite.read(&tenant("abandoned"), &[], None).await.expect("a read").head.seq, 1);
    for n in 0..50 {
        assert_eq!(sqlite.read(&tenant(&format!("waited-{n}")), &[], None).await.expect("a read").head.seq, 2);
    }
}

/// More streams than a range has.
#[tokio::test]
async fn many_streams_are_scanned_in_ranges() {
    let place = Place::new();
    let sqlite = place.open();
    let appends = (0..10_000).map(|n| sqlite.append(append_of(&tenant(&format!("t{n}")), Head::default(), 1, "x")));
    assert!(join_all(appends).await.into_iter().all(|outcome| outcome == Ok(Appended::Committed)));
    let ranges = sqlite.scan_ranges(StreamKind::Tenant).await.expect("ranges");
    assert_eq!(ranges.len(), 3);
    let mut found = std::collections::BTreeSet::new();
    for range in ranges {
        let mut rest = Some(range);
        while let Some(range) = rest {
            let page = sqlite.scan(&range, 1000).await.expect("a page");
            for change in page.changes {
                assert!(found.insert(change.stream), "twice");
            }
            rest = page.rest;
        }
    }
    assert_eq!(found.len(), 10_000);
    assert_eq!(sqlite.count(StreamKind::Tenant).await, Ok(10_000));
    assert_eq!(sqlite.scan_ranges(StreamKind::Plan).await, Ok(Vec::new()));
    drop(sqlite);
    assert!(place.try_open().is_ok(), "every end is as it was written");
}

/// The log is brought into the database as it grows, and does not grow for ever.
#[tokio::test]
async fn the_log_stays_short() {
    let place = Place::new();
    let sqlite = place.open();
    for n in 0..150 {
        let mut append = append_of(&tenant(&format!("t{n}")), Head::default(), 1, "x");
        append.state = vec![7; 500 * 1024].into();
        assert_eq!(sqlite.append(append).await, Ok(Appended::Committed));
    }
    let log = std::fs::metadata(place.data_dir().join("tessera.db-wal")).expect("a log").len();
    assert!(log < 24 * 1024 * 1024, "75 MB were written, and the log has {log} bytes");
}

/// Such as `VACUUM INTO`, which reads for as long as it copies: the log cannot begin anew meanwhile, and nobody waits for that.
#[tokio::test]
async fn whoever_copies_the_database_stops_no_writes() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("first"), 1, "x").await;
    let copying = place.raw();
    copying.execute_batch("BEGIN; SELECT count(*) FROM event").expect("a reader");
    let mut waited = 0;
    for n in 0..180 {
        let mut append = append_of(&tenant(&format!("t{n}")), Head::default(), 1, "x");
        append.state = vec![7; 500 * 1024].into();
        let began = Instant::now();
        assert_eq!(sqlite.append(append).await, Ok(Appended::Committed));
        // As long as others' programs are waited for.
        waited += u32::from(began.elapsed() >= Duration::from_secs(5));
    }
    let log = std::fs::metadata(place.data_dir().join("tessera.db-wal")).expect("a log").len();
    assert!(log > 80 * 1024 * 1024, "the log began anew at {log} bytes, with a reader before that");
    // At 64 MiB and at 80 the log would begin anew. A disk may take as long, once.
    assert!(waited < 2, "{waited} writes waited for the reader");
}

#[cfg(feature = "test-hooks")]
#[tokio::test]
async fn without_the_comparisons_appends_get_lost() {
    use tessera_ports::hooks::{self, Guard};
    let place = Place::new();
    let sqlite = place.open();
    let stream = tenant("a");
    let head = write(&sqlite, &stream, 1, "x").await;
    let behind = append_of(&stream, Head::default(), 1, "y");
    let forked = append_of(&stream, Head { hash: Head::default().hash, ..head }, 1, "y");
    for wrong in [&behind, &forked] {
        assert_eq!(sqlite.append(wrong.clone()).await, Ok(Appended::Conflict));
    }
    {
        let _removed = hooks::remove(&[Guard::AppendComparesHash]);
        assert_eq!(sqlite.append(behind.clone()).await, Ok(Appended::Conflict));
        assert_eq!(sqlite.append(forked).await, Ok(Appended::Committed));
    }
    let _removed = hooks::remove(&[Guard::AppendComparesHead]);
    assert_eq!(sqlite.append(behind).await, Ok(Appended::Committed));
}
