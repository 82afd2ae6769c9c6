//! Damage behind our back is found at the start or on the first read, and named exactly; nothing is changed.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use futures::FutureExt as _;
use rusqlite::params;
use tessera_core::catalog::Catalog;
use tessera_core::plan::PlanState;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::TenantState;
use tessera_ports::Shard;
use tessera_ports::change_feed::{ChangeFeed, FeedMessage};
use tessera_ports::event_store::{AppendError, EventStore, Head, ReadError};
use tessera_ports::hint_store::HintStore as _;
use tessera_proto::storage::decode_state;
use tessera_sqlite::OpenError;

use crate::setup::{Place, append_of, request, tenant, write};

/// A closed database: `a` with six events, `b` with one.
async fn written() -> Place {
    let place = Place::new();
    let sqlite = place.open();
    for text in ["first", "second", "third"] {
        write(&sqlite, &tenant("a"), 2, text).await;
    }
    write(&sqlite, &tenant("b"), 1, "only").await;
    drop(sqlite);
    place
}

#[track_caller]
fn refused(place: &Place) -> String {
    let before = std::fs::read(place.database()).expect("the file");
    let opened = place.try_open();
    assert!(std::fs::read(place.database()).expect("the file") == before, "it was changed");
    match opened {
        Err(OpenError::Damaged { path, damage }) => {
            assert_eq!(path, place.database());
            damage
        }
        other => panic!("opened with {other:?}"),
    }
}

/// Each statement is one flipped bit or one lost row; each is found when the database is opened.
#[tokio::test]
async fn damaged_ends_are_found_at_the_start() {
    for (statement, expected) in [
        ("UPDATE stream SET state = CAST('Third' AS BLOB) WHERE key = 'a'", "stream `tenant/a`, seq 6: head and state"),
        ("UPDATE stream SET seq = 5 WHERE key = 'a'", "stream `tenant/a`, seq 5: head and state"),
        ("UPDATE stream SET hash = zeroblob(32) WHERE key = 'a'", "stream `tenant/a`, seq 6: head and state"),
        ("UPDATE stream SET hash = zeroblob(31) WHERE key = 'a'", "stream `tenant/a`: a hash of 31 bytes"),
        ("UPDATE stream SET sum = sum + 1 WHERE key = 'b'", "stream `tenant/b`, seq 1: head and state"),
        ("UPDATE stream SET key = 'c' WHERE key = 'b'", "stream `tenant/c`, seq 1: head and state"),
        ("UPDATE stream SET key = 'é' WHERE key = 'b'", "is not a tenant id"),
        ("UPDATE stream SET kind = 2 WHERE key = 'b'", "stream `plan/b`, seq 1: head and state"),
        ("UPDATE stream SET kind = 200 WHERE key = 'b'", "kind 200 does not exist"),
        ("UPDATE event SET cell = zeroblob(9) WHERE stream = 1 AND seq = 6", "stream `tenant/a`, event 6: the cell"),
        ("UPDATE event SET cell = zeroblob(9) WHERE stream = 1 AND seq = 5", "stream `tenant/a`, event 5: the cell"),
        ("UPDATE event SET sum = sum + 1 WHERE stream = 2", "stream `tenant/b`, event 1: the cell"),
        ("UPDATE event SET seq = 7 WHERE stream = 1 AND seq = 6", "stream `tenant/a`, event 7: the cell"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 6", "stream `tenant/a`, event 6: it is missing"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 5", "stream `tenant/a`, event 5: it is missing"),
        ("UPDATE meta SET epoch = 2", "the row of table `meta` does not match its checksum"),
        ("UPDATE meta SET database = 'another'", "the row of table `meta` does not match its checksum"),
        ("DELETE FROM meta", "table `meta` is empty"),
    ] {
        let place = written().await;
        assert_eq!(place.raw().execute(statement, []).expect(statement), 1, "{statement}");
        let damage = refused(&place);
        assert!(damage.contains(expected), "{statement}: {damage}");
        assert_eq!(refused(&place), damage, "nothing was repaired by looking");
    }
}

