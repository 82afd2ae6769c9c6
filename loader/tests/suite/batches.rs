//! Commands of many streams that are handed in together: each has what it would have had alone.

use std::time::Duration;

use futures::future::join_all;
use tessera_loader::handler::Done;
use tessera_loader::refusal::Refusal;
use tessera_ports::memory::{AppendFault, StoreChances};
use tokio::time::Instant;

use crate::bench::{Bench, again, archive, create, reason, rename, stream, title, wait_for};

fn name(number: usize) -> String {
    format!("tenant-{number}")
}

#[tokio::test(start_paused = true)]
async fn each_is_answered_in_its_place() {
    for bench in [Bench::new(), Bench::feeding()] {
        let loader = bench.furnished().await;
        let asked = (0..200).map(|n| create(&name(n), &format!("r{n}"))).collect();
        for (n, done) in loader.tenants().handle_many(asked).await.into_iter().enumerate() {
            let done = done.unwrap();
            assert_eq!((done.seq, done.replay, done.changed), (1, false, true));
            assert_eq!(bench.stored(&name(n)), ((*done.state).clone(), 1));
            let references = &done.state.0.as_ref().unwrap().references;
            assert_eq!((references.catalog, references.plans.values().copied().collect::<Vec<_>>()), (2, vec![2]));
        }
        assert!(bench.store.appends().iter().all(|append| append.requests.len() == 1), "an append has one stream");
    }
}

#[tokio::test(start_paused = true)]
async fn those_for_one_stream_wait_for_each_other() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    let asked = vec![
        create("acme", "r1"),
        create("other", "r2"),
        rename("acme", "second", "r3"),
        create("acme", "r4"),
        create("acme", "r1"),
    ];
    let [first, other, second, refused, replayed] = loader.tenants().handle_many(asked).await.try_into().unwrap();
    assert_eq!((first.unwrap().seq, other.unwrap().seq), (1, 1));
    let second = second.unwrap();
    assert_eq!((second.seq, title(&second)), (2, "second"));
    assert_eq!(reason(refused), "TENANT_EXISTS");
    assert_eq!((replayed.as_ref().unwrap().seq, replayed.unwrap().replay), (1, true));
    assert_eq!((bench.stored("acme").1, bench.stored("other").1), (2, 1));
    assert_eq!(loader.tenants().handle(rename("acme", "third", "r5")).await.unwrap().seq, 3, "its queue goes on");
}

