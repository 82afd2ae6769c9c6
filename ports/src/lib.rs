//! What Tessera needs from the outside, as traits, and nothing of how it is provided.
//!
//! Ports carry ids and bytes: what the bytes say is the business of `tessera-proto`. Every trait here but those of [`clock`]
//! has an in-memory implementation with fault hooks ([`memory`]) and a conformance suite (`conformance`, behind the feature of that
//! name) that every adapter runs.
//!
//! - [`event_store`]: streams of events with an atomic conditional append, and the scan of all current states;
//! - [`change_feed`]: the ordered feed of changes by which servers keep up, and its publishing side;
//! - [`event_publisher`]: what happened, told to others than servers;
//! - [`hint_store`]: notes of appends that may still have to be published;
//! - [`lease_store`]: who of several loaders is at work;
//! - [`shard`]: how streams are dealt out to hints, loaders and partitions;
//! - [`clock`]: time and fresh ids;
//! - [`hooks`]: switches by which tests take a guard away or stop a process at a named point.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod change_feed;
pub mod clock;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod event_publisher;
pub mod event_store;
pub mod hint_store;
pub mod hooks;
pub mod lease_store;
pub mod memory;
pub mod shard;

pub use change_feed::{Change, ChangeFeed, ChangePublisher};
pub use clock::{Clock, IdSource};
pub use event_publisher::{EventPublisher, PublicEvent};
pub use event_store::EventStore;
pub use hint_store::HintStore;
pub use lease_store::LeaseStore;
pub use shard::Shard;
