//! Asks the brokers for a topic's id and the number of its partitions.
//!
//! The id is Kafka's own (2.8 and newer), made when the topic is, so that a topic made again under the same name has another; and
//! the number of partitions, since positions in fewer are not positions in all.
//! `rdkafka` does not offer it, librdkafka does: this is the only place that calls it directly. A request written by hand
//! would have to do authentication over again.
#![expect(unsafe_code, reason = "librdkafka's description of a topic has no safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use tessera_ports::change_feed::Topic;

/// What Kafka calls an id that there is none of.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
/// Beyond the request's own time-out, after which librdkafka answers by itself.
const GRACE_MS: i32 = 1_000;

/// Why there is no description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
}

/// The topic as the brokers know it now; `None` if they know none of that name. It blocks.
pub(crate) fn describe<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<Option<Topic>, Failure> {
    let name = CString::new(topic).map_err(|_| failed(RDKafkaErrorCode::InvalidTopic, "the name has a zero byte"))?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX - GRACE_MS);
    let event = Event::wait_for(client, &name, timeout_ms)?;
    event.topic()
}

fn failed(code: RDKafkaErrorCode, reason: impl Into<String>) -> Failure {
    Failure { code, reason: reason.into() }
}

/// An answer, freed when it goes.
struct Event(*mut native::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `rd_kafka_queue_poll`, is not null, and is freed here only.
        unsafe { native::rd_kafka_event_destroy(self.0) }
    }
}

impl Event {
    fn wait_for<C: ClientContext>(client: &Client<C>, name: &CStr, timeout_ms: i32) -> Result<Self, Failure> {
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        // SAFETY: `client` keeps its handle alive for the whole call; queue, options and collection are made here, used
        // before they are freed, and freed once on the only way out. librdkafka copies the names. It allows a queue to go
        // while a request still refers to it: the answer is then dropped.
        let event = unsafe {
            let handle = client.native_ptr();
            let queue = native::rd_kafka_queue_new(handle);
            let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
            let options = native::rd_kafka_AdminOptions_new(handle, operation);
            native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
            let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            native::rd_kafka_DescribeTopics(handle, topics, options, queue);
            let event = native::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(GRACE_MS));
            native::rd_kafka_TopicCollection_destroy(topics);
            native::rd_kafka_AdminOptions_destroy(options);
            native::rd_kafka_queue_destroy(queue);
            event
        };
        if event.is_null() {
            return Err(failed(RDKafkaErrorCode::OperationTimedOut, "no answer in time"));
        }
        Ok(Self(event))
    }

    fn topic(&self) -> Result<Option<Topic>, Failure> {
        // SAFETY: everything asked for here belongs to the event, which lives as long as `self`; every pointer is looked at
        // before it is followed, and texts are copied.
        unsafe {
            let code = RDKafkaErrorCode::from(native::rd_kafka_event_error(self.0));
            if code != RDKafkaErrorCode::NoError {
                return Err(failed(code, text(native::rd_kafka_event_error_string(self.0))));
            }
            let result = native::rd_kafka_event_DescribeTopics_result(self.0);
            if result.is_null() {
                return Err(failed(RDKafkaErrorCode::Fail, "not the answer to the question"));
            }
            let mut count = 0;
            let topics = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            if topics.is_null() || count == 0 {
                return Err(failed(RDKafkaErrorCode::Fail, "an answer without a topic"));
            }
            let topic = *topics;
            let error = native::rd_kafka_TopicDescription_error(topic);
            let code = RDKafkaErrorCode::from(native::rd_kafka_error_code(error));
            match code {
                RDKafkaErrorCode::NoError => {}
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => return Ok(None),
                _ => return Err(failed(code, text(native::rd_kafka_error_string(error)))),
            }
            let mut partitions = 0;
            native::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            let id = native::rd_kafka_TopicDescription_topic_id(topic);
            let id = if id.is_null() { NO_ID.to_owned() } else { text(native::rd_kafka_Uuid_base64str(id)) };
            if id == NO_ID || id.is_empty() {
                return Err(failed(
                    RDKafkaErrorCode::UnsupportedVersion,
                    "the broker gives topics no id; needed is Kafka 2.8 or newer",
                ));
            }
            match u32::try_from(partitions) {
                Ok(partitions) if partitions > 0 => Ok(Some(Topic { id: format!("{id}/{partitions}"), partitions })),
                _ => Err(failed(RDKafkaErrorCode::LeaderNotAvailable, "the topic has no partitions yet")),
            }
        }
    }
}

/// A copy of a text of librdkafka's; empty for none.
///
/// # Safety
///
/// `text` is null, or points to a text that ends with a zero byte.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
