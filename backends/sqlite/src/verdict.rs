//! What is known of the whole of a database that is used before all of it was checked.
//!
//! Until the verdict is out nobody is given anything unchecked: the end of a single stream is checked when it is read, and whoever
//! scans or writes waits. If damage is found, the database is closed to everybody; the process goes on with what it has.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether the database is as it was written. A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Verdict(Arc<watch::Sender<State>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// With what has kept it from being checked, if anything has.
    Unchecked(Option<Arc<str>>),
    Sound,
    /// Why it is closed.
    Damaged(Arc<str>),
}

impl Verdict {
    pub(crate) fn unchecked() -> Self {
        Self(Arc::new(watch::Sender::new(State::Unchecked(None))))
    }

    pub(crate) fn sound(&self) {
        self.0.send_replace(State::Sound);
    }

    pub(crate) fn damaged(&self, damage: &str) {
        self.0.send_replace(State::Damaged(Arc::from(format!("the database is closed: {damage}"))));
    }

    /// It could not be checked.
    pub(crate) fn unknown(&self, why: &str) {
        self.0.send_replace(State::Unchecked(Some(Arc::from(format!("the database cannot be checked: {why}")))));
    }

    /// What is wrong with it, or with checking it.
    pub(crate) fn problem(&self) -> Option<Arc<str>> {
        match &*self.0.borrow() {
            State::Unchecked(why) => why.clone(),
            State::Sound => None,
            State::Damaged(why) => Some(Arc::clone(why)),
        }
    }

    /// Whether all of it was checked; the error says what was found.
    pub(crate) fn is_out(&self) -> Result<bool, Arc<str>> {
        match &*self.0.borrow() {
            State::Unchecked(_) => Ok(false),
            State::Sound => Ok(true),
            State::Damaged(why) => Err(Arc::clone(why)),
        }
    }

    /// Waits for it, not at all where it is out; the error says what was found.
    pub(crate) async fn wait(&self) -> Result<(), Arc<str>> {
        if self.is_out()? {
            return Ok(());
        }
        // The sender lives as long as `self`.
        drop(self.0.subscribe().wait_for(|state| !matches!(state, State::Unchecked(_))).await);
        self.is_out().map(drop)
    }
}
