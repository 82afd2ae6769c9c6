//! What every lease store does.

use std::time::Duration;

use tokio::time::Instant;

use super::Run;
use crate::lease_store::LeaseStore;

/// Every check of this suite, one after the other. With `several` the store is for several processes, and their leases end.
pub async fn check_all(leases: &dyn LeaseStore, run: &Run, several: bool) {
    owner_is_among_those_who_have_one(leases, run).await;
    if several {
        owners_see_each_other(leases, run).await;
        lease_that_nobody_renews_ends(leases, run).await;
        lease_renewed_for_less_ends_the_sooner(leases, run).await;
    }
}

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(1);

/// Those of this run alone: others may be at work in the same store.
async fn renew(leases: &dyn LeaseStore, run: &Run, name: &str, time: Duration) -> Vec<String> {
    let owner = format!("{}-{name}", run.text());
    let owners = leases.renew(&owner, time).await.expect("a lease");
    assert!(owners.is_sorted(), "{owners:?}");
    assert!(owners.contains(&owner), "{owner} is not among {owners:?}");
    let prefix = format!("{}-", run.text());
    owners.iter().filter_map(|owner| owner.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// Whoever renews has a lease.
pub async fn owner_is_among_those_who_have_one(leases: &dyn LeaseStore, run: &Run) {
    for _ in 0..2 {
        assert_eq!(renew(leases, run, "alone", SHORT).await, ["alone"]);
    }
}

/// Whoever renews hears of all the others.
pub async fn owners_see_each_other(leases: &dyn LeaseStore, run: &Run) {
    renew(leases, run, "one", LONG).await;
    let seen = renew(leases, run, "two", LONG).await;
    assert!(["one", "two"].iter().all(|owner| seen.contains(&(*owner).to_owned())), "{seen:?}");
}

/// It ends by itself, and those that are renewed meanwhile do not.
pub async fn lease_that_nobody_renews_ends(leases: &dyn LeaseStore, run: &Run) {
    renew(leases, run, "ending", SHORT).await;
    wait_until_ended(leases, run, "ending").await;
}

/// So a lease is given back.
pub async fn lease_renewed_for_less_ends_the_sooner(leases: &dyn LeaseStore, run: &Run) {
    renew(leases, run, "leaving", LONG.saturating_mul(2)).await;
    renew(leases, run, "leaving", SHORT).await;
    wait_until_ended(leases, run, "leaving").await;
}

async fn wait_until_ended(leases: &dyn LeaseStore, run: &Run, name: &str) {
    let begun = Instant::now();
    loop {
        let seen = renew(leases, run, "staying", LONG).await;
        if !seen.contains(&name.to_owned()) {
            return;
        }
        assert!(begun.elapsed() < LONG, "the lease of {name} does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
