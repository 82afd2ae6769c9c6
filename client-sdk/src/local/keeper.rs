//! Which tenants are held, and what the watch is asked for them: the one writer of [`Tenants`].
//!
//! Pure: what it is told and the time come as arguments, what is to be sent comes back as [`Action`]s; a task performs them.
//!
//! Documents never go back. Over one stream they come in order, from one server, whose answers do not go back. A new stream may
//! be another server's, so every subscription names the revision that is held, which makes the server send nothing older;
//! whatever an older stream still says is not listened to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_response::Event;
use tonic::Code;

use super::document::Compiler;
use super::freshness::{Connection, Moment, Proof};
use super::settings::Settings;
use super::tenants::{Held, Standing, Tenants};

/// How soon a subscription that failed is tried again.
const RETRY_NS: u64 = 1_000_000_000;
/// What part of the tenants is given up at once when there is no room: looking at all of them for a few costs a few looks each.
const EVICTED_PART: usize = 16;

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Watch a tenant, and send nothing older than that (empty: whatever there is).
    Subscribe { tenant: String, last_revision: Bytes },
    /// Watch a tenant no more.
    Unsubscribe { tenant: String },
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Keeper {
    tenants: Arc<Tenants>,
    settings: Settings,
    compiler: Compiler,
    /// The stream that is followed, while there is one.
    connection: Option<Arc<Connection>>,
    subscriptions: HashMap<String, Subscription>,
    /// Subscriptions to try again, by time.
    retries: BTreeSet<(u64, String)>,
    /// When those that nobody asks about are looked for next.
    sweep_ns: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    /// Named in the settings: held as long as this local mode lives.
    preloaded: bool,
    /// When it was sent last.
    asked_ns: u64,
    /// When it is to be sent again.
    retry_ns: Option<u64>,
}

impl Keeper {
    pub(crate) fn new(tenants: Arc<Tenants>, settings: Settings, now: Moment) -> Self {
        let mut keeper = Self {
            tenants,
            compiler: Compiler::default(),
            connection: None,
            subscriptions: HashMap::new(),
            retries: BTreeSet::new(),
            sweep_ns: 0,
            settings,
        };
        for tenant in keeper.settings.preloaded.clone() {
            keeper.tenants.put(&tenant, Standing::Expected, now);
            keeper.subscriptions.insert(tenant, Subscription { preloaded: true, ..Subscription::default() });
        }
        keeper
    }

    /// How many tenants are held, expected or known not to be served.
    pub(crate) fn len(&self) -> usize {
        self.subscriptions.len()
    }

    // === the stream ===

    /// A new stream has begun: nothing is subscribed on it.
    pub(crate) fn connected(&mut self, now: Moment) -> Vec<Action> {
        self.connection = Some(Arc::new(Connection::new()));
        let tenants: Vec<String> = self.subscriptions.keys().cloned().collect();
        tenants.into_iter().filter_map(|tenant| self.subscribe(&tenant, now)).collect()
    }

    /// The stream has ended: what it proved stands still.
    pub(crate) fn disconnected(&mut self) {
        self.connection = None;
    }

    /// What the stream said.
    pub(crate) fn heard(&mut self, said: v1::WatchEntitlementsResponse, now: Moment) {
        let Some(connection) = self.connection.clone() else { return };
        match said.event {
            Some(Event::Heartbeat(heartbeat)) => connection.prove(Proof::of(heartbeat.staleness_ms, now)),
            Some(Event::Document(document)) => self.install(&document, connection, now),
            Some(Event::Error(error)) => {
                let code = error.status.map_or(Code::Unknown, |status| Code::from_i32(status.code));
                self.refused(&error.tenant_id, code, now);
            }
            // Something that a later version says.
            None => {}
        }
    }

    fn install(&mut self, document: &v1::TenantEntitlements, connection: Arc<Connection>, now: Moment) {
        let tenant = document.tenant_id.as_str();
        // It was given up while the document was on its way.
        let Some(subscription) = self.subscriptions.get_mut(tenant) else { return };
        if let Some(retry_ns) = subscription.retry_ns.take() {
            self.retries.remove(&(retry_ns, tenant.to_owned()));
        }
        match self.compiler.compile(document) {
            Ok(compiled) => {
                let proof = Proof::of(document.staleness_ms, now);
                let held = Held { document: compiled, proof, connection };
                self.tenants.put(tenant, Standing::Held(Arc::new(held)), now);
            }
            Err(unusable) => {
                tracing::warn!(%unusable, "a document is not used; its tenant is asked about over the wire");
                self.refuse(tenant, self.settings.unknown_ns(), now);
            }
        }
    }

    /// The server does not serve that subscription (any more).
    fn refused(&mut self, tenant: &str, code: Code, now: Moment) {
        if !self.subscriptions.contains_key(tenant) {
            return;
        }
        let held = self.tenants.held(tenant);
        match (code, held) {
            // There is no such tenant, or what is held is of another world: it is no answer to anything.
            (Code::NotFound | Code::InvalidArgument, _) => self.refuse(tenant, self.settings.unknown_ns(), now),
            (_, None) => self.refuse(tenant, RETRY_NS, now),
            // Not now. What is held goes on getting older.
            (_, Some(held)) => {
                let connection = Arc::new(Connection::ended_at(held.proof()));
                let held = Held { document: held.document.clone(), proof: held.proof(), connection };
                self.tenants.put(tenant, Standing::Held(Arc::new(held)), now);
                self.retry_in(tenant, RETRY_NS, now);
            }
        }
    }

