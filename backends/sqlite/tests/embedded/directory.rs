//! The data directory: whose it is, what may be in it, and who may read it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use tessera_ports::event_store::{EventStore, StoreIdentity};
use tessera_sqlite::OpenError;

use crate::setup::{Place, open_at, tenant, write};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_may_read() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "x").await;
    assert_eq!(mode(&place.data_dir()), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(place.data_dir()).expect("a directory") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().expect("a name").to_owned());
    }
    names.sort();
    assert_eq!(names, ["tessera.db", "tessera.db-shm", "tessera.db-wal", "tessera.lock"]);
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let place = Place::new();
    let sqlite = place.open();
    let error = place.try_open().expect_err("it is in use");
    let expected = format!(
        "data_dir `{}` is in use by another process (process {}); a data directory belongs to one process at a time",
        place.data_dir().display(),
        std::process::id()
    );
    assert_eq!(error.to_string(), expected);
    let clone = sqlite.clone();
    drop(sqlite);
    assert!(place.try_open().is_err(), "a clone has it still");
    drop(clone);
    assert!(place.try_open().is_ok(), "closed, it is free");
}

#[tokio::test]
async fn identity_is_given_once() {
    let place = Place::new();
    let expected = StoreIdentity { epoch: 1, store: "unique-0".to_owned() };
    assert_eq!(place.open().identity().await, Ok(expected.clone()));
    assert_eq!(place.open().identity().await, Ok(expected));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let place = Place::new();
    drop(place.open());
    place.raw().pragma_update(None, "user_version", 7).expect("a pragma");
    let error = place.try_open().expect_err("it is newer");
    assert!(matches!(error, OpenError::NewerSchema { found: 7, known: 1, .. }));
    let expected = format!(
        "the database `{}` has schema version 7, this software knows versions up to 1; use the software that wrote it, or newer",
        place.database().display()
    );
    assert_eq!(error.to_string(), expected);
    let version: i64 = place.raw().pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    assert_eq!(version, 7);
}

#[test]
fn files_of_others_are_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).expect("a directory");
    place.raw().execute_batch("CREATE TABLE theirs (x)").expect("a table");
    let theirs = std::fs::read(place.database()).expect("a file");
    let error = place.try_open().expect_err("it is not ours");
    assert!(matches!(&error, OpenError::Foreign { reason, .. } if reason.contains("`theirs`")), "{error}");
    assert!(std::fs::read(place.database()).expect("a file") == theirs, "it was changed");

    // Somebody else counts the versions of a schema, too.
    place.raw().pragma_update(None, "user_version", 1).expect("a pragma");
    let theirs = std::fs::read(place.database()).expect("a file");
    let error = place.try_open().expect_err("it is not ours").to_string();
    assert!(error.contains("is not a database of Tessera: its application id is 0"), "{error}");
    assert!(std::fs::read(place.database()).expect("a file") == theirs, "it was changed");

    let noise = "not a database at all, but long enough to be taken for one".repeat(100);
    std::fs::write(place.database(), &noise).expect("a file");
    let error = place.try_open().expect_err("it is no database");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(std::fs::read(place.database()).expect("a file") == noise.as_bytes(), "it was changed");
}

/// What a killed process leaves in the log belongs to the database: it is not even brought into it before all is known to be well.
#[tokio::test]
async fn the_log_of_what_is_refused_stays() {
    let place = Place::new();
    let sqlite = place.open();
    write(&sqlite, &tenant("a"), 1, "x").await;
    let killed = place.killed();
    drop(sqlite);
    let raw = killed.raw();
    raw.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("a setting");
    raw.pragma_update(None, "user_version", 7).expect("a pragma");
    drop(raw);
    let files = || [killed.database(), killed.data_dir().join("tessera.db-wal")].map(|path| std::fs::read(path).expect("a file"));
    let before = files();
    assert!(matches!(killed.try_open(), Err(OpenError::NewerSchema { found: 7, .. })));
    assert!(files() == before, "it was changed");
}

