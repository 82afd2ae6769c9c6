//! Whether a silent peer is still there: pure, as `course.rs` is.

use std::time::Duration;

use tokio::time::Instant;

/// Looks at whether anything was heard, over the time of silence after which a peer is asked.
const LOOKS: u32 = 4;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing until then.
    Wait(Instant),
    /// Ask the peer whether it is there (PING); then ask again.
    Ask,
    /// It is not.
    Gone,
}

/// Asks a peer after `interval` of silence, a quarter of it later at most, and gives it up when nothing is heard for `timeout` then.
#[derive(Debug)]
pub(super) struct Keepalive {
    interval: Duration,
    timeout: Duration,
    /// Bytes that had come by the last look.
    heard: u64,
    look: Instant,
    /// So many looks in a row have found nothing new.
    quiet: u32,
    /// Since it was asked something has to be heard by then.
    gone_at: Option<Instant>,
}

impl Keepalive {
    pub(super) fn begin(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self { interval, timeout, heard: 0, look: now + interval / LOOKS, quiet: 0, gone_at: None }
    }

    /// What to do at `now`, when so many bytes have come altogether.
    pub(super) fn next(&mut self, now: Instant, heard: u64) -> Beat {
        if now < self.look {
            return Beat::Wait(self.look);
        }
        if heard != self.heard {
            (self.heard, self.quiet, self.gone_at) = (heard, 0, None);
        } else if self.gone_at.is_some_and(|gone_at| now >= gone_at) {
            return Beat::Gone;
        } else {
            self.quiet += 1;
        }
        let asks = self.quiet == LOOKS && self.gone_at.is_none();
        if asks {
            self.gone_at = Some(now + self.timeout);
        }
        let look = now + self.interval / LOOKS;
        self.look = self.gone_at.map_or(look, |gone_at| look.min(gone_at));
        if asks { Beat::Ask } else { Beat::Wait(self.look) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(40);
    const TIMEOUT: Duration = Duration::from_secs(25);

    /// Follows a peer of whom so many bytes have come by then, until something is to be done: what, and after how long.
    fn follow(keepalive: &mut Keepalive, from: Instant, heard: impl Fn(Duration) -> u64) -> (Beat, Duration) {
        let mut now = from;
        for _ in 0..1_000 {
            match keepalive.next(now, heard(now - from)) {
                Beat::Wait(until) => {
                    assert!(until > now, "it would be asked again at once");
                    now = until;
                }
                beat => return (beat, now - from),
            }
        }
        (Beat::Wait(now), now - from)
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_asked_and_who_does_not_answer_is_gone() {
        let start = Instant::now();
        let mut keepalive = Keepalive::begin(INTERVAL, TIMEOUT, start);
        let (beat, asked) = follow(&mut keepalive, start, |_| 60);
        assert_eq!(beat, Beat::Ask);
        assert!((INTERVAL..=INTERVAL * 5 / 4).contains(&asked), "{asked:?}");
        let start = start + asked;
        assert_eq!(follow(&mut keepalive, start, |_| 60), (Beat::Gone, TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_is_asked_again_after_as_long() {
        let mut start = Instant::now();
        let mut keepalive = Keepalive::begin(INTERVAL, TIMEOUT, start);
        for answers in 1..100 {
            let (beat, asked) = follow(&mut keepalive, start, |_| 17 * answers);
            assert_eq!(beat, Beat::Ask, "{answers}");
            assert!((INTERVAL..=INTERVAL * 5 / 4).contains(&asked), "{asked:?}");
            start += asked;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_something_in_time_is_never_asked() {
        let start = Instant::now();
        let mut keepalive = Keepalive::begin(INTERVAL, TIMEOUT, start);
        let (beat, _) = follow(&mut keepalive, start, |elapsed| elapsed.as_secs() / 39);
        assert!(matches!(beat, Beat::Wait(_)), "{beat:?}");
    }
}
