//! How many watches may be open: over all callers, and of one. Counted under a lock: a watch opens rarely and stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tessera_proto::status::{Failure, RETRY_AFTER};

use crate::Config;
use crate::consistency::Caller;
use crate::limits::Payer;

/// The places for watches of a process.
#[derive(Debug)]
pub(crate) struct Places {
    max: usize,
    per_caller_max: usize,
    taken: Mutex<Taken>,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Of those who have any.
    callers: HashMap<Payer<'static>, usize>,
}

/// A watch may be open while this lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    payer: Payer<'static>,
}

impl Places {
    pub(crate) fn new(config: &Config, gauge: Gauge) -> Self {
        let (max, per_caller_max) = (config.watch_streams_max, config.watch_streams_per_caller_max);
        Self { max, per_caller_max, taken: Mutex::default(), gauge }
    }

    /// Takes a place: `RATE_LIMITED` when the caller has as many as one may have, `OVERLOADED` when all together have.
    pub(crate) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Place, Failure> {
        let payer = Payer::of(caller).into_owned();
        let mut taken = self.taken();
        let of_caller = taken.callers.get(&payer).copied().unwrap_or(0);
        if of_caller >= self.per_caller_max {
            let message = format!("`{of_caller}` watches of this caller are open; allowed are {}", self.per_caller_max);
            return Err(Failure::rate_limited(message, RETRY_AFTER));
        }
        if taken.all >= self.max {
            return Err(Failure::overloaded(format!("`{}` watches are open; allowed are {}", taken.all, self.max)));
        }
        taken.all += 1;
        taken.callers.insert(payer.clone(), of_caller + 1);
        self.gauge.increment(1.0);
        Ok(Place { places: Arc::clone(self), payer })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_caller) = taken.callers.get_mut(&self.payer) {
            *of_caller = of_caller.saturating_sub(1);
            // Callers come and go; those who have none are forgotten.
            if *of_caller == 0 {
                taken.callers.remove(&self.payer);
            }
        }
        self.places.gauge.decrement(1.0);
    }
}
