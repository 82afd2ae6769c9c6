//! Events for others, read back as they would read them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_kafka::{Config, Events, Migration, OpenError, migrate_events};
use tessera_ports::change_feed::FeedError;
use tessera_ports::{EventPublisher as _, PublicEvent, Shard};
use tokio::time::Instant;

use crate::setup::{LONG, create, delete, eventually, nothing, tenant};

/// A name for a topic of events on the shared broker, at which there is nothing yet.
fn events_config(partitions: u32) -> Option<Config> {
    let config = nothing(partitions)?;
    Some(Config { events_topic: format!("{}-events", config.topic), ..config })
}

/// As if the topic of events were that of changes, for whoever makes and deletes topics here.
fn as_topic(config: &Config) -> Config {
    Config { topic: config.events_topic.clone(), events_topic: String::new(), ..config.clone() }
}

async fn open(config: &Config) -> Events {
    Events::open(config).await.expect("it opens").expect("events are told")
}

fn event(stream: &StreamId, seq: u64, kind: &str) -> PublicEvent {
    let at = Timestamp::from_seconds(1_767_225_600).ok();
    PublicEvent { store: "store-1".to_owned(), stream: stream.clone(), seq, kind: kind.to_owned(), at }
}

/// What somebody else reads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Read {
    partition: u32,
    key: String,
    value: String,
    headers: BTreeMap<String, String>,
}

