//! What callers were told: the ground on which the properties are checked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tessera_core::revision::Revision;
use tessera_core::stream::{Epoch, Seq, StreamId};

use crate::cluster::Life;

/// A command that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Of which stream.
    pub stream: StreamId,
    /// In which life of the store it was asked for and acknowledged.
    pub life: Life,
    /// At which seq.
    pub seq: Seq,
    /// It changed nothing, so that it need not be in the stream.
    pub unchanged: bool,
}

/// A command that was refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of which stream.
    pub stream: StreamId,
    /// In which life of the store it was asked for and refused.
    pub life: Life,
    /// Why.
    pub reason: String,
}

/// By process, kind of stream and hash of the stream.
type Floors = BTreeMap<(u64, u8, u64), (Epoch, Seq)>;

/// Everything that was told, and the first thing that should not have been.
#[derive(Debug, Default)]
pub struct Journal {
    /// By request id.
    pub acknowledged: RefCell<BTreeMap<String, Acknowledged>>,
    /// By request id.
    pub refused: RefCell<BTreeMap<String, Refused>>,
    /// Request ids of callers whose commands were for tenants that are not theirs.
    pub strange: RefCell<BTreeSet<String>>,
    /// Commands whose outcome nobody ever learned.
    pub unknown: RefCell<u64>,
    /// Answers to checks.
    pub answers: RefCell<u64>,
    /// Per process and stream the newest (epoch, seq) it has answered from.
    floors: RefCell<Floors>,
    violation: RefCell<Option<String>>,
}

impl Journal {
    /// Notes the first violation.
    pub fn violated(&self, text: String) {
        self.violation.borrow_mut().get_or_insert(text);
    }

    /// The first violation.
    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    /// All floors of a process, to compare a later answer with.
    pub fn floors(&self, generation: u64) -> BTreeMap<(u8, u64), (Epoch, Seq)> {
        let floors = self.floors.borrow();
        let of_process = floors.range((generation, 0, 0)..=(generation, u8::MAX, u64::MAX));
        of_process.map(|((_, kind, hash), floor)| ((*kind, *hash), *floor)).collect()
    }

    /// Notes what a process answered from.
    pub fn answered(&self, generation: u64, revision: &Revision) {
        let mut floors = self.floors.borrow_mut();
        for named in &revision.streams {
            let floor = floors.entry((generation, named.kind as u8, named.hash)).or_default();
            *floor = (*floor).max((revision.epoch, named.seq));
        }
        *self.answers.borrow_mut() += 1;
    }
}
