//! A topic of one's own on the shared broker or on one that may be harmed, ways behind the feed's back, and readers.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tessera_core::ids::TenantId;
use tessera_core::stream::StreamId;
use tessera_kafka::{Config, Kafka, migrate};
use tessera_ports::change_feed::{Change, ChangeFeed as _, FeedError, FeedMessage, Position};
use tokio::time::Instant;

/// Long enough for any broker that works, and for one that starts again on a busy machine.
pub(crate) const LONG: Duration = Duration::from_mins(2);

/// A topic on the shared broker; `None` when there is no broker to be had here.
pub(crate) async fn topic(partitions: u32) -> Option<Config> {
    let config = nothing(partitions)?;
    migrate(&config).await.expect("a topic");
    Some(config)
}

/// The name of a topic that is not there yet.
pub(crate) fn nothing(partitions: u32) -> Option<Config> {
    let bootstrap = tessera_engines::shared_kafka().expect("a Kafka")?;
    Some(config_at(&bootstrap, partitions))
}

pub(crate) fn config_at(bootstrap: &str, partitions: u32) -> Config {
    let topic = format!("test-{:x}", RandomState::new().build_hasher().finish());
    Config { topic, partitions, replication_factor: 1, ..Config::new([bootstrap]) }
}

pub(crate) async fn open(config: &Config) -> Kafka {
    Kafka::open(config).await.expect("it opens")
}

pub(crate) fn admin(config: &Config) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", config.brokers.join(",")).create().expect("an admin client")
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(LONG)).request_timeout(Some(LONG))
}

/// Makes a topic with these settings.
pub(crate) async fn create(config: &Config, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(&config.topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    for result in admin(config).create_topics([&new], &options()).await.expect("an answer") {
        result.expect("a topic");
    }
}

pub(crate) async fn delete(config: &Config) {
    for result in admin(config).delete_topics(&[&config.topic], &options()).await.expect("an answer") {
        result.expect("it was there");
    }
}

/// Writes a record by hand.
pub(crate) async fn write(config: &Config, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", config.brokers.join(",")).set("message.max.bytes", "2000000");
    let producer: FutureProducer = settings.create().expect("a producer");
    let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&config.topic).partition(partition);
    record.key = key;
    record.payload = value;
    producer.send(record, LONG).await.expect("it is written");
}

pub(crate) fn tenant(name: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(name).expect("a tenant id"))
}

pub(crate) fn change(stream: &StreamId, seq: u64, state: impl Into<Bytes>) -> Change {
    Change { epoch: 1, stream: stream.clone(), seq, state: state.into() }
}

/// Follows every partition, as a server does.
#[derive(Debug)]
pub(crate) struct Follower {
    kafka: Kafka,
    topic: String,
    positions: Vec<Position>,
    /// Per partition, as they came.
    pub(crate) seen: Vec<Vec<FeedMessage>>,
    pub(crate) unavailable: usize,
}

impl Follower {
    /// From the ends of now.
    pub(crate) async fn new(kafka: &Kafka) -> Self {
        let topic = kafka.topic().await.expect("a topic");
        let positions = kafka.ends().await.expect("ends");
        Self::at(kafka, topic.id, positions)
    }

    pub(crate) fn at(kafka: &Kafka, topic: String, positions: Vec<Position>) -> Self {
        let seen = positions.iter().map(|_| Vec::new()).collect();
        Self { kafka: kafka.clone(), topic, positions, seen, unavailable: 0 }
    }

    /// Reads each partition once, as much as is there; `Err` when a position is lost.
    pub(crate) async fn round(&mut self) -> Result<usize, FeedError> {
        let mut count = 0;
        for (index, partition) in (0..self.positions.len()).zip(0u32..) {
            let wait = Duration::from_millis(50);
            match self.kafka.read(&self.topic, partition, self.positions[index], 10_000, wait).await {
                Ok(batch) => {
                    count += batch.messages.len();
                    self.positions[index] = batch.next;
                    self.seen[index].extend(batch.messages);
                }
                Err(FeedError::Unavailable(_)) => {
                    self.unavailable += 1;
                    tokio::task::yield_now().await;
                }
                Err(lost @ FeedError::OutOfRange { .. }) => return Err(lost),
            }
        }
        Ok(count)
    }

    /// Reads until `is_enough`; how long it may take is bounded.
    pub(crate) async fn until(&mut self, what: &str, is_enough: impl Fn(&Self) -> bool) {
        let until = Instant::now() + LONG;
        while !is_enough(self) {
            assert!(Instant::now() < until, "no {what} in {LONG:?}; {} times unavailable", self.unavailable);
            self.round().await.expect("positions that are there");
        }
    }

    /// Reads until a position is lost.
    pub(crate) async fn until_lost(&mut self) -> FeedError {
        let until = Instant::now() + LONG;
        loop {
            assert!(Instant::now() < until, "no position is lost in {LONG:?}; seen: {:?}", self.seen);
            if let Err(lost) = self.round().await {
                return lost;
            }
        }
    }

    pub(crate) fn messages(&self) -> impl Iterator<Item = &FeedMessage> {
        self.seen.iter().flatten()
    }

    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.messages().filter_map(|message| match message {
            FeedMessage::Change(change) => Some(change),
            FeedMessage::Heartbeat(_) | FeedMessage::Bad(_) => None,
        })
    }

    /// The greatest seq of every stream; its seqs must not have fallen on the way, except for what was published again.
    pub(crate) fn greatest(&self) -> BTreeMap<StreamId, u64> {
        let mut greatest: BTreeMap<StreamId, u64> = BTreeMap::new();
        for change in self.changes() {
            let seq = greatest.entry(change.stream.clone()).or_default();
            *seq = (*seq).max(change.seq);
        }
        greatest
    }
}

/// Looks again and again until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    let mut again = tokio::time::interval(Duration::from_millis(5));
    while !holds() {
        assert!(Instant::now() < until, "not within {LONG:?}: {what}");
        again.tick().await;
    }
}
