//! The connection to the database, and what its errors mean for whoever waits for an answer.
//!
//! Reads may be repeated, and so may writes that are the same twice. What has a condition never is: no policy of the driver repeats
//! it, and none runs beside itself.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy, RetryPolicy};
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use tessera_ports::event_store::{AppendError, ReadError};
use tokio::time::Instant;

use crate::config::{Config, Datacenters};
use crate::datacenters;
use crate::error::OpenError;

/// Between the first two attempts of a read: long enough for a contended partition to settle.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// Between two attempts later on, when the database is more likely to be away.
const READ_PAUSE_MAX: Duration = Duration::from_millis(320);

/// How many replicas answer, by where the loaders are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Consistencies {
    /// Writes without a condition, and reads that overlap all writes.
    pub(crate) regular: Consistency,
    /// Strong reads.
    pub(crate) serial: Consistency,
    /// Conditions.
    pub(crate) conditions: SerialConsistency,
}

impl Consistencies {
    pub(crate) fn of(datacenters: Datacenters) -> Self {
        match datacenters {
            Datacenters::One => Self {
                regular: Consistency::LocalQuorum,
                serial: Consistency::LocalSerial,
                conditions: SerialConsistency::LocalSerial,
            },
            Datacenters::Many => {
                Self { regular: Consistency::Quorum, serial: Consistency::Serial, conditions: SerialConsistency::Serial }
            }
        }
    }
}

/// Connects; also returns the settings with the datacenter that is meant where they leave that open. The password is read from its
/// file and goes nowhere else.
pub(crate) async fn connect(config: &Config) -> Result<(Session, Config), OpenError> {
    let mut handle = profile(config).into_handle();
    let each = NonZeroUsize::new(config.connections_per_node).unwrap_or(NonZeroUsize::MIN);
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.contact_points)
        .pool_size(PoolSize::PerShard(each))
        .default_execution_profile_handle(handle.clone());
    if let Some(datacenter) = &config.local_datacenter {
        builder = builder.prefer_datacenter(datacenter.clone());
    }
    if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
        let refused = |reason: String| OpenError::Password { path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        let password = text.lines().next().filter(|line| !line.is_empty());
        builder = builder.user(user, password.ok_or_else(|| refused("its first line is empty".to_owned()))?);
    }
    let session = builder.build().await.map_err(|error| connect_error(config, &error))?;
    let local_datacenter = datacenters::local(config, &datacenters::found(&session))?;
    let settled = Config { local_datacenter, ..config.clone() };
    // Nothing was asked yet. From now on a datacenter that is added to the database changes nothing.
    handle.map_to_another_profile(profile(&settled));
    Ok((session, settled))
}

/// Where requests go, and that each is sent once unless its statement says otherwise.
fn profile(config: &Config) -> ExecutionProfile {
    let consistencies = Consistencies::of(config.datacenters);
    // In another datacenter conditions would be decided apart from ours.
    let mut routing = DefaultPolicy::builder().token_aware(true).permit_dc_failover(false);
    if let Some(datacenter) = &config.local_datacenter {
        routing = routing.prefer_datacenter(datacenter.clone());
    }
    ExecutionProfile::builder()
        .consistency(consistencies.regular)
        .serial_consistency(Some(consistencies.conditions))
        .request_timeout(Some(config.read_timeout()))
        .load_balancing_policy(routing.build())
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build()
}

/// For statements that may be run twice: the driver asks another node at once where that may help.
pub(crate) fn repeats() -> Arc<dyn RetryPolicy> {
    Arc::new(DefaultRetryPolicy::new())
}

fn connect_error(config: &Config, error: &NewSessionError) -> OpenError {
    let reason = one_line(error);
    if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(pool)) = error
        && is_login(pool)
    {
        return OpenError::Authentication { user: config.user.clone(), reason };
    }
    unreachable(config, reason)
}

pub(crate) fn unreachable(config: &Config, reason: String) -> OpenError {
    let points: Vec<String> = config.contact_points.iter().map(|point| format!("`{point}`")).collect();
    OpenError::Unreachable { contact_points: points.join(", "), reason }
}

/// Whether the connection was refused because of who we are.
fn is_login(error: &ConnectionPoolError) -> bool {
    let ConnectionPoolError::Broken { last_connection_error: ConnectionError::ConnectionSetupRequestError(setup) } = error else {
        return false;
    };
    matches!(
        setup.get_error(),
        ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError | DbError::Unauthorized, _)
            | ConnectionSetupRequestErrorKind::MissingAuthentication
            | ConnectionSetupRequestErrorKind::StartAuthSessionError(_)
            | ConnectionSetupRequestErrorKind::AuthChallengeEvaluationError(_)
            | ConnectionSetupRequestErrorKind::AuthFinishError(_)
    )
}

