//! Records into a topic, acknowledged by every replica that has to: one idempotent producer, made when it is needed and thrown
//! away, with all that it holds, at the first error.
//!
//! A producer that went on after an error could deliver what was given up before behind what was published since. Nothing is
//! skipped for it: whoever published is told that any part may be there, and publishes again from the store. What was
//! on its way to a broker already may still arrive, which the seq gate of the readers makes harmless.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer};
use tessera_ports::change_feed::FeedError;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::client::{Connection, Context, Told};
use crate::error::text_of;

/// Records and bytes that wait to be sent, beyond which whoever publishes waits.
const QUEUE_RECORDS: u32 = 50_000;
const QUEUE_KIB: u32 = 32 * 1024;
/// Before a full queue is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// Whoever has something to publish tries again much sooner than this after a failure.
const RETRIED_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of records that are packed together. A record that is longer goes alone. Readers unpack all of a batch at once.
const BATCH_BYTES: u32 = 256 * 1024;

/// Most bytes that a record may have on its way: what a loader writes fits.
const MESSAGE_BYTES_MAX: usize = 1_000_000;

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) partition: u32,
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Option<OwnedHeaders>,
}

/// One call of [`Producing::send`], which every record of it carries.
#[derive(Debug)]
pub(crate) struct Call {
    /// Records not acknowledged yet, and one for the call itself while it hands them over.
    outstanding: AtomicUsize,
    failure: Mutex<Option<String>>,
    moved: Notify,
}

impl Call {
    fn new() -> Arc<Self> {
        Arc::new(Self { outstanding: AtomicUsize::new(1), failure: Mutex::new(None), moved: Notify::new() })
    }

    fn fail(&self, reason: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.moved.notify_one();
    }

    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn one_more(&self) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
    }

    /// The release makes a failure noted before it visible to whoever sees the last one go.
    fn one_less(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.moved.notify_one();
        }
    }

    /// Until all are acknowledged or one is refused.
    async fn settled(&self) -> Result<(), String> {
        loop {
            if let Some(reason) = self.failure() {
                return Err(reason);
            }
            if self.outstanding.load(Ordering::Acquire) == 0 {
                return self.failure().map_or(Ok(()), Err);
            }
            self.moved.notified().await;
        }
    }
}

/// Takes acknowledgements.
#[derive(Debug)]
struct Deliveries(Context);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<Call>) {
        if let Err((error, _)) = result {
            call.fail(text_of(error));
        }
        call.one_less();
    }
}

/// A producer that has had no error yet.
struct Instance {
    /// Taken out only when it is dropped.
    producer: Option<ThreadedProducer<Deliveries>>,
    /// How many partitions the topic had when it was made: it learns of new ones late.
    partitions: u32,
}

impl Drop for Instance {
    /// To stop its thread takes up to a second, which nobody has to wait for.
    fn drop(&mut self) {
        let producer = self.producer.take();
        drop(std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(producer)));
    }
}

/// Records into one topic. Feeds of every kind are written by it.
pub(crate) struct Producing {
    connection: Connection,
    topic: String,
    publish_timeout: Duration,
    instance: Mutex<Option<Arc<Instance>>>,
    told: Told,
    failing: Mutex<Option<Failing>>,
}

/// Attempts that failed, and none since that did not.
#[derive(Debug)]
struct Failing {
    since: Instant,
    last: Instant,
    reason: String,
}

