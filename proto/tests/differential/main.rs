//! The fast evaluator over what was stored and read back, against the reference over what was never stored: a field that the
//! stored form lost, or two that it mixed up, gives another answer.
//!
//! Stages, tenants and questions are those of the domain's own differential suite.

#[path = "../../../core/tests/evaluator/random.rs"]
mod random;
#[path = "../../../core/tests/evaluator/stage.rs"]
mod stage;

use std::hash::{BuildHasher, RandomState};

use tessera_core::decision::Decision;
use tessera_core::evaluator::{Tables, TenantRow, evaluate};
use tessera_core::plan::PlanState;
use tessera_core::reference::{self, World};
use tessera_core::tenant::TenantState;
use tessera_core::time::Timestamp;
use tessera_proto::storage::{Stored, decode_state, encode_state};

const STAGES: u64 = 3_400;
const TENANTS_PER_STAGE: u64 = 10;
const QUESTIONS_PER_TENANT: u64 = 30;

fn read_back<A: Stored>(state: &A) -> A {
    decode_state(&encode_state(state, Timestamp::MIN)).expect("what was stored is read").0
}

/// The tables of everything that was stored and read back.
fn tables(stage: &stage::Stage) -> Tables {
    let mut tables = Tables::empty();
    tables = tables.with_catalog(1, &read_back(&stage.catalog)).expect("a good catalog");
    for (id, plan) in &stage.plans {
        let plan = read_back(&PlanState(Some(plan.clone())));
        tables = tables.with_plan(id, 1, plan.0.as_ref()).expect("a good plan");
    }
    for (id, add_on) in &stage.add_ons {
        let add_on = read_back(&PlanState(Some(add_on.clone())));
        tables = tables.with_add_on(id, 1, add_on.0.as_ref()).expect("a good add-on");
    }
    tables
}

#[test]
fn answers_are_the_same_after_a_round_trip_through_the_stored_form() {
    let first = RandomState::new().hash_one("seed") >> 16;
    println!("seeds from {first}");
    let (mut compared, mut entitled) = (0_u64, 0_u64);
    for seed in first..first + STAGES {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        let tables = tables(&stage);
        let world = World { catalog: &stage.catalog, plans: &stage.plans, add_ons: &stage.add_ons };
        for _ in 0..TENANTS_PER_STAGE {
            let tenant = random::tenant(&mut rng, &stage);
            let stored = read_back(&TenantState(Some(tenant.clone()))).0.expect("a tenant");
            let row = TenantRow::compile(&tables, 1, &stored).expect("a good tenant");
            for _ in 0..QUESTIONS_PER_TENANT {
                let (query, now) = (random::query(&mut rng), random::time(&mut rng));
                let fast = evaluate(&tables, Some(&row), &query, now).decision(&tables, Some(&row), now);
                let slow = reference::check(&world, Some(&tenant), &query, now);
                let same = Decision { valid_until: slow.valid_until, ..fast.clone() } == slow;
                assert!(same, "seed {seed}: {query:?} at {now:?}\nstored {fast:#?}\nreference {slow:#?}\ntenant {tenant:#?}");
                compared += 1;
                entitled += u64::from(slow.entitled);
            }
        }
    }
    println!("{compared} answers, {entitled} of them entitled");
    assert!(entitled > compared / 50, "hardly anything was entitled: {entitled} of {compared}");
}
