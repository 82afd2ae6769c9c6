//! Following a restore: a reader's handle moves over to the keyspace of a newer epoch.
//!
//! Whoever restores makes a new keyspace with the next epoch; heartbeats name it. A handle believes nothing of that: it looks
//! whether the keyspace is there, is exactly who it is said to be, and has tables this software knows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tessera_ports::event_store::StoreIdentity;
use tokio::time::Instant;

use crate::config::is_keyspace;
use crate::keyspace::Keyspace;
use crate::open::{Moves, Scylla};
use crate::schema::{Asking, check_version};
use crate::session::{Consistencies, prepare_error};

/// Between two looks at a store that could not be moved to: every heartbeat speaks of it.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// What came of the last look.
#[derive(Debug, Default)]
pub(crate) struct Moving(Mutex<Option<Refused>>);

#[derive(Debug)]
struct Refused {
    newer: StoreIdentity,
    why: String,
    at: Instant,
}

impl Moving {
    /// Whether it is time to look at that store; notes that somebody does.
    fn begins(&self, newer: &StoreIdentity) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_some_and(|refused| refused.newer == *newer && refused.at.elapsed() < LOOK_PAUSE) {
            return false;
        }
        let why = last.take().filter(|refused| refused.newer == *newer).map(|refused| refused.why).unwrap_or_default();
        *last = Some(Refused { newer: newer.clone(), why, at: Instant::now() });
        true
    }

    /// Warns once of each reason.
    fn refused(&self, newer: &StoreIdentity, why: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = last.as_mut().filter(|refused| refused.newer == *newer)
            && refused.why != why
        {
            tracing::warn!(store = newer.store, epoch = newer.epoch, reason = why, "the newer store cannot be moved to");
            refused.why = why;
        }
    }
}

impl Scylla {
    /// Moves over to `newer` if it can be.
    pub(crate) async fn follow(&self, newer: &StoreIdentity) {
        if self.0.moves == Moves::No || newer.epoch <= self.keyspace().identity.epoch || !self.0.moving.begins(newer) {
            return;
        }
        match self.reach(newer).await {
            // Two may come at the same time, with epochs out of order.
            Ok(keyspace) => {
                let reached = std::sync::Arc::new(keyspace);
                self.0.current.rcu(|current| {
                    let forward = current.identity.epoch < reached.identity.epoch;
                    std::sync::Arc::clone(if forward { &reached } else { current })
                });
                tracing::info!(store = newer.store, epoch = newer.epoch, "moved over to the store of a restore");
            }
            Err(why) => self.0.moving.refused(newer, why),
        }
    }

    async fn reach(&self, newer: &StoreIdentity) -> Result<Keyspace, String> {
        let name = newer.store.split_once('/').map(|(keyspace, _)| keyspace).filter(|name| is_keyspace(name));
        let name = name.ok_or_else(|| "its name is not that of a keyspace".to_owned())?;
        if name == self.keyspace().name {
            return Err(format!("it is said to be in keyspace `{name}`, where an older one is"));
        }
        let config = &self.0.config;
        let asking = Asking { session: &self.0.session, config, keyspace: name };
        let regular = Consistencies::of(config.datacenters).regular;
        let look = async {
            check_version(name, asking.existing_version(regular).await?)?;
            asking.identity(regular).await
        };
        match look.await.map_err(|error| error.to_string())? {
            Some(found) if found == *newer => {}
            Some(found) => {
                return Err(format!("keyspace `{name}` is `{}` in epoch {}", found.store, found.epoch));
            }
            None => return Err(format!("keyspace `{name}` is not ready: `tessera migrate` is at work, or was broken off")),
        }
        let prepared = Keyspace::prepare(&self.0.session, config, name, newer.clone()).await;
        prepared.map_err(|error| prepare_error(config, name, &error).to_string())
    }
}