/// Rows whose checksums fit, but not each other: what a copy of an older table, or a forger, leaves behind.
#[tokio::test]
async fn a_broken_chain_is_found_at_the_start() {
    let place = written().await;
    let other = append_of(&tenant("a"), Head::default(), 6, "forged");
    let last = (other.cells.get(5).expect("six").clone(), other.cells.get(4).expect("six").clone());
    // The sums are made as the software makes them: by writing the forged stream with it elsewhere.
    let elsewhere = Place::new();
    let sqlite = elsewhere.open();
    assert!(sqlite.append(other).await.is_ok());
    drop(sqlite);
    let sum = |seq: i64| -> i64 {
        let select = "SELECT sum FROM event WHERE stream = 1 AND seq = ?1";
        elsewhere.raw().query_row(select, [seq], |row| row.get(0)).expect("a sum")
    };
    let forge = |seq: i64, cell: &[u8]| {
        let update = "UPDATE event SET cell = ?1, sum = ?2 WHERE stream = 1 AND seq = ?3";
        place.raw().execute(update, params![cell, sum(seq), seq]).expect("an update");
    };
    forge(5, &last.1);
    let damage = refused(&place);
    assert!(damage.starts_with("stream `tenant/a`, event 5: event 6 expects hash "), "{damage}");
    forge(6, &last.0);
    let damage = refused(&place);
    assert!(damage.starts_with("stream `tenant/a`, event 6: the head expects hash "), "{damage}");
}

/// Who begins before the check is given nothing that it would have refused: the stream that is damaged is not handed out, the others
/// are, and whoever scans or writes waits. Once the damage is found the database is closed, says why, and is as it was.
#[tokio::test]
async fn a_database_that_is_used_before_it_is_checked_hands_out_nothing_damaged() {
    for (statement, expected) in [
        ("UPDATE stream SET state = CAST('Third' AS BLOB) WHERE key = 'a'", "stream `tenant/a`, seq 6: head and state"),
        ("UPDATE event SET cell = zeroblob(9) WHERE stream = 1 AND seq = 6", "stream `tenant/a`, event 6: the cell"),
        ("UPDATE event SET cell = zeroblob(9) WHERE stream = 1 AND seq = 5", "stream `tenant/a`, event 5: the cell"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 6", "stream `tenant/a`, event 6: it is missing"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 5", "stream `tenant/a`, event 5: it is missing"),
    ] {
        let place = written().await;
        assert_eq!(place.raw().execute(statement, []).expect(statement), 1, "{statement}");
        let before = std::fs::read(place.database()).expect("the file");
        let (sqlite, checks) = place.open_unchecked();
        assert_eq!(EventStore::problems(&sqlite), Vec::<String>::new());

        let read = EventStore::read(&sqlite, &tenant("a"), &[], None).await;
        assert!(matches!(&read, Err(ReadError::Damaged(damage)) if damage.contains(expected)), "{statement}: {read:?}");
        assert!(EventStore::read(&sqlite, &tenant("b"), &[], None).await.is_ok(), "{statement}");
        let id = sqlite.identity().await.expect("an identity").store;
        let fed = ChangeFeed::read(&sqlite, &id, 0, 0, 10, Duration::ZERO).await.expect(statement).messages;
        let fed = fed.iter().map(|message| match message {
            FeedMessage::Change(change) => (change.stream.key(), change.state.len()),
            other => panic!("{other:?}"),
        });
        assert_eq!(fed.collect::<Vec<_>>(), [("a", 0), ("b", 4)], "{statement}");

        let ranges = sqlite.scan_ranges(StreamKind::Tenant).await.expect("ranges");
        let head = EventStore::read(&sqlite, &tenant("b"), &[], None).await.expect("a read").head;
        let mut scan = sqlite.scan(&ranges[0], 10).boxed();
        let mut append = sqlite.append(append_of(&tenant("b"), head, 1, "more")).boxed();
        assert!(scan.as_mut().now_or_never().is_none() && append.as_mut().now_or_never().is_none(), "{statement}");

        let error = checks.run().expect_err(statement).to_string();
        assert!(error.contains(expected), "{statement}: {error}");
        let closed = format!("the database is closed: {error}");
        assert_eq!(scan.await, Err(ReadError::Unavailable(closed.clone())));
        assert_eq!(append.await, Err(AppendError::NotAttempted(closed.clone())));
        let read = EventStore::read(&sqlite, &tenant("b"), &[], None).await;
        assert_eq!(read, Err(ReadError::Unavailable(closed.clone())));
        assert!(ChangeFeed::read(&sqlite, &id, 0, 0, 10, Duration::ZERO).await.is_err(), "{statement}");
        assert_eq!((EventStore::problems(&sqlite), sqlite.fatal().reason()), (vec![closed], None), "{statement}");
        drop(sqlite);
        assert!(std::fs::read(place.database()).expect("the file") == before, "{statement}: it was changed");
    }
}

