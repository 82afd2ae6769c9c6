//! Whoever opens the feed is told what is wrong, and what to do.

use std::path::Path;

use tessera_kafka::{Config, Kafka, Migration, OpenError, Security, migrate};
use tessera_ports::change_feed::ChangePublisher as _;
use tokio::net::TcpListener;

use crate::setup::{LONG, config_at, create, delete, eventually, nothing, open, topic};

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

fn login(folder: &Path, user: &str, password: &str) -> Security {
    let password_file = folder.join(format!("password-of-{user}"));
    std::fs::write(&password_file, format!("{password}\n")).expect("a file");
    Security { user: user.to_owned(), password_file, mechanism: "PLAIN".to_owned() }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A broker with a second listener, at which one has to log in; the first answers whoever starts it.
fn broker_with_login() -> (tessera_engines::Kafka, String) {
    const JAAS: &str = "org.apache.kafka.common.security.plain.PlainLoginModule required user_loader=\"open sesame\";";
    let (broker, controller, login) = (free_port(), free_port(), free_port());
    let settings = [
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
        ("listeners", format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller},LOGIN://127.0.0.1:{login}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{broker},LOGIN://127.0.0.1:{login}")),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT".to_owned()),
        ("sasl.enabled.mechanisms", "PLAIN".to_owned()),
        ("listener.name.login.plain.sasl.jaas.config", JAAS.to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let engine = tessera_engines::Kafka::throwaway(&tessera_engines::Options { port: Some(broker), settings });
    (engine.expect("a Kafka"), format!("127.0.0.1:{login}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_is_asked_for_and_passwords_are_not_shown() {
    if !tessera_engines::available().expect("engines") {
        return;
    }
    let (_engine, address) = tokio::task::spawn_blocking(broker_with_login).await.expect("it starts");
    let folder = tempfile::tempdir().expect("a folder");
    let with = |user, password| Config { security: Some(login(folder.path(), user, password)), ..config_at(&address, 1) };

    let config = with("loader", "open sesame");
    migrate(&config).await.expect("it may make a topic");
    let kafka = open(&config).await;
    assert_eq!(kafka.partitions().await, Ok(1));
    assert!(!format!("{kafka:?}").contains("sesame"));

    for (user, password) in [("loader", "hunter2-and-more"), ("somebody", "hunter2-and-more")] {
        let error = refused(&Config { topic: config.topic.clone(), ..with(user, password) }).await;
        assert!(matches!(error, OpenError::Authentication { .. }), "{error:?}");
        assert!(error.to_string().starts_with(&format!("the brokers `{address}` refuse user `{user}`: ")), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    // Whoever does not log in is hung up on.
    let error = refused(&config_at(&address, 1)).await;
    assert!(matches!(error, OpenError::Unreachable { .. } | OpenError::Authentication { .. }), "{error:?}");
}

/// A listener that knows nothing of logins hangs up on somebody who wants to log in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn login_at_a_listener_without_it_fails() {
    let Some(config) = nothing(1) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let error = refused(&Config { security: Some(login(folder.path(), "loader", "hunter2-and-more")), ..config }).await;
    assert!(matches!(error, OpenError::Authentication { .. } | OpenError::Unreachable { .. }), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn problems_name_a_topic_that_is_gone() {
    let Some(config) = topic(1).await else { return };
    let kafka = open(&config).await;
    delete(&config).await;
    eventually("the missing topic is named", || kafka.problems().iter().any(|problem| problem.starts_with("there is no topic")))
        .await;
}
