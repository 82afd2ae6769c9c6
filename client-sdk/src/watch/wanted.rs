//! Which tenants a watch wants, and what the server on the other end has been told of it. Pure: who connects and sends is
//! elsewhere, time is an argument.
//!
//! Whatever is subscribed is subscribed again on every new stream, from the last revision that was seen, so that nothing older
//! arrives. A revision cannot be compared here; so where one is asked for that the present stream might undercut (documents of
//! an earlier subscription may be under way), the stream is opened anew. So it is when a refusal would end a subscription but may
//! be of an earlier one: a refusal names a tenant, not a subscription.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_request::Action;
use tokio::time::Instant;

use crate::error::Error;

/// For how long a refusal may still come of a subscription that the server was told to end.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// The subscriptions of one watch.
#[derive(Debug)]
pub(crate) struct Wanted {
    tenants: BTreeMap<String, Subscription>,
    subscriptions_max: usize,
    /// Tenants whose subscription the present stream may have to be told of.
    changed: VecDeque<String>,
    /// Tenants that were subscribed on the present stream, and how that stands.
    told: BTreeMap<String, Told>,
    /// When to tell the server again of a tenant that it could not serve.
    again: BTreeSet<(Instant, String)>,
    /// The present stream must not be used any more.
    outdated: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    /// Nothing older; empty for whatever is there.
    last_revision: Bytes,
    /// Whether it was sent on the present stream. The tenant's subscription before it, which may stand there still, brings no
    /// document for this one.
    sent: bool,
    /// Refusals of one kind since the last document.
    refusals: u32,
    /// Which kind: whether the server has no room for it.
    lacks_room: bool,
    again_at: Option<Instant>,
}

/// What the server on the other end of the present stream was told of a tenant.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// To subscribe it; `again` when it was told so before, and a refusal of that may be under way.
    Subscribe { again: bool },
    /// To unsubscribe it, at this time.
    Unsubscribe(Instant),
    /// Nothing that stands: it refused the only subscription that stood.
    Refused,
}

