//! One partition read on from a position: a consumer that is kept, and moved only when somebody reads elsewhere.
//!
//! A consumer may stop for good and say nothing, as after brokers that stood still and came back (librdkafka's issue 4492). One that
//! gives nothing although the log is known to go on is thrown away; another one begins where it stood.
//!
//! No group: partitions are assigned, and nothing is committed. The group's name is there because librdkafka assigns nothing
//! to a consumer without one.

use std::time::Duration;

use futures::StreamExt as _;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tessera_ports::change_feed::{FeedBatch, FeedError, FeedMessage, Position};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::client::{Connection, Context, Told};
use crate::config::Config;
use crate::drain::{Record, drain};
use crate::error::{Meaning, text_of};
use crate::patience::Patience;
use crate::record::decode;
use crate::watch::Watch;

const GROUP: &str = "tessera-feed";
/// Bytes of records in one batch, beyond which it ends early.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many records are fetched ahead of the reader: each costs half a kilobyte beside its bytes.
const READ_AHEAD_RECORDS: u32 = 4_000;
/// Bytes asked for at once. A record that is longer comes all the same. They are packed: what they are unpacked to comes on top of
/// what may be read ahead.
const FETCH_BYTES: u32 = 128 * 1024;
/// How long a broker holds back its answer when there is nothing: a partition without changes costs it two answers a second per
/// server. What comes is sent at once; a move to another position waits this long.
const FETCH_WAIT_MS: u32 = 500;
/// How long a consumer is waited for before it is compared with what else is known.
const STEP: Duration = Duration::from_secs(1);

/// Which position of which partition, in which topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) topic_id: &'a str,
    pub(crate) partition: u32,
    pub(crate) from: Position,
}

impl Place<'_> {
    pub(crate) fn out_of_range(self) -> FeedError {
        FeedError::OutOfRange { partition: self.partition, position: self.from }
    }
}

/// How readers are made.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    connection: Connection,
    topic: String,
    read_ahead_kib: u64,
    told: Told,
    watch: Watch,
}

impl Readers {
    pub(crate) fn new(connection: &Connection, config: &Config, watch: &Watch) -> Self {
        let (topic, read_ahead_kib) = (config.topic.clone(), config.read_ahead_kib);
        Self { connection: connection.clone(), topic, read_ahead_kib, told: Told::default(), watch: watch.clone() }
    }

    /// A consumer that is assigned this place.
    fn consumer(&self, place: Place<'_>) -> Result<StreamConsumer<Context>, KafkaError> {
        let mut settings = self.connection.settings();
        settings
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            // Whatever is in the log is told of: what others wrote, and left open, holds up nothing.
            .set("isolation.level", "read_uncommitted")
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", FETCH_WAIT_MS.to_string())
            .set("fetch.message.max.bytes", FETCH_BYTES.to_string())
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", READ_AHEAD_RECORDS.to_string())
            .set("queued.max.messages.kbytes", self.read_ahead_kib.to_string())
            // Nobody is thrown out of a group that nobody is in.
            .set("max.poll.interval.ms", "86400000")
            // Its complaints would go to standard error from `drain`; those who ask brokers have the same, in the log.
            .set_log_level(RDKafkaLogLevel::Critical);
        let consumer: StreamConsumer<Context> = settings.create_with_context(Context::quiet(self.told.clone()))?;
        assign(&consumer, &self.topic, place)?;
        Ok(consumer)
    }
}

fn assign(consumer: &StreamConsumer<Context>, topic: &str, place: Place<'_>) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    let partition = i32::try_from(place.partition).unwrap_or(i32::MAX);
    // Greater ones were refused before.
    let offset = Offset::Offset(i64::try_from(place.from).unwrap_or(i64::MAX));
    list.add_partition_offset(topic, partition, offset)?;
    consumer.assign(&list)
}

/// The consumer of one partition, if there is one at the moment.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    standing: Option<Standing>,
    patience: Patience,
}

struct Standing {
    /// Taken out only when it is dropped.
    consumer: Option<StreamConsumer<Context>>,
    topic_id: String,
    next: Position,
    /// The log ends or breaks off before `next`, which was found when a batch had been begun.
    out_of_range: bool,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("topic_id", &self.topic_id).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Drop for Standing {
    /// To close a consumer takes some milliseconds, which nobody has to wait for.
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        // Without a thread it is closed here.
        drop(std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(consumer)));
    }
}

/// What a reader has gathered.
struct Batch {
    messages: Vec<FeedMessage>,
    bytes: usize,
    next: Position,
}

impl Batch {
    /// Whether there is room for more.
    fn take(&mut self, record: Record<'_>) -> bool {
        let Record { key, value, offset } = record;
        self.messages.push(match decode(key, value) {
            FeedMessage::Bad(reason) => FeedMessage::Bad(format!("{reason}, at position {offset}")),
            good => good,
        });
        let bytes = key.map_or(0, <[u8]>::len).saturating_add(value.map_or(0, <[u8]>::len));
        self.bytes = self.bytes.saturating_add(bytes);
        self.next = Position::try_from(offset).unwrap_or(0).saturating_add(1);
        self.bytes < BATCH_BYTES_MAX
    }
}

