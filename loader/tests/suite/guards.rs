//! Each guard of the write side, removed: the wrong run happens. What the guards protect is tested beside the rules they are
//! part of; here is that nothing else does.

use std::time::Duration;

use tessera_loader::refusal::Refusal;
use tessera_ports::change_feed::FeedMessage;
use tessera_ports::event_store::AppendError;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::memory::{AppendFault, StoreChances};

use crate::bench::{Bench, create, furnish, new_year, reason, rename, stream, title};
use crate::events::{announcer, told};
use crate::idempotency::late_then_refused;
use crate::outcomes::unknown_then_archived;
use crate::publishing::{beat, every_shard, hints, published, pulse, sweeper, sweeper_telling};

#[tokio::test(start_paused = true)]
async fn without_the_same_bytes_a_rejected_command_is_stored_later() {
    let bench = Bench::new();
    let _removed = hooks::remove(&[Guard::UnknownSendsSameBytes]);
    assert_eq!(reason(unknown_then_archived(&bench).await), "PLAN_ARCHIVED");
    assert_eq!(bench.store.inner.faults().release_late(), 1, "what was answered rejected is now stored");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_neither_failed_nor_done_unread() {
    for (guard, fault) in [
        (Guard::UnknownIsNeverFailed, AppendFault::UnknownAppliedLater),
        (Guard::UnknownIsNeverDone, AppendFault::UnknownNotApplied),
    ] {
        let bench = Bench::new();
        let loader = bench.furnished().await;
        let _removed = hooks::remove(&[guard]);
        bench.store.inner.faults().next_append(fault);
        let result = loader.tenants().handle(create("acme", "r1")).await;
        let stored = bench.store.inner.faults().release_late();
        // Either it was answered as failed and is stored, or answered as done and is not.
        assert_eq!(result.is_ok(), stored == 0, "{guard:?} is not a guard");
        let attempts = bench.store.attempts.lock().unwrap();
        assert!(matches!(attempts.as_slice(), [(.., Err(AppendError::Unknown(_)))]));
    }
}

/// The same creation at two loaders at the same time, with answers lost: how often it was refused although it is stored.
async fn refused_at_two_loaders(guards: &[Guard]) -> usize {
    let mut refused = 0;
    for seed in 0..40 {
        let bench = Bench::new();
        let (one, other) = (bench.furnished().await, bench.loader().handle());
        let _removed = hooks::remove(guards);
        let chances =
            tessera_ports::memory::StoreChances { delay_max: Duration::from_millis(20), answer_lost: 300, ..Default::default() };
        bench.store.inner.faults().seed(seed, chances);
        let first = one.tenants().handle(create("acme", "r1"));
        // Sooner or later, so that some seed lets the first commit between any two steps of the second.
        let second = async {
            tokio::time::sleep(Duration::from_millis(seed * 4)).await;
            other.tenants().handle(create("acme", "r1")).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(bench.stored("acme").1, 1, "seed {seed}");
        refused += [first, second].iter().filter(|result| matches!(result, Err(Refusal::Rejected(_)))).count();
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_lookup_after_every_conflict_and_in_the_same_read_keeps_what_is_stored_from_being_refused() {
    assert_eq!(refused_at_two_loaders(&[]).await, 0);
    for guard in [Guard::RequestLookupAfterConflict, Guard::RequestLookupInSameRead] {
        assert!(refused_at_two_loaders(&[guard]).await > 0, "{guard:?} is not a guard");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_appended_rejection_a_rejected_command_is_stored_later() {
    let bench = Bench::new();
    let _removed = hooks::remove(&[Guard::RetrySettlesRejection]);
    assert_eq!(reason(late_then_refused(&bench).await), "PLAN_ARCHIVED");
    assert_eq!(bench.store.inner.faults().release_late(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_lookup_or_a_digest_a_command_is_applied_twice_or_for_another() {
    for guard in
        [Guard::RequestLookupFirst, Guard::RequestDigest, Guard::ReplayFoldsToFirstResult, Guard::RequestLookupBeforeDecide]
    {
        let bench = Bench::new();
        let loader = bench.furnished().await;
        loader.tenants().handle(create("acme", "r1")).await.unwrap();
        loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap();
        loader.tenants().handle(rename("acme", "second", "r3")).await.unwrap();
        let _removed = hooks::remove(&[guard]);
        match guard {
            Guard::RequestLookupBeforeDecide => {
                assert_eq!(reason(loader.tenants().handle(create("acme", "r1")).await), "TENANT_EXISTS");
            }
            Guard::RequestDigest => assert!(loader.tenants().handle(rename("acme", "other", "r2")).await.is_ok()),
            Guard::ReplayFoldsToFirstResult => {
                let replayed = loader.tenants().handle(rename("acme", "first", "r2")).await.unwrap();
                assert_eq!(title(&replayed), "second");
            }
            _ => assert_eq!(reason(loader.tenants().handle(create("acme", "r1")).await), "TENANT_EXISTS"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_hints_or_with_hints_erased_a_change_is_never_published() {
    for guard in [Guard::HintBeforeAppend, Guard::HintErasedAfterPublish] {
        let bench = Bench::new();
        let loader = bench.loader().handle();
        furnish(&loader).await;
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        let _removed = hooks::remove(&[guard]);
        let mut asked = create("acme", "r1");
        asked.caller.deadline = tokio::time::Instant::now() + Duration::from_millis(100);
        for _ in 0..100 {
            bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
        }
        assert!(loader.tenants().handle(asked).await.is_err());
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        assert_eq!(bench.store.inner.faults().release_late(), 1);
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        assert_eq!(published(&bench, &stream("acme")), 0, "{guard:?} is not a guard");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_is_erased_before_its_events_are_told_leaves_them_untold() {
    for (guards, seqs) in [(&[][..], vec![1]), (&[Guard::EventsBeforeHintErased][..], Vec::new())] {
        let (bench, events) = Bench::telling();
        let loader = bench.loader().handle();
        furnish(&loader).await;
        loader.tenants().handle(create("acme", "r1")).await.unwrap();
        let _removed = hooks::remove(guards);
        // A loader that dies once the change is published, and before it tells anybody.
        let (announcements, dies) = announcer(&bench, &events);
        sweeper_telling(&bench, 100, Some(announcements)).pass(1, &every_shard(), new_year()).await.unwrap();
        assert_eq!((published(&bench, &stream("acme")), told(&events, &stream("acme"))), (1, Vec::new()));
        drop(dies);
        let (announcements, lives) = announcer(&bench, &events);
        sweeper_telling(&bench, 100, Some(announcements)).pass(1, &every_shard(), new_year()).await.unwrap();
        lives.round().await.unwrap();
        assert_eq!((told(&events, &stream("acme")), hints(&bench).await), (seqs, Vec::new()), "removed {guards:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_hint() {
    for (guards, seq) in [(&[][..], 2), (&[Guard::HintPerAttempt][..], 1)] {
        let bench = Bench::new();
        let loader = bench.loader().handle();
        furnish(&loader).await;
        loader.tenants().handle(create("acme", "r1")).await.unwrap();
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        let _removed = hooks::remove(guards);
        for _ in 0..1_000 {
            bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
        }
        let mut asked = rename("acme", "late", "r2");
        asked.caller.deadline = tokio::time::Instant::now() + Duration::from_millis(100);
        assert!(loader.tenants().handle(asked).await.is_err());
        // A hint that does not name the attempt's head is taken for done before the attempt arrives.
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        bench.store.inner.faults().release_late();
        sweeper(&bench, 100).pass(1, &every_shard(), new_year()).await.unwrap();
        assert_eq!(published(&bench, &stream("acme")), seq, "removed {guards:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn publishing_before_the_commit_shows_what_never_was() {
    for (guards, seq) in [(&[][..], 0), (&[Guard::PublishAfterCommit][..], 1)] {
        let bench = Bench::new();
        let loader = bench.furnished().await;
        let _removed = hooks::remove(guards);
        bench.store.inner.faults().disk_full(true);
        assert!(loader.tenants().handle(create("acme", "r1")).await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(published(&bench, &stream("acme")), seq, "removed {guards:?}");
    }
}

/// How often a heartbeat names a time after a commit that nobody has published: one that came between the steps of the sweep.
async fn broken_promises(guards: &[Guard]) -> usize {
    let mut broken = 0;
    for seed in 0..40 {
        let bench = Bench::new();
        let loader = bench.loader().handle();
        furnish(&loader).await;
        let mut pulse = pulse(&bench, "one");
        beat(&bench, &mut pulse).await;
        // Something to follow, which takes its time.
        loader.tenants().handle(create("globex", "r0")).await.unwrap();
        let before = bench.feed.records().into_iter().flatten().count();
        let _removed = hooks::remove(guards);
        bench.store.inner.faults().seed(seed, StoreChances { delay_max: Duration::from_millis(20), ..StoreChances::default() });
        let commit = async {
            loader.tenants().handle(create("acme", "r1")).await.unwrap();
            bench.clock.advance(Duration::from_secs(1));
        };
        // Sooner or later, so that some seed lets the commit come between any two steps of the sweep.
        let sweep = async {
            tokio::time::sleep(Duration::from_millis(seed * 2)).await;
            beat(&bench, &mut pulse).await
        };
        tokio::join!(commit, sweep);
        let said_since = bench.feed.records().into_iter().flatten().count() - before;
        assert!(said_since > 0, "seed {seed}");
        let named = bench.feed.records().into_iter().flatten().filter_map(|record| match record {
            FeedMessage::Heartbeat(heartbeat) => Some(heartbeat.at),
            _ => None,
        });
        broken += usize::from(named.max() > Some(new_year()) && published(&bench, &stream("acme")) == 0);
    }
    broken
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_of_after_the_sweep_promises_what_was_never_looked_at() {
    assert_eq!(broken_promises(&[]).await, 0);
    assert!(broken_promises(&[Guard::HeartbeatFromBeforeSweep]).await > 0, "it is not a guard");
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_to_a_partition_that_nobody_swept_promises_what_is_not_published() {
    for (guards, beaten) in [(&[][..], [false, true]), (&[Guard::HeartbeatOfWhatWasSwept][..], [true, true])] {
        let bench = Bench::new();
        let (mut one, mut two) = (pulse(&bench, "one"), pulse(&bench, "two"));
        beat(&bench, &mut one).await;
        // The catalog and three other streams: some of both partitions, and nothing of them is published.
        furnish(&bench.loader().handle()).await;
        let _removed = hooks::remove(guards);
        assert_eq!(beat(&bench, &mut two).await, beaten, "removed {guards:?}");
        let swept = bench
            .feed
            .records()
            .iter()
            .map(|records| records.iter().any(|r| matches!(r, FeedMessage::Change(_))))
            .collect::<Vec<_>>();
        assert_eq!(swept, [false, true]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_does_not_follow_the_leases_leaves_to_a_dead_one_what_is_its_own() {
    for (guards, beaten) in [(&[][..], [true, true]), (&[Guard::SharesFollowLeases][..], [true, false])] {
        let bench = Bench::new();
        let _removed = hooks::remove(guards);
        let (mut one, mut two) = (pulse(&bench, "one"), pulse(&bench, "two"));
        beat(&bench, &mut two).await;
        assert_eq!(beat(&bench, &mut one).await, [true, false], "the other partition is the other loader's");
        // Which is heard of no more.
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(beat(&bench, &mut one).await, beaten, "removed {guards:?}");
    }
}