impl std::fmt::Debug for Producing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producing").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Producing {
    pub(crate) fn new(connection: &Connection, topic: &str, publish_timeout: Duration) -> Self {
        Self {
            connection: connection.clone(),
            topic: topic.to_owned(),
            publish_timeout,
            instance: Mutex::new(None),
            told: Told::default(),
            failing: Mutex::new(None),
        }
    }

    /// Since when nothing could be published, and why. That ends with a success, and also when nobody has anything to publish any
    /// more: when brokers that answered at `answered` did so long after the last attempt.
    pub(crate) fn failing(&self, answered: Option<Instant>) -> Option<(Instant, String)> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        // An attempt that is under way may take the first part of that.
        let quiet = self.publish_timeout.saturating_add(RETRIED_WITHIN);
        failing.take_if(|failing| answered.is_some_and(|at| at.saturating_duration_since(failing.last) >= quiet));
        failing.as_ref().map(|failing| (failing.since, failing.reason.clone()))
    }

    /// Sends the records, in order within a partition; `Ok` when every one of them is acknowledged. `partitions` is how many
    /// the topic has now.
    pub(crate) async fn send(&self, partitions: u32, records: impl Iterator<Item = Outgoing> + Send) -> Result<(), FeedError> {
        let sent = match self.instance(partitions) {
            Ok(instance) => self.send_by(&instance, records).await,
            Err(error) => Err(text_of(&error)),
        };
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match sent {
            Ok(()) => {
                *failing = None;
                self.told.forget();
                Ok(())
            }
            Err(reason) => {
                let reason = self.told.explain(&reason);
                let last = Instant::now();
                let since = failing.as_ref().map_or(last, |failing| failing.since);
                *failing = Some(Failing { since, last, reason: reason.clone() });
                Err(FeedError::Unavailable(reason))
            }
        }
    }

    async fn send_by(&self, instance: &Arc<Instance>, records: impl Iterator<Item = Outgoing> + Send) -> Result<(), String> {
        let deadline = Instant::now() + self.publish_timeout;
        let call = Call::new();
        let in_time = timeout_at(deadline, async {
            for record in records {
                self.hand_over(instance, &call, &record).await?;
            }
            call.one_less();
            call.settled().await
        });
        let late = || Err(format!("not acknowledged within {} ms", self.publish_timeout.as_millis()));
        let sent = in_time.await.unwrap_or_else(|_| late());
        if let Err(reason) = &sent {
            self.discard(instance, reason);
        }
        sent
    }

    /// Into the producer's queue, when there is room.
    async fn hand_over(&self, instance: &Instance, call: &Arc<Call>, outgoing: &Outgoing) -> Result<(), String> {
        let Some(producer) = &instance.producer else { return Err("no producer".to_owned()) };
        loop {
            call.one_more();
            let record = BaseRecord::with_opaque_to(&self.topic, Arc::clone(call))
                .partition(i32::try_from(outgoing.partition).unwrap_or(i32::MAX))
                .payload(outgoing.value.as_slice());
            let record = match &outgoing.key {
                Some(key) => record.key(key.as_str()),
                None => record,
            };
            let record = match &outgoing.headers {
                Some(headers) => record.headers(headers.clone()),
                None => record,
            };
            let Err((error, _)) = producer.send(record) else { return Ok(()) };
            call.one_less();
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(text_of(&error));
            }
            if let Some(reason) = call.failure() {
                return Err(reason);
            }
            // Acknowledgements make room, ours or another call's: looked at again either way.
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// The producer there is, or a new one.
    fn instance(&self, partitions: u32) -> Result<Arc<Instance>, KafkaError> {
        let mut slot = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = slot.as_ref().filter(|instance| instance.partitions >= partitions) {
            return Ok(Arc::clone(instance));
        }
        let timeout_ms = self.publish_timeout.as_millis().to_string();
        let mut settings = self.connection.settings();
        settings
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.timeout.ms", &timeout_ms)
            .set("request.timeout.ms", &timeout_ms)
            .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
            .set("compression.type", "lz4")
            // What comes while a request is on its way goes together with the next; nothing waits for more.
            .set("linger.ms", "0")
            .set("batch.size", BATCH_BYTES.to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS.to_string())
            .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string());
        let producer = settings.create_with_context(Deliveries(Context::quiet(self.told.clone())))?;
        let instance = Arc::new(Instance { producer: Some(producer), partitions });
        *slot = Some(Arc::clone(&instance));
        Ok(instance)
    }

    /// Nothing of it is to arrive any more, as far as that is in our hands; other calls that use it fail with it.
    fn discard(&self, instance: &Arc<Instance>, reason: &str) {
        let mut slot = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, instance)) {
            *slot = None;
            warn!(topic = self.topic, reason, "publishing failed; beginning anew with another producer");
        }
        if let Some(producer) = &instance.producer {
            producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// As of a loader whose share went to another one while the brokers were away.
    #[tokio::test(start_paused = true)]
    async fn that_nothing_could_be_published_is_forgotten_when_nobody_tries_any_more() -> anyhow::Result<()> {
        // Nothing can listen on port 1 of a machine that runs tests.
        let connection = Connection::new(&Config::new(["127.0.0.1:1"]))?;
        let publish_timeout = Duration::from_secs(2);
        let producing = Producing::new(&connection, "topic", publish_timeout);
        let fails = async || {
            let record = Outgoing { partition: 0, key: None, value: Vec::new(), headers: None };
            producing.send(1, std::iter::once(record)).await.expect_err("there is no broker");
            Instant::now()
        };
        let first = fails().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let last = fails().await;
        assert!(last > first);
        let since = |answered| producing.failing(answered).map(|(since, _)| since);
        let quiet = publish_timeout + RETRIED_WITHIN;
        // For as long as the brokers are away, and until whoever has something to publish would have tried again.
        for answered in [None, Some(first), Some(last), Some(last + quiet - Duration::from_millis(1))] {
            assert_eq!(since(answered), Some(first), "{answered:?}");
        }
        assert_eq!(since(Some(last + quiet)), None);
        // What fails later is another matter.
        let later = fails().await;
        assert_eq!(since(None), Some(later));
        Ok(())
    }
}
