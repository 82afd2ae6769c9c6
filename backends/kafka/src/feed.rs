//! The reading side: positions are the reader's, and everything that is not certain is out of range.
//!
//! The topic's id is looked at every second beside the reading. A topic that is deleted and made again is therefore told of
//! within that time, by everybody who reads the old one: until then records of the new one may come, which harm nobody, since
//! whoever applies them gates by seq.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tessera_ports::change_feed::{ChangeFeed, FeedBatch, FeedError, Position, Topic};
use tokio::time::timeout_at;

use crate::open::Kafka;
use crate::reader::{Place, Reader, Readers, deadline};
use crate::watch::Known;

/// Readers, one for each partition that somebody has read.
#[derive(Debug)]
pub(crate) struct Partitions {
    readers: Readers,
    partitions: Mutex<BTreeMap<u32, Arc<tokio::sync::Mutex<Reader>>>>,
}

impl Partitions {
    pub(crate) fn new(readers: Readers) -> Self {
        Self { readers, partitions: Mutex::default() }
    }

    fn partition(&self, partition: u32) -> Arc<tokio::sync::Mutex<Reader>> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(partition).or_default())
    }
}

/// What is to be said of a place by what is known of the topic.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    There,
    /// Known to be of another topic, or of a partition that does not exist; what is known may be a second old.
    Elsewhere,
    NoTopic,
}

impl Verdict {
    fn of(topic: Option<&Topic>, place: Place<'_>) -> Self {
        match topic {
            None => Self::NoTopic,
            Some(topic) if topic.id == place.topic_id && place.partition < topic.partitions => Self::There,
            Some(_) => Self::Elsewhere,
        }
    }
}

#[async_trait]
impl ChangeFeed for Kafka {
    async fn topic(&self) -> Result<Topic, FeedError> {
        let topic = self.0.watch.topic().await.map_err(|failure| FeedError::Unavailable(failure.reason))?;
        topic.ok_or_else(|| self.no_topic())
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        self.0.watch.ends().await
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        let deadline = deadline(wait);
        let place = Place { topic_id: topic, partition, from };
        self.check(place).await?;
        if i64::try_from(from).is_err() {
            return Err(place.out_of_range());
        }
        let reader = self.0.partitions.partition(partition);
        let reader = match deadline {
            Some(deadline) => timeout_at(deadline, reader.lock()).await.ok(),
            None => Some(reader.lock().await),
        };
        // Somebody else reads it all the while.
        let Some(mut reader) = reader else { return Ok(FeedBatch { messages: Vec::new(), next: from }) };
        let batch = reader.read(&self.0.partitions.readers, place, limit.max(1), deadline).await?;
        if batch.messages.is_empty() {
            self.0.watch.known(|known| self.check_silence(known, place))?;
        }
        Ok(batch)
    }

    fn problems(&self) -> Vec<String> {
        Kafka::problems(self)
    }
}

#[cfg(feature = "test-hooks")]
impl Kafka {
    /// For tests: the consumer that reads this partition gives nothing any more and says nothing, as one of librdkafka's that
    /// hangs. `false` when nobody has read it; waits for whoever is reading.
    pub async fn hang(&self, partition: u32) -> bool {
        let reader = self.0.partitions.partition(partition);
        let reader = reader.lock().await;
        reader.hang(&self.0.config.topic, partition).unwrap_or(false)
    }
}

impl Kafka {
    fn no_topic(&self) -> FeedError {
        FeedError::Unavailable(format!("there is no topic `{}`; `tessera migrate` makes it", self.0.config.topic))
    }

    /// Whether there is such a place at all.
    async fn check(&self, place: Place<'_>) -> Result<(), FeedError> {
        match self.0.watch.known(|known| Verdict::of(known.topic.as_ref(), place)) {
            Verdict::There => return Ok(()),
            Verdict::NoTopic | Verdict::Elsewhere => {}
        }
        let topic = self.0.watch.topic().await.map_err(|failure| FeedError::Unavailable(failure.reason))?;
        match Verdict::of(topic.as_ref(), place) {
            Verdict::There => Ok(()),
            Verdict::Elsewhere => Err(place.out_of_range()),
            Verdict::NoTopic => Err(self.no_topic()),
        }
    }

    /// Nothing came: because there is nothing, or because nobody answers, or from another topic?
    fn check_silence(&self, known: &Known, place: Place<'_>) -> Result<(), FeedError> {
        if let Some((_, reason)) = &known.failing {
            return Err(FeedError::Unavailable(reason.clone()));
        }
        match Verdict::of(known.topic.as_ref(), place) {
            Verdict::There => Ok(()),
            Verdict::Elsewhere => Err(place.out_of_range()),
            Verdict::NoTopic => Err(self.no_topic()),
        }
    }
}
