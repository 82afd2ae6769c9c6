//! How many strong reads may be under way: over all callers, and of one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tessera_proto::status::{Failure, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Caller;
use crate::limits::Payer;

#[derive(Debug)]
pub(super) struct Permits {
    all: Arc<Semaphore>,
    at_once_max: usize,
    per_caller_max: usize,
    callers: Mutex<HashMap<Payer<'static>, Weak<Semaphore>>>,
}

/// A strong read may be made while this lives.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _of_caller: OwnedSemaphorePermit,
}

impl Permits {
    pub(super) fn new(at_once_max: usize, per_caller_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(at_once_max)), at_once_max, per_caller_max, callers: Mutex::default() }
    }

    /// Waits for a permit until then at most: `RATE_LIMITED` when the caller's own reads are in the way, `OVERLOADED` when it
    /// is everybody's.
    pub(super) async fn take(&self, caller: &Caller, until: Instant) -> Result<Permit, Failure> {
        // The caller's own first: one caller's queue does not hold permits that others could use.
        let own = tokio::time::timeout_at(until, self.of_caller(caller).acquire_owned()).await;
        let Ok(Ok(of_caller)) = own else {
            let max = self.per_caller_max;
            let message = format!("`{max}` fully consistent reads of this caller are under way, the most allowed");
            return Err(Failure::rate_limited(message, RETRY_AFTER));
        };
        let shared = tokio::time::timeout_at(until, Arc::clone(&self.all).acquire_owned()).await;
        let Ok(Ok(of_all)) = shared else {
            let max = self.at_once_max;
            return Err(Failure::overloaded(format!("`{max}` fully consistent reads are under way, the most allowed")));
        };
        Ok(Permit { _of_all: of_all, _of_caller: of_caller })
    }

    fn of_caller(&self, caller: &Caller) -> Arc<Semaphore> {
        let payer = Payer::of(caller).into_owned();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = callers.get(&payer).and_then(Weak::upgrade) {
            return known;
        }
        callers.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.per_caller_max));
        callers.insert(payer, Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use tessera_core::access::Scopes;
    use tessera_core::aggregate::Actor;
    use tessera_runtime::identity::{Grant, Principal};

    use super::*;

    fn at(address: [u8; 4]) -> Caller {
        Caller { principal: None, address: Some(IpAddr::from(address)), deadline: None }
    }

    fn named(actor: &str, address: [u8; 4]) -> Caller {
        let actor = Actor::parse("an actor", actor).unwrap();
        Caller { principal: Some(Principal::new(Grant { actor, scopes: Scopes::all(), tenants: None })), ..at(address) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_cannot_take_everything() {
        let permits = Permits::new(3, 2);
        let (one, other) = (at([127, 0, 0, 1]), at([127, 0, 0, 2]));
        let held = (permits.take(&one, soon()).await.unwrap(), permits.take(&one, soon()).await.unwrap());
        let refused = permits.take(&one, soon()).await.unwrap_err();
        assert_eq!(refused.reason(), "RATE_LIMITED");
        assert_eq!(refused.message(), "`2` fully consistent reads of this caller are under way, the most allowed");
        let last = permits.take(&other, soon()).await.unwrap();
        let refused = permits.take(&at([127, 0, 0, 3]), soon()).await.unwrap_err();
        assert_eq!(refused.reason(), "OVERLOADED");
        assert_eq!(refused.message(), "`3` fully consistent reads are under way, the most allowed");
        drop(held);
        assert!(permits.take(&one, soon()).await.is_ok());
        drop(last);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_is_known_is_the_same_at_every_address() {
        let permits = Permits::new(10, 1);
        let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
        let _held = permits.take(&named("token:one", here), soon()).await.unwrap();
        let refused = permits.take(&named("token:one", there), soon()).await.unwrap_err();
        assert_eq!(refused.reason(), "RATE_LIMITED");
        // Behind one gateway there are many.
        assert!(permits.take(&named("token:other", here), soon()).await.is_ok());
    }
}
