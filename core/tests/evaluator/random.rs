//! Random stages, tenants, times and questions from an alphabet so small that everything meets everything.

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use tessera_core::catalog::Catalog;
use tessera_core::decision::{LimitQuery, Query};
use tessera_core::evaluator::TablesError;
use tessera_core::plan::{Document, Plan, ServiceGrant};
use tessera_core::tenant::{AccessOverride, AttachedAddOn, Effect, LimitOverride, PlanChoice, ScheduledChange, Tenant};
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, Familiarity, LimitValue, Quantity, Target, Version, VersionChoice};

use crate::stage::{Stage, id, plan_of, register, register_limit, tenant_on, text};

const SERVICES: [&str; 3] = ["a", "b", "c"];
const FEATURES: [&str; 3] = ["x", "y", "z"];
const LIMITS: [&str; 2] = ["l", "m"];
const PLANS: [&str; 3] = ["p", "q", "r"];
const ADD_ONS: [&str; 3] = ["e", "f", "g"];
const REASONS: [&str; 3] = ["abuse", "payment", "request"];

/// The source of one run; everything follows from the seed.
pub(crate) fn source(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A stage whose tables grew step by step, as a server's do: catalog and plans in small changes, in any order, a plan that
/// needs a newer catalog again later.
pub(crate) fn stage(rng: &mut StdRng) -> Stage {
    let mut stage = Stage::default();
    if rng.random_bool(0.2) {
        register_fillers(rng, &mut stage.catalog);
    }
    let mut names: Vec<_> = SERVICES.iter().flat_map(|s| FEATURES.map(|f| (*s, Some(f)))).collect();
    names.extend(SERVICES.map(|service| (service, None)));
    names.shuffle(rng);
    names.truncate(rng.random_range(4..=names.len()));
    let mut catalogs = Vec::new();
    for (service, feature) in names {
        register(&mut stage.catalog, service, feature);
        if rng.random_bool(0.3) {
            catalogs.push(stage.catalog.clone());
        }
    }
    for limit in LIMITS {
        if rng.random_bool(0.85) {
            register_limit(&mut stage.catalog, limit);
        }
    }
    catalogs.push(stage.catalog.clone());
    throw_switches(rng, &mut stage.catalog);
    catalogs.push(stage.catalog.clone());

    for plan in PLANS {
        let plan_state = offer(rng, &stage.catalog);
        stage.plans.insert(id(plan), plan_state);
    }
    for add_on in ADD_ONS {
        let add_on_state = offer(rng, &stage.catalog);
        stage.add_ons.insert(id(add_on), add_on_state);
    }
    for (seq, catalog) in (1..).zip(&catalogs) {
        stage.tables.set_catalog(seq, catalog).unwrap();
        let last = seq == catalogs.len() as u64;
        apply_offers(rng, &mut stage, seq, last);
        if !last {
            stage.earlier.push(stage.tables.clone());
        }
    }
    stage
}

/// Features before all others, which push their ordinals into further words of a plan's bits and into a second byte of a row.
fn register_fillers(rng: &mut StdRng, catalog: &mut Catalog) {
    for number in 0..rng.random_range(0..=200) {
        register(catalog, "filler", Some(&format!("f{number}")));
    }
}

/// Applies some versions of some offers, all of all when it is the last time.
fn apply_offers(rng: &mut StdRng, stage: &mut Stage, seq: u64, last: bool) {
    let accept = |result| match result {
        Ok(()) => {}
        Err(TablesError::Missing(missing)) if !last => assert!(!missing.names.is_empty()),
        Err(error) => panic!("{error}"),
    };
    let part = |rng: &mut StdRng, whole: &Plan, applied: Option<u64>| {
        // Versions are only ever added.
        let count = if applied.is_some() || last { whole.versions.len() } else { rng.random_range(0..=whole.versions.len()) };
        let versions = whole.versions.iter().take(count).map(|version| (*version.document).clone());
        plan_of(versions.collect())
    };
    for (id, plan) in &stage.plans {
        let so_far = part(rng, plan, stage.tables.plan_seq(id));
        accept(stage.tables.set_plan(id, seq, Some(&so_far)));
    }
    for (id, add_on) in &stage.add_ons {
        let so_far = part(rng, add_on, stage.tables.add_on_seq(id));
        accept(stage.tables.set_add_on(id, seq, Some(&so_far)));
    }
}

fn throw_switches(rng: &mut StdRng, catalog: &mut Catalog) {
    for service in &mut catalog.services {
        service.disabled = rng.random_bool(0.04).then(|| text("incident"));
        for feature in &mut service.features {
            feature.disabled = rng.random_bool(0.04).then(|| text("bug"));
        }
    }
}

fn offer(rng: &mut StdRng, catalog: &Catalog) -> Plan {
    let versions = rng.random_range(1..=3);
    plan_of((0..versions).map(|_| document(rng, catalog)).collect())
}

fn document(rng: &mut StdRng, catalog: &Catalog) -> Document {
    let mut document = Document::default();
    for service in &catalog.services {
        if rng.random_bool(0.55) {
            continue;
        }
        let features = service.features.iter().filter(|_| rng.random_bool(0.4)).map(|feature| feature.id.clone()).collect();
        let familiarity = rng.random_bool(0.5).then(|| familiarity(rng));
        document.services.insert(service.id.clone(), ServiceGrant { features, familiarity }.into());
    }
    for limit in &catalog.limits {
        if rng.random_bool(0.5) {
            document.limits.insert(limit.id.clone(), limit_value(rng));
        }
    }
    document
}

fn familiarity(rng: &mut StdRng) -> Familiarity {
    *Familiarity::ALL.choose(rng).unwrap()
}

fn limit_value(rng: &mut StdRng) -> LimitValue {
    if rng.random_bool(0.2) { LimitValue::Unlimited } else { LimitValue::Maximum(amount(rng)) }
}

fn amount(rng: &mut StdRng) -> Amount {
    let small = [0, 1, 2, 3, 5];
    let great = [i64::MAX, i64::MAX - 1, i64::MAX / 1_000_000, i64::MAX / 2 + 1];
    let count = if rng.random_bool(0.9) { small.choose(rng) } else { great.choose(rng) };
    Amount::new(*count.unwrap()).unwrap()
}

/// A tenant that the tables of `stage` can hold.
pub(crate) fn tenant(rng: &mut StdRng, stage: &Stage) -> Tenant {
    let choice = choice(rng, stage);
    let mut tenant = tenant_on(choice.plan.as_str(), choice.version);
    // Half of all tenants are plain, so that most questions reach the last steps.
    let rare = if rng.random_bool(0.5) { 0.06 } else { 0.3 };
    tenant.pending = rng.random_bool(rare / 4.0);
    tenant.deleted_at = rng.random_bool(rare / 6.0).then(|| edge(rng));
    tenant.subscription.starts = rng.random_bool(rare).then(|| edge(rng));
    tenant.subscription.trial_until = rng.random_bool(rare).then(|| edge(rng));
    tenant.subscription.cancel_at = rng.random_bool(rare).then(|| edge(rng));
    while rng.random_bool(rare) {
        tenant.last_change_id += 1;
        let (at, choice) = (edge(rng), self::choice(rng, stage));
        tenant.subscription.scheduled.push(ScheduledChange { id: tenant.last_change_id, at, choice });
    }
    tenant.subscription.scheduled.sort_by_key(|change| (change.at, change.id));
    while rng.random_bool(rare) {
        tenant.suspensions.insert(text(REASONS.choose(rng).unwrap()), edge(rng));
    }
    while rng.random_bool(0.4) {
        let add_on = *ADD_ONS.choose(rng).unwrap();
        let quantity = *[1, 1, 2, 3, 1_000_000].choose(rng).unwrap();
        let version = version(rng, stage.add_ons.values().nth(ADD_ONS.iter().position(|a| *a == add_on).unwrap()).unwrap());
        tenant.add_ons.insert(id(add_on), AttachedAddOn { quantity: Quantity::new(quantity).unwrap(), version });
    }
    while rng.random_bool(rare + 0.3) {
        let effect = if rng.random_bool(0.5) { Effect::Grant } else { Effect::Deny };
        let until = rng.random_bool(0.6).then(|| edge(rng));
        let reason = text(REASONS.choose(rng).unwrap());
        tenant.overrides.access.insert(target(rng, &stage.catalog), AccessOverride { effect, until, reason });
    }
    for limit in &stage.catalog.limits {
        if rng.random_bool(rare) {
            let until = rng.random_bool(0.6).then(|| edge(rng));
            let value = limit_value(rng);
            tenant.overrides.limits.insert(limit.id.clone(), LimitOverride { value, until, reason: text("contract") });
        }
    }
    for service in &stage.catalog.services {
        if rng.random_bool(rare / 2.0) {
            tenant.familiarity.insert(service.id.clone(), familiarity(rng));
        }
    }
    tenant
}

fn choice(rng: &mut StdRng, stage: &Stage) -> PlanChoice {
    let plans: Vec<_> = stage.plans.iter().collect();
    let (id, plan) = plans.choose(rng).unwrap();
    PlanChoice { plan: (*id).clone(), version: version(rng, plan) }
}

fn version(rng: &mut StdRng, offer: &Plan) -> VersionChoice {
    if rng.random_bool(0.6) {
        return VersionChoice::Latest;
    }
    VersionChoice::Pinned(Version::new(rng.random_range(1..=u32::try_from(offer.versions.len()).unwrap())).unwrap())
}

/// Something that the catalog registers.
pub(crate) fn target(rng: &mut StdRng, catalog: &Catalog) -> Target {
    let service = catalog.services.choose(rng).unwrap();
    let feature = if rng.random_bool(0.4) { None } else { service.features.choose(rng).map(|feature| feature.id.clone()) };
    Target { service: service.id.clone(), feature }
}

/// An instant at which something happens: of very few, so that edges coincide, and now and then the first or the last.
fn edge(rng: &mut StdRng) -> Timestamp {
    match rng.random_range(0..40) {
        0 => Timestamp::MIN,
        1 => Timestamp::MAX,
        2 => nanos(i128::from(rng.random_range(10..16)) * 1_000_000_000 + 1),
        _ => nanos(i128::from(rng.random_range(10..16)) * 1_000_000_000),
    }
}

/// An instant to ask at: beside, at and between the edges.
pub(crate) fn time(rng: &mut StdRng) -> Timestamp {
    match rng.random_range(0..40) {
        0 => Timestamp::MIN,
        1 => Timestamp::MAX,
        2 => nanos(Timestamp::MAX.as_nanos() - 1),
        _ => nanos(i128::from(rng.random_range(9..17)) * 1_000_000_000 + i128::from(rng.random_range(-1..=2))),
    }
}

fn nanos(nanos: i128) -> Timestamp {
    Timestamp::from_nanos(nanos).unwrap()
}

/// A question; now and then about what nobody registered.
pub(crate) fn query(rng: &mut StdRng) -> Query<'static> {
    let service = if rng.random_bool(0.03) { ["nothing", "", "A"].choose(rng) } else { SERVICES.choose(rng) };
    let feature = match rng.random_range(0..20) {
        0 => ["nothing", "é", "X", "a"].choose(rng).unwrap(),
        1..7 => "",
        _ => FEATURES.choose(rng).unwrap(),
    };
    let limit = rng.random_bool(0.5).then(|| {
        let name = if rng.random_bool(0.05) { "nothing" } else { LIMITS.choose(rng).unwrap() };
        let used = if rng.random_bool(0.5) { Amount::ZERO } else { amount(rng) };
        LimitQuery { name, amount: amount(rng), used }
    });
    Query { service: service.unwrap(), feature, limit }
}