impl Wanted {
    pub(crate) fn new(subscriptions_max: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            subscriptions_max,
            changed: VecDeque::new(),
            told: BTreeMap::new(),
            again: BTreeSet::new(),
            outdated: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Wants a tenant. Wanting it again without a revision changes nothing.
    pub(crate) fn subscribe(&mut self, tenant: &str, last_revision: Option<Bytes>) -> Result<(), Error> {
        let known = self.tenants.contains_key(tenant);
        if known && last_revision.is_none() {
            return Ok(());
        }
        if !known && self.tenants.len() >= self.subscriptions_max {
            return Err(Error::TooManySubscriptions { subscriptions: self.tenants.len(), allowed: self.subscriptions_max });
        }
        // Tenants that came and went are remembered for the sake of this only; a stream that has seen very many is renewed.
        let under_way = last_revision.is_some() && self.told.contains_key(tenant);
        if under_way || self.told.len() >= self.subscriptions_max.saturating_mul(4) {
            self.outdated = true;
        }
        self.unschedule(tenant);
        let subscription = Subscription { last_revision: last_revision.unwrap_or_default(), ..Subscription::default() };
        self.tenants.insert(tenant.to_owned(), subscription);
        self.changed.push_back(tenant.to_owned());
        Ok(())
    }

    /// Wants a tenant no more; says whether it was wanted.
    pub(crate) fn unsubscribe(&mut self, tenant: &str) -> bool {
        self.unschedule(tenant);
        let wanted = self.tenants.remove(tenant).is_some();
        if wanted {
            self.changed.push_back(tenant.to_owned());
        }
        wanted
    }

    /// There is a new stream, which knows nothing.
    pub(crate) fn opened(&mut self) {
        self.outdated = false;
        self.told.clear();
        self.again.clear();
        self.changed = self.tenants.keys().cloned().collect();
        for subscription in self.tenants.values_mut() {
            subscription.sent = false;
            subscription.again_at = None;
        }
    }

    /// Whether the present stream must be given up for a new one.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// The next thing to tell the server, now.
    pub(crate) fn next_action(&mut self, now: Instant) -> Option<Action> {
        while !self.outdated
            && let Some(tenant) = self.changed.pop_front()
        {
            let told = self.told.get(&tenant).copied();
            match self.tenants.get_mut(&tenant) {
                Some(subscription) if !subscription.sent && subscription.again_at.is_none() => {
                    subscription.sent = true;
                    let last_revision = subscription.last_revision.clone();
                    let again = match told {
                        None | Some(Told::Refused) => false,
                        Some(Told::Unsubscribe(at)) => now < at + LEFTOVERS,
                        Some(Told::Subscribe { .. }) => true,
                    };
                    self.told.insert(tenant.clone(), Told::Subscribe { again });
                    return Some(Action::Subscribe(v1::Subscribe { tenant_id: tenant, last_revision }));
                }
                None if matches!(told, Some(Told::Subscribe { .. })) => {
                    self.told.insert(tenant.clone(), Told::Unsubscribe(now));
                    return Some(Action::Unsubscribe(v1::Unsubscribe { tenant_id: tenant }));
                }
                _ => {}
            }
        }
        None
    }

    /// A document arrived on the present stream; says whether it is wanted.
    pub(crate) fn document(&mut self, tenant: &str, revision: &Bytes) -> bool {
        if self.outdated {
            return false;
        }
        let Some(subscription) = self.tenants.get_mut(tenant) else { return false };
        subscription.last_revision = revision.clone();
        subscription.refusals = 0;
        true
    }

    /// The server cannot serve a subscription, which ends it there. Says how many times in a row that was for the same kind of reason,
    /// if it is still wanted and was sent; one that was not is another one.
    pub(crate) fn refused(&mut self, tenant: &str, lacks_room: bool) -> Option<u32> {
        if let Some(told @ Told::Subscribe { again: false }) = self.told.get_mut(tenant) {
            *told = Told::Refused;
        }
        let subscription = self.tenants.get_mut(tenant).filter(|subscription| subscription.sent && !self.outdated)?;
        subscription.sent = false;
        if std::mem::replace(&mut subscription.lacks_room, lacks_room) != lacks_room {
            subscription.refusals = 0;
        }
        subscription.refusals = subscription.refusals.saturating_add(1);
        Some(subscription.refusals)
    }

    /// The server that refused a tenant will never serve it, which ends its subscription. Not so when it may have refused an
    /// earlier one: then a new stream tells, and this says no.
    pub(crate) fn end(&mut self, tenant: &str) -> bool {
        if let Some(Told::Subscribe { again: true }) = self.told.get(tenant) {
            self.outdated = true;
            return false;
        }
        self.unsubscribe(tenant);
        true
    }

    /// Tells the server again at this time.
    pub(crate) fn subscribe_again(&mut self, tenant: &str, at: Instant) {
        self.unschedule(tenant);
        if let Some(subscription) = self.tenants.get_mut(tenant) {
            subscription.again_at = Some(at);
            self.again.insert((at, tenant.to_owned()));
        }
    }

    /// When [`Wanted::pass`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.again.first().map(|(at, _)| *at)
    }

    /// The time is `now`.
    pub(crate) fn pass(&mut self, now: Instant) {
        while let Some((at, _)) = self.again.first()
            && *at <= now
            && let Some((_, tenant)) = self.again.pop_first()
        {
            if let Some(subscription) = self.tenants.get_mut(&tenant) {
                subscription.again_at = None;
                self.changed.push_back(tenant);
            }
        }
    }

    fn unschedule(&mut self, tenant: &str) {
        if let Some(at) = self.tenants.get_mut(tenant).and_then(|subscription| subscription.again_at.take()) {
            self.again.remove(&(at, tenant.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;
