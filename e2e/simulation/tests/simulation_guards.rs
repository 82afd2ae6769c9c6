//! Without a guard some property is violated: the simulation must see the absence of every one. `cargo xtask tidy` sees to it that
//! each guard is listed, and that docs/GUARDS.md names the same mode and the same properties. `TESSERA_SIMULATION_GUARD=<name>` tries
//! one of them alone, and `TESSERA_SIMULATION_START=<seed>` begins elsewhere.
#![cfg(feature = "test-hooks")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tessera_ports::hooks::{self, Guard};
use tessera_simulation::{Mode, Violation, simulate};

/// Seeds tried per guard before it counts as unseen; many times what each of them needed when it was listed.
const SEEDS_MAX: u64 = 500;

/// Every guard, the mode in which nothing hides its absence, a seed to begin with, and the letters of the properties of which one
/// is violated then. Anything else that fails has not missed the guard.
const SEEN: &[(Guard, Mode, u64, &str)] = &[
    (Guard::AppendComparesHead, Mode::Scan, 1, "a, a3"),
    (Guard::AppendComparesHash, Mode::SetBacks, 1, "a, a3, e"),
    (Guard::RequestLookupFirst, Mode::Scan, 1, "e"),
    (Guard::RequestLookupAfterConflict, Mode::Scan, 1, "a"),
    (Guard::RequestLookupInSameRead, Mode::NoScan, 64, "a2, e"),
    (Guard::RequestLookupBeforeDecide, Mode::Scan, 1, "e"),
    (Guard::RequestDigest, Mode::Scan, 1, "e"),
    (Guard::ReplayFoldsToFirstResult, Mode::Scan, 1, "e"),
    (Guard::UnknownIsNeverFailed, Mode::Scan, 1, "a2"),
    (Guard::UnknownIsNeverDone, Mode::Scan, 1, "a, p1"),
    (Guard::UnknownSendsSameBytes, Mode::NoScan, 1, "a2"),
    (Guard::RetrySettlesRejection, Mode::NoScan, 400, "a2"),
    (Guard::PublishAfterCommit, Mode::Scan, 1, "p1"),
    (Guard::HintBeforeAppend, Mode::NoScan, 1, "d, o, p2"),
    (Guard::HintPerAttempt, Mode::NoScan, 1, "d, o, p2"),
    (Guard::HintErasedAfterPublish, Mode::NoScan, 1, "d, o, p2"),
    (Guard::EventsBeforeHintErased, Mode::Scan, 1, "o"),
    (Guard::HeartbeatFromBeforeSweep, Mode::Scan, 1, "i, p2"),
    (Guard::HeartbeatOfWhatWasSwept, Mode::Scan, 1, "i, p2"),
    (Guard::SharesFollowLeases, Mode::NoScan, 1, "d, o"),
    (Guard::PositionsBeforeScan, Mode::NoScan, 1, "d, g"),
    (Guard::ReadyAtEndsAfterScan, Mode::NoScan, 1, "g"),
    (Guard::OutOfRangeRehydrates, Mode::NoScan, 1, "d"),
    (Guard::SeqGate, Mode::Scan, 1, "c"),
    (Guard::HydrationThroughSeqGate, Mode::Scan, 1, "c"),
    (Guard::HydrationInOneEpoch, Mode::NoScan, 300, "d, f, g"),
    (Guard::Parking, Mode::Scan, 1, "f"),
    (Guard::ParkingLatestAndScheduled, Mode::Scan, 1, "f"),
    (Guard::ParkedNewestWins, Mode::Overtaking, 20, "c, d, i"),
    (Guard::ParkedDoesNotCount, Mode::Scan, 1, "b"),
    (Guard::ParkedHoldsHeartbeat, Mode::NoScan, 2000, "i"),
    (Guard::HeartbeatOfTheseShards, Mode::NoScan, 47, "i"),
    (Guard::CatalogBeforeRows, Mode::Scan, 1, "f"),
    (Guard::RowBeforeCatalog, Mode::Scan, 1, "f"),
    (Guard::AtLeastWaits, Mode::Scan, 1, "b"),
    (Guard::RevisionNamesAll, Mode::Scan, 1, "b, g"),
    (Guard::FullyConsistentReadsAllHeads, Mode::Scan, 1, "b"),
    (Guard::EpochInEverything, Mode::Scan, 1, "b, d, f"),
    (Guard::NewEpochSwappedWhole, Mode::NoScan, 1, "d, f, g"),
    (Guard::Tombstones, Mode::Scan, 1, "c, g"),
    (Guard::SnapshotPositionsFirst, Mode::NoScan, 1, "d, g"),
    (Guard::SnapshotKeepsParked, Mode::Restarts, 15, "d, g"),
    (Guard::SnapshotTablesLast, Mode::Restarts, 40, "f"),
    (Guard::SnapshotNotWhileHydrating, Mode::NoScan, 300, "d, g"),
    (Guard::SnapshotOfThisStore, Mode::Restarts, 20, "d, f, p1"),
    (Guard::SnapshotOfThisTopic, Mode::NoScan, 1, "g"),
    (Guard::SnapshotTailsFromItsPositions, Mode::NoScan, 1, "d, g"),
    (Guard::SnapshotChecksums, Mode::Restarts, 1, "d, p1"),
    (Guard::SnapshotAgeLimit, Mode::Restarts, 1, "s2"),
    (Guard::SnapshotWrittenBeside, Mode::Restarts, 1, "s1"),
    (Guard::TenantsOfCaller, Mode::Scan, 1, "t"),
];

/// The first seed that shows what is wrong without the guard, and nothing wrong with it.
fn first_violation(guard: Guard, mode: Mode, start: u64, properties: &str) -> Option<Violation> {
    let missed = |violation: &Violation| {
        violation.text.split_once(": ").is_some_and(|(letter, _)| properties.split(", ").any(|property| property == letter))
    };
    (start..start + SEEDS_MAX).find_map(|seed| {
        let removed = hooks::remove(&[guard]);
        let violation = simulate(seed, mode).err().filter(missed)?;
        drop(removed);
        // Or it would be the run that is wrong, and not what is missing in it.
        assert_eq!(simulate(seed, mode).err(), None, "with {guard:?} and every other guard in place");
        Some(violation)
    })
}

#[test]
fn every_guard_is_missed() {
    let only = std::env::var("TESSERA_SIMULATION_GUARD").ok();
    let tried: Vec<_> =
        SEEN.iter().filter(|(guard, ..)| only.as_ref().is_none_or(|only| format!("{guard:?}") == *only)).collect();
    let elsewhere: Option<u64> = std::env::var("TESSERA_SIMULATION_START").ok().and_then(|start| start.parse().ok());
    assert!(!tried.is_empty(), "the simulation sees no guard `{}`", only.unwrap_or_default());
    let next = AtomicUsize::new(0);
    let unseen = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((guard, mode, start, properties)) = tried.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match first_violation(*guard, *mode, elsewhere.unwrap_or(*start), properties) {
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
