//! How long a consumer may give nothing while there is something: the decision alone.
//!
//! Time is counted between answers of the brokers, so that a consumer is not blamed for brokers that are silent. To be wrong costs
//! a connection; each time in a row that it did not help, the next consumer is given longer, so that slow brokers are not
//! asked to begin again and again, nor those whose log ends in marks that are no records.

use std::collections::BTreeMap;
use std::time::Duration;

use tessera_ports::change_feed::Position;
use tokio::time::Instant;

/// For the first consumer.
const LIMIT: Duration = Duration::from_secs(5);
/// For one after many.
const LIMIT_MAX: Duration = Duration::from_secs(80);

/// With the consumers of one partition.
#[derive(Debug)]
pub(crate) struct Patience {
    /// At which positions nothing comes, and since when the end is known to be beyond each. There may be several readers, who ask
    /// the same consumer in turn.
    since: BTreeMap<Position, Instant>,
    limit: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { since: BTreeMap::new(), limit: LIMIT }
    }
}

impl Patience {
    /// Records came.
    pub(crate) fn renew(&mut self) {
        *self = Self::default();
    }

    /// A consumer was made: its time begins.
    pub(crate) fn begin(&mut self) {
        self.since.clear();
    }

    /// Nothing came from `next` on. `end` is where the partition was found to end, and when; `None` while that is not known.
    /// `Some` when the consumer is to be given up: for how long there has been something.
    pub(crate) fn is_over(&mut self, next: Position, end: Option<(Instant, Position)>) -> Option<Duration> {
        let Some((at, end)) = end else {
            self.since.clear();
            return None;
        };
        if end <= next {
            self.since.remove(&next);
            return None;
        }
        let waited = at.saturating_duration_since(*self.since.entry(next).or_insert(at));
        if waited < self.limit {
            return None;
        }
        self.since.clear();
        self.limit = self.limit.saturating_mul(2).min(LIMIT_MAX);
        Some(waited)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Asked once a second from `begin` on, with something there: when consumers are given up, in seconds.
    fn given_up(patience: &mut Patience, begin: Instant, count: u64) -> Vec<u64> {
        (0..count).filter(|second| patience.is_over(7, Some((begin + seconds(*second), 9))).is_some()).collect()
    }

    #[test]
    fn consumer_is_given_up_and_the_next_has_longer() {
        let (mut patience, begin) = (Patience::default(), Instant::now());
        assert_eq!(given_up(&mut patience, begin, 200), [5, 16, 37, 78, 159]);
        // No longer than this, ever.
        let later = given_up(&mut patience, begin + seconds(200), 300);
        assert!(later.windows(2).all(|pair| pair[1] - pair[0] == 81), "{later:?}");
        patience.renew();
        assert_eq!(given_up(&mut patience, begin + seconds(1_000), 7), [5]);
    }

    #[test]
    fn same_answer_counts_once() {
        let (mut patience, at) = (Patience::default(), Instant::now());
        for _ in 0..1_000 {
            assert_eq!(patience.is_over(7, Some((at, 9))), None);
        }
    }

    #[test]
    fn silence_of_the_brokers_does_not_count() {
        let (mut patience, begin) = (Patience::default(), Instant::now());
        assert_eq!(patience.is_over(7, Some((begin, 9))), None);
        assert_eq!(patience.is_over(7, None), None);
        assert_eq!(given_up(&mut patience, begin + seconds(60), 6), [5]);
    }

    #[test]
    fn another_position_begins_anew() {
        let (mut patience, begin) = (Patience::default(), Instant::now());
        assert_eq!(patience.is_over(6, Some((begin, 9))), None);
        assert_eq!(given_up(&mut patience, begin + seconds(4), 6), [5]);
    }

    #[test]
    fn readers_that_take_turns_do_not_hide_a_consumer_that_gives_none_of_them_anything() {
        let begin = Instant::now();
        for others in [vec![], vec![9], vec![6], vec![9, 8, 6]] {
            let mut patience = Patience::default();
            let mut is_over = |second, next| patience.is_over(next, Some((begin + seconds(second), 9))).is_some();
            let given_up = (0..60).find(|second| is_over(*second, 7) || others.iter().any(|next| is_over(*second, *next)));
            assert_eq!(given_up, Some(5), "beside those at {others:?}");
        }
    }

    proptest! {
        /// Whoever stands at the end is never given up.
        #[test]
        fn nobody_is_given_up_at_the_end(next in 5_u64.., ends in prop::collection::vec((0_u64..100, 0_u64..=5), 1..50)) {
            let (mut patience, begin) = (Patience::default(), Instant::now());
            for (second, behind) in ends {
                prop_assert_eq!(patience.is_over(next, Some((begin + seconds(second), next - behind))), None);
            }
        }
    }
}