    fn refuse(&mut self, tenant: &str, for_ns: u64, now: Moment) {
        let until_ns = now.steady_ns.saturating_add(for_ns);
        self.tenants.put(tenant, Standing::Refused { until_ns }, now);
        if self.subscriptions.get(tenant).is_some_and(|subscription| subscription.preloaded) {
            self.retry_in(tenant, for_ns, now);
        }
    }

    fn retry_in(&mut self, tenant: &str, in_ns: u64, now: Moment) {
        let Some(subscription) = self.subscriptions.get_mut(tenant) else { return };
        let retry_ns = now.steady_ns.saturating_add(in_ns);
        if let Some(before) = subscription.retry_ns.replace(retry_ns) {
            self.retries.remove(&(before, tenant.to_owned()));
        }
        self.retries.insert((retry_ns, tenant.to_owned()));
    }

    fn subscribe(&mut self, tenant: &str, now: Moment) -> Option<Action> {
        let subscription = self.subscriptions.get_mut(tenant)?;
        self.connection.as_ref()?;
        if let Some(retry_ns) = subscription.retry_ns.take() {
            self.retries.remove(&(retry_ns, tenant.to_owned()));
        }
        subscription.asked_ns = now.steady_ns;
        let held = self.tenants.held(tenant);
        if held.is_none() {
            self.tenants.put(tenant, Standing::Expected, now);
        }
        let last_revision = held.map(|held| held.document.revision().clone()).unwrap_or_default();
        Some(Action::Subscribe { tenant: tenant.to_owned(), last_revision })
    }

    // === the checks ===

    /// A check found nothing, or something outdated, of that tenant.
    pub(crate) fn wanted(&mut self, tenant: &str, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match self.subscriptions.get(tenant) {
            None => {
                if self.subscriptions.len() >= self.settings.tenants_max {
                    actions.extend(self.make_room());
                }
                if self.subscriptions.len() >= self.settings.tenants_max {
                    // Nobody can be given up: all are to be held.
                    return actions;
                }
                self.subscriptions.insert(tenant.to_owned(), Subscription::default());
                self.tenants.put(tenant, Standing::Expected, now);
            }
            Some(subscription) => {
                let is_outdated = match self.tenants.standing(tenant) {
                    Some(Standing::Held(held)) => held.has_expired(now) || !self.is_followed(&held),
                    Some(Standing::Refused { until_ns }) => until_ns <= now.steady_ns,
                    Some(Standing::Expected) | None => false,
                };
                // A server whose clock is behind ours sends the same again: not more often than this.
                let is_early = now.steady_ns.saturating_sub(subscription.asked_ns) < RETRY_NS;
                if !is_outdated || is_early {
                    return actions;
                }
            }
        }
        actions.extend(self.subscribe(tenant, now));
        actions
    }

    fn is_followed(&self, held: &Held) -> bool {
        self.connection.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, &held.connection))
    }

    // === by time ===

    /// Gives up who was not asked about for long, and tries again what failed.
    pub(crate) fn tick(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some((due_ns, _)) = self.retries.first()
            && *due_ns <= now.steady_ns
            && let Some((_, tenant)) = self.retries.pop_first()
        {
            if let Some(subscription) = self.subscriptions.get_mut(&tenant) {
                subscription.retry_ns = None;
            }
            actions.extend(self.subscribe(&tenant, now));
        }
        if now.steady_ns < self.sweep_ns {
            return actions;
        }
        let idle_ns = self.settings.idle_ns();
        // All are looked at: often enough that none stays much longer than it may.
        self.sweep_ns = now.steady_ns.saturating_add(idle_ns / 8);
        let idle = self.by_last_use().filter(|(used, _)| now.steady_ns.saturating_sub(*used) >= idle_ns);
        let idle: Vec<String> = idle.map(|(_, tenant)| tenant.to_owned()).collect();
        actions.extend(idle.into_iter().map(|tenant| self.give_up(tenant)));
        actions
    }

    /// Gives up those that were not asked about for longest.
    fn make_room(&mut self) -> Vec<Action> {
        let mut all: Vec<(u64, String)> = self.by_last_use().map(|(used, tenant)| (used, tenant.to_owned())).collect();
        let part = (self.settings.tenants_max / EVICTED_PART).max(1);
        if part < all.len() {
            all.select_nth_unstable(part);
            all.truncate(part);
        }
        all.into_iter().map(|(_, tenant)| self.give_up(tenant)).collect()
    }

    /// Those that may be given up, with when they were asked about last.
    fn by_last_use(&self) -> impl Iterator<Item = (u64, &str)> {
        let own = self.subscriptions.iter().filter(|(_, subscription)| !subscription.preloaded);
        own.filter_map(|(tenant, _)| Some((self.tenants.last_used_ns(tenant)?, tenant.as_str())))
    }

    fn give_up(&mut self, tenant: String) -> Action {
        self.tenants.remove(&tenant);
        if let Some(Subscription { retry_ns: Some(retry_ns), .. }) = self.subscriptions.remove(&tenant) {
            self.retries.remove(&(retry_ns, tenant.clone()));
        }
        Action::Unsubscribe { tenant }
    }
}

#[cfg(test)]
mod tests;
