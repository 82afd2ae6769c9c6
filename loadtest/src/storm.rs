//! Changes of tenants beside the load: overrides on a service of their own, set and removed.
//!
//! That service is in no plan and no question is about it, so every other answer stays what the scenario says, while the tenants'
//! streams, the feed and the matrix have all the work of real changes. Open loop like the load itself.

use std::collections::HashSet;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tessera_benches::scenario::{SplitMix64, Tenant};
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::account::{Account, Hold};
use crate::control::{Plane, connect, explain};
use crate::credentials::Way;
use crate::failure::Failed;
use crate::pacing::Alarm;
use crate::rate::Rate;
use crate::schedule::{Arrivals, Schedule, Share};

/// The service that changes are about.
const SERVICE: &str = "loadtest-updates";
/// Its feature.
const FEATURE: &str = "toggled";
/// Longest wait for connection and answer, and the deadline of a change, counted from when it was due.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most changes under way.
const UNDER_WAY_MAX: usize = 256;
/// Overrides that are left standing at a time.
const STANDING_MAX: usize = 1_000;
/// Longer than any run: a storm is told when to end.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// A storm to come.
#[derive(Debug, Clone)]
pub struct Storm {
    /// Control plane.
    pub way: Way,
    /// Changes a second; constant.
    pub rate: Rate,
    /// How changes follow each other.
    pub arrivals: Arrivals,
    /// Tenants that are changed.
    pub tenants: u64,
    /// Which tenants, and when.
    pub seed: u64,
}

/// What became of the changes.
#[derive(Debug)]
pub struct Changes {
    /// The fate of each change; an answer is an acknowledgement.
    pub account: Account,
    /// From when the first change was due until the last one had its fate.
    pub elapsed: Duration,
}

/// The service that changes are about, as it is registered.
pub fn service() -> v1::UpsertServiceRequest {
    let feature = v1::FeatureDocument { feature_id: FEATURE.to_owned(), ..Default::default() };
    v1::UpsertServiceRequest { service_id: SERVICE.to_owned(), features: vec![feature], ..Default::default() }
}

/// One change.
#[derive(Debug, Clone)]
struct Change {
    tenant: u64,
    /// Sets the override, or removes it.
    set: bool,
    due: Instant,
    number: u64,
}

impl Storm {
    /// Connects and registers the service, so that what is wrong is told before the load begins.
    pub async fn begin(&self) -> anyhow::Result<()> {
        let channel = connect(&self.way, "--control-addr", DEADLINE).await?;
        let answer = CatalogServiceClient::new(channel).upsert_service(service()).await;
        answer.map(drop).map_err(|status| {
            anyhow::anyhow!(
                "--updates: `{}` does not register the service of the updates: {}; is it the control plane?",
                self.way,
                explain(&status)
            )
        })
    }

    /// Changes tenants until `stop`. Blocks this thread.
    pub fn rage(&self, stop: watch::Receiver<bool>) -> anyhow::Result<Changes> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.change_until(stop))
    }

    async fn change_until(&self, mut stop: watch::Receiver<bool>) -> anyhow::Result<Changes> {
        let channel = connect(&self.way, "--control-addr", DEADLINE).await?;
        let alarm = Alarm::new()?;
        let mut account = Account::new()?;
        let mut picks = Picks::new(self.tenants, self.seed);
        let mut under_way = FuturesUnordered::new();
        let schedule = Schedule::new(self.rate, FOR_EVER, self.arrivals, Share { index: 0, of: 1 }, self.seed);
        let begin = Instant::now();
        let mut dues = schedule.map(|offset| begin + offset).peekable();
        // When as many changes as may be were under way last.
        let mut full_until = begin;
        while let Some(due) = dues.peek().copied() {
            let full = under_way.len() >= UNDER_WAY_MAX;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some((change, answer)) = under_way.next() => {
                    note(&mut account, &mut picks, &change, answer);
                    if full {
                        full_until = Instant::now();
                    }
                }
                woken = alarm.until(due), if !full => {
                    woken?;
                    dues.next();
                    let now = Instant::now();
                    match picks.next().filter(|_| now < due + DEADLINE) {
                        Some((tenant, set)) => {
                            account.sent(now.saturating_duration_since(due), true);
                            let change = Change { tenant, set, due, number: account.due };
                            under_way.push(send(channel.clone(), change, self.seed));
                        }
                        None => account.not_sent(Hold::UnderWay),
                    }
                }
            }
        }
        if under_way.len() >= UNDER_WAY_MAX {
            full_until = Instant::now();
        }
        not_sent_any_more(&mut account, dues, full_until);
        while let Some((change, answer)) = under_way.next().await {
            note(&mut account, &mut picks, &change, answer);
        }
        // These are acknowledged, too: a rate without the time that it took would be too high.
        Ok(Changes { account, elapsed: begin.elapsed() })
    }
}

