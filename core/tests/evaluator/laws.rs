//! The laws that every decision keeps, whatever the rules are: what must not happen when one thing is added.

use rand::RngExt;
use rand::rngs::StdRng;
use tessera_core::decision::{Decision, Query};
use tessera_core::evaluator::{Tables, TenantRow, evaluate};
use tessera_core::plan::Plan;
use tessera_core::tenant::{AccessOverride, Effect, LimitOverride, Tenant, schedule};
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, LimitValue, Quantity};

use crate::random;
use crate::stage::{Stage, plan_of, text};

/// Stages, tenants of each and questions about each; every law is tried on all.
const STAGES: u64 = 150;
const TENANTS: u64 = 12;
const QUESTIONS: u64 = 25;

/// Calls `law` with many random tenants; `law` changes the tenant and returns whether there was anything to change.
fn for_all(law: impl Fn(&mut StdRng, &Stage, &mut Tenant) -> bool, holds: impl Fn(&Decision, &Decision) -> bool) {
    let mut tried = 0_u64;
    for seed in 0..STAGES {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        for _ in 0..TENANTS {
            let before = random::tenant(&mut rng, &stage);
            let mut after = before.clone();
            if !law(&mut rng, &stage, &mut after) {
                continue;
            }
            for _ in 0..QUESTIONS {
                let (query, now) = (random::query(&mut rng), random::time(&mut rng));
                let was = ask(&stage.tables, &before, &query, now);
                let is = ask(&stage.tables, &after, &query, now);
                assert!(holds(&was, &is), "seed {seed}: {query:?} at {now:?}\nwas {was:#?}\nis {is:#?}\n{after:#?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "only {tried} questions");
}

fn ask(tables: &Tables, tenant: &Tenant, query: &Query<'_>, now: Timestamp) -> Decision {
    let row = TenantRow::compile(tables, 1, tenant).unwrap();
    evaluate(tables, Some(&row), query, now).decision(tables, Some(&row), now)
}

fn never_denies(was: &Decision, is: &Decision) -> bool {
    is.entitled || !was.entitled
}

fn never_grants(was: &Decision, is: &Decision) -> bool {
    was.entitled || !is.entitled
}

fn add_override(rng: &mut StdRng, stage: &Stage, tenant: &mut Tenant, effect: Effect) {
    let target = random::target(rng, &stage.catalog);
    tenant.overrides.access.insert(target, AccessOverride { effect, until: None, reason: text("law") });
}

#[test]
fn adding_a_grant_never_denies() {
    let law = |rng: &mut StdRng, stage: &Stage, tenant: &mut Tenant| {
        add_override(rng, stage, tenant, Effect::Grant);
        true
    };
    for_all(law, never_denies);
}

#[test]
fn adding_a_deny_never_grants() {
    let law = |rng: &mut StdRng, stage: &Stage, tenant: &mut Tenant| {
        add_override(rng, stage, tenant, Effect::Deny);
        true
    };
    for_all(law, never_grants);
}

#[test]
fn attaching_more_of_an_add_on_never_denies() {
    let law = |_: &mut StdRng, _: &Stage, tenant: &mut Tenant| {
        for attached in tenant.add_ons.values_mut() {
            let more = i64::from(attached.quantity.get()) + 1;
            attached.quantity = Quantity::new(more).unwrap_or(attached.quantity);
        }
        !tenant.add_ons.is_empty()
    };
    for_all(law, never_denies);
}

fn raised(value: LimitValue) -> LimitValue {
    match value {
        LimitValue::Unlimited => LimitValue::Unlimited,
        LimitValue::Maximum(amount) => LimitValue::Maximum(Amount::new(amount.get().saturating_add(1)).unwrap()),
    }
}

#[test]
fn raising_an_overridden_limit_never_denies() {
    let law = |_: &mut StdRng, _: &Stage, tenant: &mut Tenant| {
        for limit in tenant.overrides.limits.values_mut() {
            limit.value = raised(limit.value);
        }
        !tenant.overrides.limits.is_empty()
    };
    for_all(law, never_denies);
}

#[test]
fn an_unlimited_override_never_denies() {
    let law = |_: &mut StdRng, stage: &Stage, tenant: &mut Tenant| {
        for limit in &stage.catalog.limits {
            let value = LimitOverride { value: LimitValue::Unlimited, until: None, reason: text("law") };
            tenant.overrides.limits.insert(limit.id.clone(), value);
        }
        !stage.catalog.limits.is_empty()
    };
    let holds = |was: &Decision, is: &Decision| {
        never_denies(was, is) && is.limit.as_ref().is_none_or(|l| l.value == LimitValue::Unlimited && l.remaining.is_none())
    };
    for_all(law, holds);
}

/// The same offers with every limit of every version changed, in tables of their own.
fn with_limits(stage: &Stage, change: impl Fn(LimitValue) -> LimitValue) -> Tables {
    let changed = |plan: &Plan| {
        let versions = plan.versions.iter().map(|version| {
            let mut document = (*version.document).clone();
            document.limits.values_mut().for_each(|value| *value = change(*value));
            document
        });
        plan_of(versions.collect())
    };
    let mut tables = Tables::empty();
    tables.set_catalog(1, &stage.catalog).unwrap();
    for (id, plan) in &stage.plans {
        tables.set_plan(id, 1, Some(&changed(plan))).unwrap();
    }
    for (id, add_on) in &stage.add_ons {
        tables.set_add_on(id, 1, Some(&changed(add_on))).unwrap();
    }
    tables
}

#[test]
fn raising_the_limits_of_plans_and_add_ons_never_denies() {
    let mut finite = 0_u64;
    for seed in 0..STAGES {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        let (higher, unlimited) = (with_limits(&stage, raised), with_limits(&stage, |_| LimitValue::Unlimited));
        for _ in 0..TENANTS {
            let tenant = random::tenant(&mut rng, &stage);
            for _ in 0..QUESTIONS {
                let (query, now) = (random::query(&mut rng), random::time(&mut rng));
                let was = ask(&stage.tables, &tenant, &query, now);
                let is = ask(&higher, &tenant, &query, now);
                assert!(never_denies(&was, &is), "seed {seed}: {query:?} at {now:?}\nwas {was:#?}\nis {is:#?}");
                let most = ask(&unlimited, &tenant, &query, now);
                assert!(never_denies(&is, &most), "seed {seed}: {query:?} at {now:?}\nwas {is:#?}\nis {most:#?}");
                finite += u64::from(matches!(was.limit, Some(ref limit) if limit.value != LimitValue::Unlimited));
            }
        }
    }
    assert!(finite > 1_000, "only {finite} limits");
}

/// It makes no difference how much of what is due has been recorded: not even to `valid_until`, which may be earlier than need be,
/// since only instants to come are looked at for it.
#[test]
fn a_tenant_is_decided_as_it_stood_earlier() {
    let mut moved = 0_u64;
    for seed in 0..STAGES {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        for _ in 0..TENANTS {
            let tenant = random::tenant(&mut rng, &stage);
            for _ in 0..QUESTIONS {
                let (query, now) = (random::query(&mut rng), random::time(&mut rng));
                let earlier = random::time(&mut rng).min(now);
                let stood = schedule::at(&tenant, earlier);
                moved += u64::from(*stood != tenant);
                let (was, is) = (ask(&stage.tables, &tenant, &query, now), ask(&stage.tables, &stood, &query, now));
                assert_eq!(was, is, "seed {seed}: {query:?} at {now:?}, as it stood at {earlier:?}: {stood:#?}\n{tenant:#?}");
            }
        }
    }
    assert!(moved > 1_000, "only {moved} had passed an edge");
}

#[test]
fn until_valid_until_the_answer_is_the_same() {
    let (mut bounded, mut unbounded) = (0_u64, 0_u64);
    for seed in 0..STAGES {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        for _ in 0..TENANTS {
            let tenant = random::tenant(&mut rng, &stage);
            for _ in 0..QUESTIONS {
                let (query, now) = (random::query(&mut rng), random::time(&mut rng));
                let first = ask(&stage.tables, &tenant, &query, now);
                let until = first.valid_until.map_or(Timestamp::MAX.as_nanos() + 1, Timestamp::as_nanos);
                *(if first.valid_until.is_some() { &mut bounded } else { &mut unbounded }) += 1;
                let between = rng.random_range(now.as_nanos()..until);
                for nanos in [between, until - 1, now.as_nanos()] {
                    let later = ask(&stage.tables, &tenant, &query, Timestamp::from_nanos(nanos).unwrap());
                    let later = Decision { valid_until: first.valid_until, ..later };
                    assert_eq!(first, later, "seed {seed}: {query:?} at {now:?} and {nanos}");
                }
            }
        }
    }
    assert!(bounded > 1_000 && unbounded > 1_000, "{bounded} with an end, {unbounded} without");
}
