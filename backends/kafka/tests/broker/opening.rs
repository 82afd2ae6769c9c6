//! Whoever opens the feed is told what is wrong, and what to do.

use std::time::Duration;

use tessera_kafka::{Config, Kafka, Migration, OpenError, Security, migrate};
use tokio::net::TcpListener;

use crate::setup::{LONG, config_at, create, delete, nothing, open, topic};

async fn refused(config: &Config) -> OpenError {
    Kafka::open(config).await.expect_err("it does not open")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_is_made_once() {
    let Some(config) = nothing(3) else { return };
    let error = refused(&config).await;
    assert!(matches!(error, OpenError::TopicMissing { .. }), "{error}");
    assert!(error.to_string().ends_with("; `tessera migrate` makes it"), "{error}");

    let created = Migration::Created { partitions: 3, replication_factor: 1 };
    assert_eq!(migrate(&config).await, Ok(created));
    assert_eq!(migrate(&config).await, Ok(Migration::Present { differences: Vec::new() }));
    assert_eq!(open(&config).await.problems(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_number_of_partitions_is_refused() {
    let Some(config) = topic(3).await else { return };
    let other = Config { partitions: 4, ..config };
    let error = refused(&other).await.to_string();
    assert!(error.contains("has 3 partitions and backends.kafka.partitions is `4`; set it to 3"), "{error}");
    assert_eq!(migrate(&other).await.expect_err("it is not changed").to_string(), error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topic_that_loses_changes_is_refused() {
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("cleanup.policy", "compact")], "has cleanup.policy `compact`; needed is `delete`"),
        (&[("cleanup.policy", "compact,delete")], "has cleanup.policy `compact,delete`; needed is `delete`"),
        (&[("max.message.bytes", "500000")], "has max.message.bytes `500000`; needed is 1048576 or more"),
        (&[("compression.type", "zstd")], "has compression.type `zstd`; needed is one of"),
    ];
    for (settings, expected) in cases {
        let Some(config) = nothing(1) else { return };
        create(&config, 1, settings).await;
        let error = refused(&config).await.to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubtful_settings_are_told() {
    let Some(config) = nothing(1) else { return };
    create(&config, 1, &[("retention.ms", "60000")]).await;
    let Migration::Present { differences } = migrate(&config).await.expect("it can be used") else { panic!("it was there") };
    assert_eq!(differences, ["retention.ms is `60000`; 604800000 is what retention_hours says"]);
    open(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_not_there_are_named() {
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let error = refused(&config_at(&address, 1)).await;
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("no broker of `{address}` can be reached: ")), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// Something listens and never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let error = tokio::time::timeout(LONG, Kafka::open(&config_at(&address, 1))).await.expect("an answer");
    assert!(matches!(error, Err(OpenError::Unreachable { .. })), "{error:?}");
}

/// A listener without authentication hangs up on somebody who wants to log in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_login_does_not_show_the_password() {
    let Some(config) = nothing(1) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "hunter2-and-more").expect("a file");
    let security = Security { user: "loader".to_owned(), password_file, mechanism: "PLAIN".to_owned() };
    let error = refused(&Config { security: Some(security), ..config }).await;
    assert!(matches!(error, OpenError::Authentication { .. } | OpenError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    println!("{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_name_a_topic_that_is_gone() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    delete(&config).await;
    let told = async {
        while !kafka.problems().iter().any(|problem| problem.starts_with("there is no topic")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect("it is told");
}
