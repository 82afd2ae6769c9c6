//! Without a guard some property is violated: the simulation must see the absence of every one. `cargo xtask tidy` sees to it that
//! each guard is listed, and that docs/GUARDS.md names the same mode. `TESSERA_SIMULATION_GUARD=<name>` tries one of them alone.
#![cfg(feature = "test-hooks")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera_ports::hooks::{self, Guard};
use tessera_simulation::{Mode, Violation, simulate};

/// Seeds tried per guard before it counts as unseen; many times what each of them needed when it was listed.
const SEEDS_MAX: u64 = 500;

/// Every guard, the mode in which nothing hides its absence, and a seed to begin with.
const SEEN: &[(Guard, Mode, u64)] = &[
    (Guard::AppendComparesHead, Mode::Scan, 1),
    (Guard::AppendComparesHash, Mode::SetBacks, 1),
    (Guard::RequestLookupFirst, Mode::Scan, 1),
    (Guard::RequestLookupAfterConflict, Mode::Scan, 1),
    (Guard::RequestLookupInSameRead, Mode::NoScan, 64),
    (Guard::RequestLookupBeforeDecide, Mode::Scan, 1),
    (Guard::RequestDigest, Mode::Scan, 1),
    (Guard::ReplayFoldsToFirstResult, Mode::Scan, 1),
    (Guard::UnknownIsNeverFailed, Mode::Scan, 1),
    (Guard::UnknownIsNeverDone, Mode::Scan, 1),
    (Guard::UnknownSendsSameBytes, Mode::NoScan, 1),
    (Guard::RetrySettlesRejection, Mode::NoScan, 1),
    (Guard::PublishAfterCommit, Mode::Scan, 1),
    (Guard::HintBeforeAppend, Mode::NoScan, 1),
    (Guard::HintPerAttempt, Mode::NoScan, 1),
    (Guard::HintErasedAfterPublish, Mode::NoScan, 1),
    (Guard::EventsBeforeHintErased, Mode::Scan, 1),
    (Guard::HeartbeatFromBeforeSweep, Mode::Scan, 1),
    (Guard::HeartbeatOfWhatWasSwept, Mode::Scan, 1),
    (Guard::SharesFollowLeases, Mode::NoScan, 1),
    (Guard::PositionsBeforeScan, Mode::NoScan, 1),
    (Guard::ReadyAtEndsAfterScan, Mode::NoScan, 1),
    (Guard::OutOfRangeRehydrates, Mode::NoScan, 1),
    (Guard::SeqGate, Mode::Scan, 1),
    (Guard::HydrationThroughSeqGate, Mode::Scan, 1),
    (Guard::HydrationInOneEpoch, Mode::NoScan, 1),
    (Guard::Parking, Mode::Scan, 1),
    (Guard::ParkingLatestAndScheduled, Mode::Scan, 1),
    (Guard::ParkedNewestWins, Mode::Overtaking, 20),
    (Guard::ParkedDoesNotCount, Mode::Scan, 1),
    (Guard::ParkedHoldsHeartbeat, Mode::NoScan, 914),
    (Guard::HeartbeatOfTheseShards, Mode::NoScan, 47),
    (Guard::CatalogBeforeRows, Mode::Scan, 1),
    (Guard::RowBeforeCatalog, Mode::Scan, 1),
    (Guard::AtLeastWaits, Mode::Scan, 1),
    (Guard::RevisionNamesAll, Mode::Scan, 1),
    (Guard::FullyConsistentReadsAllHeads, Mode::Scan, 1),
    (Guard::EpochInEverything, Mode::Scan, 1),
    (Guard::NewEpochSwappedWhole, Mode::NoScan, 1),
    (Guard::Tombstones, Mode::Scan, 1),
    (Guard::SnapshotPositionsFirst, Mode::NoScan, 1),
    (Guard::SnapshotKeepsParked, Mode::Restarts, 15),
    (Guard::SnapshotTablesLast, Mode::Restarts, 40),
    (Guard::SnapshotNotWhileHydrating, Mode::NoScan, 60),
    (Guard::SnapshotOfThisStore, Mode::Restarts, 20),
    (Guard::SnapshotOfThisTopic, Mode::NoScan, 1),
    (Guard::SnapshotTailsFromItsPositions, Mode::NoScan, 1),
    (Guard::SnapshotChecksums, Mode::Restarts, 1),
    (Guard::SnapshotAgeLimit, Mode::Restarts, 1),
    (Guard::SnapshotWrittenBeside, Mode::Restarts, 1),
    (Guard::TenantsOfCaller, Mode::Scan, 1),
];

/// The first seed that shows what is wrong without the guard.
fn first_violation(guard: Guard, mode: Mode, start: u64) -> Option<Violation> {
    let _removed = hooks::remove(&[guard]);
    (start..start + SEEDS_MAX).find_map(|seed| simulate(seed, mode).err())
}

#[test]
fn every_guard_is_missed() {
    let only = std::env::var("TESSERA_SIMULATION_GUARD").ok();
    let tried: Vec<_> =
        SEEN.iter().filter(|(guard, ..)| only.as_ref().is_none_or(|only| format!("{guard:?}") == *only)).collect();
    assert!(!tried.is_empty(), "the simulation sees no guard `{}`", only.unwrap_or_default());
    let next = AtomicUsize::new(0);
    let unseen = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((guard, mode, start)) = tried.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match first_violation(*guard, *mode, *start) {
                        Some(violation) => println!("without {guard:?}: {violation:.200}"),
                        None => unseen.lock().expect("no panic").push(*guard),
                    }
                }
            });
        }
    });
    let unseen = unseen.into_inner().expect("no panic");
    assert!(unseen.is_empty(), "the simulation does not see the absence of {unseen:?}");
}
