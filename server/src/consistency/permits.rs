//! How many strong reads may be under way: over all callers, and of one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tessera_proto::status::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Permits {
    all: Arc<Semaphore>,
    per_caller_max: usize,
    callers: Mutex<HashMap<Option<IpAddr>, Weak<Semaphore>>>,
}

/// A strong read may be made while this lives.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_caller: OwnedSemaphorePermit,
}

impl Permits {
    pub(super) fn new(at_once_max: usize, per_caller_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once_max)), per_caller_max, callers: Mutex::default() }
    }

    /// Waits for a permit until then at most.
    pub(super) async fn take(&self, caller: Option<IpAddr>, until: Instant) -> Result<Permit, Failure> {
        let of_caller = self.of_caller(caller);
        let both = async {
            // The caller's own first: one caller's queue does not hold permits that others could use.
            let of_caller = of_caller.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Permit { _of_all: of_all, _of_caller: of_caller })
        };
        let permit = tokio::time::timeout_at(until, both).await.ok().flatten();
        permit.ok_or_else(|| Failure::overloaded("too many fully consistent reads are under way; allowed are fewer at a time"))
    }

    fn of_caller(&self, caller: Option<IpAddr>) -> Arc<Semaphore> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = callers.get(&caller).and_then(Weak::upgrade) {
            return known;
        }
        callers.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.per_caller_max));
        callers.insert(caller, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_caller_cannot_take_everything() {
        let permits = Permits::new(3, 2);
        let (one, other) = (Some(IpAddr::from([127, 0, 0, 1])), Some(IpAddr::from([127, 0, 0, 2])));
        let soon = || Instant::now() + Duration::from_millis(10);
        let held = (permits.take(one, soon()).await.unwrap(), permits.take(one, soon()).await.unwrap());
        assert_eq!(permits.take(one, soon()).await.unwrap_err().reason(), "OVERLOADED");
        let last = permits.take(other, soon()).await.unwrap();
        assert!(permits.take(None, soon()).await.is_err());
        drop(held);
        assert!(permits.take(one, soon()).await.is_ok());
        drop(last);
    }
}
