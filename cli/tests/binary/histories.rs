//! Stores that move as histories, from one data directory into another.

use crate::binary::dev::{Dev, tessera};

#[test]
fn a_database_that_was_restored_moves_into_a_new_directory() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (data, copy, history, other) = (place("data"), place("copy.db"), place("history.jsonl"), place("other"));
    let good = |arguments: &[&str]| {
        let said = tessera(arguments, &[]);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out
    };
    Dev::ready(data.as_ref()).stop();
    std::fs::copy(folder.path().join("data/tessera.db"), &copy).unwrap();
    good(&["restore", "--from", &copy, "--data", &data, "--yes"]);
    good(&["export", "--history", "--data", &data, "--out", &history]);
    good(&["import", "--history", &history, "--data", &other, "--yes"]);
    let digest = |data: &str| good(&["digest", "--data", data]);
    assert!(digest(&data).lines().any(|line| line.starts_with("epoch") && line.ends_with(" 2")), "{}", digest(&data));
    assert_eq!(digest(&other), digest(&data));

    // One that is there keeps its epoch, and what to do about it is said.
    let earlier = place("earlier");
    std::fs::create_dir(&earlier).unwrap();
    std::fs::copy(&copy, folder.path().join("earlier/tessera.db")).unwrap();
    let said = tessera(&["import", "--history", &history, "--data", &earlier, "--yes"], &[]);
    assert!(said.code == Some(1) && said.err.contains("name a data directory that is not there yet"), "{said:?}");
}
