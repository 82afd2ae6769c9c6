//! The configuration as people write it, and backends as processes use them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use tessera_backends::{
    Backends, Config, OpenError, Opening, Patience, Ports, Purpose, SqliteConfig, SqliteError, open, open_in_time,
};
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::Shard;
use tessera_ports::change_feed::FeedError;
use tessera_ports::clock::{IdSource, ManualClock};
use tessera_ports::event_store::{Append, AppendError, Appended, Head, ReadError};

#[derive(Debug)]
struct OneName;

impl IdSource for OneName {
    fn request_id(&self) -> RequestId {
        RequestId::parse("one").expect("a request id")
    }

    fn unique(&self) -> String {
        "backends".to_owned()
    }
}

fn opening() -> Opening {
    let clock = Arc::new(ManualClock::new(Timestamp::MIN));
    Opening { purpose: Purpose::Loading, ids: Arc::new(OneName), clock }
}

fn config(data_dir: &Path) -> Config {
    Config::Sqlite(SqliteConfig::new(data_dir))
}

#[test]
fn kind_names_the_backend() {
    let parsed: Config = toml::from_str("kind = \"sqlite\"\ndata_dir = \"/data\"").expect("a configuration");
    assert_eq!(parsed, config(Path::new("/data")));
    assert_eq!(parsed.validate(), Ok(()));
    assert!(!parsed.is_shared());
    let full = "kind = \"sqlite\"\ndata_dir = \"d\"\nreaders = 2\nchange_rows_max = 5000\npage_check_bytes_max = 0";
    let Config::Sqlite(parsed) = toml::from_str(full).expect("a configuration") else { panic!("{full}") };
    assert_eq!((parsed.readers, parsed.change_rows_max, parsed.page_check_bytes_max), (2, 5000, 0));
}

#[test]
fn a_cluster_has_a_store_and_a_feed() {
    let text =
        "kind = \"cluster\"\nscylla = { contact_points = [\"a:9042\"] }\nkafka = { brokers = [\"b:9092\"], partitions = 0 }";
    let parsed: Config = toml::from_str(text).expect("a configuration");
    assert!(parsed.is_shared() && parsed.data_dir().is_none());
    assert_eq!(parsed.validate(), Err("kafka.partitions is `0`; allowed are 1 to 64".to_owned()));
}

#[tokio::test]
async fn mistakes_are_named() {
    for (text, named) in [
        ("kind = \"sqlight\"\ndata_dir = \"d\"", "`sqlight`"),
        ("data_dir = \"d\"", "`kind`"),
        ("kind = \"cluster\"\nkafka = { brokers = [] }", "`scylla`"),
        ("kind = \"cluster\"\nscylla = { contact_points = [] }", "`kafka`"),
        ("kind = \"cluster\"\nscylla = { contact_point = [] }", "`contact_point`"),
        ("kind = \"cluster\"\ndata_dir = \"d\"\nscylla = { contact_points = [] }", "`data_dir` belongs to kind `sqlite`"),
        ("scylla = { contact_points = [] }\nkind = \"sqlite\"\ndata_dir = \"d\"", "`scylla` belongs to kind `cluster`"),
        ("kind = \"sqlite\"", "`data_dir`"),
        ("kind = \"sqlite\"\ndata_dir = \"d\"\nreader = 2", "`reader`"),
        (
            "kind = \"cluster\"\nscyla = { contact_points = [] }",
            "unknown field `scyla`, expected one of `kind`, `scylla`, `kafka`, `data_dir`",
        ),
        ("kind = \"sqlite\"\ndata_dir = \"d\"\nreaders = -1", "-1"),
    ] {
        let error = toml::from_str::<Config>(text).expect_err(text).to_string();
        assert!(error.contains(named), "{text}: {error}");
    }
    let Err(OpenError::Config(problem)) = open(&config(Path::new("")), &opening()).await else { panic!("it opened") };
    assert_eq!(problem, "data_dir is empty; allowed is the path of a directory");
}

#[tokio::test]
async fn all_ports_are_one_database_and_live_together() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let Backends { ports, fatal } = open(&config, &opening()).await.expect("it opens");
    let Ports { store, feed, publisher, events, hints, leases } = ports;
    assert!(store.feeds_itself() && events.is_none());
    let stream = StreamId::Tenant(TenantId::parse("a").expect("a tenant id"));
    let cells = vec![Bytes::from_static(b"cell")];
    let append = Append { epoch: 1, stream, expected: Head::default(), cells, state: Bytes::new(), requests: Vec::new() };
    assert_eq!(store.append(append).await, Ok(Appended::Committed));
    let topic = feed.topic().await.expect("a topic").id;
    assert_eq!(store.identity().await.expect("an identity").store, topic);
    let batch = feed.read(&topic, 0, 0, 10, std::time::Duration::ZERO).await.expect("a batch");
    assert_eq!(batch.messages.len(), 1);
    assert_eq!(hints.list(&Shard::all().collect::<Vec<_>>(), 10).await, Ok(Vec::new()));
    assert_eq!(leases.renew("us", std::time::Duration::from_secs(1)).await, Ok(vec!["us".to_owned()]));
    assert_eq!(fatal.now_or_never(), None);
    drop((store, publisher, hints, leases));
    assert!(
        matches!(open(&config, &opening()).await, Err(OpenError::Sqlite(SqliteError::InUse { .. }))),
        "the feed has it still"
    );
}