/// What opening makes of a statement that failed.
pub(crate) fn open_error(config: &Config, keyspace: &str, doing: &'static str, error: &ExecutionError) -> OpenError {
    let reason = one_line(error);
    match meaning(error) {
        Meaning::Refused => OpenError::Refused { keyspace: keyspace.to_owned(), doing, reason },
        Meaning::NeverSent | Meaning::NothingHappened | Meaning::Unclear => unreachable(config, reason),
    }
}

/// As [`open_error`], of a statement that could not be prepared.
pub(crate) fn prepare_error(config: &Config, keyspace: &str, error: &PrepareError) -> OpenError {
    let reason = one_line(error);
    let attempt = match error {
        PrepareError::AllAttemptsFailed { first_attempt, .. } => attempt_meaning(first_attempt),
        _ => Meaning::NeverSent,
    };
    match attempt {
        Meaning::Refused => OpenError::Refused { keyspace: keyspace.to_owned(), doing: "prepare statements", reason },
        Meaning::NeverSent | Meaning::NothingHappened | Meaning::Unclear => unreachable(config, reason),
    }
}

/// What is known of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// No node was asked.
    NeverSent,
    /// A node refused it: asked again, it will be refused again.
    Refused,
    /// A node says that it has not begun.
    NothingHappened,
    /// It may be done, be done later, or never.
    Unclear,
}

fn meaning(error: &ExecutionError) -> Meaning {
    match error {
        // Values that do not fit their columns: a mistake in this crate.
        ExecutionError::BadQuery(_) => Meaning::Refused,
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) | ExecutionError::PrepareError(_) => {
            Meaning::NeverSent
        }
        ExecutionError::LastAttemptError(attempt) => attempt_meaning(attempt),
        _ => Meaning::Unclear,
    }
}

fn attempt_meaning(error: &RequestAttemptError) -> Meaning {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => Meaning::Refused,
        // The node did not know the statement, so it did not run it; what failed is telling it.
        RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::RepreparedIdChanged { .. }
        | RequestAttemptError::RepreparedIdMissingInBatch => Meaning::NeverSent,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
            | DbError::FunctionFailure { .. } => Meaning::Refused,
            // Without enough replicas to decide on the condition nothing begins; too few at the other consistency is found out
            // after that.
            DbError::Unprepared { .. }
            | DbError::RateLimitReached { .. }
            | DbError::Unavailable { consistency: Consistency::Serial | Consistency::LocalSerial, .. } => {
                Meaning::NothingHappened
            }
            _ => Meaning::Unclear,
        },
        _ => Meaning::Unclear,
    }
}

/// What an append's error says to whoever appends; only what certainly was not written is told as such.
pub(crate) fn append_error(error: &ExecutionError) -> AppendError {
    let text = one_line(error);
    match meaning(error) {
        Meaning::NeverSent | Meaning::Refused | Meaning::NothingHappened => AppendError::NotAttempted(text),
        Meaning::Unclear => AppendError::Unknown(text),
    }
}

/// What a failed call says about whether the database can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It can: it refused.
    Answered,
    /// It cannot, or too few of its nodes can.
    Absent,
    /// A node did not hear from the others in time, as happens to streams that many write to; whoever asks for something that
    /// nobody writes to knows more.
    Contended,
}

pub(crate) fn reach(error: &ExecutionError) -> Reach {
    if meaning(error) == Meaning::Refused {
        return Reach::Answered;
    }
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(
            DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } | DbError::Other(_),
            _,
        )) => Reach::Contended,
        _ => Reach::Absent,
    }
}

/// Errors of the driver have line breaks and runs of blanks in them.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn unavailable(error: &ExecutionError) -> ReadError {
    ReadError::Unavailable(one_line(error))
}

/// Rows of a statement that only reads: repeated until `time` is over, since a read does no harm.
pub(crate) async fn rows(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
    time: Duration,
) -> Result<QueryRowsResult, ExecutionError> {
    let deadline = Instant::now() + time;
    let mut pause = READ_PAUSE;
    loop {
        let asked = tokio::time::timeout_at(deadline, session.execute_unpaged(statement, &values)).await;
        let error = match asked {
            Ok(Ok(result)) => match result.into_rows_result() {
                Ok(rows) => return Ok(rows),
                // Of a statement that selects: not what the protocol allows.
                Err(_) => return Err(ExecutionError::EmptyPlan),
            },
            Ok(Err(error)) => error,
            Err(_) => return Err(ExecutionError::RequestTimeout(time)),
        };
        if meaning(&error) == Meaning::Refused || Instant::now() + pause >= deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(READ_PAUSE_MAX);
    }
}