#[test]
fn a_directory_without_a_database_can_be_left_alone() {
    let place = Place::new();
    let existing = || tessera_sqlite::Sqlite::open_existing(&place.config(), &crate::setup::Numbered::default());
    let error = existing().expect_err("there is none").to_string();
    let expected = format!("there is no database in data_dir `{}`; ", place.data_dir().display());
    assert!(error.starts_with(&expected), "{error}");
    assert!(!place.data_dir().exists());
    let versions = |found| tessera_sqlite::SchemaVersions { found, now: 1 };
    assert_eq!(place.open().schema(), versions(0));
    assert_eq!(existing().expect("it opens").schema(), versions(1));
}

#[test]
fn a_new_database_begins_in_the_epoch_that_is_said_and_keeps_it() {
    let place = Place::new();
    let in_epoch = |epoch| tessera_sqlite::Sqlite::open_in_epoch(&place.config(), &crate::setup::Numbered::default(), epoch);
    let made = in_epoch(5).expect("it is made").which().clone();
    assert_eq!(made.epoch, 5);
    assert_eq!(in_epoch(7).expect("it opens").which(), &made);
    assert_eq!(place.open().which(), &made);
}

#[test]
fn a_half_made_schema_is_made_again() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).expect("a directory");
    // What a process leaves that ends between making the file and the first commit.
    std::fs::write(place.database(), []).expect("a file");
    drop(place.open());
    assert!(place.try_open().is_ok());
}

#[test]
fn what_is_not_a_directory_is_named() {
    let place = Place::new();
    let file = place.data_dir().with_file_name("file");
    std::fs::write(&file, "x").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let error = open_at(&path).expect_err("it is a file").to_string();
        assert!(error.starts_with(&format!("data_dir `{}` cannot be used: ", path.display())), "{error}");
        assert!(path != file || error.contains("it is a file"), "{error}");
        assert!(error.ends_with("needed is a directory on a local disk in which this process may write"), "{error}");
    }
}

/// As root every directory can be written in, so this one is on a file system that is mounted read-only.
#[test]
fn a_read_only_directory_is_named() {
    let place = Place::new();
    drop(place.open());
    let data_dir = place.data_dir();
    let is_root = rustix::process::geteuid().is_root();
    let _mounted = if is_root {
        let Some(mounted) = Mounted::read_only(&data_dir) else { return };
        Some(mounted)
    } else {
        std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o500)).expect("a mode");
        std::fs::remove_file(data_dir.join("tessera.lock")).ok();
        None
    };
    let error = place.try_open().expect_err("it is read-only").to_string();
    assert!(error.starts_with(&format!("data_dir `{}` cannot be used: cannot write in it: ", data_dir.display())), "{error}");
    std::fs::set_permissions(&data_dir, std::fs::Permissions::from_mode(0o700)).ok();
}

/// A mount that is gone afterwards. Who has no right to mount gets none, and is told that a test is skipped.
#[derive(Debug)]
pub(crate) struct Mounted(std::path::PathBuf);

impl Mounted {
    /// Over itself, read-only.
    fn read_only(path: &Path) -> Option<Self> {
        let mounted = Self::mount(path, &["--bind".as_ref(), path.as_os_str()])?;
        let options = ["-o".as_ref(), "remount,ro,bind".as_ref(), path.as_os_str()];
        assert!(run("mount", &options), "what may be mounted may be mounted read-only");
        Some(mounted)
    }

    /// In memory, with room for so many KiB.
    pub(crate) fn small(path: &Path, size_kib: u32) -> Option<Self> {
        let size = format!("size={size_kib}k");
        Self::mount(path, &["-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref(), "tmpfs".as_ref()])
    }

    fn mount(path: &Path, what: &[&std::ffi::OsStr]) -> Option<Self> {
        if run("mount", &[what, &[path.as_os_str()]].concat()) {
            return Some(Self(path.to_owned()));
        }
        // Past the runner, which shows nothing of a test that passes; `cargo xtask test` counts such lines.
        writeln!(std::io::stdout(), "SKIP: a test needs the right to mount").expect("standard output");
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.0.as_os_str()]);
    }
}

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
