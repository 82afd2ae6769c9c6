//! Snapshots: what a server starts from, when it may serve it, and what makes it read the store instead.

mod guards;
mod ports;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_core::tenant::Event;
use tessera_ports::clock::ManualClock;
use tessera_ports::memory::{MemoryFeed, MemoryStore, Operation};
use tessera_ports::{ChangeFeed, Clock as _, EventStore};
use tessera_proto::v1;
use tessera_server::snapshot::folder::SnapshotFolder as _;
use tessera_server::snapshot::memory::MemoryFolder;
use tessera_server::{Config, Dependencies, Server};
use tokio::time::Instant;
use tonic::Code;

use crate::bench::{Bench, check, fully_consistent, refused, wait_for, without_scan};
use crate::universe::{Universe, latest, start, store, tenant_stream};
use ports::StandingStill;

/// So many failures are an outage.
const FOR_LONG: u32 = 1_000_000;

/// A server that keeps snapshots, and what outlives it.
struct Keeper {
    bench: Bench,
    folder: MemoryFolder,
}

impl Keeper {
    /// Of the usual universe with tenant `acme` on `gold`, and `others` beside; ready.
    async fn usual(others: usize) -> Self {
        let (mut universe, changes) = Universe::usual();
        let (memory, feed) = (MemoryStore::new("first"), MemoryFeed::new("topic", 2));
        for change in &changes {
            store(&memory, change);
        }
        store(&memory, &universe.create("acme", latest("gold")));
        for n in 0..others {
            store(&memory, &universe.create(&format!("other-{n}"), latest("gold")));
        }
        let folder = MemoryFolder::new(Duration::from_millis(10));
        let keeper = Self::begin(without_scan(), universe, memory, feed, Arc::new(ManualClock::new(start())), folder);
        keeper.bench.handle.loaded().await;
        keeper
    }

    fn begin(
        config: Config,
        universe: Universe,
        store: MemoryStore,
        feed: MemoryFeed,
        clock: Arc<ManualClock>,
        folder: MemoryFolder,
    ) -> Self {
        let place = Arc::new(folder.clone());
        let bench = Bench::over_with(config, universe, store, feed, clock, |server| server.with_snapshots(place));
        Self { bench, folder }
    }

    /// Crashes, and starts again on the same store, feed, clock and folder.
    fn crash(self) -> Self {
        self.crash_as(without_scan())
    }

    fn crash_as(self, config: Config) -> Self {
        let Self { bench, folder } = self;
        bench.tasks.crash();
        Self::begin(config, bench.universe, bench.store, bench.feed, bench.clock, folder)
    }

    /// Crashes, and starts again through those ports.
    fn crash_onto(self, store: Arc<dyn EventStore>, feed: Arc<dyn ChangeFeed>) -> Self {
        let Self { bench, folder } = self;
        bench.tasks.crash();
        let (place, config) = (Arc::new(folder.clone()), without_scan());
        let with_snapshots = |server: Server| server.with_snapshots(place);
        let ports = |own| Dependencies { store, feed, ..own };
        let bench = Bench::through(ports, config, bench.universe, bench.store, bench.feed, bench.clock, with_snapshots);
        Self { bench, folder }
    }

    /// Waits for one more snapshot.
    async fn written(&self) {
        let before = self.newest();
        for _ in 0..400 {
            // They are minutes apart.
            pass(Duration::from_secs(1)).await;
            if self.newest() > before {
                return;
            }
        }
        panic!("no snapshot is written");
    }

    fn newest(&self) -> u64 {
        self.folder.generations().unwrap().first().copied().unwrap_or(0)
    }

    /// Nothing can be had of store and feed.
    fn outage(&self) {
        for operation in [Operation::Identity, Operation::Count, Operation::ScanRanges, Operation::Scan, Operation::Read] {
            self.bench.store.faults().fail_next(operation, FOR_LONG);
        }
        self.bench.feed.faults().fail_reads(FOR_LONG);
    }

    fn outage_is_over(&self) {
        for operation in [Operation::Identity, Operation::Count, Operation::ScanRanges, Operation::Scan, Operation::Read] {
            self.bench.store.faults().fail_next(operation, 0);
        }
        self.bench.feed.faults().fail_reads(0);
    }

    /// Nothing of the store can be scanned: whoever becomes ready all the same did not hydrate.
    fn no_scans(&self) {
        self.bench.store.faults().fail_next(Operation::ScanRanges, FOR_LONG);
    }

