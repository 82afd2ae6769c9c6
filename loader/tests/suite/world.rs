//! Strong reads that callers share, and what stays of them.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tessera_core::ids::PlanId;
use tessera_core::plan::Plan;
use tessera_core::stream::StreamId;
use tessera_loader::streams::Streams;
use tessera_loader::world::{Found, WorldReader};
use tessera_ports::memory::StoreChances;

use crate::bench::Bench;

#[tokio::test(start_paused = true)]
async fn what_was_read_is_kept_for_as_long_as_somebody_wants_it() {
    let bench = Bench::new();
    let _loader = bench.furnished().await;
    let store = Arc::new(bench.store.clone());
    let world = WorldReader::new(Arc::new(Streams::new(store.clone(), 0)), Arc::new(Streams::new(store, 0)));
    let gold = StreamId::Plan(PlanId::parse("gold").unwrap());
    let plan = |found: Found<Option<Arc<Plan>>>| found.value.unwrap();
    bench.store.inner.faults().seed(1, StoreChances { delay_max: Duration::from_millis(20), ..Default::default() });
    // Some who wait for one who leaves, and then for each other.
    let mut gone = Box::pin(world.offer(&gold));
    assert!((&mut gone).now_or_never().is_none());
    let leaving = async {
        tokio::task::yield_now().await;
        drop(gone);
    };
    let (read, ()) = tokio::join!(join_all((0..4).map(|_| world.offer(&gold))), leaving);
    let read: Vec<Arc<Plan>> = read.into_iter().map(|found| plan(found.unwrap())).collect();
    assert!(read.iter().all(|plan| Arc::ptr_eq(plan, &read[0])), "made once for those who come in turn");
    let kept = Arc::downgrade(&read[0]);
    drop(read);
    assert!(kept.upgrade().is_none());
    // Alone.
    let kept = Arc::downgrade(&plan(world.offer(&gold).await.unwrap()));
    assert!(kept.upgrade().is_none());
}
