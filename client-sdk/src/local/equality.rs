//! Answers out of memory against those of the server's own evaluator: random catalogs, plans, tenants, questions and times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use proptest::sample::select;
use tessera_core::aggregate::World;
use tessera_core::evaluator::{self, Tables, TenantRow};
use tessera_core::tenant::Tenant;
use tessera_core::testing::{self, Names};
use tessera_core::time::Timestamp;
use tessera_core::value::VersionChoice;
use tessera_proto::convert::decision::{Asked, AskedLimit, query, to_document, to_response};
use tessera_proto::v1;

use super::answer::Answer;
use super::document::Compiler;
use super::freshness::{Connection, Proof};
use super::tenants::{Held, Told};
use crate::decision::Decision;
use crate::document::Entitlements;

const TENANT: &str = "acme";

/// A question as a caller may put it.
#[derive(Debug, Clone)]
struct Put {
    service: &'static str,
    feature: &'static str,
    limit: Option<(&'static str, i64, Option<i64>)>,
}

impl Put {
    fn asked(&self) -> Asked<'_> {
        let limit = self.limit.map(|(name, amount, used)| AskedLimit { name, amount, used });
        Asked { tenant_id: TENANT, service: self.service, feature: self.feature, limit }
    }
}

fn put() -> impl Strategy<Value = Put> {
    let amount = || prop_oneof![4 => 0_i64..120, 1 => select(&[-1, i64::MAX, i64::MAX - 1][..])];
    // Most of what is asked for is there: of all else there is little to be compared.
    let name = |names: &'static [&'static str]| prop_oneof![12 => select(names), 1 => select(&["nothing", "NO NAME"][..])];
    let limit = (name(&["users", "calls", "storage"]), amount(), proptest::option::of(amount()));
    (
        name(&["reporting", "billing", "orders"]),
        name(&["", "exports", "charts", "mail", "audit"]),
        proptest::option::weighted(0.4, limit),
    )
        .prop_map(|(service, feature, limit)| Put { service, feature, limit })
}

/// Every second one has nothing against it: with all that a tenant may have, few are entitled to anything.
fn tenant() -> impl Strategy<Value = Tenant> {
    (testing::tenant(Names::Pool), any::<bool>()).prop_map(|(mut tenant, stands_well)| {
        if stands_well {
            tenant.pending = false;
            tenant.suspensions.clear();
            (tenant.subscription.starts, tenant.subscription.cancel_at) = (None, None);
        }
        tenant
    })
}

fn tables(world: &World) -> Tables {
    let mut tables = Tables::empty();
    tables.set_catalog(world.catalog.0, &world.catalog.1).unwrap();
    for (id, (seq, plan)) in &world.plans {
        tables.set_plan(id, *seq, plan.as_deref()).unwrap();
    }
    for (id, (seq, add_on)) in &world.add_ons {
        tables.set_add_on(id, *seq, add_on.as_deref()).unwrap();
    }
    tables
}

/// The tenant's row; of what it has, versions that are not there become the latest, or are left out.
fn row(tables: &Tables, mut tenant: Tenant) -> Option<TenantRow> {
    let compile = |tenant: &Tenant| TenantRow::compile(tables, 1, tenant).ok();
    compile(&tenant).or_else(|| {
        tenant.subscription.choice.version = VersionChoice::Latest;
        tenant.subscription.scheduled.iter_mut().for_each(|change| change.choice.version = VersionChoice::Latest);
        tenant.add_ons.values_mut().for_each(|add_on| add_on.version = VersionChoice::Latest);
        compile(&tenant).or_else(|| {
            tenant.subscription.scheduled.clear();
            tenant.add_ons = BTreeMap::new();
            compile(&tenant)
        })
    })
}

/// Without what a document does not carry.
fn comparable(decision: Decision) -> Decision {
    Decision {
        detail: None,
        explanation: Vec::new(),
        revision: crate::Revision::default(),
        staleness: crate::Staleness::Unknown,
        evaluated_at: None,
        valid_until: None,
        ..decision
    }
}

fn wall(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX))
}

/// What was seen, so that a run about nothing does not pass.
static COMPARED: AtomicU64 = AtomicU64::new(0);
static ENTITLED: AtomicU64 = AtomicU64::new(0);
static LEFT_TO_THE_SERVER: AtomicU64 = AtomicU64::new(0);

proptest! {
    #[test]
    fn memory_answers_what_the_server_answers_for_as_long_as_it_may(
        world in testing::world(),
        tenant in tenant(),
        made_at in testing::grid_time(),
        ahead in 0_u32..1_000,
        questions in proptest::collection::vec(put(), 1..20),
    ) {
        let tables = tables(&world);
        let Some(row) = row(&tables, tenant) else { return Ok(()) };
        let effective = evaluator::document(&tables, &row, made_at).unwrap();
        let message = v1::TenantEntitlements {
            revision: bytes::Bytes::from_static(b"r"),
            ..to_document(TENANT, &effective)
        };
        let document = Compiler::default().compile(&Entitlements::of_wire(message)).unwrap();
        // Any time at which the document still counts, its last nanosecond as often as all others.
        let end = effective.valid_until.map_or(made_at.as_nanos() + 1_000_000_000_000, Timestamp::as_nanos);
        let within = (end - made_at.as_nanos() - 1) * i128::from(ahead.min(500)) / 500;
        let now = Timestamp::from_nanos(made_at.as_nanos() + within).unwrap();
        let connection = Arc::new(Connection::new());
        let held = Arc::new(Held { document, proof: Proof::NONE, connection });
        for put in &questions {
            let asked = put.asked();
            let verdict = held.document.verdict(&asked);
            let Ok(question) = query(&asked) else {
                prop_assert_eq!(verdict, None, "{:?} is not a question", put);
                LEFT_TO_THE_SERVER.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let of_server = evaluator::evaluate(&tables, Some(&row), &question, now).decision(&tables, Some(&row), now);
            let of_server = Decision::of_wire(to_response(&of_server));
            prop_assert!(verdict.is_some(), "{:?} is in the document", put);
            let told = Told { held: Arc::clone(&held), verdict: verdict.unwrap(), age: None };
            let answer = Answer::local(told, wall(now));
            let ours = answer.decision().unwrap();
            prop_assert_eq!(answer.is_entitled(), of_server.entitled);
            prop_assert_eq!(answer.remaining(), of_server.limit.as_ref().and_then(|limit| limit.remaining));
            // Never later than the server's.
            let not_later = of_server.valid_until.is_none_or(|exact| ours.valid_until.is_some_and(|ours| ours <= exact));
            prop_assert!(not_later, "{:?} and {:?}", ours.valid_until, of_server.valid_until);
            prop_assert_eq!(ours.evaluated_at, Some(wall(now)));
            COMPARED.fetch_add(1, Ordering::Relaxed);
            ENTITLED.fetch_add(u64::from(of_server.entitled), Ordering::Relaxed);
            prop_assert_eq!(comparable(ours), comparable(of_server), "{:?} at {:?}", put, now);
        }
        // Over all cases so far, once there were so many that chance leaves far more than that.
        let seen = [&COMPARED, &ENTITLED, &LEFT_TO_THE_SERVER].map(|count| count.load(Ordering::Relaxed));
        prop_assert!(seen[0] < 500 || (seen[1] * 50 > seen[0] && seen[2] * 50 > seen[0]), "{:?}", seen);
    }
}