#[tokio::test]
async fn a_database_that_is_used_before_it_is_checked_is_like_any_other_afterwards() {
    let place = written().await;
    let (sqlite, checks) = place.open_unchecked();
    let ranges = sqlite.scan_ranges(StreamKind::Tenant).await.expect("ranges");
    let mut scan = sqlite.scan(&ranges[0], 10).boxed();
    assert!(scan.as_mut().now_or_never().is_none());
    checks.run().expect("it is sound");
    assert_eq!(scan.await.expect("a page").changes.len(), 2);
    write(&sqlite, &tenant("b"), 1, "more").await;
    assert_eq!(EventStore::problems(&sqlite), Vec::<String>::new());
}

/// Whoever copies the one file of a process that was stopped has everything.
#[tokio::test]
async fn a_log_that_was_left_is_in_the_database_after_a_start_before_the_check() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "written").await;
    let killed = place.killed();
    let log = || std::fs::metadata(killed.data_dir().join("tessera.db-wal")).is_ok_and(|log| log.len() > 0);
    assert!(log());
    let (opened, checks) = killed.open_unchecked();
    checks.run().expect("it is sound");
    drop(opened);
    assert!(!log());
}

/// Further back, and beside the chain, damage is found by whoever reads it.
#[tokio::test]
async fn older_damage_is_found_on_reading() {
    let reads_events = "events";
    let reads_stream = "read";
    for (statement, reading, expected) in [
        ("UPDATE event SET cell = zeroblob(9) WHERE stream = 1 AND seq = 2", reads_events, "event 2: the cell"),
        ("UPDATE event SET sum = sum + 1 WHERE stream = 1 AND seq = 3", reads_events, "event 3: the cell"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 2", reads_events, "event 2: it is missing"),
        ("DELETE FROM event WHERE stream = 1 AND seq = 1", reads_events, "event 1: it is missing"),
        ("UPDATE request SET seq = 5 WHERE stream = 1 AND id = 'second'", reads_stream, "request `second`: the row"),
        ("UPDATE request SET digest = zeroblob(32) WHERE stream = 1 AND id = 'second'", reads_stream, "request `second`"),
        ("UPDATE request SET digest = zeroblob(3) WHERE stream = 1 AND id = 'second'", reads_stream, "request `second`"),
    ] {
        let place = written().await;
        assert_eq!(place.raw().execute(statement, []).expect(statement), 1, "{statement}");
        let sqlite = place.open();
        let stream = tenant("a");
        let answer = match reading {
            "events" => sqlite.events(&stream, 0, 100).await.map(|_| ()),
            _ => EventStore::read(&sqlite, &stream, &[request("second")], None).await.map(|_| ()),
        };
        match answer {
            Err(ReadError::Damaged(damage)) => {
                assert!(damage.starts_with("stream `tenant/a`, ") && damage.contains(expected), "{statement}: {damage}");
            }
            other => panic!("{statement}: {other:?}"),
        }
        assert_eq!(sqlite.fatal().reason(), None, "damage to one stream does not stop the others");
        assert!(EventStore::read(&sqlite, &tenant("b"), &[], None).await.is_ok());
    }
}

/// A state that is damaged while the database is open is not handed out, and stops nobody else: scan and feed say of it that
/// there is a change which nobody can use, and go on.
#[tokio::test]
async fn damage_under_a_running_process_is_not_served_and_stops_nobody() {
    for (statement, whose) in [
        ("UPDATE stream SET state = zeroblob(5) WHERE key = 'a'", Some(("a", 6))),
        ("UPDATE stream SET sum = sum + 1 WHERE key = 'a'", Some(("a", 6))),
        ("UPDATE stream SET hash = zeroblob(31) WHERE key = 'a'", Some(("a", 6))),
        ("UPDATE stream SET seq = 7 WHERE key = 'a'", Some(("a", 7))),
        ("UPDATE stream SET seq = 0 WHERE key = 'a'", Some(("a", 1))),
        ("UPDATE stream SET seq = -1 WHERE key = 'a'", Some(("a", 1))),
        // Whose it was, nobody can tell any more.
        ("UPDATE stream SET key = CAST(x'ff' AS TEXT) WHERE key = 'a'", None),
        ("UPDATE stream SET key = '' WHERE key = 'a'", None),
    ] {
        let place = written().await;
        let sqlite = place.open();
        assert_eq!(place.raw().execute(statement, []).expect(statement), 1, "{statement}");

        let ranges = sqlite.scan_ranges(StreamKind::Tenant).await.expect("ranges");
        let page = sqlite.scan(&ranges[0], 10).await.expect(statement);
        let told: Vec<_> = page.changes.iter().map(|change| (change.stream.key(), change.seq, change.state.len())).collect();
        let expected: Vec<_> = whose.map(|(key, seq)| (key, seq, 0)).into_iter().chain([("b", 1, 4)]).collect();
        assert_eq!(told, expected, "{statement}");
        // Page by page, too: a damaged row takes its place.
        let first = sqlite.scan(&ranges[0], 1).await.expect(statement);
        assert_eq!(first.changes.len(), usize::from(whose.is_some()), "{statement}");
        let second = sqlite.scan(&first.rest.expect("more"), 1).await.expect(statement);
        assert_eq!(second.changes.first().map(|change| change.stream.key()), Some("b"), "{statement}");

        let id = sqlite.identity().await.expect("an identity").store;
        let (ends, mut from, mut fed) = (sqlite.ends().await.expect("ends"), 0, Vec::new());
        while from < ends[0] {
            let batch = ChangeFeed::read(&sqlite, &id, 0, from, 1, Duration::ZERO).await.expect(statement);
            assert!(batch.next > from, "{statement}: the feed is stuck at {from}");
            from = batch.next;
            fed.extend(batch.messages.into_iter().map(|message| match message {
                FeedMessage::Change(change) => (change.stream.key().to_owned(), change.seq, change.state.len()),
                FeedMessage::Bad(why) => (why, 0, 0),
                FeedMessage::Heartbeat(heartbeat) => panic!("{heartbeat:?}"),
            }));
        }
        let bad = whose.map_or("row 1 of table `stream`", |(key, _)| key);
        assert!(
            fed.first().is_some_and(|(told, seq, _)| told.starts_with(bad) && *seq == whose.map_or(0, |(_, seq)| seq)),
            "{fed:?}"
        );
        assert_eq!(fed.last(), Some(&("b".to_owned(), 1, 4)), "{statement}");

        if whose.is_some() {
            assert!(
                matches!(EventStore::read(&sqlite, &tenant("a"), &[], None).await, Err(ReadError::Damaged(_))),
                "{statement}"
            );
        }
        assert_eq!(sqlite.fatal().reason(), None, "{statement}");
        write(&sqlite, &tenant("b"), 1, "more").await;
    }
}

/// What stands for a damaged state can be taken for no state of any kind.
#[test]
fn the_change_of_a_damaged_row_is_refused_by_whoever_reads_it() {
    assert!(decode_state::<Catalog>(&[]).is_err());
    assert!(decode_state::<PlanState>(&[]).is_err());
    assert!(decode_state::<TenantState>(&[]).is_err());
}

/// Whatever byte of the file is flipped: opening it, or reading everything, says so, or everything is as it was written.
#[tokio::test]
async fn a_flipped_byte_anywhere_is_never_served() {
    let place = written().await;
    let pristine = std::fs::read(place.database()).expect("the file");
    let before = everything(&place).await.expect("it opens").expect("it is sound");
    let mut found = 0;
    // An odd step meets every kind of place within the pages in turn.
    let places: Vec<usize> = (0..pristine.len()).step_by(211).collect();
    for at in &places {
        std::fs::write(place.database(), &pristine).expect("the file");
        let file = std::fs::OpenOptions::new().write(true).open(place.database()).expect("the file");
        file.write_all_at(&[pristine[*at] ^ 0x10], u64::try_from(*at).expect("small")).expect("one byte");
        drop(file);
        match everything(&place).await {
            Err(_) | Ok(Err(_)) => found += 1,
            Ok(Ok(after)) => assert_eq!(after, before, "byte {at} was flipped and nobody noticed"),
        }
        std::fs::remove_file(place.data_dir().join("tessera.db-wal")).ok();
        std::fs::remove_file(place.data_dir().join("tessera.db-shm")).ok();
    }
    assert!(found > 10, "only {found} of {} flipped bytes mattered", places.len());
}

/// All that is stored of the streams, as readers see it; the outer error: it does not open.
async fn everything(place: &Place) -> Result<Result<Vec<String>, String>, String> {
    let sqlite = place.try_open().map_err(|error| error.to_string())?;
    let mut all = Vec::new();
    let reading = async {
        all.push(format!("{:?}", sqlite.identity().await?));
        for kind in StreamKind::ALL {
            for range in sqlite.scan_ranges(kind).await? {
                all.push(format!("{:?}", sqlite.scan(&range, 100).await?.changes));
            }
        }
        let ids: Vec<_> = ["first", "second", "third", "only"].into_iter().map(request).collect();
        for stream in [tenant("a"), tenant("b"), StreamId::Catalog] {
            all.push(format!("{:?}", EventStore::read(&sqlite, &stream, &ids, None).await?));
            all.push(format!("{:?}", sqlite.events(&stream, 0, 100).await?));
        }
        all.push(format!("{:?}", sqlite.list(&Shard::all().collect::<Vec<_>>(), 10).await?));
        Ok::<_, ReadError>(())
    };
    let outcome = reading.await;
    Ok(outcome.map(|()| all).map_err(|error| error.to_string()))
}

#[tokio::test]
async fn a_big_database_is_opened_without_looking_at_every_page() {
    let place = written().await;
    // An index row that is missing: only the page check sees it.
    let raw = place.raw();
    raw.pragma_update(None, "writable_schema", true).expect("a pragma");
    raw.execute("DELETE FROM sqlite_schema WHERE name = 'hint_by_age'", []).expect("a deletion");
    drop(raw);
    assert!(refused(&place).contains("never used"), "an orphaned page");
    let config = tessera_sqlite::Config { page_check_bytes_max: 0, ..place.config() };
    assert!(tessera_sqlite::Sqlite::open(&config, &crate::setup::Numbered::default()).is_ok());
}
