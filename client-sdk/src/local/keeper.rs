//! Which tenants are held, and what the watch is to watch for them: the one writer of [`Tenants`].
//!
//! Pure: what happened and the time come as arguments, what is to be done about the watch comes back as [`Action`]s; a task
//! performs them.
//!
//! Documents never go back. The events of a watch come in order; over one stream a server never goes back; and on every new
//! stream the watch names the last revision of every subscription, so that nothing older is sent. A subscription that begins
//! anew names none. Therefore a tenant that was given up is not subscribed again before whatever the watch still had to tell of
//! it must have come ([`LEFTOVERS_NS`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::document::Compiler;
use super::freshness::{Connection, Moment, Proof};
use super::settings::Settings;
use super::tenants::{Held, Standing, Tenants};
use crate::document::Entitlements;
use crate::watch::WatchEvent;

/// For how long something may still come of a subscription that was given up: events wait in a queue that is read at once.
const LEFTOVERS_NS: u64 = 1_000_000_000;
/// What part of the tenants is given up at once when there is no room: looking at all of them for a few costs a few looks each.
const EVICTED_PART: usize = 16;

/// What is to be done about the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Subscribe(String),
    Unsubscribe(String),
}

/// The writer.
#[derive(Debug)]
pub(crate) struct Keeper {
    tenants: Arc<Tenants>,
    settings: Settings,
    compiler: Compiler,
    /// The stream that is followed, while there is one.
    connection: Option<Arc<Connection>>,
    kept: HashMap<String, Kept>,
    /// Tenants that were given up a moment ago, with when.
    given_up: HashMap<String, u64>,
    /// When preloaded tenants whose subscription ended are subscribed again.
    retries: BTreeSet<(u64, String)>,
    /// When those that nobody asks about are looked for next.
    sweep_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Named in the settings: held as long as this local mode lives.
    preloaded: bool,
    /// Whether the watch watches it.
    subscribed: bool,
}

impl Keeper {
    /// With the tenants to preload, which are to be subscribed.
    pub(crate) fn new(tenants: Arc<Tenants>, settings: Settings, now: Moment) -> (Self, Vec<Action>) {
        let preloaded = settings.preloaded.clone();
        let mut keeper = Self {
            tenants,
            settings,
            compiler: Compiler::default(),
            connection: None,
            kept: HashMap::new(),
            given_up: HashMap::new(),
            retries: BTreeSet::new(),
            sweep_ns: 0,
        };
        let actions = preloaded.into_iter().map(|tenant| keeper.subscribe(tenant, true, now)).collect();
        (keeper, actions)
    }

    /// How many tenants are held, expected or known not to be served.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is a stream.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    // === the watch ===

    /// Something happened on the watch.
    pub(crate) fn happened(&mut self, event: &WatchEvent, now: Moment) {
        match event {
            WatchEvent::Connected { .. } => self.connection = Some(Arc::new(Connection::new())),
            // What it proved stands still.
            WatchEvent::Disconnected { .. } => self.connection = None,
            WatchEvent::Heartbeat { staleness } => {
                if let Some(connection) = &self.connection {
                    connection.prove(Proof::of(*staleness, now));
                }
            }
            WatchEvent::Document(document) => self.install(document, now),
            WatchEvent::Refused { tenant, retry_in, .. } => self.refused(tenant, retry_in.is_some(), now),
        }
    }

    fn install(&mut self, document: &Entitlements, now: Moment) {
        let tenant = document.tenant.as_str();
        // It was given up while the document was on its way.
        if !self.kept.get(tenant).is_some_and(|kept| kept.subscribed) {
            return;
        }
        let Some(connection) = &self.connection else { return };
        match self.compiler.compile(document) {
            Ok(compiled) => {
                let proof = Proof::of(document.staleness, now);
                let held = Held { document: compiled, proof, connection: Arc::clone(connection) };
                self.tenants.put(tenant, Standing::Held(Arc::new(held)), now);
            }
            Err(unusable) => {
                tracing::warn!(%unusable, "a document is not used; its tenant is asked about over the wire");
                // The next one may be better: nothing is to be done until then.
                self.tenants.put(tenant, Standing::Expected, now);
            }
        }
    }

