//! The task behind a local mode: tells the keeper what happens, and does what it says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};

use super::clock::Clock;
use super::keeper::{Action, Keeper};
use crate::error::Error;
use crate::watch::{Watch, WatchEvent};

/// How often the keeper looks at the time; how far off the wall's clock may be after it was set.
const TICK: Duration = Duration::from_secs(1);

/// What the task works with.
pub(super) struct Parts {
    pub(super) watch: Watch,
    pub(super) keeper: Keeper,
    pub(super) inbox: mpsc::Receiver<String>,
    pub(super) clock: Arc<Clock>,
    pub(super) progress: Arc<Progress>,
}

/// How far the task has come, for whoever waits.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) tenants: AtomicUsize,
    pub(super) connected: AtomicBool,
    /// Unset while there is none, and before the first attempt has ended.
    trouble: Mutex<Option<Trouble>>,
    news: Notify,
}

#[derive(Debug)]
enum Trouble {
    /// There is no stream.
    NoStream(Error),
    /// The server has no room for this tenant, and perhaps for others.
    NoRoom(String, Error),
}

impl Progress {
    /// Waits until it is so; looks after everything that happens.
    pub(super) async fn wait_until(&self, holds: impl Fn() -> bool) {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            // Before the look: what happens between the two is not missed.
            news.as_mut().enable();
            if holds() {
                return;
            }
            news.await;
        }
    }

    pub(super) fn trouble(&self) -> Option<Error> {
        // Every change is complete before anything can panic.
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Trouble::NoStream(error) | Trouble::NoRoom(_, error)) => Some(error.clone()),
            None => None,
        }
    }

    fn happened(&self, event: &WatchEvent) {
        let trouble = match event {
            WatchEvent::Connected { .. } => None,
            WatchEvent::Disconnected { error, .. } => Some(Trouble::NoStream(error.clone())),
            WatchEvent::Document(document) => return self.over(&document.tenant),
            WatchEvent::Refused { tenant, retry_in: None, .. } => return self.over(tenant),
            _ => match event.no_room() {
                Some((tenant, error)) => Some(Trouble::NoRoom(tenant.to_owned(), error.clone())),
                None => return,
            },
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// There is room for this tenant, or no need of it. Where others have none, their next refusal says so.
    fn over(&self, tenant: &str) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*trouble, Some(Trouble::NoRoom(without, _)) if without == tenant) {
            *trouble = None;
        }
    }

    fn note(&self, keeper: &Keeper) {
        self.tenants.store(keeper.len(), Ordering::Relaxed);
        self.connected.store(keeper.is_connected(), Ordering::Relaxed);
        self.news.notify_waiters();
    }
}

/// Runs until nobody asks any more, or the runtime ends.
pub(super) async fn follow(mut parts: Parts, first: Vec<Action>) {
    parts.perform(first);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let actions = tokio::select! {
            // In this order: what was subscribed before is over before the keeper forgets it.
            biased;
            event = parts.watch.next() => {
                let Some(event) = event else { return };
                parts.progress.happened(&event);
                parts.keeper.happened(&event, parts.clock.now());
                Vec::new()
            }
            wanted = parts.inbox.recv() => {
                let Some(tenant) = wanted else { return };
                parts.keeper.wanted(&tenant, parts.clock.now())
            }
            _ = ticks.tick() => {
                parts.clock.look_at_the_wall();
                parts.keeper.tick(parts.clock.now())
            }
        };
        parts.perform(actions);
    }
}

impl Parts {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Subscribe(tenant) => {
                    if let Err(error) = self.watch.subscribe(&tenant) {
                        tracing::debug!(error = %error.logged(), "a tenant is left to the wire");
                        self.keeper.refused(&tenant, false, self.clock.now());
                    }
                }
                Action::Unsubscribe(tenant) => {
                    self.watch.unsubscribe(&tenant);
                    self.progress.over(&tenant);
                }
            }
        }
        self.progress.note(&self.keeper);
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::status::{Failure as Refusal, RETRY_AFTER};

    use super::*;
    use crate::document::Entitlements;
    use crate::failure::Failure;

    #[test]
    fn a_tenant_without_room_is_trouble_until_it_has_some() {
        let progress = Progress::default();
        let refused = |tenant: &str, seconds| {
            let full = Refusal::rate_limited("this watch has `1000` subscriptions, the most allowed", RETRY_AFTER);
            let error = Error::from(Failure::of_item(&full.to_rpc_status()));
            let retry_in = Some(Duration::from_secs(seconds));
            progress.happened(&WatchEvent::Refused { tenant: tenant.to_owned(), error, retry_in });
        };
        let document = |tenant: &str| {
            let message = tessera_proto::v1::TenantEntitlements { tenant_id: tenant.to_owned(), ..Default::default() };
            progress.happened(&WatchEvent::Document(Box::new(Entitlements::of_wire(message))));
        };
        // Such a moment passes by itself.
        refused("acme", 1);
        assert!(progress.trouble().is_none());
        refused("acme", 30);
        assert!(matches!(progress.trouble(), Some(Error::Overloaded(_))));
        document("globex");
        assert!(progress.trouble().is_some());
        document("acme");
        assert!(progress.trouble().is_none());
        refused("acme", 60);
        progress.over("acme");
        assert!(progress.trouble().is_none());
        // Room was not all that it wanted.
        refused("acme", 60);
        let unknown = Error::from(Failure::of_item(&Refusal::invalid_field("tenant_id", "no tenant").to_rpc_status()));
        progress.happened(&WatchEvent::Refused { tenant: "acme".to_owned(), error: unknown, retry_in: None });
        assert!(progress.trouble().is_none());
        let error = Error::Unavailable(Failure::broken("for a test"));
        progress.happened(&WatchEvent::Disconnected { error, retry_in: Duration::ZERO });
        document("acme");
        assert!(matches!(progress.trouble(), Some(Error::Unavailable(_))));
    }
}