/// Prepares a statement that may be repeated.
pub(crate) async fn repeatable(
    session: &Session,
    text: String,
    consistency: Consistency,
    time: Duration,
) -> Result<PreparedStatement, PrepareError> {
    let mut statement = session.prepare(text).await?;
    statement.set_consistency(consistency);
    statement.set_request_timeout(Some(time));
    statement.set_is_idempotent(true);
    statement.set_retry_policy(Some(repeats()));
    Ok(statement)
}

/// A quick look at where requests go and whether errors are told apart as they must be; the rest is for the suites of the cluster.
#[cfg(test)]
mod tests {
    use scylla::errors::WriteType;

    use super::*;

    fn of(error: DbError) -> Result<(), AppendError> {
        let error = ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "why".to_owned()));
        Err(append_error(&error))
    }

    fn routing(profile: &ExecutionProfile) -> String {
        format!("{:?}", profile.get_load_balancing_policy())
    }

    #[test]
    fn requests_are_sent_once_and_to_no_other_datacenter() {
        let named = Config { local_datacenter: Some("dc1".to_owned()), ..Config::new(vec!["127.0.0.1:9042".to_owned()]) };
        let made = profile(&named);
        let policy = routing(&made);
        assert!(policy.contains("Datacenter(\"dc1\")") && policy.contains("permit_dc_failover: false"), "{policy}");
        assert_eq!(format!("{:?}", made.get_retry_policy()), "FallthroughRetryPolicy");
        assert!(made.get_speculative_execution_policy().is_none());
    }

    #[test]
    fn majorities_are_those_of_the_datacenters_whose_loaders_write() {
        let one = (Consistency::LocalQuorum, Consistency::LocalSerial, SerialConsistency::LocalSerial);
        let many = (Consistency::Quorum, Consistency::Serial, SerialConsistency::Serial);
        for (datacenters, expected) in [(Datacenters::One, one), (Datacenters::Many, many)] {
            let Consistencies { regular, serial, conditions } = Consistencies::of(datacenters);
            assert_eq!((regular, serial, conditions), expected, "{datacenters:?}");
            // What has none of its own.
            let made = profile(&Config { datacenters, ..Config::new(vec!["127.0.0.1:9042".to_owned()]) });
            assert_eq!(
                (made.get_consistency(), made.get_serial_consistency()),
                (expected.0, Some(expected.2)),
                "{datacenters:?}"
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_only_datacenter_is_kept_to() -> anyhow::Result<()> {
        let Some(address) = tessera_engines::shared_cassandra()? else { return Ok(()) };
        let (session, settled) = connect(&Config::new(vec![address])).await?;
        assert_eq!(settled.local_datacenter.as_deref(), Some("datacenter1"));
        let policy = routing(&session.get_default_execution_profile_handle().to_profile());
        assert!(policy.contains("Datacenter(\"datacenter1\")"), "{policy}");
        Ok(())
    }

    #[test]
    fn only_what_certainly_was_not_written_is_told_as_such() {
        let unavailable = |consistency| DbError::Unavailable { consistency, required: 2, alive: 1 };
        for certain in [
            DbError::Invalid,
            DbError::SyntaxError,
            DbError::Unauthorized,
            unavailable(Consistency::LocalSerial),
            unavailable(Consistency::Serial),
        ] {
            assert!(matches!(of(certain.clone()), Err(AppendError::NotAttempted(_))), "{certain}");
        }
        for unclear in [
            DbError::Overloaded,
            DbError::IsBootstrapping,
            DbError::ServerError,
            DbError::Other(0x1700),
            unavailable(Consistency::LocalQuorum),
            unavailable(Consistency::Quorum),
            DbError::WriteTimeout { consistency: Consistency::LocalSerial, received: 1, required: 2, write_type: WriteType::Cas },
        ] {
            assert!(matches!(of(unclear.clone()), Err(AppendError::Unknown(_))), "{unclear}");
        }
        let late = ExecutionError::RequestTimeout(Duration::from_secs(5));
        assert!(matches!(append_error(&late), AppendError::Unknown(_)));
        assert!(matches!(append_error(&ExecutionError::EmptyPlan), AppendError::NotAttempted(_)));
    }
}
