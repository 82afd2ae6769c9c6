//! The tenants of one watch: which are to be looked at again, and when time alone makes it necessary.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use metrics::Gauge;
use tessera_core::stream::Epoch;
use tessera_core::time::Timestamp;

use crate::hub::{Hub, Mailbox};
use crate::matrix::key::TenantKey;

/// So many that are no longer subscribed may wait to be looked at, beside as many as are.
const PENDING_IN_VAIN_MAX: usize = 64;

/// All of them.
pub(super) struct Subscriptions {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
    by_tenant: HashMap<TenantKey, Subscription>,
    /// To be looked at, in order; each tenant once. Some may be subscribed no longer.
    pending: VecDeque<TenantKey>,
    is_pending: HashSet<TenantKey>,
    edges: BTreeSet<(Timestamp, TenantKey)>,
    numbers: u64,
    count: Gauge,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    number: u64,
    /// Waits for its revision: not to be looked at yet.
    waits: bool,
    /// The tag of the document sent last; empty before the first.
    pub(super) tag: String,
    /// The epoch of the document sent last; 0 before the first.
    pub(super) epoch: Epoch,
    /// The revision of the last look; empty when it would tell nothing of what there is now.
    pub(super) revision: Bytes,
    /// When time alone changes the document.
    pub(super) edge: Option<Timestamp>,
}

impl Subscriptions {
    pub(super) fn new(hub: Arc<Hub>, count: Gauge) -> Self {
        let mailbox = hub.open();
        Self {
            hub,
            mailbox,
            by_tenant: HashMap::new(),
            pending: VecDeque::new(),
            is_pending: HashSet::new(),
            edges: BTreeSet::new(),
            numbers: 0,
            count,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_tenant.len()
    }

    pub(super) fn has(&self, tenant: &TenantKey) -> bool {
        self.by_tenant.contains_key(tenant)
    }

    /// The tenant's subscription, unless it waits: it may be another than the one that was to be looked at.
    pub(super) fn begun(&mut self, tenant: &TenantKey) -> Option<&mut Subscription> {
        self.by_tenant.get_mut(tenant).filter(|subscription| !subscription.waits)
    }

    /// Subscribes, or subscribes anew: its document will be sent in any case. Gives the subscription's number.
    pub(super) fn add(&mut self, tenant: &TenantKey, waits: bool) -> u64 {
        self.remove(tenant);
        self.numbers = self.numbers.saturating_add(1);
        let subscription = Subscription { number: self.numbers, waits, ..Subscription::default() };
        self.by_tenant.insert(tenant.clone(), subscription);
        self.hub.subscribe(tenant, &self.mailbox);
        self.count.increment(1.0);
        if !waits {
            self.look_again(tenant);
        }
        self.numbers
    }

    pub(super) fn remove(&mut self, tenant: &TenantKey) {
        if let Some(subscription) = self.by_tenant.remove(tenant) {
            self.hub.unsubscribe(tenant, &self.mailbox);
            self.count.decrement(1.0);
            if let Some(edge) = subscription.edge {
                self.edges.remove(&(edge, tenant.clone()));
            }
        }
        self.forget_pending();
    }

    /// Looks come at the watch's pace, and subscriptions come and go at the client's: those that are gone must not pile up.
    fn forget_pending(&mut self) {
        if self.pending.len() > self.by_tenant.len().saturating_mul(2).saturating_add(PENDING_IN_VAIN_MAX) {
            self.pending.retain(|tenant| self.by_tenant.contains_key(tenant));
            self.is_pending.retain(|tenant| self.by_tenant.contains_key(tenant));
        }
    }

    /// Whether that subscription is still the tenant's.
    pub(super) fn is_current(&self, tenant: &TenantKey, number: u64) -> bool {
        self.by_tenant.get(tenant).is_some_and(|subscription| subscription.number == number)
    }

    /// What it waited for is there.
    pub(super) fn begin(&mut self, tenant: &TenantKey) {
        if let Some(subscription) = self.by_tenant.get_mut(tenant) {
            subscription.waits = false;
            self.look_again(tenant);
        }
    }

    pub(super) fn set_edge(&mut self, tenant: &TenantKey, edge: Option<Timestamp>) {
        let Some(subscription) = self.by_tenant.get_mut(tenant) else { return };
        if let Some(before) = std::mem::replace(&mut subscription.edge, edge) {
            self.edges.remove(&(before, tenant.clone()));
        }
        if let Some(edge) = edge {
            self.edges.insert((edge, tenant.clone()));
        }
    }

    pub(super) fn first_edge(&self) -> Option<Timestamp> {
        self.edges.first().map(|(edge, _)| *edge)
    }

    /// Tenants whose edge has come are looked at again.
    pub(super) fn pass_edges(&mut self, now: Timestamp) {
        while let Some((edge, _)) = self.edges.first()
            && *edge <= now
            && let Some((_, tenant)) = self.edges.pop_first()
        {
            self.look_again(&tenant);
        }
    }

    /// Completes when there are notes.
    pub(super) async fn noted(&self) {
        self.mailbox.noted().await;
    }

    /// Tenants of which there are notes are looked at again.
    pub(super) fn take_notes(&mut self) {
        let notes = self.mailbox.take();
        for tenant in &notes.tenants {
            // The row is another one, also when its seq is that of the one before.
            if let Some(subscription) = self.by_tenant.get_mut(tenant) {
                subscription.revision = Bytes::new();
            }
            self.look_again(tenant);
        }
        if notes.replaced {
            for subscription in self.by_tenant.values_mut() {
                subscription.revision = Bytes::new();
            }
        }
        if notes.everything {
            let all: Vec<TenantKey> = self.by_tenant.keys().cloned().collect();
            for tenant in &all {
                self.look_again(tenant);
            }
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn next_pending(&mut self) -> Option<TenantKey> {
        let tenant = self.pending.pop_front()?;
        self.is_pending.remove(&tenant);
        Some(tenant)
    }

    fn look_again(&mut self, tenant: &TenantKey) {
        let begun = self.by_tenant.get(tenant).is_some_and(|subscription| !subscription.waits);
        if begun && self.is_pending.insert(tenant.clone()) {
            self.pending.push_back(tenant.clone());
        }
    }
}

impl Drop for Subscriptions {
    fn drop(&mut self) {
        for tenant in self.by_tenant.keys() {
            self.hub.unsubscribe(tenant, &self.mailbox);
        }
        self.count.decrement(crate::metric_definitions::approximate(u64::try_from(self.by_tenant.len()).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_and_goes_does_not_pile_up_before_it_is_looked_at() {
        let key = |name: &str, n: usize| TenantKey::new(&format!("{name}-{n}"));
        let mut subscriptions = Subscriptions::new(Arc::default(), Gauge::noop());
        for n in 0..100 {
            subscriptions.add(&key("stays", n), false);
        }
        for n in 0..10_000 {
            subscriptions.add(&key("goes", n), false);
            subscriptions.remove(&key("goes", n));
        }
        let pending = subscriptions.pending.len();
        assert!(pending <= 2 * 100 + PENDING_IN_VAIN_MAX, "{pending} are pending");
        assert_eq!(pending, subscriptions.is_pending.len());
        let looked_at = std::iter::from_fn(|| subscriptions.next_pending()).take(100).collect::<Vec<_>>();
        assert_eq!(looked_at, (0..100).map(|n| key("stays", n)).collect::<Vec<_>>());
    }
}