    /// The server does not serve a subscription, for now or at all.
    pub(crate) fn refused(&mut self, tenant: &str, is_tried_again: bool, now: Moment) {
        let Some(kept) = self.kept.get_mut(tenant) else { return };
        if is_tried_again {
            // What is held goes on getting older.
            if let Some(held) = self.tenants.held(tenant) {
                let proof = held.proof();
                let connection = Arc::new(Connection::ended_at(proof));
                let held = Held { document: held.document.clone(), proof, connection };
                self.tenants.put(tenant, Standing::Held(Arc::new(held)), now);
            }
            return;
        }
        // There is no such tenant, or it is not ours to see, or what is held is of another world: an answer to nothing.
        kept.subscribed = false;
        let until_ns = now.steady_ns.saturating_add(self.settings.unknown_ns());
        self.tenants.put(tenant, Standing::Refused { until_ns }, now);
        if kept.preloaded {
            self.retries.insert((until_ns, tenant.to_owned()));
        }
    }

    // === the checks ===

    /// A check found nothing of that tenant.
    pub(crate) fn wanted(&mut self, tenant: &str, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.given_up.contains_key(tenant) {
            return actions;
        }
        match (self.kept.get(tenant), self.tenants.standing(tenant)) {
            (None, _) => {
                if self.kept.len() >= self.settings.tenants_max {
                    actions.extend(self.make_room(now));
                }
                if self.kept.len() < self.settings.tenants_max {
                    actions.push(self.subscribe(tenant.to_owned(), false, now));
                }
            }
            (Some(kept), Some(Standing::Refused { until_ns })) if !kept.preloaded && until_ns <= now.steady_ns => {
                actions.push(self.subscribe(tenant.to_owned(), false, now));
            }
            // On its way, or it has come by now.
            (Some(_), _) => {}
        }
        actions
    }

    fn subscribe(&mut self, tenant: String, preloaded: bool, now: Moment) -> Action {
        self.tenants.put(&tenant, Standing::Expected, now);
        self.kept.insert(tenant.clone(), Kept { preloaded, subscribed: true });
        Action::Subscribe(tenant)
    }

    // === by time ===

    /// Gives up who was not asked about for long, and tries again what ended. To be called when nothing else is to be done.
    pub(crate) fn tick(&mut self, now: Moment) -> Vec<Action> {
        self.given_up.retain(|_, since| now.steady_ns.saturating_sub(*since) < LEFTOVERS_NS);
        let mut actions = Vec::new();
        while let Some((due_ns, _)) = self.retries.first()
            && *due_ns <= now.steady_ns
            && let Some((_, tenant)) = self.retries.pop_first()
        {
            actions.push(self.subscribe(tenant, true, now));
        }
        if now.steady_ns < self.sweep_ns {
            return actions;
        }
        let idle_ns = self.settings.idle_ns();
        // All are looked at: often enough that none stays much longer than it may.
        self.sweep_ns = now.steady_ns.saturating_add(idle_ns / 8);
        let idle = self.by_last_use().filter(|(used, _)| now.steady_ns.saturating_sub(*used) >= idle_ns);
        let idle: Vec<String> = idle.map(|(_, tenant)| tenant.to_owned()).collect();
        actions.extend(idle.into_iter().filter_map(|tenant| self.give_up(tenant, now)));
        actions
    }

    /// Gives up those that were not asked about for longest.
    fn make_room(&mut self, now: Moment) -> Vec<Action> {
        let mut all: Vec<(u64, String)> = self.by_last_use().map(|(used, tenant)| (used, tenant.to_owned())).collect();
        let part = (self.settings.tenants_max / EVICTED_PART).max(1);
        if part < all.len() {
            all.select_nth_unstable(part);
            all.truncate(part);
        }
        all.into_iter().filter_map(|(_, tenant)| self.give_up(tenant, now)).collect()
    }

    /// Those that may be given up, with when they were asked about last.
    fn by_last_use(&self) -> impl Iterator<Item = (u64, &str)> {
        let own = self.kept.iter().filter(|(_, kept)| !kept.preloaded);
        own.filter_map(|(tenant, _)| Some((self.tenants.last_used_ns(tenant)?, tenant.as_str())))
    }

    fn give_up(&mut self, tenant: String, now: Moment) -> Option<Action> {
        self.tenants.remove(&tenant);
        let kept = self.kept.remove(&tenant)?;
        if !kept.subscribed {
            return None;
        }
        self.given_up.insert(tenant.clone(), now.steady_ns);
        Some(Action::Unsubscribe(tenant))
    }
}

#[cfg(test)]
mod tests;
