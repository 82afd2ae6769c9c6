//! Which endpoint is asked next: power of two choices on requests in flight among the healthy ones. One that fails is put aside
//! for a jittered time that doubles, then a single request probes it. Pure: time and randomness are arguments.

use std::time::Duration;

use tokio::time::Instant;

use crate::random::jittered;

/// How long an endpoint is put aside at first.
const ASIDE_MIN: Duration = Duration::from_millis(100);
/// How long it is put aside at most: how late a server that came back is noticed.
const ASIDE_MAX: Duration = Duration::from_secs(10);
/// So many attempts in a row without an answer in time put an endpoint aside: one alone may be a slow answer.
const UNANSWERED_MAX: u32 = 3;

/// What became of a request, as far as the endpoint's health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It answered, be it with an error.
    Answered,
    /// It cannot be reached, or said that it does not serve.
    Refused,
    /// It did not answer in time.
    Unanswered,
    /// Nobody waited for the answer.
    Abandoned,
}

/// Who tells of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Witness {
    /// A request, which may be slow on its own.
    Request,
    /// The one request that was to find out.
    Probe,
    /// A stream, from which something must have come: its silence is certain.
    Stream,
}

/// Something changed for an endpoint that its connection should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It was put aside for so long.
    PutAside(Duration),
    /// It answers again.
    Returned,
}

/// All endpoints of a client; there is at least one.
#[derive(Debug)]
pub(crate) struct Selection {
    endpoints: Vec<Health>,
}

#[derive(Debug, Clone, Default)]
struct Health {
    in_flight: usize,
    /// Since the last answer.
    failures: u32,
    unanswered: u32,
    aside_until: Option<Instant>,
    /// Requests on their way to it while it is aside.
    probes: usize,
}

