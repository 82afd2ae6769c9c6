//! In-memory implementations of every port, for tests and simulations: they keep everything, also what an adapter would long
//! have thrown away, and can be told to fail in every way in which the real things do.
//!
//! - [`MemoryStore`]: [`EventStore`](crate::EventStore), [`HintStore`](crate::HintStore) and [`LeaseStore`](crate::LeaseStore),
//!   with three replicas that learn one after the other, and [`StoreFaults`];
//! - [`MemoryFeed`]: [`ChangeFeed`](crate::ChangeFeed) and [`ChangePublisher`](crate::ChangePublisher), with [`FeedFaults`];
//! - [`MemoryEvents`], an [`EventPublisher`](crate::EventPublisher).
//!
//! Without faults nothing here waits, except a long poll of the feed. Chances are drawn from a seed, and time is tokio's, so
//! that on one thread with paused time a run is the same each time.

mod events;
mod feed;
mod feed_faults;
mod hints;
mod leases;
mod seed;
mod store;
mod store_faults;
mod streams;

pub use events::{EventChances, MemoryEvents};
pub use feed::MemoryFeed;
pub use feed_faults::{FeedChances, FeedFaults};
pub use seed::SplitMix64;
pub use store::MemoryStore;
pub use store_faults::{AppendFault, Operation, StoreChances, StoreFaults};
pub use streams::Backup;

/// Takes a lock whether or not somebody panicked while holding it: a failed test should fail by its own words.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Simulated latency. The only place in which these ports let time pass of themselves.
async fn pause(delay: std::time::Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
