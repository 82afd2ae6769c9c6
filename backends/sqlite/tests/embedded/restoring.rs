//! A backup becomes the database, in the next epoch; what is refused leaves everything as it was.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tessera_core::stream::{Epoch, StreamKind};
use tessera_ports::Shard;
use tessera_ports::change_feed::{ChangeFeed, FeedError, FeedMessage};
use tessera_ports::clock::IdSource as _;
use tessera_ports::event_store::{Appended, EventStore, StoreIdentity};
use tessera_ports::hint_store::{Hint, HintStore as _};
use tessera_sqlite::{OpenError, Present, Restore, RestoreError, RestorePlan, Restored};

use crate::directory::Mounted;
use crate::setup::{Numbered, Place, append_of, request, tenant, write};

/// A closed database with `kept` in it, its backup, and then `lost`.
async fn backed_up() -> (Place, PathBuf) {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("kept"), 2, "before").await;
    let backup = place.data_dir().with_file_name("backup.db");
    vacuum_into(&place, &backup);
    write(&sqlite, &tenant("lost"), 1, "after").await;
    write(&sqlite, &tenant("kept"), 1, "after").await;
    (place, backup)
}

fn vacuum_into(place: &Place, backup: &Path) {
    place.raw().execute("VACUUM INTO ?1", [backup.to_str().expect("text")]).expect("a backup");
}

fn restore(place: &Place, from: &Path, epoch: Option<Epoch>) -> Result<(RestorePlan, Restored), RestoreError> {
    let ids = Numbered::default();
    ids.unique();
    let restore = Restore::prepare(&place.data_dir(), from, epoch)?;
    let plan = restore.plan().clone();
    Ok((plan, restore.perform(&ids)?))
}

/// Every file of the directory that holds data.
fn files(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(place.data_dir()).map(|entries| entries.map(|entry| entry.expect("an entry").path()));
    let paths = entries
        .into_iter()
        .flatten()
        .filter(|path| !path.ends_with("tessera.lock") && !path.ends_with("tessera.db-shm") && path.is_file());
    paths.map(|path| (path.clone(), std::fs::read(path).expect("a file"))).collect()
}

async fn seq(place: &Place, name: &str) -> u64 {
    EventStore::read(&place.open(), &tenant(name), &[], None).await.expect("a read").head.seq
}

#[tokio::test]
async fn a_backup_begins_the_next_epoch() {
    let (place, backup) = backed_up().await;
    let sqlite = place.open();
    let (topic, position) = (sqlite.topic().await.expect("a topic").id, sqlite.ends().await.expect("ends")[0]);
    drop(sqlite);

    let before = std::fs::read(&backup).expect("the backup");
    let (plan, restored) = restore(&place, &backup, None).expect("it is restored");
    let expected = RestorePlan {
        backup: StoreIdentity { epoch: 1, store: topic.clone() },
        streams: 1,
        present: Present::Epoch(1),
        epoch: 2,
        kept_as: Some("tessera-before-epoch-2.db".to_owned()),
    };
    assert_eq!(plan, expected);
    assert_eq!(restored.identity, StoreIdentity { epoch: 2, store: "unique-1".to_owned() });
    assert!(std::fs::read(&backup).expect("the backup") == before, "the backup was changed");
    let names: Vec<_> = files(&place).into_keys().map(|path| path.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["tessera-before-epoch-2.db", "tessera.db"]);

    let sqlite = place.open();
    assert_eq!(sqlite.identity().await, Ok(restored.identity));
    let kept = EventStore::read(&sqlite, &tenant("kept"), &[request("before"), request("after")], None).await.expect("a read");
    assert_eq!((kept.epoch, kept.head.seq, kept.state.as_deref()), (2, 2, Some(&b"before"[..])));
    assert_eq!(kept.requests.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["before"], "`after` is free again");
    assert_eq!(EventStore::read(&sqlite, &tenant("lost"), &[], None).await.expect("a read").head.seq, 0);

    // The feed is another one, and begins anew.
    assert_eq!(
        ChangeFeed::read(&sqlite, &topic, 0, position, 10, Duration::ZERO).await,
        Err(FeedError::OutOfRange { partition: 0, position })
    );
    let of_epoch_1 = append_of(&tenant("kept"), kept.head, 1, "late");
    assert_eq!(sqlite.append(of_epoch_1.clone()).await, Ok(Appended::Conflict), "an append of the life before");
    assert_eq!(sqlite.append(tessera_ports::event_store::Append { epoch: 2, ..of_epoch_1 }).await, Ok(Appended::Committed));
    let fed = ChangeFeed::read(&sqlite, "unique-1", 0, 0, 10, Duration::ZERO).await.expect("a batch").messages;
    assert!(matches!(&fed[..], [FeedMessage::Change(change)] if (change.epoch, change.seq) == (2, 3)), "{fed:?}");
    drop(sqlite);

    // What was replaced is whole.
    let elsewhere = Place::new();
    std::fs::create_dir(elsewhere.data_dir()).expect("a directory");
    std::fs::copy(restored.kept.expect("a file"), elsewhere.database()).expect("a copy");
    assert_eq!((seq(&elsewhere, "lost").await, seq(&elsewhere, "kept").await), (1, 3));
    assert_eq!(elsewhere.open().identity().await.expect("an identity").epoch, 1);
}

