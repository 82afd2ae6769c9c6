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
    /// Why there is no stream; unset while there is one, and before the first attempt has ended.
    trouble: Mutex<Option<Error>>,
    news: Notify,
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
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn happened(&self, event: &WatchEvent) {
        let trouble = match event {
            WatchEvent::Connected { .. } => None,
            WatchEvent::Disconnected { error, .. } => Some(error.clone()),
            _ => return,
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
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
                }
            }
        }
        self.progress.note(&self.keeper);
    }
}