/// The first `count` records of the topic, in order within each partition.
fn read(config: &Config, partitions: u32, count: usize) -> Vec<Read> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", config.brokers.join(","))
        .set("group.id", "somebody-else")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("a small number");
        all.add_partition_offset(&config.events_topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("assigned");
    let (mut records, until) = (Vec::new(), Instant::now() + LONG);
    while records.len() < count {
        assert!(Instant::now() < until, "{} of {count} records came", records.len());
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message.expect("a record");
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("bytes").to_vec()).expect("text");
        let headers = message.headers().expect("headers");
        let headers = headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect();
        let partition = u32::try_from(message.partition()).expect("a partition");
        records.push(Read { partition, key: text(message.key()), value: text(message.payload()), headers });
    }
    records
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_cloud_events() {
    // Another number of partitions than the topic of changes has.
    let Some(config) = events_config(2) else { return };
    create(&as_topic(&config), 5, &[]).await;
    let config = Config { events_type_prefix: "org.example".to_owned(), ..config };
    let events = open(&config).await;
    let (acme, catalog) = (tenant("acme"), StreamId::Catalog);
    let nameless = PublicEvent { at: None, ..event(&acme, 3, "unknown") };
    let published =
        [event(&catalog, 1, "service_upserted"), event(&acme, 1, "created"), event(&acme, 2, "plan_changed"), nameless];
    events.publish(&published).await.expect("they are published");
    assert_eq!(events.problems(), Vec::<String>::new());

    let records = tokio::task::spawn_blocking({
        let config = config.clone();
        move || read(&config, 5, 4)
    });
    let records = records.await.expect("read");
    let of = |stream: &StreamId| records.iter().filter(|record| record.key.starts_with(&stream.to_string())).collect::<Vec<_>>();
    let keys = |stream: &StreamId| of(stream).into_iter().map(|record| record.key.as_str()).collect::<Vec<_>>();
    assert_eq!((keys(&acme), keys(&catalog)), (vec!["tenant/acme/1", "tenant/acme/2", "tenant/acme/3"], vec!["catalog/1"]));
    for stream in [&acme, &catalog] {
        assert!(of(stream).iter().all(|record| record.partition == Shard::of(stream).partition(5)));
    }
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "tenant/acme/2"),
        ("ce_source", "/tessera/store-1"),
        ("ce_type", "org.example.tenant.plan_changed.v1"),
        ("ce_time", "2026-01-01T00:00:00Z"),
        ("ce_subject", "tenant/acme"),
        ("content-type", "application/json"),
    ];
    assert_eq!(of(&acme)[1].headers, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(of(&acme)[1].value, r#"{"stream":"tenant/acme","kind":"tenant","key":"acme","seq":2}"#);
    assert!(!of(&acme)[2].headers.contains_key("ce_time"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_come_in_order() {
    const STREAMS: usize = 7;
    const SEQS: u64 = 300;
    let Some(config) = events_config(3) else { return };
    migrate_events(&config).await.expect("a topic");
    let events = open(&config).await;
    let streams: Vec<StreamId> = (0..STREAMS).map(|n| tenant(&format!("t{n}"))).collect();
    let published: Vec<_> = (1..=SEQS).flat_map(|seq| streams.iter().map(move |stream| event(stream, seq, "updated"))).collect();
    for some in published.chunks(500) {
        events.publish(some).await.expect("they are published");
    }
    events.publish(&[]).await.expect("nothing to do");
    let count = published.len();
    let records = tokio::task::spawn_blocking(move || read(&config, 3, count)).await.expect("read");
    for stream in &streams {
        let keys = records.iter().filter(|record| record.headers["ce_subject"] == stream.to_string()).map(|record| &record.key);
        assert!(keys.eq((1..=SEQS).map(|seq| format!("{stream}/{seq}")).collect::<Vec<_>>().iter()), "{stream}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_of_events_is_made_once_and_must_be_there() {
    let Some(config) = events_config(3) else { return };
    let error = Events::open(&config).await.expect_err("it does not open");
    assert_eq!(
        error,
        OpenError::TopicMissing { topic: config.events_topic.clone(), brokers: config.brokers.join(",") },
        "the topic of changes is not missed"
    );
    let created = Migration::Created { partitions: 3, replication_factor: 1 };
    assert_eq!(migrate_events(&config).await, Ok(Some(created)));
    assert_eq!(migrate_events(&config).await, Ok(Some(Migration::Present { differences: Vec::new() })));
    assert_eq!(open(&config).await.problems(), Vec::<String>::new());

    let off = Config { events_topic: String::new(), ..config };
    assert_eq!(migrate_events(&off).await, Ok(None));
    assert!(Events::open(&off).await.expect("nothing to open").is_none());
}

/// Its owner may have made it otherwise: that is said when somebody migrates, and is no reason not to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_of_events_may_be_otherwise() {
    let Some(config) = events_config(3) else { return };
    create(&as_topic(&config), 1, &[("cleanup.policy", "compact"), ("retention.ms", "60000")]).await;
    let Ok(Some(Migration::Present { differences })) = migrate_events(&config).await else { panic!("it was there") };
    assert_eq!(differences, ["retention.ms is `60000`; 604800000 is what retention_hours says"]);
    open(&config).await.publish(&[event(&tenant("acme"), 1, "created")]).await.expect("it is published");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_events_that_is_gone_is_named_and_takes_nothing_until_it_is_back() {
    let Some(config) = events_config(2) else { return };
    migrate_events(&config).await.expect("a topic");
    let events = open(&config).await;
    let created = [event(&tenant("acme"), 1, "created")];
    events.publish(&created).await.expect("it is published");
    delete(&as_topic(&config)).await;
    eventually("the missing topic is named", || {
        events.problems().iter().any(|problem| problem.starts_with("there is no topic") && problem.contains("tessera migrate"))
    })
    .await;
    assert!(matches!(events.publish(&created).await, Err(FeedError::Unavailable(_))));

    migrate_events(&config).await.expect("another topic");
    let until = Instant::now() + LONG;
    while let Err(error) = events.publish(&created).await {
        assert!(Instant::now() < until, "the new topic cannot be written: {error}");
        tokio::task::yield_now().await;
    }
    eventually("all is well again", || events.problems().is_empty()).await;
    let records = tokio::task::spawn_blocking(move || read(&config, 2, 1)).await.expect("read");
    assert_eq!(records[0].key, "tenant/acme/1");
}
