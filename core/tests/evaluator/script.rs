//! The little language of the hand-written tables: a tenant in a line, a question in a line, an answer in a line. Both
//! evaluators must give the answer literally.
//!
//! Every tenant lives in the world of [`world_of_examples`] and is on `silver`, unless it says otherwise:
//! `plan gold@1; starts 10; trial 20; cancel 30; then 15 silver@1; add-on seats@1 x2; grant reporting/exports until 20;
//! deny reporting; max users 5 until 20; suspend payment 20; show reporting 7500; switch reporting/mail; pending; deleted;
//! nobody`. Times are seconds since 1970, `20-1ns` and `20+1ns` beside them, `min` and `max` the first and last there are.
//!
//! A question is `TIME SERVICE[/FEATURE] [LIMIT=AMOUNT [used=N]] [explain]`.

use std::fmt::Write as _;

use tessera_core::decision::{Decision, Detail, LimitQuery, Query, StepOutcome};
use tessera_core::evaluator::{TenantRow, evaluate};
use tessera_core::plan::{Document, ServiceGrant};
use tessera_core::reference;
use tessera_core::tenant::{AccessOverride, AttachedAddOn, Effect, LimitOverride, PlanChoice, ScheduledChange, Tenant};
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, Familiarity, LimitValue, Quantity, Target, Version, VersionChoice};

use crate::differential::{agree, world};
use crate::stage::{Stage, id, plan_of, register, register_limit, tenant_on, text};

/// A sentence that the design says of decisions, a tenant, and what follows for it.
pub(crate) struct Case {
    pub(crate) sentence: &'static str,
    pub(crate) given: &'static str,
    pub(crate) asks: &'static [(&'static str, &'static str)],
}

/// Asks both evaluators everything; the failures, told so that a reader sees which sentence is broken.
pub(crate) fn failures(case: &Case) -> Vec<String> {
    let (stage, tenant) = given(case.given);
    let row = tenant.as_ref().map(|tenant| TenantRow::compile(&stage.tables, 1, tenant).unwrap());
    let mut failures = Vec::new();
    for (question, expected) in case.asks {
        let (query, now, explain) = parse_question(question);
        let slow = reference::check(&world(&stage), tenant.as_ref(), &query, now);
        let fast = evaluate(&stage.tables, row.as_ref(), &query, now).decision(&stage.tables, row.as_ref(), now);
        let said = render(&slow, explain);
        if said != *expected {
            failures.push(format!("{}\n  {question}\n  reference {said}\n  expected  {expected}", case.sentence));
        }
        // The fast one may tell an earlier `until`, nothing else.
        let (exact, said) = (Decision { valid_until: slow.valid_until, ..fast.clone() }, render(&fast, explain));
        if render(&exact, explain) != *expected || !agree(&fast, &slow, now) {
            failures.push(format!("{}\n  {question}\n  fast      {said}\n  expected  {expected}", case.sentence));
        }
    }
    failures
}

/// Asserts that all cases hold.
pub(crate) fn assert_all(cases: &[Case]) {
    let failures: Vec<_> = cases.iter().flat_map(failures).collect();
    assert!(failures.is_empty(), "{} answers differ\n{}", failures.len(), failures.join("\n"));
}

// === the world ===

/// What plan and add-on documents of the examples say: `service[feature,feature]@basis-points`, or `limit=maximum`.
fn document(text: &str) -> Document {
    let mut document = Document::default();
    for word in text.split_whitespace() {
        if let Some((limit, value)) = word.split_once('=') {
            document.limits.insert(id(limit), limit_value(value));
            continue;
        }
        let (grant, familiarity) = match word.split_once('@') {
            Some((grant, points)) => (grant, Some(Familiarity::from_basis_points(points.parse().unwrap()).unwrap())),
            None => (word, None),
        };
        let (service, features) = grant.strip_suffix(']').unwrap().split_once('[').unwrap();
        let features = features.split(',').filter(|feature| !feature.is_empty()).map(id).collect();
        document.services.insert(id(service), ServiceGrant { features, familiarity }.into());
    }
    document
}

