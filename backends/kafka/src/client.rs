//! What all clients of librdkafka have in common: how they connect, who they are, where their log goes, and what they were told
//! last of their brokers.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, error, info, warn};

use crate::config::Config;
use crate::error::OpenError;

/// Settings of a client, the password among them: never shown.
#[derive(Clone)]
pub(crate) struct Connection {
    settings: ClientConfig,
    who: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("who", &self.who).finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads the password, if there is one.
    pub(crate) fn new(config: &Config) -> Result<Self, OpenError> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", config.broker_list())
            .set("client.id", "tessera")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // A connection through which nothing comes any more is given up after this long, instead of a minute.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("retry.backoff.ms", "50")
            .set("log.connection.close", "false")
            .set_log_level(RDKafkaLogLevel::Info);
        let Some(security) = &config.security else {
            return Ok(Self { settings, who: "a client without a name".to_owned() });
        };
        let file = security.password_file.display();
        let password = fs::read_to_string(&security.password_file)
            .map_err(|error| OpenError::Config(format!("security.password_file `{file}` cannot be read: {error}")))?;
        let password = password.strip_suffix('\n').unwrap_or(&password);
        let password = password.strip_suffix('\r').unwrap_or(password);
        if password.is_empty() {
            return Err(OpenError::Config(format!("security.password_file `{file}` is empty; needed is the password")));
        }
        settings
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanism", &security.mechanism)
            .set("sasl.username", &security.user)
            .set("sasl.password", password);
        Ok(Self { settings, who: format!("user `{}`", security.user) })
    }

    /// To add to.
    pub(crate) fn settings(&self) -> ClientConfig {
        self.settings.clone()
    }

    /// For messages.
    pub(crate) fn who(&self) -> &str {
        &self.who
    }
}

/// What librdkafka said last of its connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<Option<(RDKafkaErrorCode, String)>>>);

impl Told {
    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // That all brokers are down follows every other message, and says less.
        if code != RDKafkaErrorCode::AllBrokersDown || told.is_none() {
            *told = Some((code, reason.to_owned()));
        }
    }

    /// Code and reason, if there is anything.
    pub(crate) fn last(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection works again.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// This reason, with what was told of the connection.
    pub(crate) fn explain(&self, reason: &str) -> String {
        self.last().map_or_else(|| reason.to_owned(), |(_, told)| format!("{reason}; {told}"))
    }
}

/// Where librdkafka's messages of one client go.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    told: Told,
    /// Of many clients of one process only one has to say that a broker is gone.
    is_loud: bool,
}

impl Context {
    pub(crate) fn loud(told: Told) -> Self {
        Self { told, is_loud: true }
    }

    pub(crate) fn quiet(told: Told) -> Self {
        Self { told, is_loud: false }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning if self.is_loud => {
                warn!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Notice if self.is_loud => info!(target: "librdkafka", facility, "{message}"),
            _ => debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.told.note(code, reason);
        }
        debug!(target: "librdkafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Security;

    fn config(password: &str) -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        fs::write(&password_file, password).unwrap();
        let security = Security { user: "loader".to_owned(), password_file, mechanism: "PLAIN".to_owned() };
        (folder, Config { security: Some(security), ..Config::new(["localhost:1"]) })
    }

    #[test]
    fn password_is_read_and_not_shown() {
        let (_folder, config) = config("s e c r e t\r\n");
        let connection = Connection::new(&config).unwrap();
        assert_eq!(connection.settings().get("sasl.password"), Some("s e c r e t"));
        assert!(!format!("{connection:?} {config:?}").contains("s e c r e t"));
        assert_eq!(connection.who(), "user `loader`");
    }

    #[test]
    fn missing_password_is_named() {
        let (folder, empty) = config("\n");
        let refused = Connection::new(&empty).unwrap_err().to_string();
        assert!(refused.starts_with("security.password_file `") && refused.ends_with("is empty; needed is the password"));
        drop(folder);
        assert!(Connection::new(&empty).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn last_word_that_says_something_stays() {
        let told = Told::default();
        let context = Context::quiet(told.clone());
        assert_eq!(told.explain("timed out"), "timed out");
        context.error(KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure), "connection refused");
        context.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(told.explain("timed out"), "timed out; connection refused");
        told.forget();
        assert_eq!(told.last(), None);
    }
}
