//! What is stored and cannot be read, told to the log once: listings come to it again and again, and go on without it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Of more than that every one is told again.
const TOLD_MAX: usize = 10_000;

static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Tells the log why a stream, which `why` names, cannot be read.
pub(crate) fn tell(why: &dyn std::fmt::Display) {
    let why = why.to_string();
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.contains(&why) {
        return;
    }
    tracing::error!(why, "a stored stream cannot be read");
    if told.len() < TOLD_MAX {
        told.insert(why);
    }
}
