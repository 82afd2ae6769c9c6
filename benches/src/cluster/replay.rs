//! A feed read from its beginning: through the port, a read under way per partition as a server has it, and by bare consumers with
//! the same settings, which poll one record after the other and drop it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tessera_backends::{ClusterConfig, Ports, Purpose};
use tessera_core::stream::StreamKind;
use tessera_ports::Change;
use tessera_ports::change_feed::{FeedMessage, Position};
use tokio::task::JoinSet;

use super::place::opening;
use super::turns::{Began, Turn};

/// Records in the feed.
pub const RECORDS: usize = 1_000_000;
/// Changes that are published at a time, as a loader does that has enough of them.
const PUBLISHED_AT_A_TIME: usize = 512;
/// As a server has it, unless it is told otherwise.
const READ_RECORDS: usize = 1_000;
const READ_WAIT: Duration = Duration::from_secs(1);
/// Nothing came for so long: something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds, after one that warms up.
const ROUNDS: usize = 5;
/// For consumers of the turn before to close their connections.
const CLOSING: Duration = Duration::from_millis(300);

/// How consumers of the adapter are set, other than where they connect to and how much they read ahead.
const SETTINGS: [(&str, &str); 15] = [
    ("group.id", "tessera-bench"),
    ("allow.auto.create.topics", "false"),
    ("socket.keepalive.enable", "true"),
    ("socket.nagle.disable", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_uncommitted"),
    ("fetch.min.bytes", "1"),
    ("fetch.wait.max.ms", "500"),
    ("fetch.message.max.bytes", "131072"),
    ("fetch.error.backoff.ms", "100"),
    ("fetch.queue.backoff.ms", "5"),
    ("queued.min.messages", "4000"),
    ("max.poll.interval.ms", "86400000"),
];

/// Fills the feed, then rounds, each of: through the port; by one bare consumer; by a bare consumer for each partition.
pub async fn rounds(config: &ClusterConfig) -> anyhow::Result<Vec<Vec<Turn>>> {
    let backends = tessera_backends::Config::Cluster(Box::new(config.clone()));
    let open = async || anyhow::Ok(tessera_backends::open(&backends, &opening(Purpose::Serving)).await?.ports);
    let ports = open().await?;
    publish(&ports).await?;
    let ends = ports.feed.ends().await?;
    anyhow::ensure!(ends.iter().sum::<Position>() == RECORDS as u64, "the feed ends at {ends:?}");
    drop(ports);
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        // Of its own each time, so that its consumers are new, too.
        let ports = open().await?;
        let through = through_the_port(&ports, &ends).await?;
        drop(ports);
        tokio::time::sleep(CLOSING).await;
        let one = by_bare_consumers(config, &ends, 1).await?;
        tokio::time::sleep(CLOSING).await;
        let many = by_bare_consumers(config, &ends, ends.len()).await?;
        tokio::time::sleep(CLOSING).await;
        for turn in [&through, &one, &many] {
            anyhow::ensure!(turn.count == RECORDS as u64, "{} records of {RECORDS}", turn.count);
        }
        if round > 0 {
            rounds.push(vec![through, one, many]);
        }
    }
    Ok(rounds)
}

/// States of the tenants of the store, over and over, each lap at the next seq.
async fn publish(ports: &Ports) -> anyhow::Result<()> {
    let mut changes = Vec::new();
    for range in ports.store.scan_ranges(StreamKind::Tenant).await? {
        let mut next = Some(range);
        while let Some(range) = next {
            let page = ports.store.scan(&range, PUBLISHED_AT_A_TIME).await?;
            changes.extend(page.changes);
            next = page.rest;
        }
    }
    anyhow::ensure!(!changes.is_empty(), "the store has no tenants");
    let laps = (0..).flat_map(|lap| changes.iter().map(move |change| Change { seq: change.seq + lap, ..change.clone() }));
    let mut records = laps.take(RECORDS).peekable();
    while records.peek().is_some() {
        let some: Vec<Change> = records.by_ref().take(PUBLISHED_AT_A_TIME).collect();
        ports.publisher.publish(&some).await?;
    }
    Ok(())
}

async fn through_the_port(ports: &Ports, ends: &[Position]) -> anyhow::Result<Turn> {
    let topic = ports.feed.topic().await?.id;
    let began = Began::now();
    let mut partitions = JoinSet::new();
    for (partition, end) in (0..).zip(ends.iter().copied()) {
        let (feed, topic) = (std::sync::Arc::clone(&ports.feed), topic.clone());
        partitions.spawn(async move {
            let (mut changes, mut from) = (0, 0);
            while from < end {
                let batch = feed.read(&topic, partition, from, READ_RECORDS, READ_WAIT).await?;
                for message in batch.messages {
                    match message {
                        FeedMessage::Change(_) => changes += 1,
                        other => bail!("partition {partition} has {other:?}"),
                    }
                }
                from = batch.next;
            }
            Ok(changes)
        });
    }
    let mut changes = 0;
    while let Some(read) = partitions.join_next().await {
        changes += read??;
    }
    Ok(began.done(changes))
}

/// Deals the partitions out among so many consumers, each polled by a thread of its own.
async fn by_bare_consumers(config: &ClusterConfig, ends: &[Position], consumers: usize) -> anyhow::Result<Turn> {
    let began = Began::now();
    let mut polled = JoinSet::new();
    for number in 0..consumers {
        let dealt = (0..).zip(ends.iter().copied()).skip(number).step_by(consumers);
        let consumer = assigned(config, dealt.clone().map(|(partition, _)| (partition, 0)))?;
        let due: Position = dealt.map(|(_, end)| end).sum();
        polled.spawn_blocking(move || {
            let (mut polled, mut bytes) = (0, 0);
            while polled < due {
                let record = consumer.poll(PATIENCE).with_context(|| format!("{polled} records of {due} came"))??;
                bytes += record.payload_len();
                polled += 1;
            }
            std::hint::black_box(bytes);
            // Closed later: that is no part of the turn.
            anyhow::Ok((polled, consumer))
        });
    }
    let (mut records, mut closing) = (0, Vec::new());
    while let Some(done) = polled.join_next().await {
        let (count, consumer) = done??;
        records += count;
        closing.push(consumer);
    }
    let turn = began.done(records);
    tokio::task::spawn_blocking(move || drop(closing)).await?;
    Ok(turn)
}

/// A bare consumer, set as the adapter's are, that reads these partitions from these offsets on.
pub fn assigned(config: &ClusterConfig, places: impl Iterator<Item = (i32, i64)>) -> anyhow::Result<BaseConsumer> {
    let kafka = &config.kafka;
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", kafka.brokers.join(","))
        .set("queued.max.messages.kbytes", kafka.read_ahead_kib.to_string());
    for (name, value) in SETTINGS {
        settings.set(name, value);
    }
    let consumer: BaseConsumer = settings.create()?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in places {
        list.add_partition_offset(&kafka.topic, partition, Offset::Offset(offset))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}