/// A process that has something to serve meanwhile gets an embedded database before all of it was checked. When it turns out to be
/// damaged it is closed, readiness says why, and the process goes on.
#[tokio::test]
async fn damage_that_is_found_late_closes_the_database_and_ends_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = config(directory.path());
    let ports = open(&config, &opening()).await.expect("it opens").ports;
    let stream = StreamId::Tenant(TenantId::parse("a").expect("a tenant id"));
    let cells = vec![Bytes::from_static(b"no event")];
    let append =
        Append { epoch: 1, stream: stream.clone(), expected: Head::default(), cells, state: Bytes::new(), requests: Vec::new() };
    assert_eq!(ports.store.append(append).await, Ok(Appended::Committed));
    drop(ports);

    let Backends { ports, fatal } = open_in_time(&config, opening(), Patience::Endless).await.expect("it starts");
    let told = async {
        let mut look_again = tokio::time::interval(Duration::from_millis(20));
        while !ports.store.problems().iter().any(|problem| problem.contains("is damaged: stream `tenant/a`, event 1")) {
            look_again.tick().await;
        }
    };
    tokio::select! {
        reason = fatal => panic!("it ended: {reason}"),
        told = tokio::time::timeout(Duration::from_mins(1), told) => told.expect("it says what was found"),
    }
    let read = ports.store.read(&stream, &[], None).await;
    assert!(matches!(&read, Err(ReadError::Unavailable(why)) if why.starts_with("the database is closed: ")), "{read:?}");
}

/// Only who writes tells others of events, and only where the settings name a topic for it.
#[tokio::test]
async fn events_are_told_by_loaders_if_at_all() {
    for (purpose, topic, told) in
        [(Purpose::Loading, "tessera.events", true), (Purpose::Loading, "", false), (Purpose::Serving, "tessera.events", false)]
    {
        let text = format!(
            "kind = \"cluster\"\nscylla = {{ contact_points = [\"127.0.0.1:1\"] }}\n\
             kafka = {{ brokers = [\"127.0.0.1:1\"], events_topic = \"{topic}\" }}"
        );
        let config: Config = toml::from_str(&text).expect("a configuration");
        let opening = Opening { purpose, ..opening() };
        let Backends { ports, fatal } = open_in_time(&config, opening, Patience::UntilRefused).await.expect("it starts");
        assert_eq!(ports.events.is_some(), told, "{purpose:?} with `{topic}`");
        drop(fatal);
    }
}

/// The ports can be called at once, and each says what it waits for.
#[tokio::test]
async fn what_cannot_be_reached_says_so_until_it_can() {
    let text = "kind = \"cluster\"\nscylla = { contact_points = [\"127.0.0.1:1\"] }\nkafka = { brokers = [\"127.0.0.1:1\"] }";
    let config: Config = toml::from_str(text).expect("a configuration");
    let Backends { ports, fatal } = open_in_time(&config, opening(), Patience::UntilRefused).await.expect("it starts");
    assert!(!ports.store.feeds_itself());
    let told = async {
        let mut look_again = tokio::time::interval(Duration::from_millis(20));
        let says = |problems: Vec<String>, word: &str| problems.iter().any(|problem| problem.contains(word));
        while !says(ports.store.problems(), "contact_points") || !says(ports.publisher.problems(), "no broker of `127.0.0.1:1`") {
            look_again.tick().await;
        }
    };
    tokio::select! {
        reason = fatal => panic!("it ended: {reason}"),
        told = tokio::time::timeout(Duration::from_mins(1), told) => told.expect("both say what they wait for"),
    }
    assert!(matches!(ports.store.identity().await, Err(ReadError::Unavailable(_))));
    assert!(matches!(ports.feed.topic().await, Err(FeedError::Unavailable(_))));
    let events = ports.events.expect("a loader tells of events");
    assert!(matches!(events.publish(&[]).await, Err(FeedError::Unavailable(_))));
    assert_eq!(events.problems(), Vec::<String>::new(), "the feed has said it");
    let stream = StreamId::Catalog;
    let cells = vec![Bytes::from_static(b"cell")];
    let append = Append { epoch: 1, stream, expected: Head::default(), cells, state: Bytes::new(), requests: Vec::new() };
    assert!(matches!(ports.store.append(append).await, Err(AppendError::NotAttempted(_))));
}
