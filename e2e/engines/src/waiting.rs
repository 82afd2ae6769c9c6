//! Waiting for conditions of processes, without an async runtime. A condition is looked at until it holds or a deadline passes.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until there is an answer; `None` when there is none within `patience`.
pub(crate) fn until<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + patience;
    loop {
        if let Some(answer) = look() {
            return Some(answer);
        }
        if now() >= deadline {
            return None;
        }
        // Nobody unparks this thread, and an early return would only look again.
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[expect(clippy::disallowed_methods, reason = "processes of others are waited for in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_again_until_there_is_an_answer() {
        let mut looks = 0;
        let answer = until(Duration::from_mins(1), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(answer, Some(3));
    }

    #[test]
    fn gives_up_after_one_look_without_patience() {
        let mut looks = 0;
        let answer: Option<()> = until(Duration::ZERO, || {
            looks += 1;
            None
        });
        assert_eq!((answer, looks), (None, 1));
    }
}