impl Selection {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self { endpoints: vec![Health::default(); endpoints] }
    }

    /// Picks an endpoint and counts a request on it; `avoid` names those not to ask again while there is another, `taken` those
    /// not to ask while another is healthy. The second part says whether the request is a probe of an endpoint that is aside.
    /// Never none: when nothing is healthy, what may be probed the soonest is tried.
    pub(crate) fn pick(&mut self, now: Instant, random: u64, avoid: &[usize], taken: &[usize]) -> (usize, bool) {
        let fresh = |index: &usize| !avoid.contains(index);
        let healthy: Vec<usize> = self.indices(|health| health.aside_until.is_none());
        let due: Vec<usize> = self.indices(|health| health.probes == 0 && health.aside_until.is_some_and(|until| until <= now));
        // One request in two or more goes the long way round; the others do not notice.
        let probe = due.iter().copied().find(fresh);
        let index = probe.unwrap_or_else(|| self.choose(&healthy, random, avoid, taken));
        let Some(health) = self.endpoints.get_mut(index) else { return (index, false) };
        let is_probe = health.aside_until.is_some();
        health.in_flight += 1;
        health.probes += usize::from(is_probe);
        (index, is_probe)
    }

    /// A request that was picked for has ended.
    pub(crate) fn finish(&mut self, index: usize, is_probe: bool, outcome: Outcome, now: Instant, random: u64) -> Option<Change> {
        let health = self.endpoints.get_mut(index)?;
        health.in_flight = health.in_flight.saturating_sub(1);
        health.probes = health.probes.saturating_sub(usize::from(is_probe));
        let witness = if is_probe { Witness::Probe } else { Witness::Request };
        self.learn(index, witness, outcome, now, random)
    }

    /// A stream has ended.
    pub(crate) fn note(&mut self, index: usize, outcome: Outcome, now: Instant, random: u64) -> Option<Change> {
        self.learn(index, Witness::Stream, outcome, now, random)
    }

    fn learn(&mut self, index: usize, witness: Witness, outcome: Outcome, now: Instant, random: u64) -> Option<Change> {
        let is_probe = witness == Witness::Probe;
        let health = self.endpoints.get_mut(index)?;
        match outcome {
            Outcome::Abandoned => None,
            // An answer to something from before says nothing of now: a server that drains answers what it has.
            Outcome::Answered if !is_probe && health.aside_until.is_some() => None,
            Outcome::Answered => {
                health.failures = 0;
                health.unanswered = 0;
                health.aside_until.take().map(|_| Change::Returned)
            }
            Outcome::Unanswered => {
                health.unanswered = health.unanswered.saturating_add(1);
                let enough = witness != Witness::Request || health.unanswered >= UNANSWERED_MAX;
                if enough { health.put_aside(now, random, is_probe) } else { None }
            }
            Outcome::Refused => health.put_aside(now, random, is_probe),
        }
    }

    /// Whether a request that failed on `index` could go to a healthy endpoint instead.
    pub(crate) fn has_other(&self, index: usize) -> bool {
        self.endpoints.iter().enumerate().any(|(other, health)| other != index && health.aside_until.is_none())
    }

    fn indices(&self, wanted: impl Fn(&Health) -> bool) -> Vec<usize> {
        self.endpoints.iter().enumerate().filter(|(_, health)| wanted(health)).map(|(index, _)| index).collect()
    }

    fn choose(&self, healthy: &[usize], random: u64, avoid: &[usize], taken: &[usize]) -> usize {
        let fresh = |index: &usize| !avoid.contains(index);
        let candidates: Vec<usize> = healthy.iter().copied().filter(fresh).collect();
        let apart: Vec<usize> = candidates.iter().copied().filter(|index| !taken.contains(index)).collect();
        if let Some(index) = self.less_loaded(&apart, random).or_else(|| self.less_loaded(&candidates, random)) {
            return index;
        }
        // Nothing healthy and unasked is left: something aside that was not asked, then what was asked, healthy first.
        let soonest = |index: &usize| {
            let health = self.endpoints.get(*index);
            (avoid.contains(index), health.and_then(|health| health.aside_until))
        };
        let aside: Vec<usize> = self.indices(|health| health.aside_until.is_some());
        let best_aside = aside.iter().copied().min_by_key(soonest);
        match best_aside.filter(|index| fresh(index) || healthy.is_empty()) {
            Some(index) => index,
            None => self.less_loaded(healthy, random).unwrap_or(0),
        }
    }

    /// Of two picked at random the one with fewer requests in flight.
    fn less_loaded(&self, candidates: &[usize], random: u64) -> Option<usize> {
        let at = |number: u64| {
            let len = u64::try_from(candidates.len()).unwrap_or(u64::MAX).max(1);
            candidates.get(usize::try_from(number % len).unwrap_or(0)).copied()
        };
        // The second is another one: an offset of 1 to len − 1.
        let others = u64::try_from(candidates.len()).unwrap_or(u64::MAX).saturating_sub(1).max(1);
        let offset = 1 + (random >> 32) % others;
        let first = at(random & 0xffff_ffff)?;
        let second = at((random & 0xffff_ffff) + offset)?;
        let load = |index: usize| self.endpoints.get(index).map_or(usize::MAX, |health| health.in_flight);
        Some(if load(second) < load(first) { second } else { first })
    }
}

impl Health {
    /// Once for all the requests and streams that failed together; a probe that fails prolongs.
    fn put_aside(&mut self, now: Instant, random: u64, is_probe: bool) -> Option<Change> {
        let is_aside = self.aside_until.is_some_and(|until| until > now);
        if is_aside && !is_probe {
            return None;
        }
        let doubled = ASIDE_MIN.saturating_mul(1u32.checked_shl(self.failures.min(16)).unwrap_or(u32::MAX));
        let time = jittered(doubled.min(ASIDE_MAX), random);
        self.failures = self.failures.saturating_add(1);
        self.unanswered = 0;
        self.aside_until = Some(now + time);
        Some(Change::PutAside(time))
    }
}

#[cfg(test)]
mod tests;