#[tokio::test]
async fn a_new_directory_is_made_with_its_modes() {
    let (_origin, backup) = backed_up().await;
    let place = Place::new();
    let (plan, restored) = restore(&place, &backup, None).expect("it is restored");
    assert_eq!((plan.present, plan.kept_as, restored.kept), (Present::None, None, None));
    let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!((mode(&place.data_dir()), mode(&place.database())), (0o700, 0o600));
    assert_eq!(seq(&place, "kept").await, 2);
}

#[tokio::test]
async fn the_epoch_is_the_next_of_both_or_the_one_asked_for() {
    let (place, backup) = backed_up().await;
    for (asked, expected, kept) in [
        (None, 2, "tessera-before-epoch-2.db"),
        (None, 3, "tessera-before-epoch-3.db"),
        (Some(10), 10, "tessera-before-epoch-10.db"),
    ] {
        let (plan, restored) = restore(&place, &backup, asked).expect("it is restored");
        assert_eq!((plan.epoch, restored.identity.epoch, plan.kept_as.as_deref()), (expected, expected, Some(kept)));
    }
    let files_before = files(&place);
    for too_small in [0, 1, 10] {
        let error = restore(&place, &backup, Some(too_small)).expect_err("too small");
        assert!(matches!(error, RestoreError::Epoch { given, least: 11, .. } if given == too_small), "{error}");
    }
    assert!(files(&place) == files_before, "something was changed");
    // A backup of the newest epoch over an older database.
    let newer = place.data_dir().with_file_name("newer.db");
    vacuum_into(&place, &newer);
    let (older, _) = backed_up().await;
    assert_eq!(restore(&older, &newer, None).expect("it is restored").0.epoch, 11);
}

/// Nothing that is kept is ever written over.
#[tokio::test]
async fn names_that_are_taken_are_left_alone() {
    let (place, backup) = backed_up().await;
    std::fs::write(place.data_dir().join("tessera-before-epoch-2.db"), "somebody's").expect("a file");
    std::fs::write(place.data_dir().join("tessera-before-epoch-2-2.db-wal"), "somebody's").expect("a file");
    let (plan, _) = restore(&place, &backup, None).expect("it is restored");
    assert_eq!(plan.kept_as.as_deref(), Some("tessera-before-epoch-2-3.db"));
    let files = files(&place);
    assert_eq!(files[&place.data_dir().join("tessera-before-epoch-2.db")], b"somebody's");
    assert_eq!(files[&place.data_dir().join("tessera-before-epoch-2-2.db-wal")], b"somebody's");
}

