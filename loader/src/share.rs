//! Which partitions of the feed this loader looks after: whose hints it follows, and to which it says its heartbeats.
//!
//! Every loader at work has a lease and sees those of the others. Partitions go to the loader with the greatest weight for them
//! (rendezvous hashing: Thaler and Ravishankar, 1998), so that one that comes or goes moves its own partitions only. Loaders
//! that do not see the same leases for a moment look after a partition twice, which is harmless, or not at all until the lease
//! of one that died has ended. One that drains gives its lease back, and looks after its partitions until it is gone.

use std::sync::Arc;
use std::time::Duration;

use tessera_ports::LeaseStore;
use tessera_ports::event_store::{CellHash, ReadError};
use tessera_ports::hooks::{self, Guard};
use tessera_runtime::lifecycle::Shutdown;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// For how long a lease that is given back still stands: there is none that is shorter.
const LAST_LEASE: Duration = Duration::from_secs(1);

/// This loader's lease, and what it learned from it.
#[derive(Debug)]
pub struct Share {
    leases: Arc<dyn LeaseStore>,
    owner: String,
    time: Duration,
    owners: Vec<String>,
    renew_at: Option<Instant>,
    shutdown: Shutdown,
    renewing: Arc<Mutex<()>>,
}

/// Gives a lease back.
#[derive(Debug)]
pub struct Leaving {
    leases: Arc<dyn LeaseStore>,
    owner: String,
    renewing: Arc<Mutex<()>>,
}

impl Share {
    /// The share of a loader that goes by the name `owner`, unique to this process, and whose lease ends `time` after it was
    /// heard of last. Once it drains the lease is not renewed, and what was its share stays so.
    pub fn new(leases: Arc<dyn LeaseStore>, owner: String, time: Duration, shutdown: Shutdown) -> Self {
        Self { leases, owner, time, owners: Vec::new(), renew_at: None, shutdown, renewing: Arc::default() }
    }

    /// What gives its lease back.
    pub fn leaving(&self) -> Leaving {
        Leaving { leases: Arc::clone(&self.leases), owner: self.owner.clone(), renewing: Arc::clone(&self.renewing) }
    }

    /// Those of `count` partitions that are this loader's now. Renews the lease whenever a third of its time is over.
    pub async fn partitions(&mut self, count: u32) -> Result<Vec<u32>, ReadError> {
        let _one_at_a_time = self.renewing.lock().await;
        let now = Instant::now();
        if !self.shutdown.is_draining() && self.renew_at.is_none_or(|at| at <= now) {
            self.owners = self.leases.renew(&self.owner, self.time).await?;
            // From before the call: the lease may have begun then.
            let pause = if hooks::holds(Guard::SharesFollowLeases) { self.time / 3 } else { Duration::from_hours(1) };
            self.renew_at = now.checked_add(pause);
        }
        Ok((0..count).filter(|partition| belongs(*partition, &self.owner, &self.owners)).collect())
    }
}

impl Leaving {
    /// Has the lease end as soon as one can, so that the others take over while this loader is still at work. Waits no longer
    /// than that: if the store does not answer, the lease ends by itself.
    pub async fn leave(self) {
        let renewal = async {
            // A longer lease that is on its way would come to stand behind this one.
            let _one_at_a_time = self.renewing.lock().await;
            self.leases.renew(&self.owner, LAST_LEASE).await
        };
        if let Ok(Err(error)) = tokio::time::timeout(LAST_LEASE, renewal).await {
            tracing::debug!(%error, "the lease was not given back");
        }
    }
}

/// Whether a partition is `owner`'s among `owners`.
fn belongs(partition: u32, owner: &str, owners: &[String]) -> bool {
    let weight = |owner: &str| CellHash::of(format!("{partition}/{owner}").as_bytes()).0;
    let ours = weight(owner);
    owners.iter().all(|other| weight(other) <= ours)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all_owners() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::btree_set("[a-z0-9-]{1,36}", 1..6).prop_map(|owners| owners.into_iter().collect())
    }

    proptest! {
        /// However many there are: each partition is one loader's, and one that goes moves nobody else's.
        #[test]
        fn every_partition_is_one_loaders(owners in all_owners(), count in 1..=64u32) {
            for partition in 0..count {
                let of: Vec<&String> = owners.iter().filter(|owner| belongs(partition, owner, &owners)).collect();
                prop_assert_eq!(of.len(), 1);
                let gone = owners.len() - 1;
                let left = &owners[..gone];
                if !left.is_empty() && *of[0] != owners[gone] {
                    prop_assert!(belongs(partition, of[0], left));
                }
            }
        }
    }

    #[test]
    fn partitions_are_shared_about_evenly() {
        let owners = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        for owner in &owners {
            let share = (0..64).filter(|partition| belongs(*partition, owner, &owners)).count();
            assert!((12..=32).contains(&share), "{owner} has {share} of 64");
        }
    }
}
