//! Takes the records that a consumer has fetched already, many at a time.
//!
//! `rdkafka` gives one record at a time, wrapped in an event, with a look at the clock: as dear as all that is done with the record.
//! librdkafka gives an array of them. Nothing here waits, and nothing here is told of log and global errors, which
//! are for whoever waits.
#![expect(unsafe_code, reason = "librdkafka's call for many records has no safe wrapper")]

use std::ptr;
use std::slice;

use rdkafka::bindings as native;
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::Meaning;

/// Records taken at once.
const CHUNK: usize = 128;

/// One record, for as long as it is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) offset: i64,
}

/// Calls `take` with every record that is there, up to `limit`, or for as long as it says that it wants more; it may be given
/// some after it has said so. After `Err`, which came behind the last of them, the consumer is of no use: records behind the gap
/// may be gone from it.
pub(crate) fn drain<C: ConsumerContext>(
    consumer: &impl Consumer<C>,
    limit: usize,
    mut take: impl FnMut(Record<'_>) -> bool,
) -> Result<(), KafkaError> {
    let queue = Queue::of(consumer);
    if queue.0.is_null() {
        return Ok(());
    }
    let mut left = limit;
    let mut wants_more = true;
    let mut failure = None;
    while left > 0 && wants_more && failure.is_none() {
        let chunk = Chunk::fill(&queue, left.min(CHUNK));
        if chunk.count == 0 {
            break;
        }
        for record in chunk.records() {
            match record {
                Ok(record) if failure.is_none() => {
                    wants_more = take(record);
                    left = left.saturating_sub(1);
                }
                // Behind a gap: whoever is told of it begins anew before it.
                Ok(_) => {}
                Err(code) => {
                    let error = KafkaError::MessageConsumption(code);
                    if failure.is_none() && Meaning::of(&error) != Meaning::Disconnected {
                        failure = Some(error);
                    }
                }
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// A consumer's queue, given back when it goes.
struct Queue(*mut native::rd_kafka_queue_t);

impl Queue {
    fn of<C: ConsumerContext>(consumer: &impl Consumer<C>) -> Self {
        // SAFETY: the consumer, and so its handle, outlives this queue, which is local to `drain`.
        Self(unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the reference came from `rd_kafka_queue_get_consumer` and is given back once.
            unsafe { native::rd_kafka_queue_destroy(self.0) }
        }
    }
}

/// Messages of librdkafka's, freed when it goes.
struct Chunk {
    messages: [*mut native::rd_kafka_message_t; CHUNK],
    count: usize,
}

impl Chunk {
    fn fill(queue: &Queue, limit: usize) -> Self {
        let mut messages = [ptr::null_mut(); CHUNK];
        // SAFETY: the queue is not null, and the array has room for as many as are asked for.
        let count = unsafe { native::rd_kafka_consume_batch_queue(queue.0, 0, messages.as_mut_ptr(), limit.min(CHUNK)) };
        Self { messages, count: usize::try_from(count).unwrap_or(0).min(CHUNK) }
    }

    fn records(&self) -> impl Iterator<Item = Result<Record<'_>, RDKafkaErrorCode>> {
        self.messages.iter().take(self.count).map(|message| {
            // SAFETY: librdkafka filled the first `count` with messages of its own, which live until `self` goes.
            let message = unsafe { &**message };
            let code = RDKafkaErrorCode::from(message.err);
            if code != RDKafkaErrorCode::NoError {
                return Err(code);
            }
            // SAFETY: key and payload are null, or point to as many bytes as the message says and live as long as it.
            let bytes = |start: *mut std::ffi::c_void, count: usize| unsafe {
                (!start.is_null()).then(|| slice::from_raw_parts(start.cast::<u8>().cast_const(), count))
            };
            let key = bytes(message.key, message.key_len);
            Ok(Record { key, value: bytes(message.payload, message.len), offset: message.offset })
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        for message in self.messages.iter().take(self.count) {
            // SAFETY: each is destroyed once, and nothing refers to it any more.
            unsafe { native::rd_kafka_message_destroy(*message) }
        }
    }
}
