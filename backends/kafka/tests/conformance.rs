//! The suites of the feed's ports and of events for others, on a real Kafka.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tessera_kafka::{Config, Events, Kafka, migrate, migrate_events};
use tessera_ports::conformance::{Run, change_feed, event_publisher};
use tessera_ports::memory::MemoryStore;
use tokio::time::Instant;

/// Long enough for any broker that works.
const LONG: Duration = Duration::from_mins(2);

/// A name that nobody has used: others may use the same broker.
fn unique() -> String {
    format!("conformance-{:x}", RandomState::new().build_hasher().finish())
}

/// Everything that others find in the topic of events now: streams and seqs, as their ids name them.
fn told(config: &Config) -> Vec<(String, u64)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", config.brokers.join(","))
        .set("group.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let (mut all, mut count) = (TopicPartitionList::new(), 0);
    for partition in 0..i32::try_from(config.partitions).expect("a small number") {
        let (first, end) = consumer.fetch_watermarks(&config.events_topic, partition, LONG).expect("ends");
        count += usize::try_from(end - first).expect("ends in order");
        all.add_partition_offset(&config.events_topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("assigned");
    let (mut told, until) = (Vec::new(), Instant::now() + LONG);
    while told.len() < count {
        assert!(Instant::now() < until, "{} of {count} records came", told.len());
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.expect("a record");
        let id = std::str::from_utf8(record.key().expect("an id")).expect("text");
        let (stream, seq) = id.rsplit_once('/').expect("a stream and a seq");
        told.push((stream.to_owned(), seq.parse().expect("a seq")));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feed_conforms() {
    let Some(bootstrap) = tessera_engines::shared_kafka().expect("a Kafka") else { return };
    let unique = unique();
    let config = Config { topic: unique.clone(), partitions: 5, replication_factor: 1, ..Config::new([bootstrap]) };
    migrate(&config).await.expect("a topic");
    let kafka = Kafka::open(&config).await.expect("it opens");
    let store = MemoryStore::new(&unique);
    let sides = change_feed::Sides { store: &store, feed: &kafka, publisher: &kafka };
    change_feed::check_all(sides, &Run::new(&unique)).await;
    assert_eq!(kafka.problems(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_conform() {
    let Some(bootstrap) = tessera_engines::shared_kafka().expect("a Kafka") else { return };
    let unique = unique();
    let config = Config { events_topic: unique.clone(), partitions: 3, replication_factor: 1, ..Config::new([bootstrap]) };
    migrate_events(&config).await.expect("a topic");
    let events = Events::open(&config).await.expect("it opens").expect("events are told");
    let told = async || {
        let config = config.clone();
        tokio::task::spawn_blocking(move || told(&config)).await.expect("read")
    };
    event_publisher::check_all(&events, &told, &Run::new(&unique)).await;
}
