//! Opening the store, step by step, and the handle on it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use scylla::DeserializeRow;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, Statement};
use scylla::value::CqlTimestamp;
use tessera_core::time::Timestamp;
use tessera_ports::clock::Clock;
use tessera_ports::event_store::{ReadError, StoreIdentity};
use tokio::time::Instant;

use crate::config::Config;
use crate::datacenters;
use crate::error::OpenError;
use crate::health::{CLOCKS_APART_MAX, Health};
use crate::keyspace::Keyspace;
use crate::migrating::no_conditions;
use crate::moving::Moving;
use crate::schema::{Asking, check_version, meta_row};
use crate::session::{self, Consistencies, Reach, one_line, reach, unavailable};

/// Between two probes: what is wrong is told about as late.
const PROBE_PAUSE: Duration = Duration::from_secs(5);
/// How long it is believed who the store is.
const IDENTITY_AGE_MAX: Duration = Duration::from_secs(1);

/// Whether the handle follows a restore into another keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moves {
    /// A reader's does: once it hears of a newer store that it can reach, it is that store.
    Yes,
    /// A writer's never does: whoever restores stops the writers and starts them on the new keyspace.
    No,
}

/// An open store: event store, hint store and lease store in one. A cheap handle.
#[derive(Clone)]
pub struct Scylla(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) session: Session,
    /// With the datacenter that is meant where the settings leave that open.
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) moves: Moves,
    pub(crate) current: ArcSwap<Keyspace>,
    pub(crate) health: Health,
    pub(crate) moving: Moving,
    /// When it was last read who the keyspace is.
    identified: Mutex<Option<Instant>>,
    /// Damage that the log has been told of.
    told: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Scylla {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keyspace = self.keyspace();
        f.debug_struct("Scylla").field("identity", &keyspace.identity).field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// What a node says of itself.
#[derive(Debug, DeserializeRow)]
struct LocalRow {
    partitioner: String,
    now: CqlTimestamp,
}

impl Scylla {
    /// Opens the keyspace of `config`, which [`migrate`](crate::migrate) has made. Nothing is made or changed. An error that
    /// [may pass](OpenError::may_pass) is worth another try; every other one says what to do.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>, moves: Moves) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let (session, settled) = session::connect(config).await?;
        let asking = Asking { session: &session, config: &settled, keyspace: &settled.keyspace };
        check_node(asking, &*clock).await?;
        let consistencies = Consistencies::of(settled.datacenters);
        check_version(&settled.keyspace, asking.existing_version(consistencies.regular).await?)?;
        let identity = asking.identity(consistencies.serial).await?;
        let identity = identity.ok_or_else(|| asking.damaged(&"the row of table `meta` is not there"))?;
        if moves == Moves::No {
            check_conditions(asking).await?;
        }
        let prepared = Keyspace::prepare(&session, &settled, &settled.keyspace, identity).await;
        let keyspace = prepared.map_err(|error| session::prepare_error(&settled, &settled.keyspace, &error))?;
        tracing::info!(
            keyspace = keyspace.name,
            epoch = keyspace.identity.epoch,
            store = keyspace.identity.store,
            datacenters = datacenters::written(&settled),
            "the store is open"
        );
        Ok(Self(Arc::new(Inner {
            session,
            config: settled,
            clock,
            moves,
            current: ArcSwap::from_pointee(keyspace),
            health: Health::default(),
            moving: Moving::default(),
            identified: Mutex::default(),
            told: Mutex::default(),
        })))
    }

    /// Which store this is, as far as is known without asking it.
    pub fn which(&self) -> StoreIdentity {
        self.keyspace().identity.clone()
    }

    /// Has to be polled for as long as the handle is used: asks the store from time to time, so that
    /// [`problems`](tessera_ports::EventStore::problems) says what is wrong also when nobody else asks anything.
    pub async fn watch(self) -> Infallible {
        loop {
            self.probe().await;
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    /// Asks who the store is, and what time it has.
    pub(crate) async fn probe(&self) {
        let _ = self.identify().await;
        let asking = Asking { session: &self.0.session, config: &self.0.config, keyspace: &self.0.config.keyspace };
        if let Ok((_, ahead_s)) = ask_node(asking, &*self.0.clock).await {
            self.0.health.compared_clocks(ahead_s);
        }
    }

    /// The keyspace as it is now; a call keeps to one.
    pub(crate) fn keyspace(&self) -> Arc<Keyspace> {
        self.0.current.load_full()
    }

    /// Asks for rows, again and again until `time` is over.
    pub(crate) async fn rows(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
        time: Duration,
    ) -> Result<QueryRowsResult, ReadError> {
        let answer = session::rows(&self.0.session, statement, values, time).await;
        self.heard(&answer);
        answer.map_err(|error| unavailable(&error))
    }

    /// Writes something that may be written twice.
    pub(crate) async fn write(&self, statement: &PreparedStatement, values: impl SerializeRow) -> Result<(), ReadError> {
        let answer = self.0.session.execute_unpaged(statement, values).await;
        self.heard(&answer);
        answer.map(drop).map_err(|error| unavailable(&error))
    }

    /// Notes whether a call was answered.
    pub(crate) fn heard<T>(&self, answer: &Result<T, ExecutionError>) {
        match answer.as_ref().map_err(reach) {
            Err(Reach::Absent) => self.unanswered(answer),
            Err(Reach::Contended) => {}
            Ok(_) | Err(Reach::Answered) => self.0.health.answered(),
        }
    }

    fn unanswered<T>(&self, answer: &Result<T, ExecutionError>) {
        if let Err(error) = answer {
            self.0.health.unanswered(&one_line(error));
        }
    }

    /// Who the store is; asked again when the last answer is over a second old.
    pub(crate) async fn identify(&self) -> Result<StoreIdentity, ReadError> {
        let keyspace = self.keyspace();
        let fresh = |at: &Instant| at.elapsed() < IDENTITY_AGE_MAX;
        if self.identified().as_ref().is_some_and(fresh) {
            return Ok(keyspace.identity.clone());
        }
        let answer = session::rows(&self.0.session, &keyspace.meta, (), self.0.config.read_timeout()).await;
        self.heard(&answer);
        // Nobody writes to this row: that it cannot be read has no other reason.
        self.unanswered(&answer);
        let rows = answer.map_err(|error| unavailable(&error))?;
        let meta = meta_row(&rows).and_then(|meta| match meta {
            Some(meta) => meta.identity(&keyspace.name),
            None => Err("the row of table `meta` is not there".to_owned()),
        });
        // A keyspace has one id and one epoch for ever: another means that it was dropped and made again under our feet.
        let problem = match meta {
            Ok(identity) if identity == keyspace.identity => None,
            Ok(other) => Some(format!(
                "keyspace `{}` is another one since it was opened: `{}` in epoch {}, and was `{}` in epoch {}; start again",
                keyspace.name, other.store, other.epoch, keyspace.identity.store, keyspace.identity.epoch
            )),
            Err(damage) => Some(format!("keyspace `{}`: {damage}", keyspace.name)),
        };
        self.0.health.identified(problem.clone());
        if let Some(problem) = problem {
            return Err(ReadError::Damaged(problem));
        }
        *self.identified() = Some(Instant::now());
        Ok(keyspace.identity.clone())
    }

    fn identified(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.identified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the log of damage, once, so that a scan that never ends does not fill it.
    pub(crate) fn tell(&self, damage: String) {
        /// Of more than that every one is told again.
        const TOLD_MAX: usize = 10_000;
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.contains(&damage) {
            return;
        }
        tracing::error!(damage, "a stream of the store is damaged; the others are served");
        if told.len() < TOLD_MAX {
            told.insert(damage);
        }
    }
}

/// What partitioner a node has, and how many seconds its clock is ahead of ours.
async fn ask_node(asking: Asking<'_>, clock: &dyn Clock) -> Result<(String, i64), OpenError> {
    let before = clock.now();
    let text = "SELECT partitioner, toTimestamp(now()) AS now FROM system.local";
    let rows = asking.rows("ask for its time", text, (), Consistency::One).await?;
    let after = clock.now();
    let local = rows.first_row::<LocalRow>().map_err(|error| asking.damaged(&error))?;
    let theirs = local.now.0.div_euclid(1_000);
    Ok((local.partitioner, ahead(theirs, before, after)))
}

/// By how many seconds an instant lies after, or, negative, before the time in which it was asked for.
fn ahead(theirs: i64, before: Timestamp, after: Timestamp) -> i64 {
    match theirs {
        early if early < before.seconds() => early - before.seconds(),
        late if late > after.seconds() => late - after.seconds(),
        _ => 0,
    }
}

async fn check_node(asking: Asking<'_>, clock: &dyn Clock) -> Result<(), OpenError> {
    let (partitioner, ahead_s) = ask_node(asking, clock).await?;
    if !partitioner.ends_with("Murmur3Partitioner") {
        return Err(OpenError::Partitioner { found: partitioner });
    }
    let seconds = ahead_s.unsigned_abs();
    if seconds > CLOCKS_APART_MAX.as_secs() {
        return Err(OpenError::Clock { seconds, ahead: ahead_s > 0 });
    }
    Ok(())
}

/// Tries a write whose condition cannot hold.
async fn check_conditions(asking: Asking<'_>) -> Result<(), OpenError> {
    let mut statement = Statement::new(format!("INSERT INTO \"{}\".meta (one) VALUES (1) IF NOT EXISTS", asking.keyspace));
    statement.set_serial_consistency(Some(Consistencies::of(asking.config.datacenters).conditions));
    let tried = asking.session.query_unpaged(statement, ()).await;
    tried.map(drop).map_err(|error| no_conditions(asking, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_time_in_which_it_was_asked() {
        let at = |seconds| Timestamp::from_seconds(seconds).expect("a time");
        for (theirs, expected) in [(100, 0), (105, 0), (110, 0), (99, -1), (111, 1), (50, -50), (160, 50)] {
            assert_eq!(ahead(theirs, at(100), at(110)), expected, "{theirs}");
        }
    }
}