impl Reader {
    /// Up to `limit` records from there on, waiting until `deadline` for the first. Can be broken off: what was taken from the
    /// queue is in a batch that is returned before anything is waited for.
    pub(crate) async fn read(
        &mut self,
        readers: &Readers,
        place: Place<'_>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<FeedBatch, FeedError> {
        loop {
            let step = Instant::now().checked_add(STEP);
            let is_last = deadline.is_some_and(|deadline| step.is_none_or(|step| deadline <= step));
            let batch = self.step(readers, place, limit, if is_last { deadline } else { step }).await?;
            if !batch.messages.is_empty() {
                self.patience.renew();
                return Ok(batch);
            }
            let end = readers.watch.known(|known| known.end(place.partition));
            if let Some(waited) = self.patience.is_over(place.from, end) {
                let (partition, from, seconds) = (place.partition, place.from, waited.as_secs());
                warn!(partition, from, seconds, "a consumer gives nothing though there is more; beginning anew with another one");
                self.standing = None;
            }
            if is_last {
                return Ok(batch);
            }
        }
    }

    /// As [`Self::read`], with the consumer there is.
    async fn step(
        &mut self,
        readers: &Readers,
        place: Place<'_>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<FeedBatch, FeedError> {
        let standing = self.stand_at(readers, place)?;
        if standing.out_of_range {
            self.standing = None;
            return Err(place.out_of_range());
        }
        let Some(consumer) = &standing.consumer else { return Err(FeedError::Unavailable("no reader".to_owned())) };
        let mut batch = Batch { messages: Vec::new(), bytes: 0, next: place.from };
        let mut failure = match first(consumer, deadline).await {
            None => None,
            Some(Err(error)) => Some(error),
            Some(Ok(record)) => {
                let has_room = batch.take(Record { key: record.key(), value: record.payload(), offset: record.offset() });
                let left = if has_room { limit.saturating_sub(1) } else { 0 };
                drain(consumer, left, |record| batch.take(record)).err()
            }
        };
        standing.next = batch.next;
        // It connects again by itself; whether brokers answer is told by those who ask them.
        failure.take_if(|error| Meaning::of(error) == Meaning::Disconnected);
        let Some(error) = failure else { return Ok(FeedBatch { messages: batch.messages, next: batch.next }) };
        let is_out_of_range = Meaning::of(&error) == Meaning::OutOfRange;
        if !batch.messages.is_empty() {
            // The next read is told of it: by what is noted here, or by a new consumer that comes to the same place.
            if is_out_of_range {
                standing.out_of_range = true;
            } else {
                self.standing = None;
            }
            return Ok(FeedBatch { messages: batch.messages, next: batch.next });
        }
        self.standing = None;
        if is_out_of_range {
            return Err(place.out_of_range());
        }
        Err(FeedError::Unavailable(readers.told.explain(&text_of(&error))))
    }

    /// Makes the consumer there is give nothing any more; whether there is one.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn hang(&self, topic: &str, partition: u32) -> Result<bool, KafkaError> {
        let Some(consumer) = self.standing.as_ref().and_then(|standing| standing.consumer.as_ref()) else { return Ok(false) };
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, i32::try_from(partition).unwrap_or(i32::MAX));
        consumer.pause(&list)?;
        Ok(true)
    }

    /// The consumer where it has to stand: the one there is, moved if it has to be, or a new one.
    fn stand_at(&mut self, readers: &Readers, place: Place<'_>) -> Result<&mut Standing, FeedError> {
        let unavailable = |error: KafkaError| FeedError::Unavailable(text_of(&error));
        let mut standing = match self.standing.take() {
            Some(standing) if standing.topic_id == place.topic_id => standing,
            _ => {
                self.patience.begin();
                Standing {
                    consumer: Some(readers.consumer(place).map_err(unavailable)?),
                    topic_id: place.topic_id.to_owned(),
                    next: place.from,
                    out_of_range: false,
                }
            }
        };
        if standing.next != place.from {
            if let Some(consumer) = &standing.consumer {
                assign(consumer, &readers.topic, place).map_err(unavailable)?;
            }
            standing.next = place.from;
            standing.out_of_range = false;
        }
        Ok(self.standing.insert(standing))
    }
}

/// The first record, or what is in its way; `None` when the time is over. That a connection is gone is no answer: it comes back.
async fn first(consumer: &StreamConsumer<Context>, deadline: Option<Instant>) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
    let mut records = consumer.stream();
    loop {
        let record = match deadline {
            Some(deadline) => timeout_at(deadline, records.next()).await.ok().flatten()?,
            None => records.next().await?,
        };
        match record {
            Err(error) if Meaning::of(&error) == Meaning::Disconnected => {}
            other => return Some(other),
        }
    }
}

/// When a wait that begins now ends; `None` for never.
pub(crate) fn deadline(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}
