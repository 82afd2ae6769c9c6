//! Opening the feed, step by step, and the handle on it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tessera_ports::change_feed::Topic;
use tracing::{info, warn};

use crate::client::Connection;
use crate::config::Config;
use crate::describe::Failure;
use crate::error::{OpenError, is_authentication};
use crate::feed::Partitions;
use crate::producer::Producing;
use crate::reader::Readers;
use crate::topic_settings::{self, Migration};
use crate::watch::{Known, Watch, Watched};

/// An open feed, both sides of it. A cheap handle; when the last one is dropped its connections are closed, which nobody waits
/// for.
#[derive(Debug, Clone)]
pub struct Kafka(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) watch: Watch,
    pub(crate) partitions: Partitions,
    pub(crate) producing: Producing,
}

impl Kafka {
    /// Finds the brokers, and checks that the topic is there and loses nothing. Nothing is made or changed.
    pub async fn open(config: &Config) -> Result<Self, OpenError> {
        let (connection, watch) = connect(config, &config.topic, Watched::Feed)?;
        let topic = found(config, &config.topic, &connection, &watch).await?;
        let topic =
            topic.ok_or_else(|| OpenError::TopicMissing { topic: config.topic.clone(), brokers: config.broker_list() })?;
        for difference in topic_settings::check(&connection, config, &topic).await? {
            warn!(topic = config.topic, "{difference}");
        }
        info!(topic = config.topic, id = topic.id, partitions = topic.partitions, "the feed is open");
        let partitions = Partitions::new(Readers::new(&connection, config, &watch));
        let publish_timeout = Duration::from_millis(config.publish_timeout_ms);
        let producing = Producing::new(&connection, &config.topic, publish_timeout);
        Ok(Self(Arc::new(Inner { config: config.clone(), watch, partitions, producing })))
    }

    /// What is wrong with the feed now, in words for whoever has to see to it; nothing if all is well.
    pub fn problems(&self) -> Vec<String> {
        let Inner { config, watch, producing, .. } = &*self.0;
        let name = &config.topic;
        let mut problems = watch.known(|known| {
            let mut problems = Vec::new();
            if let Some((since, reason)) = &known.failing {
                let (brokers, seconds) = (config.broker_list(), since.elapsed().as_secs());
                problems.push(format!("the brokers `{brokers}` have not answered for {seconds} s: {reason}"));
            }
            match &known.topic {
                None => problems.push(format!("there is no topic `{name}`; `tessera migrate` makes it")),
                Some(topic) if topic.partitions != config.partitions => problems.push(format!(
                    "topic `{name}` has {} partitions and backends.kafka.partitions is `{}`; no process starts until they agree",
                    topic.partitions, config.partitions
                )),
                Some(_) => {}
            }
            problems
        });
        if let Some((since, reason)) = producing.failing(watch.known(Known::answered)) {
            let seconds = since.elapsed().as_secs();
            problems.push(format!("nothing could be published to topic `{name}` for {seconds} s: {reason}"));
        }
        problems
    }
}

/// Makes the topic if it is not there; of one that is there, says what should be otherwise, and changes nothing.
pub async fn migrate(config: &Config) -> Result<Migration, OpenError> {
    let (connection, watch) = connect(config, &config.topic, Watched::Feed)?;
    if let Some(topic) = found(config, &config.topic, &connection, &watch).await? {
        let differences = topic_settings::check(&connection, config, &topic).await?;
        return Ok(Migration::Present { differences });
    }
    topic_settings::create(&connection, config, &config.topic, &watch).await?;
    Ok(Migration::Created { partitions: config.partitions, replication_factor: config.replication_factor })
}

/// To the brokers, and to a topic of that name there.
pub(crate) fn connect(config: &Config, topic: &str, watched: Watched) -> Result<(Connection, Watch), OpenError> {
    config.validate().map_err(OpenError::Config)?;
    let connection = Connection::new(config)?;
    let watch = Watch::start(&connection, topic, watched);
    let watch = watch.map_err(|reason| OpenError::Refused { topic: topic.to_owned(), reason })?;
    Ok((connection, watch))
}

/// The watched topic, if there is one of its name.
pub(crate) async fn found(
    config: &Config,
    topic: &str,
    connection: &Connection,
    watch: &Watch,
) -> Result<Option<Topic>, OpenError> {
    watch.topic().await.map_err(|Failure { code, reason }| {
        let brokers = config.broker_list();
        let told = watch.told().last();
        if is_authentication(code) || told.is_some_and(|(code, _)| is_authentication(code)) {
            return OpenError::Authentication { brokers, who: connection.who().to_owned(), reason };
        }
        match code {
            Code::TopicAuthorizationFailed | Code::UnsupportedVersion | Code::UnsupportedFeature | Code::InvalidTopic => {
                OpenError::Refused { topic: topic.to_owned(), reason }
            }
            _ => OpenError::Unreachable { brokers, reason },
        }
    })
}
