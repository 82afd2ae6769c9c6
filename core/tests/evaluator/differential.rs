//! The fast evaluator against the reference: random stages, tenants, times and questions, a million of them; and the
//! effective document against single questions.
//!
//! `TESSERA_DIFFERENTIAL_CASES` asks for more, `TESSERA_DIFFERENTIAL_SEED` for a run that was printed.

use std::collections::BTreeMap;
use std::env;
use std::hash::{BuildHasher, RandomState};

use rand::RngExt as _;
use rand::rngs::StdRng;
use tessera_core::decision::{Decision, EffectiveDocument, Query, Reason};
use tessera_core::evaluator::{self, TenantRow};
use tessera_core::reference::{self, World};
use tessera_core::tenant::Tenant;
use tessera_core::time::Timestamp;

use crate::random;
use crate::stage::Stage;

const CASES: u64 = 1_000_000;
const TENANTS_PER_STAGE: u64 = 20;
const TIMES_PER_TENANT: u64 = 8;
const QUESTIONS_PER_TIME: u64 = 12;

/// What was seen, to prove that the run was about everything.
#[derive(Debug, Default)]
struct Seen {
    cases: u64,
    reasons: BTreeMap<Reason, u64>,
    changing: u64,
    exact: u64,
    documents: u64,
    /// Rows that are older than the tables they are asked of.
    early: u64,
    /// Stages with features in the third word of a plan's bits.
    wide: u64,
}

#[test]
fn the_fast_evaluator_answers_as_the_reference() {
    let cases = setting("TESSERA_DIFFERENTIAL_CASES").unwrap_or(CASES);
    // A new seed every time: what one run does not meet, another does.
    let first_seed = setting("TESSERA_DIFFERENTIAL_SEED").unwrap_or_else(|| RandomState::new().hash_one("seed") >> 16);
    println!("TESSERA_DIFFERENTIAL_SEED={first_seed} TESSERA_DIFFERENTIAL_CASES={cases}");
    let mut seen = Seen::default();
    for seed in first_seed.. {
        if seen.cases >= cases {
            break;
        }
        one_stage(seed, &mut seen);
    }
    println!("{seen:?}");
    if cases >= CASES {
        for reason in Reason::ALL {
            let times = seen.reasons.get(&reason).copied().unwrap_or(0);
            assert!(times >= cases / 2_000, "{reason:?} came up {times} times only in {cases}");
        }
        assert!(seen.early >= seen.documents / 20, "too few rows are older than the tables: {seen:?}");
        assert!(seen.wide > 0, "too few features: {seen:?}");
        assert!(seen.changing >= cases / 20, "too few answers change by time: {seen:?}");
        assert!(seen.exact >= seen.changing / 2, "valid_until is mostly earlier than need be: {seen:?}");
    }
}

fn setting(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn one_stage(number: u64, seen: &mut Seen) {
    let mut rng = random::source(number);
    let stage = random::stage(&mut rng);
    seen.wide += u64::from(stage.catalog.feature_count > 128);
    for _ in 0..TENANTS_PER_STAGE {
        let tenant = random::tenant(&mut rng, &stage);
        let (row, is_early) = row(&mut rng, &stage, &tenant);
        seen.early += u64::from(is_early);
        let pair = Pair { seed: number, stage: &stage, tenant: &tenant, row: &row };
        for _ in 0..TIMES_PER_TENANT {
            let now = random::time(&mut rng);
            for _ in 0..QUESTIONS_PER_TIME {
                let query = random::query(&mut rng);
                pair.compare(&query, now, seen);
            }
        }
        pair.compare_documents(&mut rng, seen);
    }
    let query = random::query(&mut rng);
    unknown_tenant(&stage, &query, random::time(&mut rng), seen);
}

/// The tenant's row, compiled against the tables of any time at which they could hold it, as a server's are; whether those were
/// earlier ones.
fn row(rng: &mut StdRng, stage: &Stage, tenant: &Tenant) -> (TenantRow, bool) {
    let first = rng.random_range(0..=stage.earlier.len());
    let earlier = stage.earlier.iter().skip(first).find_map(|tables| TenantRow::compile(tables, 1, tenant).ok());
    match earlier {
        Some(row) => (row, true),
        None => (TenantRow::compile(&stage.tables, 1, tenant).unwrap(), false),
    }
}

/// One tenant in both forms.
struct Pair<'a> {
    seed: u64,
    stage: &'a Stage,
    tenant: &'a Tenant,
    row: &'a TenantRow,
}

