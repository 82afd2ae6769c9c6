//! What is wrong with the store now, as far as calls and a probe that never stops have seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Clocks that are further apart than this are a problem: times to live end at other times than meant.
pub(crate) const CLOCKS_APART_MAX: Duration = Duration::from_secs(30);

/// Fed with the outcome of every call.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// That `state` holds nothing about calls, so that a call that went well takes no lock.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when nothing was answered, and why.
    unreachable: Option<(Instant, String)>,
    clock: Option<String>,
    identity: Option<String>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call was answered, be it with a refusal.
    pub(crate) fn answered(&self) {
        if self.troubled.load(Ordering::Relaxed) {
            self.troubled.store(false, Ordering::Relaxed);
            if let Some((since, _)) = self.state().unreachable.take() {
                tracing::info!(after_s = since.elapsed().as_secs(), "the store answers again");
            }
        }
    }

    /// A call was not answered.
    pub(crate) fn unanswered(&self, why: &str) {
        let mut state = self.state();
        if state.unreachable.is_none() {
            tracing::warn!(error = why, "the store does not answer");
            state.unreachable = Some((Instant::now(), why.to_owned()));
        }
        self.troubled.store(true, Ordering::Relaxed);
    }

    /// What a comparison of the clocks gave: how far the store's is ahead of ours, in seconds.
    pub(crate) fn compared_clocks(&self, ahead_s: i64) {
        let apart = ahead_s.unsigned_abs() > CLOCKS_APART_MAX.as_secs();
        let direction = if ahead_s > 0 { "ahead of" } else { "behind" };
        let seconds = ahead_s.unsigned_abs();
        let problem =
            apart.then(|| format!("the clock of the store is {seconds} s {direction} ours, allowed are 30 s; set the clocks"));
        Self::note(&mut self.state().clock, problem);
    }

    /// What is wrong with who the store says it is.
    pub(crate) fn identified(&self, problem: Option<String>) {
        Self::note(&mut self.state().identity, problem);
    }

    fn note(place: &mut Option<String>, problem: Option<String>) {
        if let (None, Some(problem)) = (&place, &problem) {
            tracing::warn!(problem, "something is wrong with the store");
        }
        *place = problem;
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        let state = self.state();
        let unreachable = state
            .unreachable
            .as_ref()
            .map(|(since, why)| format!("the store has not answered for {} s: {why}", since.elapsed().as_secs()));
        [unreachable, state.clock.clone(), state.identity.clone()].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn problems_come_and_go() {
        let health = Health::default();
        assert_eq!(health.problems(), Vec::<String>::new());
        health.unanswered("no route");
        tokio::time::advance(Duration::from_secs(12)).await;
        health.unanswered("another reason");
        assert_eq!(health.problems(), ["the store has not answered for 12 s: no route"]);
        health.compared_clocks(-31);
        health.answered();
        assert_eq!(health.problems(), ["the clock of the store is 31 s behind ours, allowed are 30 s; set the clocks"]);
        health.compared_clocks(31);
        assert_eq!(health.problems(), ["the clock of the store is 31 s ahead of ours, allowed are 30 s; set the clocks"]);
        health.compared_clocks(30);
        assert_eq!(health.problems(), Vec::<String>::new());
    }
}
