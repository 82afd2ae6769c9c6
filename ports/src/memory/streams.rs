//! What a memory store holds: the truth of every stream, and how much of it each of three replicas has learned.
//!
//! The truth is what a consensus decided; a strong read sees it. A weak read asks some replicas and sees the newest head
//! that any of them has learned. Nothing is ever removed.

use std::collections::BTreeMap;

use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tokio::time::Instant;

use super::seed::SplitMix64;
use crate::event_store::{Append, Appended, Head, RequestRow, StoreIdentity};
use crate::hooks::{self, Guard};

const REPLICAS: usize = 3;
/// How many replicas make a quorum: any two quorums share one.
pub(super) const QUORUM: usize = 2;

#[derive(Debug, Clone, Default)]
pub(super) struct Stream {
    pub(super) head: Head,
    pub(super) cells: Vec<Bytes>,
    pub(super) states: BTreeMap<Seq, Bytes>,
    pub(super) requests: BTreeMap<RequestId, RequestRow>,
    /// When it got there, in this life of the store.
    pub(super) committed: BTreeMap<Seq, Instant>,
    learned: [Seq; REPLICAS],
}

impl Stream {
    fn state(&self) -> Option<&Bytes> {
        self.states.get(&self.head.seq)
    }

    fn learn(&mut self, count: usize, random: Option<&mut SplitMix64>) {
        let head = self.head.seq;
        for replica in choose(count, random) {
            if let Some(learned) = self.learned.get_mut(replica) {
                *learned = head.max(*learned);
            }
        }
    }
}

/// Some replicas, `count` of them; without chance all of them, as if everybody always learned at once.
fn choose(count: usize, random: Option<&mut SplitMix64>) -> Vec<usize> {
    let mut replicas: Vec<usize> = (0..REPLICAS).collect();
    if let Some(random) = random {
        while replicas.len() > count {
            replicas.swap_remove(random.index(replicas.len()));
        }
    }
    replicas
}

/// A copy of some streams, as a backup has it.
#[derive(Debug, Clone, Default)]
pub struct Backup(BTreeMap<StreamId, Stream>);

impl Backup {
    /// Both copies together; where both have a stream, that of `other` counts.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

#[derive(Debug)]
pub(super) struct Streams {
    pub(super) identity: StoreIdentity,
    pub(super) by_id: BTreeMap<StreamId, Stream>,
}

impl Streams {
    pub(super) fn new(epoch: Epoch, store: &str) -> Self {
        Self { identity: StoreIdentity { epoch, store: store.to_owned() }, by_id: BTreeMap::new() }
    }

    /// The conditional write itself. `learners` replicas learn it at once.
    pub(super) fn apply(&mut self, append: &Append, learners: usize, random: Option<&mut SplitMix64>) -> Appended {
        let compares_head = hooks::holds(Guard::AppendComparesHead);
        let compares_hash = compares_head && hooks::holds(Guard::AppendComparesHash);
        let head = self.by_id.get(&append.stream).map_or_else(Head::default, |stream| stream.head);
        let moved = compares_head && head.seq != append.expected.seq;
        let forked = compares_hash && head.hash != append.expected.hash;
        if append.epoch != self.identity.epoch || moved || forked {
            return Appended::Conflict;
        }
        let stream = self.by_id.entry(append.stream.clone()).or_default();
        stream.cells.extend(append.cells.iter().cloned());
        stream.head = Head { seq: stream.cells.len() as Seq, hash: append.head_after().hash };
        stream.states.insert(stream.head.seq, append.state.clone());
        stream.committed.insert(stream.head.seq, Instant::now());
        stream.requests.extend(append.requests.iter().map(|row| (row.id.clone(), row.clone())));
        stream.learn(learners, random);
        Appended::Committed
    }

    /// The truth; whoever asks for it so makes a quorum learn it.
    pub(super) fn strong(&mut self, id: &StreamId, random: Option<&mut SplitMix64>) -> Option<&Stream> {
        let stream = self.by_id.get_mut(id)?;
        stream.learn(QUORUM, random);
        Some(stream)
    }

    /// The newest head that one of `asked` replicas has learned; a quorum that disagrees is repaired on the way.
    pub(super) fn weak(&mut self, id: &StreamId, asked: usize, random: Option<&mut SplitMix64>) -> Option<(Seq, &Stream)> {
        let stream = self.by_id.get_mut(id)?;
        let replicas = choose(asked, random);
        let newest = replicas.iter().filter_map(|replica| stream.learned.get(*replica)).max().copied().unwrap_or(0);
        if asked >= QUORUM {
            for replica in replicas {
                if let Some(learned) = stream.learned.get_mut(replica) {
                    *learned = newest;
                }
            }
        }
        (newest > 0).then_some((newest, &*stream))
    }

    /// Puts other bytes in the place of the current state, which no append does.
    pub(super) fn overwrite_state(&mut self, id: &StreamId, state: Bytes) -> bool {
        let Some(stream) = self.by_id.get_mut(id) else { return false };
        let head = stream.head.seq;
        stream.states.insert(head, state).is_some()
    }

    pub(super) fn back_up(&self, kinds: &[StreamKind]) -> Backup {
        let wanted = self.by_id.iter().filter(|(id, _)| kinds.contains(&id.kind()));
        Backup(wanted.map(|(id, stream)| (id.clone(), stream.clone())).collect())
    }

    /// What the copy holds, under that name, in the place of everything. It is written to every replica.
    pub(super) fn replace(&mut self, backup: &Backup, store: &str) {
        store.clone_into(&mut self.identity.store);
        self.by_id.clone_from(&backup.0);
        for stream in self.by_id.values_mut() {
            stream.learned = [stream.head.seq; REPLICAS];
            stream.committed.clear();
        }
    }

    pub(super) fn current(&self, id: &StreamId) -> Option<(Head, Bytes)> {
        let stream = self.by_id.get(id)?;
        Some((stream.head, stream.state().cloned().unwrap_or_default()))
    }
}
