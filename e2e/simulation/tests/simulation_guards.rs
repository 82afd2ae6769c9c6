//! Without a guard some property is violated: for every guard that the simulation can see, it must see its absence. Guards
//! whose absence random runs reach too rarely have directed tests instead; docs/GUARDS.md says which and where.
#![cfg(feature = "test-hooks")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera_ports::hooks::{self, Guard};
use tessera_simulation::{Mode, Violation, simulate};

/// Seeds tried per guard before it counts as unseen; many times what each of them needed when it was listed.
const SEEDS_MAX: u64 = 60;

/// Guards that the simulation sees, and the mode in which nothing hides their absence.
const SEEN: [(Guard, Mode); 33] = [
    (Guard::AppendComparesHead, Mode::Scan),
    (Guard::AppendComparesHash, Mode::Scan),
    (Guard::RequestLookupFirst, Mode::Scan),
    (Guard::RequestLookupAfterConflict, Mode::Scan),
    (Guard::RequestLookupInSameRead, Mode::Scan),
    (Guard::RequestLookupBeforeDecide, Mode::Scan),
    (Guard::RequestDigest, Mode::Scan),
    (Guard::ReplayFoldsToFirstResult, Mode::Scan),
    (Guard::UnknownIsNeverFailed, Mode::Scan),
    (Guard::UnknownIsNeverDone, Mode::Scan),
    (Guard::UnknownSendsSameBytes, Mode::Scan),
    (Guard::RetrySettlesRejection, Mode::Scan),
    (Guard::PublishAfterCommit, Mode::Scan),
    (Guard::HintBeforeAppend, Mode::NoScan),
    (Guard::HintPerAttempt, Mode::NoScan),
    (Guard::HintErasedAfterPublish, Mode::NoScan),
    (Guard::PositionsBeforeScan, Mode::NoScan),
    (Guard::ReadyAtEndsAfterScan, Mode::NoScan),
    (Guard::OutOfRangeRehydrates, Mode::NoScan),
    (Guard::SeqGate, Mode::Scan),
    (Guard::HydrationThroughSeqGate, Mode::Scan),
    (Guard::Parking, Mode::Scan),
    (Guard::ParkingLatestAndScheduled, Mode::Scan),
    (Guard::ParkedNewestWins, Mode::NoScan),
    (Guard::ParkedDoesNotCount, Mode::Scan),
    (Guard::CatalogBeforeRows, Mode::Scan),
    (Guard::RowBeforeCatalog, Mode::Scan),
    (Guard::AtLeastWaits, Mode::Scan),
    (Guard::RevisionNamesAll, Mode::Scan),
    (Guard::FullyConsistentReadsAllHeads, Mode::Scan),
    (Guard::EpochInEverything, Mode::Scan),
    (Guard::NewEpochSwappedWhole, Mode::Scan),
    (Guard::Tombstones, Mode::Scan),
];

/// The first seed that shows what is wrong without the guard.
fn first_violation(guard: Guard, mode: Mode) -> Option<Violation> {
    let _removed = hooks::remove(&[guard]);
    (1..=SEEDS_MAX).find_map(|seed| simulate(seed, mode).err())
}

#[test]
fn every_guard_is_missed() {
    let next = AtomicUsize::new(0);
    let unseen = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((guard, mode)) = SEEN.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match first_violation(*guard, *mode) {
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
