//! What the topic has to be like: checked at every start, and seen to when it is made.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tessera_ports::change_feed::Topic;
use tokio::time::Instant;

use crate::client::{Connection, Context, Told};
use crate::config::Config;
use crate::error::{OpenError, text_of};
use crate::watch::Watch;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long all brokers may take to learn of a new topic.
const APPEARS_WITHIN: Duration = Duration::from_secs(20);
const APPEARS_PAUSE: Duration = Duration::from_millis(100);
/// The greatest record, and what Kafka puts around a batch: Kafka's own default is just beyond it.
const MESSAGE_BYTES_MIN: u64 = 1024 * 1024;
const MS_PER_HOUR: u64 = 60 * 60 * 1000;
/// What consumers without further libraries can unpack.
const COMPRESSIONS: [&str; 5] = ["producer", "uncompressed", "lz4", "gzip", "snappy"];

const CLEANUP_POLICY: &str = "cleanup.policy";
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const COMPRESSION_TYPE: &str = "compression.type";
const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// What [`migrate`](crate::migrate) has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    /// The topic was not there, and is now.
    Created {
        /// How many partitions it has.
        partitions: u32,
        /// How many copies of every record.
        replication_factor: u16,
    },
    /// The topic was there. It can be used, and was not changed.
    Present {
        /// In what it differs from one that would be made now, in words; nothing of it keeps a process from starting.
        differences: Vec<String>,
    },
}

/// The settings of the topic as the brokers have them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Settings(BTreeMap<String, String>);

impl Settings {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }

    /// What must not be: it would lose changes, or keep them out.
    fn check(&self, topic: &str) -> Result<(), OpenError> {
        let refused = |setting: &'static str, needed: String| {
            Err(OpenError::TopicSetting { topic: topic.to_owned(), setting, found: self.get(setting).to_owned(), needed })
        };
        if self.get(CLEANUP_POLICY) != "delete" {
            return refused(CLEANUP_POLICY, "`delete`, since a compacted topic loses changes".to_owned());
        }
        if self.number(MAX_MESSAGE_BYTES).is_none_or(|bytes| bytes < MESSAGE_BYTES_MIN) {
            return refused(MAX_MESSAGE_BYTES, format!("{MESSAGE_BYTES_MIN} or more, so that the greatest state fits"));
        }
        if !COMPRESSIONS.contains(&self.get(COMPRESSION_TYPE)) {
            return refused(COMPRESSION_TYPE, format!("one of `{}`, which can be unpacked", COMPRESSIONS.join("`, `")));
        }
        Ok(())
    }

    /// What should not be.
    fn differences(&self, config: &Config) -> Vec<String> {
        let mut differences = Vec::new();
        let wanted = retention_ms(config);
        // Without end it is -1.
        if self.number(RETENTION_MS).is_some_and(|found| found < wanted) {
            let found = self.get(RETENTION_MS);
            differences.push(format!("{RETENTION_MS} is `{found}`; {wanted} is what retention_hours says"));
        }
        if self.number(RETENTION_BYTES).is_some() {
            let found = self.get(RETENTION_BYTES);
            differences.push(format!("{RETENTION_BYTES} is `{found}`; -1 keeps records for as long as {RETENTION_MS} says"));
        }
        if self.number(MIN_INSYNC_REPLICAS).is_some_and(|found| found < min_insync_replicas(config)) {
            let (found, wanted) = (self.get(MIN_INSYNC_REPLICAS), min_insync_replicas(config));
            differences.push(format!("{MIN_INSYNC_REPLICAS} is `{found}`; {wanted} survives the loss of a broker"));
        }
        if self.get(UNCLEAN_ELECTION) == "true" {
            differences.push(format!("{UNCLEAN_ELECTION} is `true`; `false` loses nothing that was acknowledged"));
        }
        differences
    }
}

fn retention_ms(config: &Config) -> u64 {
    config.retention_hours.saturating_mul(MS_PER_HOUR)
}

fn min_insync_replicas(config: &Config) -> u64 {
    u64::from(config.replication_factor.min(2))
}

/// Checks a topic that is there; says what should be otherwise.
pub(crate) async fn check(connection: &Connection, config: &Config, topic: &Topic) -> Result<Vec<String>, OpenError> {
    if topic.partitions != config.partitions {
        let (found, configured) = (topic.partitions, config.partitions);
        return Err(OpenError::Partitions { topic: config.topic.clone(), found, configured });
    }
    let settings = settings(connection, config, &config.topic).await?;
    settings.check(&config.topic)?;
    Ok(settings.differences(config))
}

/// Says what should be otherwise of a topic of that name that is there.
pub(crate) async fn differences(connection: &Connection, config: &Config, topic: &str) -> Result<Vec<String>, OpenError> {
    Ok(settings(connection, config, topic).await?.differences(config))
}

fn refused(topic: &str, reason: String) -> OpenError {
    OpenError::Refused { topic: topic.to_owned(), reason }
}

fn admin(connection: &Connection, topic: &str) -> Result<AdminClient<Context>, OpenError> {
    let client = connection.settings().create_with_context(Context::quiet(Told::default()));
    client.map_err(|error: KafkaError| refused(topic, text_of(&error)))
}

/// To end its thread takes a moment, in which nobody else may be held up.
async fn close(admin: AdminClient<Context>) {
    drop(tokio::task::spawn_blocking(move || drop(admin)).await);
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT)).operation_timeout(Some(ANSWER_TIMEOUT))
}