    async fn reason(&self) -> v1::Reason {
        self.bench.reason("acme", "view").await
    }

    async fn delete(&mut self) {
        let deleted = self.bench.universe.tenant_event("acme", Event::Deleted);
        self.bench.commit(&deleted).await;
    }
}

/// Time for everything that would happen by itself.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_starts_from_its_snapshot_and_catches_up_without_a_scan() {
    let mut keeper = Keeper::usual(20).await;
    keeper.written().await;
    keeper.delete().await;
    let created = keeper.bench.universe.create("late", latest("gold"));
    keeper.bench.commit(&created).await;
    keeper.no_scans();
    let keeper = keeper.crash();
    let begun = Instant::now();
    keeper.bench.handle.loaded().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(!keeper.bench.handle.serves_snapshot());
    assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    keeper.outage_is_over();
    assert_eq!(keeper.bench.handle.digest(), keeper.bench.stored_digest().await);
}

#[tokio::test(start_paused = true)]
async fn with_everything_down_it_serves_what_it_has_and_says_how_old_that_is() {
    let mut keeper = Keeper::usual(20).await;
    keeper.bench.beat().await;
    pass(Duration::from_secs(2)).await;
    keeper.written().await;
    let digest = keeper.bench.handle.digest();
    keeper.delete().await;
    keeper.bench.clock.advance(Duration::from_hours(1));
    keeper.outage();
    let keeper = keeper.crash();
    let begun = Instant::now();
    keeper.bench.handle.loaded().await;
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert!(keeper.bench.handle.serves_snapshot());
    assert_eq!(keeper.bench.handle.digest(), digest);
    let answer = keeper.bench.ask(check("acme", "reports", "view")).await.unwrap();
    assert_eq!((answer.reason(), answer.staleness_ms), (v1::Reason::GrantedByPlan, Some(3_600_000)));
    // Who asks for more than a snapshot can tell is refused.
    let asked = v1::CheckEntitlementRequest { consistency: Some(fully_consistent()), ..check("acme", "reports", "view") };
    assert_eq!(refused(keeper.bench.ask(asked).await), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));

    keeper.outage_is_over();
    keeper.no_scans();
    wait_for("the store to be caught up with", || !keeper.bench.handle.serves_snapshot()).await;
    assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    keeper.bench.beat().await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(keeper.bench.ask(check("acme", "reports", "view")).await.unwrap().staleness_ms, Some(0));
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_as_long_as_it_is_told() {
    for wait in [0, 700, 60_000] {
        let keeper = Keeper::usual(0).await;
        keeper.written().await;
        keeper.outage();
        let keeper = keeper.crash_as(Config { snapshot_wait_ms: wait, ..without_scan() });
        let begun = Instant::now();
        keeper.bench.handle.loaded().await;
        assert_eq!(begun.elapsed().as_millis(), u128::from(wait));
    }
}

#[tokio::test(start_paused = true)]
async fn as_long_as_it_catches_up_it_is_waited_for_and_then_no_longer() {
    let mut keeper = Keeper::usual(0).await;
    keeper.written().await;
    for _ in 0..40 {
        let renewed = keeper.bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
        keeper.bench.commit(&renewed).await;
    }
    let slow = tessera_ports::memory::FeedChances { delay_max: Duration::from_secs(2), ..Default::default() };
    keeper.bench.feed.faults().seed(1, slow);
    let keeper = keeper.crash_as(Config { feed_read_records: 2, ..without_scan() });
    let begun = Instant::now();
    pass(Duration::from_secs(12)).await;
    // The feed stops in the middle.
    let (ready, snapshot) = (keeper.bench.handle.ready(), keeper.bench.handle.serves_snapshot());
    assert!(ready.is_err(), "it has caught up too soon to say anything, or was not waited for (a snapshot: {snapshot})");
    keeper.bench.feed.faults().calm();
    keeper.bench.feed.faults().fail_reads(FOR_LONG);
    keeper.bench.handle.loaded().await;
    assert!(begun.elapsed() <= Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(keeper.bench.handle.serves_snapshot());
    keeper.outage_is_over();
    keeper.bench.settled().await;
    assert!(!keeper.bench.handle.serves_snapshot());
}

/// Heartbeats of other partitions are no progress.
#[tokio::test(start_paused = true)]
async fn a_partition_that_stands_still_is_not_waited_for() {
    let mut keeper = Keeper::usual(0).await;
    keeper.written().await;
    keeper.delete().await;
    let (store, feed) = (keeper.bench.store.clone(), keeper.bench.feed.clone());
    let acmes = feed.partition_of(&tenant_stream("acme"));
    let standing_still = StandingStill::new(feed, acmes);
    let keeper = keeper.crash_onto(Arc::new(store), Arc::new(standing_still.clone()));
    served_while_heartbeats_go_on(&keeper).await;
    assert_eq!(keeper.reason().await, v1::Reason::GrantedByPlan);
    standing_still.goes_on();
    keeper.bench.settled().await;
    assert!(!keeper.bench.handle.serves_snapshot());
}

#[tokio::test(start_paused = true)]
async fn nor_is_a_scan_that_stands_still() {
    let keeper = Keeper::usual(0).await;
    keeper.written().await;
    keeper.bench.feed.faults().new_topic("another");
    keeper.bench.store.faults().fail_next(Operation::Scan, FOR_LONG);
    let keeper = keeper.crash();
    served_while_heartbeats_go_on(&keeper).await;
    keeper.outage_is_over();
    wait_for("the scan to be over", || !keeper.bench.handle.serves_snapshot()).await;
}

/// Waits until it serves its snapshot.
async fn served_while_heartbeats_go_on(keeper: &Keeper) {
    let begun = Instant::now();
    while keeper.bench.handle.ready().is_err() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the snapshot is not served");
        keeper.bench.beat().await;
        pass(Duration::from_millis(500)).await;
    }
    assert!(keeper.bench.handle.serves_snapshot());
}

