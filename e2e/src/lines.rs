//! What a process prints, kept line by line while it runs, so that a test can wait for a line.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The lines so far. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads `source` to its end on a thread of its own.
    pub fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }));
        let shared = Arc::clone(&lines.0);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(source);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                shared.lock().lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                shared.changed.notify_all();
                line.clear();
            }
            shared.lock().ended = true;
            shared.changed.notify_all();
        });
        lines
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().lines.clone()
    }

    /// Everything, once the source has ended; what there is when it does not end within `patience`.
    pub fn whole(&self, patience: Duration) -> Vec<String> {
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), patience, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.lines.clone()
    }

    /// The first line of which `wanted` makes something; `None` when the source ends or `patience` runs out before.
    pub fn wait_for<T>(&self, patience: Duration, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let find = |state: &State| state.lines.iter().find_map(|line| wanted(line));
        let missing = |state: &mut State| !state.ended && find(state).is_none();
        let woken = self.0.changed.wait_timeout_while(self.0.lock(), patience, missing);
        let (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        find(&state)
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_line_is_found_whether_it_was_said_before_or_comes_later() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let lines = Lines::follow(reader);
        std::io::Write::write_all(&mut writer, b"one\ntwo\n").unwrap();
        let find = |wanted: &'static str| lines.wait_for(SOON, |line| (line == wanted).then_some(()));
        assert!(find("two").is_some() && find("one").is_some());
        drop(writer);
        assert_eq!(lines.whole(SOON), ["one", "two"]);
    }

    #[test]
    fn the_end_of_the_source_ends_the_wait() {
        let lines = Lines::follow(&b"the only line"[..]);
        assert_eq!(lines.wait_for(SOON, |line| (line == "another").then_some(())), None);
        assert_eq!(lines.all(), ["the only line"]);
    }
}