/// What a killed process left in the log is part of what is kept, and no part of what is restored.
#[tokio::test]
async fn the_log_of_a_killed_process_goes_with_its_database() {
    let (place, backup) = backed_up().await;
    let sqlite = place.open();
    write(&sqlite, &tenant("logged"), 1, "x").await;
    let killed = place.killed();
    drop(sqlite);
    let log = std::fs::metadata(killed.data_dir().join("tessera.db-wal")).expect("a log").len();
    assert!(log > 0, "nothing is in the log");
    let (plan, restored) = restore(&killed, &backup, None).expect("it is restored");
    assert_eq!(plan.present, Present::Epoch(1));
    assert_eq!((seq(&killed, "logged").await, seq(&killed, "kept").await), (0, 2));
    assert_eq!(files(&killed).len(), 2, "the log is in what is kept");
    let elsewhere = Place::new();
    std::fs::create_dir(elsewhere.data_dir()).expect("a directory");
    std::fs::copy(restored.kept.expect("a file"), elsewhere.database()).expect("a copy");
    assert_eq!(seq(&elsewhere, "logged").await, 1);
}

/// Its log cannot be brought into it then, and without the log it would lack its last writes until the backup is in place.
#[tokio::test]
async fn a_database_that_somebody_reads_is_not_replaced() {
    let (place, backup) = backed_up().await;
    let sqlite = place.open();
    write(&sqlite, &tenant("logged"), 1, "x").await;
    let killed = place.killed();
    drop(sqlite);
    let reader = killed.raw();
    reader.execute_batch("BEGIN; SELECT count(*) FROM stream").expect("a snapshot");
    let error = restore(&killed, &backup, None).expect_err("somebody reads it").to_string();
    assert!(error.contains("its log cannot be brought into it: ") && error.contains("end the program"), "{error}");
    assert!(!killed.data_dir().join("tessera-before-epoch-2.db").exists(), "it has a second name");
    reader.execute_batch("COMMIT").expect("the snapshot ends");
    drop(reader);
    assert_eq!(seq(&killed, "logged").await, 1);
    let (plan, _) = restore(&killed, &backup, None).expect("nobody reads it any more");
    assert_eq!(plan.present, Present::Epoch(1));
    assert_eq!(seq(&killed, "logged").await, 0);
}

#[tokio::test]
async fn a_database_that_does_not_tell_its_epoch_needs_one_to_be_said() {
    let (place, backup) = backed_up().await;
    let noise = b"noise, and enough of it to be taken for a database by somebody who is in a hurry".repeat(20);
    let newer = || place.raw().pragma_update(None, "user_version", 7).expect("a pragma");
    newer();
    let error = restore(&place, &backup, None).expect_err("it does not tell").to_string();
    assert!(error.contains("schema version 7") && error.contains("--epoch N"), "{error}");
    place.raw().execute_batch("PRAGMA user_version = 1; UPDATE meta SET epoch = 5").expect("a flipped bit");
    let error = restore(&place, &backup, None).expect_err("it does not tell").to_string();
    assert!(error.contains("`meta` does not match its checksum") && error.contains("--epoch N"), "{error}");

    std::fs::write(place.database(), &noise).expect("a file");
    std::fs::write(place.data_dir().join("tessera.db-wal"), &noise).expect("a file");
    let before = files(&place);
    let error = restore(&place, &backup, None).expect_err("it does not tell").to_string();
    assert!(error.contains(&place.database().display().to_string()) && error.contains("--epoch N"), "{error}");
    assert!(matches!(restore(&place, &backup, Some(1)), Err(RestoreError::Epoch { given: 1, least: 2, .. })));
    assert!(files(&place) == before, "something was changed");

    let (plan, restored) = restore(&place, &backup, Some(6)).expect("it is restored");
    assert!(matches!(plan.present, Present::Unreadable(_)), "{plan:?}");
    assert_eq!(restored.identity.epoch, 6);
    let after = files(&place);
    for kept in ["tessera-before-epoch-6.db", "tessera-before-epoch-6.db-wal"] {
        assert!(after[&place.data_dir().join(kept)] == noise, "{kept} is not what was replaced");
    }
    assert!(!place.data_dir().join("tessera.db-wal").exists(), "another database's log is in place");
    assert_eq!(seq(&place, "kept").await, 2);
}

