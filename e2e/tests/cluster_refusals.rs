//! Processes of a cluster that cannot use what their settings name: refused at start with what to do about it, and exit code 1;
//! or, where waiting may help, a process that listens and says at `/readyz` what it waits for.

#[path = "cluster/clocks.rs"]
mod clocks;
#[path = "cluster/two_listeners.rs"]
mod two_listeners;

use std::path::Path;

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use scylla::client::session_builder::SessionBuilder;
use tessera_e2e::cluster::{Place, Role};
use tessera_e2e::lines::Lines;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_engines::{Cassandra, Kafka, Options, available, shared_cassandra, shared_kafka};
use two_listeners::TwoListeners;

/// Nobody listens on the port for discarding.
const NOBODY: &str = "127.0.0.1:9";
const ROLES: [Role; 2] = [Role::Loader, Role::Server];
/// Lets the user `loader` in at a Kafka.
const PASSWORD: &str = "open sesame";
/// Lets nobody in anywhere.
const WRONG_PASSWORD: &str = "hunter2-and-more";

/// Both processes end with 1 and say that.
fn refused(place: &Place, why: &[&str]) -> anyhow::Result<()> {
    for role in ROLES {
        let (status, log) = place.start(role, 0)?.until_it_ends()?;
        anyhow::ensure!(status.code() == Some(1), "{role:?} ended with {status}, wanted is 1 for {why:?}\n{log}");
        for words in why {
            anyhow::ensure!(log.contains(words), "{role:?} does not say `{words}`\n{log}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let mut place = Place::new(&cassandra, &kafka)?;
    let (keyspace, topic) = (place.keyspace.clone(), place.topic.clone());
    // Of the store or of the feed, whichever is heard of first.
    refused(&place, &["there is no ", "`tessera migrate`"])?;
    place.migrate(&[])?.success()?;

    place.topic = format!("{topic}-other");
    refused(&place, &[&format!("there is no topic `{}`", place.topic), "`tessera migrate` makes it"])?;
    compacted(&kafka, &place).await?;
    refused(&place, &["cleanup.policy `compact`; needed is `delete`"])?;
    let migrated = place.migrate(&[])?;
    assert_ne!(migrated.code, Some(0), "{migrated:?}");
    assert!(migrated.stderr.contains("cleanup.policy `compact`; needed is `delete`"), "{migrated:?}");
    place.topic = topic;

    place.partitions += 1;
    refused(&place, &["has 4 partitions and backends.kafka.partitions is `5`; set it to 4"])?;
    place.partitions -= 1;

    place.scylla += "datacenters = \"many\"\n";
    refused(&place, &["was made with datacenters `one`, the settings say `many`"])?;
    place.scylla.clear();

    let session = SessionBuilder::new().known_node(&cassandra).build().await.context("connect")?;
    let newer = format!("INSERT INTO {keyspace}.schema_version (one, version) VALUES (1, 99)");
    session.query_unpaged(newer, ()).await.context("pretend a newer schema")?;
    refused(&place, &[&format!("keyspace `{keyspace}` has schema version 99"), "use the software that wrote it, or newer"])?;
    let migrated = place.migrate(&[])?;
    assert!(migrated.code != Some(0) && migrated.stderr.contains("has schema version 99"), "{migrated:?}");
    let none = format!("DELETE FROM {keyspace}.schema_version WHERE one = 1");
    session.query_unpaged(none, ()).await.context("pretend an older schema")?;
    refused(&place, &["has schema version 0", "run `tessera migrate`"])?;

    // As it was before, both start.
    place.migrate(&[])?.success()?;
    for role in ROLES {
        place.start(role, 0)?.ready().await?.stop()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_reached_is_named_by_a_process_that_listens() -> anyhow::Result<()> {
    let (Some(cassandra), Some(kafka)) = (shared_cassandra()?, shared_kafka()?) else { return Ok(()) };
    let mut place = Place::made(&cassandra, &kafka)?;
    for (cassandra, kafka, named) in
        [(NOBODY, &*kafka, "contact_points `127.0.0.1:9`"), (&*cassandra, NOBODY, "no broker of `127.0.0.1:9` can be reached")]
    {
        (place.cassandra, place.kafka) = (cassandra.to_owned(), kafka.to_owned());
        for role in ROLES {
            let mut process = place.start(role, 0)?.listening()?;
            eventually("what it waits for", async || {
                let page = process.page("/readyz").await?;
                // Without its feed a loader takes commands all the same.
                let takes_commands = matches!(role, Role::Loader) && kafka == NOBODY;
                let status = if takes_commands { 200 } else { 503 };
                anyhow::ensure!(page.status == status && page.body.contains(named), "{role:?}: {} {}", page.status, page.body);
                Ok(())
            })
            .await
            .with_context(|| process.account())?;
            assert!(process.has_ended().is_none(), "{}", process.account());
            process.kill()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_log_in_is_refused_and_passwords_are_not_printed() -> anyhow::Result<()> {
    if !available()? {
        return Ok(());
    }
    let (cassandra, (_kafka, login)) = tokio::task::block_in_place(engines_with_login)?;
    let mut place = Place::new(&cassandra.contact_point().to_string(), &login)?;
    let folder = tempfile::tempdir()?;
    let (of_store, of_feed) = (folder.path().join("store"), folder.path().join("feed"));
    let user = |name: &str, file: &Path| format!("user = \"{name}\"\npassword_file = \"{}\"\n", file.display());
    place.scylla += &user("cassandra", &of_store);
    place.feed += "[backends.kafka.security]\n";
    place.feed += &user("loader", &of_feed);
    let write = |file: &Path, password: &str| std::fs::write(file, format!("{password}\n"));
    write(&of_store, "cassandra")?;
    write(&of_feed, PASSWORD)?;
    // The store's first user is made a moment after its port opens.
    let let_in = async || {
        let migrated = place.migrate(&[])?;
        anyhow::ensure!(migrated.code == Some(0), "{migrated:?}");
        Ok(migrated)
    };
    let migrated = eventually("a user", let_in).await?;
    assert!(!format!("{migrated:?}").contains(PASSWORD), "{migrated:?}");

    write(&of_feed, WRONG_PASSWORD)?;
    let why = format!("the feed cannot be opened: the brokers `{login}` refuse user `loader`: ");
    refused_without_a_password(&place, &[&why, "check backends.kafka.security"]).await?;
    write(&of_feed, PASSWORD)?;
    write(&of_store, WRONG_PASSWORD)?;
    let why = ["the store cannot be opened: the store refuses user `cassandra`: ", "the settings `user` and `password_file`"];
    refused_without_a_password(&place, &why).await?;
    Ok(())
}

/// As [`refused`], with both at once, and neither prints a password anywhere.
async fn refused_without_a_password(place: &Place, why: &[&str]) -> anyhow::Result<()> {
    let mut started = Vec::new();
    for role in ROLES {
        let mut start = place.start(role, 0)?;
        let mut process = start.command().spawn().with_context(|| format!("start {role:?}"))?;
        let (stdout, log) = (process.stdout.take(), process.stderr.take());
        let printed = [Lines::follow(stdout.context("no standard output")?), Lines::follow(log.context("no standard error")?)];
        started.push((role, process, printed));
    }
    let mut ended = Vec::new();
    for (role, mut process, printed) in started {
        let status = eventually("its end", async || process.try_wait()?.context("it goes on")).await;
        // One that has ended by itself is not harmed any more.
        process.kill()?;
        process.wait()?;
        ended.push((role, status, printed.map(|lines| lines.whole(PATIENCE).join("\n")).join("\n")));
    }
    for (role, status, said) in ended {
        let status = status.with_context(|| format!("{role:?} is not refused for {why:?}\n{said}"))?;
        anyhow::ensure!(status.code() == Some(1), "{role:?} ended with {status}, wanted is 1 for {why:?}\n{said}");
        for words in why {
            anyhow::ensure!(said.contains(words), "{role:?} does not say `{words}`\n{said}");
        }
        for password in [PASSWORD, WRONG_PASSWORD] {
            anyhow::ensure!(!said.contains(password), "{role:?} prints a password\n{said}");
        }
    }
    Ok(())
}

/// A Cassandra, and a Kafka with its address, that let nobody in without a password.
fn engines_with_login() -> anyhow::Result<(Cassandra, (Kafka, String))> {
    std::thread::scope(|scope| {
        let cassandra = scope.spawn(|| {
            let settings = vec![("authenticator".to_owned(), "PasswordAuthenticator".to_owned())];
            Cassandra::throwaway(&Options { settings, ..Options::default() })
        });
        let kafka = kafka_with_login();
        let cassandra = cassandra.join().map_err(|_| anyhow::anyhow!("the thread that starts cassandra ended"))?;
        Ok((cassandra?, kafka?))
    })
}

/// At the address that is returned one has to log in.
fn kafka_with_login() -> anyhow::Result<(Kafka, String)> {
    let listeners = TwoListeners::choose()?;
    let login = listeners.second();
    let mut options = listeners.options("SASL_PLAINTEXT", login);
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let users = format!("{module} required user_loader=\"{PASSWORD}\";");
    options.settings.push(("sasl.enabled.mechanisms".to_owned(), "PLAIN".to_owned()));
    options.settings.push(("listener.name.second.plain.sasl.jaas.config".to_owned(), users));
    Ok((Kafka::throwaway(&options)?, login.to_string()))
}

/// Makes the topic of `place` as nobody should.
async fn compacted(kafka: &str, place: &Place) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", kafka).create()?;
    let topic = NewTopic::new(&place.topic, i32::try_from(place.partitions)?, TopicReplication::Fixed(1));
    let results = admin.create_topics([&topic.set("cleanup.policy", "compact")], &AdminOptions::new()).await?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("make `{topic}`: {code}"))?;
    }
    Ok(())
}