/// The storm is over: what was due while others held it up is not sent any more. What came due just now nobody held, and it is
/// not counted: to end between two changes is no failure.
fn not_sent_any_more(account: &mut Account, dues: impl Iterator<Item = Instant>, full_until: Instant) {
    for _ in dues.take_while(|due| *due < full_until) {
        account.not_sent(Hold::UnderWay);
    }
}

async fn send(channel: Plane, change: Change, seed: u64) -> (Change, Result<(), Status>) {
    let mut tenants = TenantServiceClient::new(channel);
    let (tenant_id, service, feature) = (Tenant(change.tenant).id(), SERVICE.to_owned(), FEATURE.to_owned());
    let target = Some(v1::OverrideTarget { service, feature, limit: String::new() });
    let left = DEADLINE.saturating_sub(change.due.elapsed()).max(Duration::from_millis(1));
    let sending = async {
        if change.set {
            // A reason of its own, so that setting it is always a change.
            let reason = format!("load {seed:x} {}", change.number);
            let set = v1::Override { target, effect: v1::OverrideEffect::Grant.into(), reason, ..Default::default() };
            let mut request = Request::new(v1::SetOverrideRequest { tenant_id, r#override: Some(set), ..Default::default() });
            request.set_timeout(left);
            tenants.set_override(request).await.map(drop)
        } else {
            let mut request = Request::new(v1::RemoveOverrideRequest { tenant_id, target, ..Default::default() });
            request.set_timeout(left);
            tenants.remove_override(request).await.map(drop)
        }
    };
    let answer = tokio::time::timeout(left, sending).await;
    (change, answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))))
}

fn note(account: &mut Account, picks: &mut Picks, change: &Change, answer: Result<(), Status>) {
    picks.done(change.tenant, change.set && answer.is_ok());
    match answer {
        Ok(()) => account.answered(change.due.elapsed()),
        Err(status) => {
            let failed = Failed::status(&status);
            account.failed(failed.cause, &failed.said);
        }
    }
}

/// Which tenant is changed next: never one with a change under way, so that the fate of each is known.
#[derive(Debug)]
struct Picks {
    random: SplitMix64,
    tenants: u64,
    /// Have the override; removed in this order.
    standing: Vec<u64>,
    known: HashSet<u64>,
}

impl Picks {
    fn new(tenants: u64, seed: u64) -> Self {
        Self { random: SplitMix64::new(seed), tenants, standing: Vec::new(), known: HashSet::new() }
    }

    /// A tenant, and whether its override is set or removed; `None` when all are busy.
    fn next(&mut self) -> Option<(u64, bool)> {
        let remove = self.standing.len() >= STANDING_MAX || self.random.chance(500);
        if remove && !self.standing.is_empty() {
            let at = self.random.index(self.standing.len());
            return Some((self.standing.swap_remove(at), false));
        }
        // Few are busy, unless there are few.
        for _ in 0..64 {
            let tenant = self.random.below(self.tenants);
            if self.known.insert(tenant) {
                return Some((tenant, true));
            }
        }
        let at = self.random.index(self.standing.len());
        (!self.standing.is_empty()).then(|| (self.standing.swap_remove(at), false))
    }

    /// A change is over; `stands`: the tenant has the override now.
    fn done(&mut self, tenant: u64, stands: bool) {
        if stands {
            self.standing.push(tenant);
        } else {
            self.known.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_waited_for_others_when_the_storm_ended_was_not_sent() {
        let begin = Instant::now();
        let dues = || (0..).map(|number| begin + Duration::from_millis(10) * number);
        for (full_ms, not_sent) in [(0, 0), (1, 1), (25, 3), (1_000, 100)] {
            let mut account = Account::new().unwrap();
            not_sent_any_more(&mut account, dues(), begin + Duration::from_millis(full_ms));
            assert_eq!((account.due, account.not_sent_count(), account.under_way()), (not_sent, not_sent, 0));
            assert!(account.not_sent.keys().all(|hold| *hold == Hold::UnderWay));
        }
    }

    proptest! {
        #[test]
        fn nobody_is_changed_twice_at_a_time(seed: u64, tenants in 1_u64..50, fates in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..300)) {
            let mut picks = Picks::new(tenants, seed);
            let mut busy: Vec<(u64, bool)> = Vec::new();
            let mut standing = HashSet::new();
            for (finish, fails) in fates {
                if finish && !busy.is_empty() {
                    let (tenant, set) = busy.remove(0);
                    let stands = set && !fails;
                    if stands {
                        standing.insert(tenant);
                    }
                    picks.done(tenant, stands);
                } else if let Some((tenant, set)) = picks.next() {
                    prop_assert!(tenant < tenants);
                    prop_assert!(busy.iter().all(|(other, _)| *other != tenant), "{tenant} is busy");
                    prop_assert_eq!(!set, standing.remove(&tenant), "removed is what stands, and nothing else");
                    busy.push((tenant, set));
                }
            }
        }
    }
}
