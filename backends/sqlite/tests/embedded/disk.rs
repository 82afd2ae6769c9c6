//! A disk that is full: writes are refused, reads go on, and with space everything goes on, in the same process.

use bytes::Bytes;
use tessera_ports::event_store::{AppendError, Appended, EventStore, Head};
use tessera_sqlite::{Config, Sqlite};

use crate::directory::Mounted;
use crate::setup::{Numbered, Place, append_of, tenant, write};

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).expect("a directory");
    let Some(_mounted) = Mounted::small(&place.data_dir(), 4096) else { return };
    let sqlite = place.open();
    write(&sqlite, &tenant("small"), 1, "before").await;
    let ballast = place.data_dir().join("ballast");
    std::fs::write(&ballast, vec![0; 1024 * 1024]).expect("a file");

    // Fills what is left.
    let mut written = 0;
    let full = loop {
        let stream = tenant(&format!("big-{written}"));
        let mut append = append_of(&stream, Head::default(), 1, "big");
        append.state = Bytes::from(vec![7; 100 * 1024]);
        match sqlite.append(append.clone()).await {
            Ok(Appended::Committed) => written += 1,
            other => break (other, append),
        }
        assert!(written < 100, "4 MiB hold no 10 MB");
    };
    assert_eq!(full.0, Err(AppendError::DiskFull));
    assert!(written > 3, "only {written} were written");
    assert_eq!(sqlite.fatal().reason(), None, "a full disk is no end");
    // Nothing of what was refused is there; everything that was acknowledged is.
    assert_eq!(sqlite.read(&full.1.stream, &[], None).await.expect("a read").head, Head::default());
    assert_eq!(sqlite.append(full.1.clone()).await, Err(AppendError::DiskFull), "it is still full");

    std::fs::remove_file(&ballast).expect("space again");
    assert_eq!(sqlite.append(full.1).await, Ok(Appended::Committed));
    drop(sqlite);
    let sqlite = place.open();
    for n in 0..=written {
        assert_eq!(sqlite.read(&tenant(&format!("big-{n}")), &[], None).await.expect("a read").head.seq, 1, "big-{n}");
    }
}

/// An I/O error is the end: nothing more is acknowledged, the process is told to end, and the next one finds everything that
/// was acknowledged. The error is a real one: this test runs itself once more under a limit on the size of files, where a write
/// beyond it fails with EFBIG.
#[tokio::test]
async fn an_io_error_is_the_end() {
    if let Ok(data_dir) = std::env::var("TESSERA_TEST_LIMITED_DATA_DIR") {
        return under_the_limit(std::path::Path::new(&data_dir)).await;
    }
    let place = Place::new();
    drop(place.open());
    let this = std::env::current_exe().expect("this binary");
    let output = std::process::Command::new("sh")
        // Ignored, so that the write fails instead of the process; 1,600 blocks of 512 or 1,024 bytes.
        .args(["-c", "trap '' XFSZ && ulimit -f 1600 && exec \"$0\" --exact disk::an_io_error_is_the_end --nocapture"])
        .arg(this)
        .env("TESSERA_TEST_LIMITED_DATA_DIR", place.data_dir())
        .output()
        .expect("a process");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let acknowledged = said.lines().find_map(|line| line.strip_prefix("acknowledged: "));
    let acknowledged: usize = acknowledged.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!(acknowledged > 3, "{said}");
    let sqlite = place.open();
    for n in 0..acknowledged {
        let read = sqlite.read(&tenant(&format!("big-{n}")), &[], None).await.expect("a read");
        assert_eq!(read.head.seq, 1, "big-{n} was acknowledged");
    }
}

async fn under_the_limit(data_dir: &std::path::Path) {
    let sqlite = crate::setup::open_at(data_dir).expect("it opens");
    let mut acknowledged = 0;
    let failed = loop {
        let mut append = append_of(&tenant(&format!("big-{acknowledged}")), Head::default(), 1, "big");
        append.state = Bytes::from(vec![7; 100 * 1024]);
        match sqlite.append(append).await {
            Ok(Appended::Committed) => acknowledged += 1,
            other => break other,
        }
        assert!(acknowledged < 100, "the limit does not limit");
    };
    println!("\nacknowledged: {acknowledged}");
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    let reason = sqlite.fatal().wait().await;
    assert!(reason.contains("disk I/O error"), "{reason}");
    let refused = sqlite.append(append_of(&tenant("late"), Head::default(), 1, "late")).await;
    assert!(matches!(refused, Err(AppendError::NotAttempted(_))), "{refused:?}");
    assert!(sqlite.read(&tenant("big-0"), &[], None).await.is_err(), "nothing is known of the disk any more");
}

/// A page that is not what was written stops the writer as an I/O error does.
#[tokio::test]
async fn damage_met_while_writing_is_the_end() {
    let place = Place::new();
    let sqlite = place.open();
    for n in 0..200 {
        write(&sqlite, &tenant(&format!("t{n}")), 1, "x").await;
    }
    drop(sqlite);
    // Without the page check the writer has not yet seen the pages, and will read them.
    let config = Config { page_check_bytes_max: 0, ..place.config() };
    let sqlite = Sqlite::open(&config, &Numbered::default()).expect("it opens");
    let fatal = sqlite.fatal();
    // The first page, which holds the header, stays; all others are gone.
    let file = std::fs::OpenOptions::new().write(true).open(place.database()).expect("the file");
    let length = usize::try_from(file.metadata().expect("metadata").len()).expect("small");
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xaa; length - 4096], 4096).expect("a write");
    let failed = sqlite.append(append_of(&tenant("new"), Head::default(), 1, "x")).await;
    assert!(matches!(failed, Err(AppendError::Unknown(_))), "{failed:?}");
    assert!(fatal.wait().await.contains("malformed"));
    let refused = sqlite.append(append_of(&tenant("late"), Head::default(), 1, "late")).await;
    assert!(matches!(refused, Err(AppendError::NotAttempted(_))), "{refused:?}");
}