/// The catalog, plans and add-ons of all examples.
pub(crate) fn world_of_examples() -> Stage {
    let mut stage = Stage::default();
    let catalog = &mut stage.catalog;
    for feature in ["exports", "charts", "mail"] {
        register(catalog, "reporting", Some(feature));
    }
    for feature in ["invoices", "refunds"] {
        register(catalog, "billing", Some(feature));
    }
    register(catalog, "orders", None);
    register(catalog, "legacy", Some("telex"));
    for limit in ["users", "calls", "storage", "faxes"] {
        register_limit(catalog, limit);
    }
    for service in catalog.services.iter_mut().filter(|service| service.id.as_str() == "legacy") {
        service.archived = true;
        service.features.iter_mut().for_each(|feature| feature.archived = true);
    }
    catalog.limits.iter_mut().for_each(|limit| limit.archived = limit.id.as_str() == "faxes");
    let plans: [(&str, &[&str]); 5] = [
        ("bronze", &["reporting[charts] users=10"]),
        ("silver", &["reporting[charts,exports]@7500 users=100", "reporting[charts]@5000 users=200 calls=1000"]),
        ("gold", &["reporting[charts,exports,mail]@8750 billing[invoices] legacy[telex] users=unlimited storage=500 faxes=3"]),
        ("vintage", &["orders[] users=7", "orders[] billing[] users=8"]),
        ("huge", &["reporting[charts] users=9223372036854775807 calls=9223372036854775807"]),
    ];
    let add_ons: [(&str, &[&str]); 5] = [
        ("seats", &["users=100"]),
        ("export-pack", &["reporting[exports]@10000", "reporting[exports]@10000 billing[]"]),
        ("boundless", &["users=unlimited"]),
        ("counter", &["orders[]@7500 calls=5"]),
        ("vast", &["users=9223372036854775807 storage=9223372036855"]),
    ];
    for (plan, versions) in plans {
        let mut plan_state = plan_of(versions.iter().map(|version| document(version)).collect());
        plan_state.archived = plan == "vintage";
        stage.plans.insert(id(plan), plan_state);
    }
    for (add_on, versions) in add_ons {
        stage.add_ons.insert(id(add_on), plan_of(versions.iter().map(|version| document(version)).collect()));
    }
    stage
}

/// Compiles the plain state of `stage` into its tables.
pub(crate) fn compile(stage: &mut Stage) {
    stage.tables.set_catalog(1, &stage.catalog).unwrap();
    for (id, plan) in &stage.plans {
        stage.tables.set_plan(id, 1, Some(plan)).unwrap();
    }
    for (id, add_on) in &stage.add_ons {
        stage.tables.set_add_on(id, 1, Some(add_on)).unwrap();
    }
}

// === given ===

/// The world and the tenant that the lines of `text` describe.
pub(crate) fn given(text: &str) -> (Stage, Option<Tenant>) {
    let mut stage = world_of_examples();
    let mut tenant = Some(tenant_on("silver", VersionChoice::Latest));
    for line in text.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["nobody"] => tenant = None,
            ["switch", target] => throw(&mut stage, &parse_target(target)),
            _ => apply(tenant.as_mut().unwrap(), &words),
        }
    }
    compile(&mut stage);
    (stage, tenant)
}

fn apply(tenant: &mut Tenant, words: &[&str]) {
    let subscription = &mut tenant.subscription;
    let until = |rest: &[&str]| match rest {
        [] => None,
        ["until", at] => Some(time(at)),
        other => panic!("{other:?}"),
    };
    match words {
        ["plan", plan] => subscription.choice = choice(plan),
        ["starts", at] => subscription.starts = Some(time(at)),
        ["trial", at] => subscription.trial_until = Some(time(at)),
        ["cancel", at] => subscription.cancel_at = Some(time(at)),
        ["then", at, plan] => {
            tenant.last_change_id += 1;
            let change = ScheduledChange { id: tenant.last_change_id, at: time(at), choice: choice(plan) };
            // In the order of the lines, whatever their times: who reads them must not rely on it.
            subscription.scheduled.push(change);
        }
        ["add-on", add_on, rest @ ..] => {
            let (add_on, version) = versioned(add_on);
            let quantity = rest.first().map_or(1, |times| times.strip_prefix('x').unwrap().parse().unwrap());
            tenant.add_ons.insert(id(add_on), AttachedAddOn { quantity: Quantity::new(quantity).unwrap(), version });
        }
        [effect @ ("grant" | "deny"), target, rest @ ..] => {
            let effect = if *effect == "grant" { Effect::Grant } else { Effect::Deny };
            let access = AccessOverride { effect, until: until(rest), reason: text("why") };
            tenant.overrides.access.insert(parse_target(target), access);
        }
        ["max", limit, value, rest @ ..] => {
            let value = LimitOverride { value: limit_value(value), until: until(rest), reason: text("why") };
            tenant.overrides.limits.insert(id(limit), value);
        }
        ["suspend", reason, at] => drop(tenant.suspensions.insert(text(reason), time(at))),
        ["show", service, points] => {
            let familiarity = Familiarity::from_basis_points(points.parse().unwrap()).unwrap();
            tenant.familiarity.insert(id(service), familiarity);
        }
        ["pending"] => tenant.pending = true,
        ["deleted"] => tenant.deleted_at = Some(Timestamp::MIN),
        other => panic!("not a line: {other:?}"),
    }
}

fn throw(stage: &mut Stage, target: &Target) {
    let service = stage.catalog.services.iter_mut().find(|service| service.id == target.service).unwrap();
    match &target.feature {
        None => service.disabled = Some(text("incident")),
        Some(id) => service.features.iter_mut().find(|f| f.id == *id).unwrap().disabled = Some(text("incident")),
    }
}

fn choice(text: &str) -> PlanChoice {
    let (plan, version) = versioned(text);
    PlanChoice { plan: id(plan), version }
}

