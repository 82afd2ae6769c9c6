//! When which tenant is next due, as far as this process knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_core::ids::TenantId;
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;

/// Most due times kept; beyond that the latest are forgotten and found again by a lap.
const TIMES_MAX: usize = 500_000;
/// Most tenants handed out at a time.
const TAKEN_MAX: usize = 1_024;

/// Due times by tenant, of the near future.
#[derive(Debug)]
pub struct DueTimes {
    clock: Arc<dyn Clock>,
    horizon: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_tenant: HashMap<TenantId, Timestamp>,
    in_order: BTreeSet<(Timestamp, TenantId)>,
}

impl DueTimes {
    /// Keeps what is due within `horizon` from now.
    pub fn new(clock: Arc<dyn Clock>, horizon: Duration) -> Self {
        Self { clock, horizon, known: Mutex::new(Known::default()) }
    }

    /// A stream is next due then, or never. Streams of other kinds than tenants are never due.
    pub fn note(&self, stream: &StreamId, due: Option<Timestamp>) {
        let StreamId::Tenant(tenant) = stream else { return };
        let due = due.filter(|due| *due <= self.clock.now().saturating_add(self.horizon));
        let mut known = self.lock();
        known.forget(tenant);
        if let Some(due) = due {
            known.by_tenant.insert(tenant.clone(), due);
            known.in_order.insert((due, tenant.clone()));
        }
        if known.in_order.len() > TIMES_MAX
            && let Some((_, latest)) = known.in_order.pop_last()
        {
            known.by_tenant.remove(&latest);
        }
    }

    /// Takes tenants that are due at `now`, the earliest first.
    pub fn take(&self, now: Timestamp) -> Vec<TenantId> {
        let mut known = self.lock();
        let mut due = Vec::new();
        while due.len() < TAKEN_MAX && known.in_order.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, tenant)) = known.in_order.pop_first() {
                known.by_tenant.remove(&tenant);
                due.push(tenant);
            }
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget(&mut self, tenant: &TenantId) {
        if let Some(at) = self.by_tenant.remove(tenant) {
            self.in_order.remove(&(at, tenant.clone()));
        }
    }
}
