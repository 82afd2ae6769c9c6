//! The suite of the feed's ports, on a real Kafka.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use tessera_kafka::{Config, Kafka, migrate};
use tessera_ports::conformance::{Run, change_feed};
use tessera_ports::memory::MemoryStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_conforms() {
    let Some(bootstrap) = tessera_engines::shared_kafka().expect("a Kafka") else { return };
    // Others may use the same broker.
    let unique = format!("conformance-{:x}", RandomState::new().build_hasher().finish());
    let config = Config { topic: unique.clone(), partitions: 5, replication_factor: 1, ..Config::new([bootstrap]) };
    migrate(&config).await.expect("a topic");
    let kafka = Kafka::open(&config).await.expect("it opens");
    let store = MemoryStore::new(&unique);
    let sides = change_feed::Sides { store: &store, feed: &kafka, publisher: &kafka };
    change_feed::check_all(sides, &Run::new(&unique)).await;
    assert_eq!(kafka.problems(), Vec::<String>::new());
}