fn versioned(text: &str) -> (&str, VersionChoice) {
    match text.split_once('@') {
        Some((name, number)) => (name, VersionChoice::Pinned(Version::new(number.parse().unwrap()).unwrap())),
        None => (text, VersionChoice::Latest),
    }
}

fn limit_value(text: &str) -> LimitValue {
    if text == "unlimited" { LimitValue::Unlimited } else { LimitValue::Maximum(amount(text)) }
}

fn amount(text: &str) -> Amount {
    Amount::new(text.parse().unwrap()).unwrap()
}

fn parse_target(text: &str) -> Target {
    match text.split_once('/') {
        Some((service, feature)) => Target { service: id(service), feature: Some(id(feature)) },
        None => Target { service: id(text), feature: None },
    }
}

pub(crate) fn time(text: &str) -> Timestamp {
    let (base, nanos) = match text.strip_suffix("ns").map(|text| text.split_at(text.find(['+', '-']).unwrap())) {
        Some((base, nanos)) => (base, nanos.parse().unwrap()),
        None => (text, 0),
    };
    let base = match base {
        "min" => Timestamp::MIN,
        "max" => Timestamp::MAX,
        seconds => Timestamp::from_seconds(seconds.parse().unwrap()).unwrap(),
    };
    Timestamp::from_nanos(base.as_nanos() + nanos).unwrap()
}

// === asked ===

fn parse_question(question: &str) -> (Query<'_>, Timestamp, bool) {
    let mut words = question.split_whitespace();
    let now = time(words.next().unwrap());
    let target = words.next().unwrap();
    let (service, feature) = target.split_once('/').unwrap_or((target, ""));
    let (mut limit, mut explain) = (None, false);
    for word in words {
        match (word.split_once('='), &mut limit) {
            (None, _) => explain = word == "explain",
            (Some(("used", used)), Some(LimitQuery { used: slot, .. })) => *slot = amount(used),
            (Some((name, asked)), _) => limit = Some(LimitQuery { name, amount: amount(asked), used: Amount::ZERO }),
        }
    }
    (Query { service, feature, limit }, now, explain)
}

// === answered ===

/// An answer in a line: yes or no, reason, plan, familiarity, limit, `until`, `grace`, `by` what, and the steps when asked
/// for: `M` matched, `-` not matched, `.` not reached.
pub(crate) fn render(decision: &Decision, explain: bool) -> String {
    let mut line = format!("{} {}", if decision.entitled { "yes" } else { "no" }, screaming(&format!("{:?}", decision.reason)));
    if let Some((plan, version)) = &decision.plan {
        write!(line, " {plan}@{version}").unwrap();
    }
    if let Some(familiarity) = decision.familiarity {
        write!(line, " {}bp", familiarity.basis_points()).unwrap();
    }
    if let Some(limit) = &decision.limit {
        let (name, used) = (&limit.name, limit.used.get());
        match (limit.value, limit.remaining) {
            (LimitValue::Unlimited, None) => write!(line, " {name} {used}/unlimited"),
            (LimitValue::Maximum(maximum), Some(left)) => write!(line, " {name} {used}/{} left {}", maximum.get(), left.get()),
            (value, left) => panic!("{value:?} with {left:?} left"),
        }
        .unwrap();
    }
    if let Some(until) = decision.valid_until {
        write!(line, " until {}", show_time(until)).unwrap();
    }
    if let Some(until) = decision.grace_until {
        write!(line, " grace {}", show_time(until)).unwrap();
    }
    match &decision.detail {
        None => {}
        Some(Detail::Override { target, until, reason }) => {
            write!(line, " by override {target}: {reason}").unwrap();
            if let Some(until) = until {
                write!(line, ", ends {}", show_time(*until)).unwrap();
            }
        }
        Some(Detail::AddOn(add_on)) => write!(line, " by {add_on}").unwrap(),
        Some(Detail::Suspensions(reasons)) => {
            let reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            write!(line, " by {}", reasons.join("+")).unwrap();
        }
        Some(Detail::KillSwitch { target, reason }) => write!(line, " by switch {target}: {reason}").unwrap(),
    }
    if explain {
        let steps = decision.explanation.map(|outcome| match outcome {
            StepOutcome::Matched => 'M',
            StepOutcome::NotMatched => '-',
            StepOutcome::NotReached => '.',
        });
        write!(line, " {}", steps.iter().collect::<String>()).unwrap();
    }
    line
}

/// `GrantedByPlan` as `GRANTED_BY_PLAN`.
fn screaming(camel: &str) -> String {
    let mut result = String::new();
    for (at, letter) in camel.char_indices() {
        if letter.is_uppercase() && at > 0 {
            result.push('_');
        }
        result.extend(letter.to_uppercase());
    }
    result
}

fn show_time(time: Timestamp) -> String {
    match (time, time.subsec_nanos()) {
        (Timestamp::MIN, _) => "min".to_owned(),
        (Timestamp::MAX, _) => "max".to_owned(),
        (_, 0) => time.seconds().to_string(),
        (_, nanos) => format!("{}+{nanos}ns", time.seconds()),
    }
}
