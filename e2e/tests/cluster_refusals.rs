//! Processes of a cluster that cannot use what their settings name: refused at start with what to do about it, and exit code 1;
//! or, where waiting may help, a process that listens and says at `/readyz` what it waits for.

use anyhow::Context as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use scylla::client::session_builder::SessionBuilder;
use tessera_e2e::cluster::{Place, Role};
use tessera_e2e::waiting::eventually;
use tessera_engines::{shared_cassandra, shared_kafka};

/// Nobody listens on the port for discarding.
const NOBODY: &str = "127.0.0.1:9";
const ROLES: [Role; 2] = [Role::Loader, Role::Server];

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