#[tokio::test(start_paused = true)]
async fn parked_changes_and_states_that_cannot_be_used_outlive_a_restart() {
    let mut keeper = Keeper::usual(3).await;
    let orphan = {
        let mut other = keeper.bench.universe.clone();
        other.publish("silver", &[("reports", &["view"])], &[]);
        other.create("orphan", latest("silver"))
    };
    let mut unreadable = keeper.bench.universe.create("unreadable", latest("gold"));
    unreadable.state = bytes::Bytes::from_static(b"nothing that was ever written");
    for change in [&orphan, &unreadable] {
        keeper.bench.commit(change).await;
    }
    keeper.written().await;
    keeper.outage();
    let mut keeper = keeper.crash();
    keeper.bench.handle.loaded().await;
    let answer = keeper.bench.ask(check("orphan", "reports", "view")).await;
    assert_eq!(refused(answer), (Code::Unavailable, "CATALOG_BEHIND".to_owned()));
    let answer = keeper.bench.ask(check("unreadable", "reports", "view")).await;
    assert_eq!(refused(answer).0, Code::Unavailable);

    // The plan comes by the feed; the tenant came before, and comes by nothing.
    keeper.outage_is_over();
    keeper.no_scans();
    let silver = keeper.bench.universe.publish("silver", &[("reports", &["view"])], &[]);
    keeper.bench.commit(&silver).await;
    pass(Duration::from_secs(30)).await;
    assert_eq!(keeper.bench.reason("orphan", "view").await, v1::Reason::GrantedByPlan);
    let mended = keeper.bench.universe.tenant_event("unreadable", Event::SubscriptionRenewed);
    keeper.bench.commit(&mended).await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(keeper.bench.reason("unreadable", "view").await, v1::Reason::GrantedByPlan);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_is_not_in_the_feed_and_another_topic_make_it_hydrate_again() {
    for fault in 0..3 {
        let mut keeper = Keeper::usual(5).await;
        for _ in 0..6 {
            let renewed = keeper.bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
            keeper.bench.commit(&renewed).await;
        }
        keeper.written().await;
        keeper.delete().await;
        let feed = &keeper.bench.feed;
        match fault {
            // What is behind the position is gone.
            0 => {
                for (partition, records) in (0..).zip(feed.records()) {
                    feed.faults().truncate(partition, u64::try_from(records.len()).unwrap());
                }
            }
            1 => feed.faults().new_topic("another"),
            // The feed was set back: the position lies behind its end.
            _ => keeper.bench.feed = MemoryFeed::new("topic", 2),
        }
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted, "fault {fault}");
        keeper.bench.settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_an_epoch_before_is_refused() {
    for outage in [false, true] {
        let keeper = Keeper::usual(5).await;
        keeper.written().await;
        let backup = keeper.bench.store.back_up(&StreamKind::ALL);
        keeper.bench.store.restore(&backup, "second");
        if outage {
            keeper.outage();
        }
        let mut keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        assert_eq!(keeper.bench.handle.serves_snapshot(), outage);
        keeper.outage_is_over();
        keeper.bench.universe.epoch = 2;
        keeper.delete().await;
        keeper.bench.settled().await;
        assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
        assert_eq!(keeper.bench.handle.digest()["epoch"], 2);
    }
}

/// Another store in the same epoch, with the same tenant at a lesser seq.
fn another_store() -> (Universe, MemoryStore) {
    let (mut universe, changes) = Universe::usual();
    let memory = MemoryStore::new("another");
    for change in &changes {
        store(&memory, change);
    }
    store(&memory, &universe.create("acme", latest("gold")));
    (universe, memory)
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_store_is_refused_and_one_that_is_served_already_is_replaced_whole() {
    for outage in [false, true] {
        let mut keeper = Keeper::usual(5).await;
        keeper.delete().await;
        keeper.bench.settled().await;
        keeper.written().await;
        (keeper.bench.universe, keeper.bench.store) = another_store();
        if outage {
            keeper.outage();
        }
        let keeper = keeper.crash();
        keeper.bench.handle.loaded().await;
        if outage {
            assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
        }
        keeper.outage_is_over();
        keeper.bench.settled().await;
        assert_eq!(keeper.reason().await, v1::Reason::GrantedByPlan);
        assert_eq!(keeper.bench.reason("other-1", "view").await, v1::Reason::TenantUnknown);
        assert!(!keeper.bench.handle.serves_snapshot());
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_leaves_the_one_before_and_two_of_them_the_store() {
    for damaged in 0..=2 {
        let mut keeper = Keeper::usual(5).await;
        keeper.written().await;
        keeper.delete().await;
        keeper.bench.settled().await;
        keeper.written().await;
        let mut files = keeper.folder.files();
        assert_eq!(files.len(), 2);
        for file in files.iter_mut().take(damaged) {
            let half = file.len() / 2;
            file.truncate(half);
        }
        for file in files.into_iter().rev() {
            keeper.folder.put(file);
        }
        keeper.outage();
        let keeper = keeper.crash();
        pass(Duration::from_secs(10)).await;
        let expected = [Some(v1::Reason::TenantDeleted), Some(v1::Reason::GrantedByPlan), None][damaged];
        let answer = keeper.bench.ask(check("acme", "reports", "view")).await.ok().map(|answer| answer.reason());
        assert_eq!(answer, expected, "{damaged} damaged");
        keeper.outage_is_over();
        keeper.bench.handle.loaded().await;
        keeper.bench.settled().await;
        assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_tried_again_and_the_ones_before_stay() {
    let mut keeper = Keeper::usual(5).await;
    keeper.written().await;
    let before = keeper.folder.files();
    keeper.delete().await;
    keeper.folder.fail_writes(1);
    pass(Duration::from_secs(310)).await;
    assert_eq!(keeper.folder.files(), before);
    keeper.written().await;
    assert_eq!(keeper.folder.files().len(), 2);
    keeper.outage();
    let keeper = keeper.crash();
    keeper.bench.handle.loaded().await;
    assert_eq!(keeper.reason().await, v1::Reason::TenantDeleted);
}

#[tokio::test(start_paused = true)]
async fn settings_turn_snapshots_off_and_say_how_often() {
    let keeper = Keeper::usual(0).await;
    keeper.written().await;
    let keeper = keeper.crash_as(Config { snapshot_interval_ms: 30_000, ..without_scan() });
    keeper.bench.handle.loaded().await;
    let before = keeper.newest();
    pass(Duration::from_secs(95)).await;
    assert_eq!(keeper.newest(), before + 3);

    keeper.outage();
    let keeper = keeper.crash_as(Config { snapshots: false, ..without_scan() });
    pass(Duration::from_mins(10)).await;
    assert!(keeper.bench.handle.ready().is_err());
    assert_eq!(keeper.newest(), before + 3);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_wrong_tells_no_age() {
    for (ahead, usable) in [(Duration::from_mins(4), true), (Duration::from_hours(1), false)] {
        let keeper = Keeper::usual(0).await;
        keeper.bench.clock.advance(ahead);
        keeper.written().await;
        keeper.outage();
        let Keeper { bench, folder } = keeper;
        bench.tasks.crash();
        let clock = Arc::new(ManualClock::new(start()));
        assert_eq!(clock.now(), start());
        let keeper = Keeper::begin(without_scan(), bench.universe, bench.store, bench.feed, clock, folder);
        pass(Duration::from_secs(10)).await;
        assert_eq!(keeper.bench.handle.ready().is_ok(), usable, "{ahead:?}");
    }
}
