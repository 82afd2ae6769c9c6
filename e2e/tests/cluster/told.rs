//! What others were told on Kafka, held against what the control plane says happened: everything, whoever died on the way.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tessera_e2e::Planes;
use tessera_e2e::cluster::Place;
use tokio::time::Instant;

/// What is still to be told is told by then: a loader that died has lost its lease, and another one has swept.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// One wait for a record.
const POLL: Duration = Duration::from_millis(200);

/// By `ce_id`: `ce_type`, how often it was told.
type Told = BTreeMap<String, (String, usize)>;

/// Insists that others were told of every event of these tenants, by its name; how many events, and how often they were told in all.
pub(crate) async fn check_everything_is_told(
    place: &Place,
    tenants: &[String],
    planes: &Planes,
) -> anyhow::Result<(usize, usize)> {
    let mut expected = BTreeMap::new();
    for tenant in tenants {
        for event in planes.events_of(tenant).await? {
            let kind = format!("com.tessera.tenant.{}.v1", snake(&event.r#type));
            expected.insert(format!("tenant/{tenant}/{}", event.seq), kind);
        }
    }
    let (bootstrap, topic) = (place.kafka.clone(), place.events_topic.clone());
    let reading = move || read(&bootstrap, &topic, &expected);
    tokio::task::spawn_blocking(reading).await.context("read events")?
}

/// Reads until all of them came.
fn read(bootstrap: &str, topic: &str, expected: &BTreeMap<String, String>) -> anyhow::Result<(usize, usize)> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("group.id", "somebody-else").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = settings.create().context("a consumer")?;
    let metadata = consumer.fetch_metadata(Some(topic), TOLD_WITHIN).context("find the topic")?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let (mut told, until) = (Told::new(), Instant::now() + TOLD_WITHIN);
    while let Some(missing) = expected.keys().find(|id| !told.contains_key(*id)) {
        let told_of = expected.keys().filter(|id| told.contains_key(*id)).count();
        anyhow::ensure!(
            Instant::now() < until,
            "nobody was told of `{missing}`; of {told_of} out of {} they were",
            expected.len()
        );
        // As many as there are before the next look at what is missing.
        while let Some(message) = consumer.poll(POLL) {
            note(&mut told, &message?)?;
        }
    }
    for (id, kind) in expected {
        let (found, _) = &told[id];
        anyhow::ensure!(found == kind, "`{id}` was told as `{found}`, and is `{kind}`");
    }
    let times = told.iter().filter(|(id, _)| expected.contains_key(*id)).map(|(_, (_, times))| times).sum();
    Ok((expected.len(), times))
}

fn note(told: &mut Told, message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    let headers = message.headers().context("an event without headers")?;
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name).and_then(|header| header.value);
        anyhow::Ok(std::str::from_utf8(found.with_context(|| format!("no header `{name}`"))?)?.to_owned())
    };
    let (id, kind) = (header("ce_id")?, header("ce_type")?);
    anyhow::ensure!(message.key() == Some(id.as_bytes()), "the key of `{id}` is {:?}", message.key());
    let known = told.entry(id).or_insert_with(|| (kind.clone(), 0));
    anyhow::ensure!(known.0 == kind, "the same event was told as `{kind}` and as `{}`", known.0);
    known.1 += 1;
    Ok(())
}

/// As the audit service calls an event, and as others are told of it.
fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
