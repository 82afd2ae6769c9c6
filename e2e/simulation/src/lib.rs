//! A seeded simulation of the whole protocol: the shipped loaders, publishers, servers, matrices and scans, several processes
//! of each in one thread, over the in-memory ports.
//!
//! The seed picks who does what when, which kinds of fault a run has, and every fault. *Failures*: appends whose outcome is
//! unknown (never written, written, written later), failing and slow reads, replicas that lag, changes lost, doubled, reordered
//! and sent again much later by the feed, feed logs cut short and topics made again, partitions added of which loaders learn
//! late, events that nobody takes or whose answer is lost, loaders and servers that crash and start again, loaders that stand
//! still and go on later, servers that are cut off or slow, a restore from a backup into the next epoch; snapshots that are torn, lost,
//! altered, too old, or of another store of the same epoch; a store that is set back beneath running loaders. *Not failures*: the
//! disk of the store, its promise that a quorum sees what a quorum has learned, and the clock. *Not under the seed's control*:
//! which of several tasks that are ready at the same instant tokio polls first is not chosen. The same seed gives the same
//! choices, but not always the same run.
//!
//! - `cluster`: processes that can crash; `line`: what lies between one of them and everything else;
//! - `command`: what is asked for; `client`: callers, and what they were told;
//! - `strangers`: callers that are bound to tenants and ask for others;
//! - `faults`: what goes wrong beside them; `overtaking`, `restarts` and `set_backs`: what is rare there, in runs where it is frequent;
//! - `checks`, `rejections`, `promises` and `told`: the properties; `run`: one seed.
//!
//! The properties, named as in docs/GUARDS.md: (a) every acknowledged command is in its stream exactly once; (a2) what was answered
//! "rejected" never shows up later; (a3) the state is the fold of the events and the chain is whole; (b) no answer is older than
//! the revision demanded; (c) per process, answers of one tenant never go back; (d) when faults stop, all matrices equal the store;
//! (e) a replay returns the first result, at any loader; (f) no answer mixes a row with tables older than the row needs; (g) ready
//! means that everything is in that was published before the ends to reach were noted, and whoever answers from a life of the store
//! has all that this life began with; (h) a rejection was true at some moment during the call; (i) an answer is not older than it
//! says; (s1) whoever has written a snapshot starts without its store, however it ended; (s2) nobody answers from a snapshot that is
//! older than allowed; (t) to a caller that is bound to tenants the others do not exist; (p1) an answer is what the reference
//! evaluator says of what the store holds at the revision that the answer names; (p2) a heartbeat keeps its promise; (o) others
//! are told of every event.
#![cfg(feature = "test-hooks")]
#![expect(clippy::missing_panics_doc, reason = "a simulation that panics has found something")]

pub mod checks;
pub mod client;
pub mod cluster;
pub mod command;
pub mod faults;
pub mod journal;
pub mod line;
pub mod overtaking;
pub mod promises;
pub mod rejections;
pub mod restarts;
pub mod run;
pub mod set_backs;
pub mod strangers;
pub mod told;

pub use run::{Mode, Violation, simulate, simulate_with};