impl Pair<'_> {
    fn compare(&self, query: &Query<'_>, now: Timestamp, seen: &mut Seen) {
        let fast = self.ask(query, now);
        let slow = reference::check(&world(self.stage), Some(self.tenant), query, now);
        assert!(
            agree(&fast, &slow, now),
            "seed {}: {query:?} at {now:?}\nfast {fast:#?}\nreference {slow:#?}\ntenant {:#?}\n{:#?}",
            self.seed,
            self.tenant,
            self.stage
        );
        seen.cases += 1;
        *seen.reasons.entry(slow.reason).or_default() += 1;
        seen.changing += u64::from(slow.valid_until.is_some());
        seen.exact += u64::from(slow.valid_until.is_some() && slow.valid_until == fast.valid_until);
    }

    fn ask(&self, query: &Query<'_>, now: Timestamp) -> Decision {
        evaluator::evaluate(&self.stage.tables, Some(self.row), query, now).decision(&self.stage.tables, Some(self.row), now)
    }

    fn compare_documents(&self, rng: &mut StdRng, seen: &mut Seen) {
        let now = random::time(rng);
        let fast = evaluator::document(&self.stage.tables, self.row, now).unwrap();
        let slow = reference::document(&world(self.stage), self.tenant, now).unwrap();
        let same = EffectiveDocument { valid_until: slow.valid_until, ..fast.clone() } == slow;
        assert!(same, "seed {}: at {now:?}\nfast {fast:#?}\nreference {slow:#?}", self.seed);
        assert!(not_later(fast.valid_until, slow.valid_until, now), "seed {}: at {now:?} {fast:#?}", self.seed);
        assert_eq!(fast.tag(), EffectiveDocument { valid_until: fast.valid_until, ..slow }.tag());
        assert_eq!(fast.valid_until, evaluator::next_edge(&self.stage.tables, self.row, now));
        self.document_says_what_checks_say(&fast, now);
        // Another document, another tag: also by time alone.
        let later = random::time(rng);
        let other = evaluator::document(&self.stage.tables, self.row, later).unwrap();
        assert_eq!(other == fast, other.tag() == fast.tag(), "seed {}: {now:?} and {later:?}", self.seed);
        seen.documents += 1;
    }

    fn document_says_what_checks_say(&self, document: &EffectiveDocument, now: Timestamp) {
        assert_eq!(document.services.len(), self.stage.catalog.services.len());
        for (service, said) in &document.services {
            let answer = self.ask(&Query { service: service.as_str(), feature: "", limit: None }, now);
            assert_eq!((said.entitled, said.reason), (answer.entitled, answer.reason), "seed {}: {service}", self.seed);
            assert_eq!(said.familiarity, answer.familiarity, "seed {}: {service}", self.seed);
            assert_eq!(answer.plan.as_ref(), Some(&document.plan));
            assert_eq!(answer.grace_until, document.grace_until);
            for (feature, said) in &said.features {
                let answer = self.ask(&Query { service: service.as_str(), feature: feature.as_str(), limit: None }, now);
                assert_eq!((said.entitled, said.reason), (answer.entitled, answer.reason), "seed {}: {feature}", self.seed);
            }
        }
    }
}

fn unknown_tenant(stage: &Stage, query: &Query<'_>, now: Timestamp, seen: &mut Seen) {
    let fast = evaluator::evaluate(&stage.tables, None, query, now).decision(&stage.tables, None, now);
    let slow = reference::check(&world(stage), None, query, now);
    assert_eq!(fast, slow);
    for _ in 0..TENANTS_PER_STAGE {
        *seen.reasons.entry(slow.reason).or_default() += 1;
    }
}

pub(crate) fn world(stage: &Stage) -> World<'_> {
    World { catalog: &stage.catalog, plans: &stage.plans, add_ons: &stage.add_ons }
}

/// Equal in every field, and `valid_until` of the fast one in the future and not later than the exact one.
pub(crate) fn agree(fast: &Decision, slow: &Decision, now: Timestamp) -> bool {
    let same = Decision { valid_until: slow.valid_until, ..fast.clone() } == *slow;
    same && not_later(fast.valid_until, slow.valid_until, now)
}

fn not_later(fast: Option<Timestamp>, exact: Option<Timestamp>, now: Timestamp) -> bool {
    match (fast, exact) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some(fast), None) => fast > now,
        (Some(fast), Some(exact)) => fast > now && fast <= exact,
    }
}
