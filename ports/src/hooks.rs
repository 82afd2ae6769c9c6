//! Switches for tests: take a named guard away and see the tests fail; stop the process at a named point.
//!
//! Without the cargo feature `test-hooks` every guard holds and every point is passed, at no cost. With it, guards are
//! removed per thread (simulations run on one thread each), and `TESSERA_TEST_FAIL_POINT=name[:n[:stop]]` ends the process by abort when `name` is reached for the n-th
//! time, or makes it stand still there until somebody sends it SIGCONT.

/// The guards of the write side and the read side; docs/GUARDS.md says what goes wrong without each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "docs/GUARDS.md describes each by this name, and a test compares the two lists")]
pub enum Guard {
    AppendComparesHead,
    AppendComparesHash,
    RequestLookupFirst,
    RequestLookupAfterConflict,
    RequestLookupInSameRead,
    RequestLookupBeforeDecide,
    RequestDigest,
    ReplayFoldsToFirstResult,
    UnknownIsNeverFailed,
    UnknownIsNeverDone,
    UnknownSendsSameBytes,
    RetrySettlesRejection,
    PublishAfterCommit,
    HintBeforeAppend,
    HintPerAttempt,
    HintErasedAfterPublish,
    EventsBeforeHintErased,
    HeartbeatFromBeforeSweep,
    HeartbeatOfWhatWasSwept,
    SharesFollowLeases,
    PositionsBeforeScan,
    ReadyAtEndsAfterScan,
    OutOfRangeRehydrates,
    SeqGate,
    HydrationThroughSeqGate,
    HydrationInOneEpoch,
    Parking,
    ParkingLatestAndScheduled,
    ParkedNewestWins,
    ParkedDoesNotCount,
    ParkedHoldsHeartbeat,
    HeartbeatOfTheseShards,
    CatalogBeforeRows,
    RowBeforeCatalog,
    AtLeastWaits,
    RevisionNamesAll,
    FullyConsistentReadsAllHeads,
    EpochInEverything,
    NewEpochSwappedWhole,
    Tombstones,
    SnapshotPositionsFirst,
    SnapshotKeepsParked,
    SnapshotTablesLast,
    SnapshotNotWhileHydrating,
    SnapshotOfThisStore,
    SnapshotOfThisTopic,
    SnapshotTailsFromItsPositions,
    SnapshotChecksums,
    SnapshotAgeLimit,
    SnapshotWrittenBeside,
    TenantsOfCaller,
}

#[cfg(not(feature = "test-hooks"))]
mod switched {
    use super::Guard;

    /// Whether the guard holds: always.
    #[inline]
    pub const fn holds(_guard: Guard) -> bool {
        true
    }

    /// A named point between two durable steps: nothing happens.
    #[inline]
    pub const fn fail_point(_name: &'static str) {}
}

#[cfg(feature = "test-hooks")]
mod switched {
    use std::cell::RefCell;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Guard;

    thread_local! {
        static REMOVED: RefCell<Vec<Guard>> = const { RefCell::new(Vec::new()) };
    }

    struct FailPoint {
        name: String,
        count: u64,
        stands_still: bool,
    }

    static FAIL_POINT: LazyLock<Option<FailPoint>> = LazyLock::new(|| {
        let value = std::env::var("TESSERA_TEST_FAIL_POINT").ok()?;
        let mut parts = value.split(':');
        let name = parts.next()?.to_owned();
        let count = parts.next().and_then(|count| count.parse().ok()).unwrap_or(1);
        Some(FailPoint { name, count, stands_still: parts.next() == Some("stop") })
    });
    static REACHED: AtomicU64 = AtomicU64::new(0);

    /// Whether the guard holds on this thread.
    pub fn holds(guard: Guard) -> bool {
        REMOVED.with_borrow(|removed| !removed.contains(&guard))
    }

    /// A named point between two durable steps: aborts or stops the process when `TESSERA_TEST_FAIL_POINT` says so.
    pub fn fail_point(name: &'static str) {
        let Some(point) = &*FAIL_POINT else { return };
        if point.name != name || REACHED.fetch_add(1, Ordering::Relaxed) + 1 != point.count {
            return;
        }
        if !point.stands_still {
            std::process::abort();
        }
        // All threads stop before the shell has ended, so that this one is between the two steps all the while. Without a shell
        // it goes on, which whoever waits for a process that stands still notices.
        drop(std::process::Command::new("sh").args(["-c", "kill -STOP $PPID"]).status());
    }

    /// Guards stay removed on this thread while this lives.
    #[derive(Debug)]
    pub struct Removed(Vec<Guard>);

    /// Removes guards on this thread.
    pub fn remove(guards: &[Guard]) -> Removed {
        REMOVED.with_borrow_mut(|removed| Removed(std::mem::replace(removed, guards.to_vec())))
    }

    impl Drop for Removed {
        fn drop(&mut self) {
            REMOVED.with_borrow_mut(|removed| *removed = std::mem::take(&mut self.0));
        }
    }
}

pub use switched::*;
