//! The topic of events for others: written by loaders, read by whoever wants to, and by nobody here.
//!
//! How many partitions it has is its owner's business; a stream's events are in one of them, in order, for as long as their number
//! stays. What is on its way when a producer is thrown away may come again behind later ones: readers drop what they have seen.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_ports::change_feed::FeedError;
use tessera_ports::{EventPublisher, PublicEvent, Shard};
use tracing::info;

use crate::cloud_event::CloudEvent;
use crate::config::Config;
use crate::error::OpenError;
use crate::open::{connect, found};
use crate::producer::{Outgoing, Producing};
use crate::topic_settings::{self, Migration};
use crate::watch::{Known, Watch, Watched};

/// The open topic. A cheap handle; when the last one is dropped its connections are closed, which nobody waits for.
#[derive(Debug, Clone)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    topic: String,
    type_prefix: String,
    watch: Watch,
    producing: Producing,
}

impl Events {
    /// Finds the brokers, and checks that the topic is there; `None` where the settings name none. Nothing is made or changed.
    pub async fn open(config: &Config) -> Result<Option<Self>, OpenError> {
        let name = &config.events_topic;
        if name.is_empty() {
            return Ok(None);
        }
        let (connection, watch) = connect(config, name, Watched::Events)?;
        let topic = found(config, name, &connection, &watch).await?;
        let topic = topic.ok_or_else(|| OpenError::TopicMissing { topic: name.clone(), brokers: config.broker_list() })?;
        info!(topic = name, id = topic.id, partitions = topic.partitions, "the topic of events is open");
        let producing = Producing::new(&connection, name, Duration::from_millis(config.publish_timeout_ms));
        let type_prefix = config.events_type_prefix.clone();
        Ok(Some(Self(Arc::new(Inner { topic: name.clone(), type_prefix, watch, producing }))))
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        let Inner { topic, watch, .. } = &*self.0;
        if let Some(partitions) = watch.partitions() {
            return Ok(partitions);
        }
        let found = watch.topic().await.map_err(|failure| FeedError::Unavailable(failure.reason))?;
        found.map(|topic| topic.partitions).ok_or_else(|| FeedError::Unavailable(no_topic(topic)))
    }
}

/// Makes the topic if it is not there; of one that is there, says what should be otherwise, and changes nothing. `None` where the
/// settings name none.
pub async fn migrate(config: &Config) -> Result<Option<Migration>, OpenError> {
    let name = &config.events_topic;
    if name.is_empty() {
        return Ok(None);
    }
    let (connection, watch) = connect(config, name, Watched::Events)?;
    if found(config, name, &connection, &watch).await?.is_some() {
        let differences = topic_settings::differences(&connection, config, name).await?;
        return Ok(Some(Migration::Present { differences }));
    }
    topic_settings::create(&connection, config, name, &watch).await?;
    Ok(Some(Migration::Created { partitions: config.partitions, replication_factor: config.replication_factor }))
}

fn no_topic(name: &str) -> String {
    format!("there is no topic `{name}`; `tessera migrate` makes it")
}

#[async_trait]
impl EventPublisher for Events {
    async fn publish(&self, events: &[PublicEvent]) -> Result<(), FeedError> {
        if events.is_empty() {
            return Ok(());
        }
        let Inner { type_prefix, producing, .. } = &*self.0;
        let partitions = self.partitions().await?;
        let records = events.iter().map(|event| {
            let CloudEvent { id, headers, value } = CloudEvent::of(event, type_prefix)?;
            let partition = Shard::of(&event.stream).partition(partitions);
            Ok(Outgoing { partition, key: Some(id), value, headers: Some(headers) })
        });
        let records: Result<Vec<Outgoing>, serde_json::Error> = records.collect();
        let records = records.map_err(|error| FeedError::Unavailable(format!("an event cannot be written: {error}")))?;
        producing.send(partitions, records.into_iter()).await
    }

    /// That brokers do not answer is said by the feed.
    fn problems(&self) -> Vec<String> {
        let Inner { topic, watch, producing, .. } = &*self.0;
        let is_gone = watch.known(|known| known.failing.is_none() && known.at.is_some() && known.topic.is_none());
        let gone = is_gone.then(|| no_topic(topic));
        let failing = producing.failing(watch.known(Known::answered)).map(|(since, reason)| {
            let seconds = since.elapsed().as_secs();
            format!("nothing could be published to topic `{topic}` for {seconds} s: {reason}")
        });
        gone.into_iter().chain(failing).collect()
    }
}