#[tokio::test(start_paused = true)]
async fn replays_rejections_and_damage_are_each_ones_own() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("known", "r1")).await.unwrap();
    loader.tenants().handle(rename("known", "later", "r2")).await.unwrap();
    loader.offers().handle(archive("silver")).await.unwrap();
    bench.store.inner.faults().damage(stream("damaged"));
    let mut reused = rename("known", "another", "r2");
    reused.digest = create("known", "r1").digest;
    let asked = vec![create("known", "r1"), create("damaged", "r3"), create("new", "r4")];
    let [replayed, damaged, new] = loader.tenants().handle_many(asked).await.try_into().unwrap();
    let replayed: Done<_> = replayed.unwrap();
    assert_eq!((replayed.seq, replayed.replay, title(&replayed)), (1, true, ""), "the state at its own seq");
    assert!(matches!(damaged, Err(Refusal::StoreDamaged(_))), "{damaged:?}");
    assert!(new.unwrap().changed);
    let outcomes = loader.tenants().handle_many(vec![reused]).await;
    assert!(matches!(&*outcomes, [Err(Refusal::RequestIdReused(_))]), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_resolved_for_that_stream_alone() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.inner.faults().next_append(AppendFault::UnknownAppliedLater);
    let tenants = loader.tenants().clone();
    let asked = (0..3).map(|n| create(&name(n), &format!("r{n}"))).collect();
    let done = bench.tasks.run("test", async move { tenants.handle_many(asked).await });
    wait_for("the first attempts", || bench.store.appends().len() >= 3).await;
    let unknown = bench.store.appends()[0].stream.clone();
    for done in done.await.unwrap() {
        assert_eq!(done.map(|done| (done.seq, done.replay)).unwrap(), (1, false));
    }
    let sent: Vec<_> = bench.store.appends();
    assert_eq!(sent.len(), 4, "one of them again");
    assert_eq!((&sent[3].stream, &sent[3]), (&unknown, &sent[0]), "the same bytes");
    assert_eq!(bench.store.inner.faults().release_late(), 0, "overtaken by its equal");
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_read_holds_up_no_other_stream() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.unreadable.lock().unwrap().insert(stream("tenant-1"));
    let tenants = loader.tenants().clone();
    let asked = (0..3).map(|n| create(&name(n), &format!("r{n}"))).collect();
    let done = bench.tasks.run("test", async move { tenants.handle_many(asked).await });
    wait_for("the others", || bench.stored("tenant-0").1 == 1 && bench.stored("tenant-2").1 == 1).await;
    assert!(loader.tenants().handle(rename("tenant-2", "free", "r3")).await.unwrap().changed, "its stream is free");
    bench.store.unreadable.lock().unwrap().clear();
    assert!(done.await.unwrap().into_iter().all(|done| done.unwrap().changed));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_before_the_deadline_what_is_known() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    bench.store.unreadable.lock().unwrap().insert(stream("tenant-0"));
    for _ in 0..10_000 {
        bench.store.inner.faults().next_append(AppendFault::UnknownNotApplied);
    }
    let asked: Vec<_> = (0..2).map(|n| create(&name(n), &format!("r{n}"))).collect();
    let deadline = asked[0].caller.deadline;
    let [unread, unknown] = loader.tenants().handle_many(asked).await.try_into().unwrap();
    assert!(Instant::now() < deadline);
    assert!(matches!(unread, Err(Refusal::StoreUnavailable(_))), "{unread:?}");
    assert!(matches!(unknown, Err(Refusal::OutcomeUnknown(_))), "{unknown:?}");
    bench.store.inner.faults().calm();
    bench.store.unreadable.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(bench.store.attempts.lock().unwrap().iter().all(|(_, begun, _)| *begun < deadline));
    assert_eq!(bench.stored("tenant-0").1, 0);
    let retried = loader.tenants().handle_many(vec![again(create("tenant-1", "r1"))]).await;
    assert!(retried[0].as_ref().unwrap().changed, "its stream is free");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_may_be() {
    let mut bench = Bench::new();
    bench.config.commands_max = 4;
    bench.config.import_concurrency = 2;
    let loader = bench.furnished().await;
    for round in 0..3 {
        let asked = (0..6).map(|n| create(&format!("tenant-{round}-{n}"), &format!("r{round}-{n}"))).collect();
        let done = loader.tenants().handle_many(asked).await;
        let taken: Vec<bool> = done.iter().map(Result::is_ok).collect();
        assert_eq!(taken, [true, true, true, true, false, false], "round {round}: {done:?}");
        assert!(matches!(done[5], Err(Refusal::Overloaded(_))));
    }
}

/// Two loaders get the same commands in batches that overlap, over a store that does everything wrong it may.
#[tokio::test(start_paused = true)]
async fn a_stormy_store_does_each_command_once() {
    for (seed, feeding) in (0..40).flat_map(|seed| [(seed, false), (seed, true)]) {
        let bench = if feeding { Bench::feeding() } else { Bench::new() };
        let loaders = [bench.furnished().await, bench.loader().handle()];
        let chances = StoreChances { late_max: Duration::from_millis(50), ..StoreChances::stormy() };
        bench.store.inner.faults().seed(seed, chances);
        let asked = |retry: bool| {
            let asked = (0..12).flat_map(|n| [create(&name(n), &format!("c{n}")), rename(&name(n), "renamed", &format!("r{n}"))]);
            asked.map(|asked| if retry { again(asked) } else { asked }).collect::<Vec<_>>()
        };
        let done = join_all(loaders.each_ref().map(|loader| loader.tenants().handle_many(asked(false)))).await;
        bench.store.inner.faults().calm();
        let settled = loaders[0].tenants().handle_many(asked(true)).await;
        for (n, settled) in settled.iter().enumerate() {
            let said = done.iter().map(|done| &done[n]);
            for (seq, said) in said.filter_map(|said| Some((said.as_ref().ok()?.seq, said))) {
                assert_eq!(settled.as_ref().map(|done| done.seq), Ok(seq), "seed {seed}, feeding {feeding}, {n}: {said:?}");
            }
        }
        for n in 0..12 {
            let ids = bench.store.inner.cells(&stream(&name(n)));
            let ids: Vec<String> = ids.iter().map(|cell| id_of(cell)).collect();
            for id in [format!("c{n}"), format!("r{n}")] {
                assert!(ids.iter().filter(|found| **found == id).count() <= 1, "seed {seed}, feeding {feeding}: {ids:?}");
            }
            assert!(ids.contains(&format!("c{n}")), "seed {seed}, feeding {feeding}: {ids:?}");
            bench.stored(&name(n));
        }
    }
}

fn id_of(cell: &[u8]) -> String {
    let event = tessera_proto::storage::decode_event::<tessera_core::tenant::TenantState>(cell).unwrap();
    event.request_id.as_str().to_owned()
}
