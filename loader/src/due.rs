//! Recording what time alone has done: scheduled plan changes, trial ends, expiries. Decisions do not wait for it (readers go
//! by their own clocks); it is for the audit log, and so that states do not carry what is over.
//!
//! Due times are known from a scan at the start, from every commit of this process, and from repeated laps, which find what
//! other loaders committed. Only those of the next two laps are kept. Several loaders may record at once: the second finds
//! nothing due.

mod times;

use std::collections::VecDeque;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tessera_core::aggregate::{ACTOR_SYSTEM, Actor};
use tessera_core::ids::TenantId;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::{Action, Command, TenantState};
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{ReadError, ScanRange};
use tessera_ports::{Clock, EventStore, IdSource};
use tessera_proto::storage;
use tokio::time::Instant;

pub use self::times::DueTimes;
use crate::aggregate::Handled as _;
use crate::config::Config;
use crate::digest;
use crate::handler::{Caller, Handler, Request};
use crate::metric_definitions as metrics;
use crate::refusal::Refusal;

/// Tenants read at a time in a lap.
const SCAN_PAGE: usize = 500;
/// How often in a row the last pages of a lap are tried.
const LAST_ATTEMPTS: usize = 3;
/// Tenants recorded at a time.
const RECORDED_AT_ONCE: usize = 64;
/// How long before a tenant that could not be recorded, or tenants that could not be read, are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The clock of the time of day is looked at so often; it may be set, and tests move it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Records due changes.
#[derive(Debug)]
pub struct DueTimer {
    handler: Handler<TenantState>,
    times: Arc<DueTimes>,
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    config: Arc<Config>,
}

impl DueTimer {
    /// A timer that records through `handler` what `times` says.
    pub fn new(
        handler: Handler<TenantState>,
        times: Arc<DueTimes>,
        store: Arc<dyn EventStore>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        config: Arc<Config>,
    ) -> Self {
        Self { handler, times, store, clock, ids, config }
    }

    /// Laps and records for ever.
    pub async fn run(self) {
        tokio::join!(self.lap_for_ever(), self.record_for_ever());
    }

    /// One lap over all tenants that takes `time`: after each range it rests until as great a part of it is over as of the
    /// ranges, and one that is late rests no more. A page that cannot be read comes again behind all others; when none that is
    /// left can be read, they are the next lap's.
    pub async fn lap(&self, time: Duration) -> Result<(), ReadError> {
        let mut left = VecDeque::from(self.ranges().await);
        let (begun, count) = (Instant::now(), left.len());
        let mut failures = 0_usize;
        while let Some(range) = left.pop_front() {
            match self.store.scan(&range, SCAN_PAGE).await {
                Ok(page) => {
                    failures = 0;
                    self.note(&page.changes);
                    if let Some(rest) = page.rest {
                        left.push_front(rest);
                    } else {
                        tokio::time::sleep_until(begun + part(time, count.saturating_sub(left.len()), count)).await;
                    }
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    left.push_back(range);
                    if failures >= left.len().saturating_add(LAST_ATTEMPTS) {
                        return Err(error);
                    }
                    tracing::debug!(%error, "tenants cannot be read in search of due changes");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        Ok(())
    }

    /// What a lap goes through: without it there is nothing to do but to ask again.
    async fn ranges(&self) -> Vec<ScanRange> {
        loop {
            match self.store.scan_ranges(StreamKind::Tenant).await {
                Ok(ranges) => return ranges,
                Err(error) => tracing::debug!(%error, "no lap in search of due changes yet"),
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    fn note(&self, changes: &[Change]) {
        let now = self.clock.now();
        for change in changes {
            match storage::decode_state::<TenantState>(&change.state) {
                Ok((state, _)) => self.times.note(&change.stream, state.next_due(now)),
                Err(error) => tracing::warn!(stream = %change.stream, %error, "a tenant cannot be read"),
            }
        }
    }

    /// Records everything that is due now; says how many tenants were tried.
    pub async fn record(&self) -> usize {
        let due = self.times.take(self.clock.now());
        let count = due.len();
        let recording = futures::stream::iter(due).map(|tenant| async move {
            let result = self.record_one(&tenant).await;
            metrics::due_recorded(result.is_ok());
            let reason = result.err()?;
            let later = self.clock.now().saturating_add(RETRY_AFTER);
            self.times.note(&StreamId::Tenant(tenant), Some(later));
            // Of what is damaged the log has heard already, and would hear every second.
            Some(reason).filter(|reason| !matches!(reason, Refusal::StoreDamaged(_)))
        });
        let failed: Vec<Refusal> = recording.buffer_unordered(RECORDED_AT_ONCE).filter_map(ready).collect().await;
        // One line for all: as many may fail as are tried.
        if let Some(reason) = failed.first() {
            tracing::warn!(tenants = failed.len(), %reason, "due changes were not recorded yet");
        }
        count
    }

    async fn record_one(&self, tenant: &TenantId) -> Result<(), Refusal> {
        let actor = Actor::parse("an actor", ACTOR_SYSTEM).map_err(|error| Refusal::StoreDamaged(error.to_string()))?;
        let deadline = Instant::now() + self.config.deadline_default();
        let caller = Caller { request_id: self.ids.request_id(), actor, retry: false, deadline };
        let request = Request {
            caller,
            stream: StreamId::Tenant(tenant.clone()),
            command: Command { tenant: tenant.clone(), action: Action::RecordDue },
            digest: digest::of_command("RecordDue", tenant.as_str().as_bytes()),
            etag: None,
            len: tenant.as_str().len(),
            rejection_stands: true,
        };
        match self.handler.handle(request).await {
            // Deleted meanwhile, or never there: nothing is due.
            Ok(_) | Err(Refusal::Rejected(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn lap_for_ever(&self) {
        // The first lap hurries; later ones take all their time.
        let mut time = Duration::ZERO;
        loop {
            let begun = Instant::now();
            if let Err(error) = self.lap(time).await {
                tracing::warn!(%error, "a lap in search of due changes was cut short");
            }
            time = self.config.due_lap();
            tokio::time::sleep_until(begun + time).await;
        }
    }

    async fn record_for_ever(&self) {
        loop {
            if self.record().await == 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// As great a part of `time` as `done` is of `count`.
fn part(time: Duration, done: usize, count: usize) -> Duration {
    let narrow = |count| u32::try_from(count).unwrap_or(u32::MAX);
    time.saturating_mul(narrow(done)) / narrow(count).max(1)
}