/// What is no backup is refused, said why, and nothing is changed: not the file, not the directory.
#[tokio::test]
async fn what_cannot_be_restored_is_refused_untouched() {
    type Spoil = fn(&Path);
    let statement = |path: &Path, statement: &str| {
        let connection = rusqlite::Connection::open(path).expect("it opens");
        assert_eq!(connection.execute(statement, []).expect(statement), 1, "{statement}");
    };
    let spoil: [(&str, Spoil, &str); 11] = [
        ("missing", |path| std::fs::remove_file(path).expect("gone"), "No such file"),
        ("empty", |path| std::fs::write(path, []).expect("empty"), "it is not a SQLite database"),
        ("noise", |path| std::fs::write(path, "noise".repeat(1000)).expect("noise"), "it is not a SQLite database"),
        (
            "a directory",
            |path| {
                std::fs::remove_file(path).expect("gone");
                std::fs::create_dir(path).expect("a directory");
            },
            "it is no file",
        ),
        (
            "cut short",
            |path| {
                let whole = std::fs::read(path).expect("a file");
                std::fs::write(path, &whole[..whole.len() / 2]).expect("half a file");
            },
            "it is damaged: ",
        ),
        (
            "a newer schema",
            |path| pragma(path, "user_version", 7),
            "it has schema version 7, this software knows versions up to 1",
        ),
        ("another's", |path| pragma(path, "application_id", 7), "it is not a database of Tessera: its application id is 7"),
        (
            "another's without a version",
            |path| {
                std::fs::remove_file(path).expect("gone");
                rusqlite::Connection::open(path).and_then(|theirs| theirs.execute_batch("CREATE TABLE t (x)")).expect("a table");
            },
            "it is not a database of Tessera: it has no schema version, and holds `t`",
        ),
        (
            "a database without anything",
            |path| {
                std::fs::remove_file(path).expect("gone");
                rusqlite::Connection::open(path).and_then(|empty| empty.execute_batch("VACUUM")).expect("an empty database");
            },
            "it is not a database of Tessera: it is empty",
        ),
        ("half of a pair", |path| std::fs::write(path.with_extension("db-wal"), "x").expect("a log"), "backup.db-wal` beside it"),
        ("amid a write", |path| std::fs::write(path.with_extension("db-journal"), "x").expect("a log"), "beside it"),
    ];
    for (name, spoil, expected) in spoil {
        let (place, backup) = backed_up().await;
        spoil(&backup);
        refused(&place, &backup, &format!("the backup `{}` cannot be restored: ", backup.display()), expected, name);
    }
    for (damage, expected) in [
        ("UPDATE stream SET state = zeroblob(5)", "it is damaged: stream `tenant/kept`, seq 2: head and state"),
        ("UPDATE event SET cell = zeroblob(9) WHERE seq = 2", "it is damaged: stream `tenant/kept`, event 2: the cell"),
        ("DELETE FROM event WHERE seq = 2", "it is damaged: stream `tenant/kept`, event 2: it is missing"),
        ("UPDATE meta SET epoch = 2", "it is damaged: the row of table `meta` does not match its checksum"),
    ] {
        let (place, backup) = backed_up().await;
        statement(&backup, damage);
        refused(&place, &backup, &format!("the backup `{}` cannot be restored: ", backup.display()), expected, damage);
    }
    let (place, _) = backed_up().await;
    let itself = "it is the database in place itself";
    refused(&place, &place.database(), "the backup ", itself, "itself");
    let (linked, pointing) = (place.data_dir().with_file_name("linked.db"), place.data_dir().with_file_name("pointing.db"));
    std::fs::hard_link(place.database(), &linked).expect("a link");
    std::os::unix::fs::symlink(place.database(), &pointing).expect("a link");
    refused(&place, &linked, "the backup ", itself, "a second name");
    refused(&place, &pointing, "the backup ", itself, "a link");
    let left = place.data_dir().join("tessera.db.restoring");
    std::fs::remove_file(linked).expect("gone");
    std::fs::copy(place.database(), &left).expect("a copy");
    refused(&place, &left, "the backup ", "it is what a restore that did not come to its end has left", "a rest");
}