/// What a failed question about the topic means.
fn failed(config: &Config, topic: &str, code: RDKafkaErrorCode, reason: String, needed: &str) -> OpenError {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
            refused(topic, format!("{reason}; needed is the right to {needed}"))
        }
        _ => OpenError::Unreachable { brokers: config.broker_list(), reason },
    }
}

async fn settings(connection: &Connection, config: &Config, topic: &str) -> Result<Settings, OpenError> {
    let admin = admin(connection, topic)?;
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()).await;
    close(admin).await;
    let code_of = |error: &KafkaError| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
    let of_error = |error: KafkaError| failed(config, topic, code_of(&error), text_of(&error), "describe its configuration");
    let mut described = described.map_err(of_error)?;
    let resource = described.pop().ok_or_else(|| refused(topic, "an answer without its settings".to_owned()))?;
    let resource = resource.map_err(|code| failed(config, topic, code, code.to_string(), "describe its configuration"))?;
    let entries = resource.entries.into_iter();
    Ok(Settings(entries.filter_map(|entry| entry.value.map(|value| (entry.name, value))).collect()))
}

/// Makes a topic of that name, and waits until it is there.
pub(crate) async fn create(connection: &Connection, config: &Config, name: &str, watch: &Watch) -> Result<(), OpenError> {
    let retention = retention_ms(config).to_string();
    let in_sync = min_insync_replicas(config).to_string();
    let bytes = MESSAGE_BYTES_MIN.to_string();
    let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
    let copies = TopicReplication::Fixed(i32::from(config.replication_factor));
    let topic = NewTopic::new(name, partitions, copies)
        .set(CLEANUP_POLICY, "delete")
        .set(RETENTION_MS, &retention)
        .set(RETENTION_BYTES, "-1")
        .set(MAX_MESSAGE_BYTES, &bytes)
        .set(MIN_INSYNC_REPLICAS, &in_sync)
        .set(UNCLEAN_ELECTION, "false")
        .set(COMPRESSION_TYPE, "producer");
    let admin = admin(connection, name)?;
    let created = admin.create_topics([&topic], &options()).await;
    close(admin).await;
    let code = match created.map(|mut created| created.pop()) {
        Ok(Some(Ok(_)) | None) => RDKafkaErrorCode::NoError,
        Ok(Some(Err((_, code)))) => code,
        Err(error) => error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
    };
    match code {
        // Another one who migrates was there first.
        RDKafkaErrorCode::NoError | RDKafkaErrorCode::TopicAlreadyExists => {}
        RDKafkaErrorCode::InvalidReplicationFactor => {
            let factor = config.replication_factor;
            return Err(refused(name, format!("replication_factor is `{factor}`; there are fewer brokers than that")));
        }
        RDKafkaErrorCode::PolicyViolation | RDKafkaErrorCode::InvalidConfig => {
            return Err(refused(name, format!("it cannot be made: {code}")));
        }
        _ => return Err(failed(config, name, code, format!("it cannot be made: {code}"), "create it")),
    }
    let until = Instant::now() + APPEARS_WITHIN;
    while !matches!(watch.topic().await, Ok(Some(_))) {
        if Instant::now() >= until {
            return Err(refused(name, "it was made, and does not appear".to_owned()));
        }
        tokio::time::sleep(APPEARS_PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let good = [
            (CLEANUP_POLICY, "delete"),
            (MAX_MESSAGE_BYTES, "1048588"),
            (COMPRESSION_TYPE, "producer"),
            (RETENTION_MS, "604800000"),
            (RETENTION_BYTES, "-1"),
            (MIN_INSYNC_REPLICAS, "2"),
            (UNCLEAN_ELECTION, "false"),
        ];
        Settings(good.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn settings_that_lose_changes_are_refused() {
        assert_eq!(settings(&[]).check("t"), Ok(()));
        let refused = |name, value| settings(&[(name, value)]).check("t").unwrap_err().to_string();
        for policy in ["compact", "compact,delete", ""] {
            let expected = format!("topic `t` has cleanup.policy `{policy}`; needed is `delete`, since a compacted topic");
            assert!(refused(CLEANUP_POLICY, policy).starts_with(&expected));
        }
        assert!(refused(MAX_MESSAGE_BYTES, "1048575").contains("max.message.bytes `1048575`; needed is 1048576 or more"));
        assert!(refused(COMPRESSION_TYPE, "zstd").contains("compression.type `zstd`; needed is one of `producer`"));
    }

    #[test]
    fn doubtful_settings_are_told() {
        let config = Config::new(["a:1"]);
        assert_eq!(settings(&[(RETENTION_MS, "-1")]).differences(&config), Vec::<String>::new());
        let doubtful = [(RETENTION_MS, "1000"), (RETENTION_BYTES, "5"), (MIN_INSYNC_REPLICAS, "1"), (UNCLEAN_ELECTION, "true")];
        let told = settings(&doubtful).differences(&config);
        assert_eq!(told.len(), 4);
        assert_eq!(told[0], "retention.ms is `1000`; 604800000 is what retention_hours says");
        let alone = Config { replication_factor: 1, ..config };
        assert_eq!(settings(&[(MIN_INSYNC_REPLICAS, "1")]).differences(&alone), Vec::<String>::new());
    }
}
