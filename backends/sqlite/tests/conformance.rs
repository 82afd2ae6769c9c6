//! The suites of the ports, on SQLite.

use tempfile::TempDir;
use tessera_core::ids::RequestId;
use tessera_ports::clock::IdSource;
use tessera_ports::conformance::{Run, change_feed, event_store, hint_store, lease_store};
use tessera_sqlite::{Config, Sqlite};

#[derive(Debug)]
struct OneName;

impl IdSource for OneName {
    fn request_id(&self) -> RequestId {
        RequestId::parse("one").expect("a request id")
    }

    fn unique(&self) -> String {
        "conformance".to_owned()
    }
}

fn open() -> (TempDir, Sqlite) {
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = Sqlite::open(&Config::new(directory.path()), &OneName).expect("it opens");
    (directory, sqlite)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_conforms() {
    let (_directory, sqlite) = open();
    event_store::check_all(&sqlite, &Run::new("store")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_conforms() {
    let (_directory, sqlite) = open();
    let sides = change_feed::Sides { store: &sqlite, feed: &sqlite, publisher: &sqlite };
    change_feed::check_all(sides, &Run::new("feed")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hint_store_conforms() {
    let (_directory, sqlite) = open();
    hint_store::check_all(&sqlite, &Run::new("hints")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_conform() {
    let (_directory, sqlite) = open();
    lease_store::check_all(&sqlite, &Run::new("leases"), false).await;
}
