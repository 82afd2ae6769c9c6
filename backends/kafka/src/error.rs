//! What can go wrong: when the feed is opened, and what an error of librdkafka means for whoever waits for an answer.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why the feed does not open. Only [`Self::Unreachable`] may pass by itself; every other one needs somebody to do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error("{0}")]
    Config(String),
    /// No broker answers: try again.
    #[error("no broker of `{brokers}` can be reached: {reason}")]
    Unreachable {
        /// Which were asked.
        brokers: String,
        /// What was in the way.
        reason: String,
    },
    /// The brokers do not let this process in.
    #[error("the brokers `{brokers}` refuse {who}: {reason}; check backends.kafka.security and the listener of these brokers")]
    Authentication {
        /// Which were asked.
        brokers: String,
        /// As whom.
        who: String,
        /// What they say.
        reason: String,
    },
    /// There is no such topic.
    #[error("there is no topic `{topic}` on the brokers `{brokers}`; `tessera migrate` makes it")]
    TopicMissing {
        /// Which one.
        topic: String,
        /// Where.
        brokers: String,
    },
    /// The topic has another number of partitions than the settings say.
    #[error(
        "topic `{topic}` has {found} partitions and backends.kafka.partitions is `{configured}`; set it to {found} in all loaders and servers if that is meant, or make a topic with {configured} partitions under another name"
    )]
    Partitions {
        /// Which topic.
        topic: String,
        /// How many it has.
        found: u32,
        /// How many it should have.
        configured: u32,
    },
    /// A setting of the topic would lose changes, or keep them out.
    #[error("topic `{topic}` has {setting} `{found}`; needed is {needed}, which `kafka-configs --alter` sets")]
    TopicSetting {
        /// Which topic.
        topic: String,
        /// Which of its settings.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        needed: String,
    },
    /// The brokers do not do what is asked of them.
    #[error("topic `{topic}` cannot be used: {reason}")]
    Refused {
        /// Which topic.
        topic: String,
        /// What they say.
        reason: String,
    },
}

/// What an error says of the reader or producer that meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The position is not in the log, or what is there now is not what was there.
    OutOfRange,
    /// The connection is gone or not there yet; the client makes it again by itself.
    Disconnected,
    /// Anything else: begin anew with another client.
    Broken,
}

impl Meaning {
    pub(crate) fn of(error: &KafkaError) -> Self {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::LogTruncation | Code::OffsetOutOfRange) => Self::OutOfRange,
            Some(
                Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::Authentication
                | Code::GroupAuthorizationFailed
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NotCoordinator,
            ) => Self::Disconnected,
            _ => Self::Broken,
        }
    }
}

/// Whether the brokers refuse who we are, rather than what we ask.
pub(crate) fn is_authentication(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::IllegalSASLState
    )
}

/// The text of an error, as our own messages are written.
pub(crate) fn text_of(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}
