//! Up to when a matrix is known to be whole: what readers are told of the age of their answers.
//!
//! Of a stream that nothing of is parked, the newest state that has come answers. So once everything has come that was committed
//! before some instant, the matrix is whole up to then, but for parked states: while one waits, an older one answers, and others
//! between the two are not even kept. That stream is known to be whole only up to when the matrix was when the wait began, and so
//! is the matrix.
//!
//! Three waits count for nothing. Where no state answers, no answer is old. What waits for a state that cannot be used will wait
//! until a person acts; the last good state answers as it does of a state that cannot be used itself, which is counted and named.
//! And of a state whose references have all come, whatever it lacks all the same is no lag. If such a wait counted, one broken
//! plan would make every answer look old.

use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::hooks::{self, Guard};

use super::Writer;
use crate::matrix::parking::NO_LAG;

/// From a tenant by its plan to the catalog, which names nothing.
const REFERENCES_DEPTH: usize = 3;

impl Writer {
    /// Up to when the matrix is whole, now that everything has come that was committed before `received`; `None`: nothing is
    /// known. To be asked after [`Self::finish`].
    pub(crate) fn whole_until(&mut self, received: Option<Timestamp>) -> Option<Timestamp> {
        self.newest_until = received.min(self.lag());
        self.newest_until
    }

    /// Up to when everything that answers in the place of a parked state is the newest.
    pub(crate) fn lag(&self) -> Option<Timestamp> {
        if !hooks::holds(Guard::ParkedHoldsHeartbeat) {
            return NO_LAG;
        }
        let lags = self.parking.lags().filter(|(missing, seq, _)| !self.waits_for_the_unusable(missing, *seq));
        lags.map(|(_, _, newest_until)| newest_until).min().unwrap_or(NO_LAG)
    }

    /// Up to when what answers of a stream is the newest, now that a newer state of it is parked.
    pub(super) fn lag_of(&self, stream: &StreamId) -> Option<Timestamp> {
        // If it goes on with a wait that counts, what was told last did not pass the beginning of that.
        if self.applied(stream).is_some() { self.newest_until } else { NO_LAG }
    }

    /// Whether that state of a stream came and cannot be used, or waits for such a one.
    fn waits_for_the_unusable(&self, missing: &StreamId, seq: Seq) -> bool {
        let (mut missing, mut needed) = (missing, seq);
        for _ in 0..REFERENCES_DEPTH {
            if self.bad.get(missing).is_some_and(|(bad, _)| *bad >= needed) {
                return true;
            }
            match self.parking.get(missing) {
                Some(parked) if parked.change.seq >= needed => (missing, needed) = (&parked.missing.0, parked.missing.1),
                _ => return false,
            }
        }
        false
    }
}
