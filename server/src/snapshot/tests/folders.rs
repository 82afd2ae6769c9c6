//! The folder of the file system: two generations, whatever happens while the next is written.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tessera_ports::hooks::{self, Guard};

use super::super::folder::Directory;
use super::*;

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn two_generations_are_kept_and_only_their_owner_may_read_them() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep").join("snapshots");
    let folder = Directory::new(&path);
    assert_eq!(folder.generations().unwrap(), Vec::<u64>::new());
    let (writer, ids) = full(3_000);
    for _ in 0..3 {
        write(&writer, &folder).unwrap();
    }
    assert_eq!(names(&path), ["matrix-000000000002.snapshot", "matrix-000000000003.snapshot", "snapshot.lock"]);
    assert_eq!(mode(&path), 0o700);
    assert!(names(&path).iter().all(|name| mode(&path.join(name)) == 0o600));
    let loaded = load(&folder).0.unwrap();
    assert_eq!(told(&loaded.writer, &ids), told(&writer, &ids));
    assert!(loaded.name.ends_with("matrix-000000000003.snapshot"), "{}", loaded.name);
}

#[test]
fn a_writer_that_ends_early_leaves_the_generations_as_they_were() {
    let newest_after_an_early_end = || {
        let place = tempfile::tempdir().unwrap();
        let folder = Directory::new(place.path());
        for tenants in [1, 2] {
            write(&full(tenants).0, &folder).unwrap();
        }
        let mut unfinished = folder.begin().unwrap();
        unfinished.write(b"TESSMTRX").unwrap();
        // As a process that is killed: nothing is tidied up.
        std::mem::forget(unfinished);
        load(&folder).0.map(|loaded| loaded.writer.digest().count(StreamKind::Tenant))
    };
    assert_eq!(newest_after_an_early_end(), Some(2));
    let _removed = hooks::remove(&[Guard::SnapshotWrittenBeside]);
    assert_eq!(newest_after_an_early_end(), None, "nothing is lost without the guard");
}

#[test]
fn what_was_left_unfinished_is_removed_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let own = ["matrix-000000000009.snapshot.unfinished", "matrix-000000000004.snapshot", "notes.txt", "matrix-.snapshot"];
    for name in own {
        std::fs::write(place.path().join(name), "x").unwrap();
    }
    let folder = Directory::new(place.path());
    assert_eq!(names(place.path()), ["matrix-.snapshot", "matrix-000000000004.snapshot", "notes.txt", "snapshot.lock"]);
    assert_eq!(folder.generations().unwrap(), [4]);
    // A writer that is dropped leaves nothing behind.
    drop(folder.begin().unwrap());
    assert_eq!(names(place.path()).len(), 4);
    write(&full(1).0, &folder).unwrap();
    assert_eq!(folder.generations().unwrap(), [5, 4]);
    let (loaded, refusals) = load(&folder);
    assert!(loaded.is_some() && refusals.is_empty());
}

#[test]
fn a_folder_belongs_to_one_process_at_a_time() {
    let place = tempfile::tempdir().unwrap();
    let (first, second) = (Directory::new(place.path()), Directory::new(place.path()));
    write(&full(1).0, &first).unwrap();
    let refused = write(&full(1).0, &second).unwrap_err().to_string();
    assert_eq!(refused, "another process writes its snapshots here");
    // Reading harms nobody.
    assert!(load(&second).0.is_some());
    drop(first);
    write(&full(2).0, &second).unwrap();
}

#[test]
fn a_folder_that_cannot_be_used_is_an_error_and_no_panic() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let folder = Directory::new(&file);
    assert!(write(&full(1).0, &folder).is_err());
    let (loaded, refusals) = load(&folder);
    assert!(loaded.is_none());
    assert!(refusals[0].starts_with("the folder of snapshots cannot be read: "), "{refusals:?}");
}
