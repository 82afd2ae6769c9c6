//! Many hints come and go without making lists slow.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tessera_core::time::Timestamp;
use tessera_ports::Shard;
use tessera_ports::clock::{Clock as _, ManualClock};
use tessera_ports::hint_store::{Hint, HintStore as _};
use tessera_scylla::{Moves, Scylla};

use crate::place::{Place, WallClock};
use crate::writing::{request, tenant};

/// As many as loaders write in some seconds; most are erased at once, as after every append that went well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_show_the_few_that_are_left_of_ten_thousand() -> anyhow::Result<()> {
    const HINTS: usize = 10_000;
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let store = place.open(Moves::No).await?;
    let shards: Vec<Shard> = Shard::all().collect();
    let hint = |n: usize| Hint {
        stream: tenant(&format!("t-{n}")),
        request_id: request(&format!("r-{n}")),
        head: n as u64,
        at: WallClock.now(),
    };
    let hints: Vec<Hint> = (0..HINTS).map(hint).collect();
    let left = |n: usize| n.is_multiple_of(100);
    let work = hints.iter().enumerate().map(async |(n, hint)| {
        store.put(hint).await?;
        if !left(n) {
            store.erase(hint).await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    futures::stream::iter(work).buffer_unordered(128).try_collect::<()>().await?;

    let mut listed = store.list(&shards, HINTS).await?;
    assert!(listed.is_sorted_by_key(|hint| hint.at));
    listed.sort_by_key(|hint| hint.head);
    let expected: Vec<Hint> = hints.iter().enumerate().filter(|(n, _)| left(*n)).map(|(_, hint)| hint.clone()).collect();
    assert_eq!(listed, expected);
    for hint in &expected {
        store.erase(hint).await?;
    }
    assert_eq!(store.list(&shards, HINTS).await?, []);
    // The deadline of each read is what makes a slow list fail.
    for _ in 0..10 {
        assert_eq!(store.list(&shards, 10).await?, []);
    }
    place.end().await
}

/// A hint of any time is found by whoever was not there when it was put.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_finds_them_oldest_first() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let (one, other) = (place.open(Moves::No).await?, place.open(Moves::No).await?);
    let shards: Vec<Shard> = Shard::all().collect();
    let mut hints = Vec::new();
    for (n, at_s) in [5, 1_000_000_000, 0, 59, 60, 253_402_300_799, 61].into_iter().enumerate() {
        let at = Timestamp::new(at_s, 999_999_999)?;
        let hint = Hint { stream: tenant(&format!("t-{n}")), request_id: request("r"), head: 0, at };
        one.put(&hint).await?;
        hints.push(hint);
    }
    hints.sort_by_key(|hint| hint.at);
    assert_eq!(other.list(&shards, 100).await?, hints);
    assert_eq!(other.list(&shards, 3).await?, hints[..3]);
    for hint in &hints {
        other.erase(hint).await?;
    }
    assert_eq!(one.list(&shards, 100).await?, []);
    // The minutes are still known to whoever put in them before.
    one.put(&hints[0]).await?;
    assert_eq!(other.list(&shards, 100).await?, hints[..1]);
    place.end().await
}

/// Nodes of the database may be apart, and so may processes: neither has a say in whether a hint stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_goes_whosever_clock_is_behind() -> anyhow::Result<()> {
    let Some(place) = Place::shared().await? else { return Ok(()) };
    let now = WallClock.now();
    let apart = Duration::from_secs(20);
    let open = async |clock| Scylla::open(&place.config, Arc::new(ManualClock::new(clock)), Moves::No).await;
    let (ahead, behind) = (open(now.saturating_add(apart)).await?, open(now.saturating_sub(apart)).await?);
    let shards: Vec<Shard> = Shard::all().collect();
    let hint = Hint { stream: tenant("t"), request_id: request("r"), head: 0, at: now.saturating_add(apart) };
    ahead.put(&hint).await?;
    // It has the time of its process: an erasure that is newer than the database's own time, and older than that, is too old.
    let (shard, minute) = (Shard::of(&hint.stream).number(), hint.at.seconds().div_euclid(60));
    let between = now.saturating_add(apart / 2).as_nanos() / 1_000;
    place.run(&format!("DELETE FROM KS.hint USING TIMESTAMP {between} WHERE shard = {shard} AND minute = {minute}")).await?;
    assert_eq!(behind.list(&shards, 10).await?, std::slice::from_ref(&hint));
    behind.erase(&hint).await?;
    assert_eq!(behind.list(&shards, 10).await?, []);
    place.end().await
}