fn pragma(path: &Path, name: &str, value: i64) {
    let connection = rusqlite::Connection::open(path).expect("it opens");
    connection.pragma_update(None, name, value).expect("a pragma");
}

#[track_caller]
fn refused(place: &Place, from: &Path, begins: &str, expected: &str, name: &str) {
    let (before, backup) = (files(place), std::fs::read(from).ok());
    let error = restore(place, from, None).expect_err(name).to_string();
    assert!(error.starts_with(begins) && error.contains(expected), "{name}: {error}");
    assert!(files(place) == before, "{name}: the directory was changed");
    assert!(std::fs::read(from).ok() == backup, "{name}: the file was changed");
}

#[tokio::test]
async fn a_directory_in_use_is_left_alone() {
    let (place, backup) = backed_up().await;
    let sqlite = place.open();
    let error = restore(&place, &backup, None).expect_err("it is in use");
    assert!(matches!(&error, RestoreError::DataDir(OpenError::InUse { .. })), "{error}");
    drop(sqlite);
    // Between the two steps it is ours.
    let prepared = Restore::prepare(&place.data_dir(), &backup, None).expect("it can be restored");
    assert!(matches!(place.try_open(), Err(OpenError::InUse { .. })));
    assert!(place.data_dir().join("tessera.db.restoring").exists());
    drop(prepared);
    assert!(!place.data_dir().join("tessera.db.restoring").exists(), "the copy is left");
    assert_eq!((seq(&place, "lost").await, seq(&place, "kept").await), (1, 3));
}

#[tokio::test]
async fn what_a_restore_left_that_did_not_end_is_in_nobodys_way() {
    let (place, backup) = backed_up().await;
    for suffix in ["", "-wal", "-journal", "-shm"] {
        std::fs::write(place.data_dir().join(format!("tessera.db.restoring{suffix}")), "half a copy").expect("a file");
    }
    // It had given the database its second name already.
    std::fs::hard_link(place.database(), place.data_dir().join("tessera-before-epoch-2.db")).expect("a link");
    assert_eq!(seq(&place, "lost").await, 1);
    let (plan, _) = restore(&place, &backup, None).expect("it is restored");
    assert_eq!(plan.kept_as.as_deref(), Some("tessera-before-epoch-2.db"));
    assert_eq!((seq(&place, "lost").await, seq(&place, "kept").await), (0, 2));
    let names: Vec<_> = files(&place).into_keys().map(|path| path.file_name().expect("a name").to_owned()).collect();
    assert_eq!(names, ["tessera-before-epoch-2.db", "tessera.db"]);
}

/// Hints speak of appends of a life that is over.
#[tokio::test]
async fn hints_are_not_restored() {
    let place = Place::new();
    let sqlite = place.open();
    let at = tessera_core::time::Timestamp::MIN;
    sqlite.put(&Hint { stream: tenant("a"), request_id: request("r"), head: 0, at }).await.expect("a hint");
    let backup = place.data_dir().with_file_name("backup.db");
    vacuum_into(&place, &backup);
    drop(sqlite);
    restore(&place, &backup, None).expect("it is restored");
    let sqlite = place.open();
    assert_eq!(sqlite.list(&Shard::all().collect::<Vec<_>>(), 10).await, Ok(Vec::new()));
    assert_eq!(sqlite.count(StreamKind::Tenant).await, Ok(0));
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_changed() {
    let (_origin, backup) = backed_up().await;
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).expect("a directory");
    let Some(_mounted) = Mounted::small(&place.data_dir(), 32) else { return };
    let error = restore(&place, &backup, None).expect_err("there is no room").to_string();
    assert!(error.starts_with("the backup cannot be put into data_dir `") && error.contains("No space left"), "{error}");
    assert!(files(&place).is_empty(), "something is left");
}
