//! Short words for ids, times and values, and the world that most examples live in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tessera_core::aggregate::{References, World};
use tessera_core::catalog::{self, Catalog, FeatureDocument, LimitDocument, ServiceDocument};
use tessera_core::plan::{Document, Plan, PublishedVersion, ServiceGrant};
use tessera_core::tenant::{
    AccessOverride, Action, AttachedAddOn, Command, Effect, Event, LimitOverride, Overrides, PlanChoice, TenantDocument,
};
use tessera_core::testing::fold;
use tessera_core::time::Timestamp;
use tessera_core::value::{
    Amount, Description, LimitValue, OverrideTarget, Period, Quantity, Target, Text, Version, VersionChoice,
};

pub(crate) fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn text<const MIN: usize, const MAX: usize>(text: &str) -> Text<MIN, MAX> {
    Text::parse("text", text).unwrap()
}

/// Midnight of the day so many days after the first of 2026; nothing in the examples happens before day 0 unless it says so.
pub(crate) fn day(number: i64) -> Timestamp {
    Timestamp::from_seconds(1_767_225_600 + number * 86_400).unwrap()
}

pub(crate) fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

pub(crate) fn version(number: u32) -> Version {
    Version::new(number).unwrap()
}

pub(crate) fn latest(plan: &str) -> PlanChoice {
    PlanChoice { plan: id(plan), version: VersionChoice::Latest }
}

pub(crate) fn pinned(plan: &str, number: u32) -> PlanChoice {
    PlanChoice { plan: id(plan), version: VersionChoice::Pinned(version(number)) }
}

/// `service` or `service/feature`.
pub(crate) fn target(text: &str) -> Target {
    match text.split_once('/') {
        Some((service, feature)) => Target { service: id(service), feature: Some(id(feature)) },
        None => Target { service: id(text), feature: None },
    }
}

pub(crate) fn on_access(text: &str) -> OverrideTarget {
    OverrideTarget::Access(target(text))
}

pub(crate) fn on_limit(text: &str) -> OverrideTarget {
    OverrideTarget::Limit(id(text))
}

pub(crate) fn grant(until: Option<Timestamp>) -> AccessOverride {
    AccessOverride { effect: Effect::Grant, until, reason: text("pilot") }
}

pub(crate) fn maximum(count: i64) -> LimitValue {
    LimitValue::Maximum(Amount::new(count).unwrap())
}

pub(crate) fn limit_override(count: i64, until: Option<Timestamp>) -> LimitOverride {
    LimitOverride { value: maximum(count), until, reason: text("contract 77") }
}

pub(crate) fn attached(quantity: i64) -> AttachedAddOn {
    AttachedAddOn { quantity: Quantity::new(quantity).unwrap(), version: VersionChoice::Latest }
}

/// A feature document without words.
pub(crate) fn feature(feature: &str) -> FeatureDocument {
    FeatureDocument { id: id(feature), title: text(""), description: text("") }
}

/// A service document without words.
pub(crate) fn service(service: &str, features: &[&str]) -> ServiceDocument {
    let features = features.iter().copied().map(feature).collect();
    ServiceDocument { id: id(service), title: text(""), description: text(""), features }
}

/// A limit document that counts users.
pub(crate) fn limit(limit: &str) -> LimitDocument {
    LimitDocument {
        id: id(limit),
        title: text(""),
        description: Description::default(),
        unit: text("users"),
        period: Period::Never,
    }
}

/// A plan document with those services, each a name and its features, and those limits at 10.
pub(crate) fn document(services: &[(&str, &[&str])], limits: &[&str]) -> Document {
    let grant = |features: &[&str]| ServiceGrant { features: features.iter().copied().map(id).collect(), familiarity: None };
    Document {
        services: services.iter().map(|(service, features)| (id(service), grant(features).into())).collect(),
        limits: limits.iter().map(|limit| (id(limit), maximum(10))).collect(),
        ..Document::default()
    }
}

/// A plan whose versions are those documents.
pub(crate) fn plan_of(versions: &[Document]) -> Plan {
    let publish = |document: &Document| PublishedVersion { document: Arc::new(document.clone()), published_at: day(-1) };
    Plan {
        draft: versions.last().cloned().unwrap_or_default(),
        versions: versions.iter().map(publish).collect(),
        archived: false,
        created_at: day(-1),
        updated_at: day(-1),
        references: References::default(),
    }
}

/// Services `reporting` (exports, charts, and archived: fax), `billing` (invoices) and archived: `telex` (send); limits
/// `users`, `calls` and archived: `pages`.
pub(crate) fn catalog() -> Catalog {
    fold([
        catalog::Event::ServiceUpserted(service("reporting", &["exports", "charts", "fax"])),
        catalog::Event::ServiceUpserted(service("billing", &["invoices"])),
        catalog::Event::ServiceUpserted(service("telex", &["send"])),
        catalog::Event::LimitUpserted(limit("users")),
        catalog::Event::LimitUpserted(limit("calls")),
        catalog::Event::LimitUpserted(limit("pages")),
        catalog::Event::FeatureArchived(id("reporting"), id("fax")),
        catalog::Event::ServiceArchived(id("telex")),
        catalog::Event::LimitArchived(id("pages")),
    ])
}

/// The catalog at seq 9; plans `gold` (two versions, the second with a trial of 14 days; seq 12), `silver` (seq 11),
/// `retired` (archived), `draft` (never published), `gone` (deleted); add-ons `seats` (seq 21), `vintage` (archived) and
/// `draft` (never published).
pub(crate) fn world() -> World {
    let small = document(&[("billing", &[])], &[]);
    let big = Document { trial: Some(days(14)), ..document(&[("reporting", &["exports"])], &["users"]) };
    let archived = || Plan { archived: true, ..plan_of(std::slice::from_ref(&small)) };
    let there = |seq, plan: Plan| (seq, Some(Arc::new(plan)));
    World {
        catalog: (9, Arc::new(catalog())),
        plans: BTreeMap::from([
            (id("gold"), there(12, plan_of(&[small.clone(), big]))),
            (id("silver"), there(11, plan_of(std::slice::from_ref(&small)))),
            (id("retired"), there(13, archived())),
            (id("draft"), there(14, plan_of(&[]))),
            (id("gone"), (15, None)),
        ]),
        add_ons: BTreeMap::from([
            (id("seats"), there(21, plan_of(std::slice::from_ref(&small)))),
            (id("vintage"), there(22, archived())),
            (id("draft"), there(23, plan_of(&[]))),
        ]),
    }
}

/// The command about tenant `acme`.
pub(crate) fn acme(action: Action) -> Command {
    Command { tenant: id("acme"), action }
}

/// A tenant without anything special on that plan, created.
pub(crate) fn created(plan: &str) -> Event {
    Event::Created {
        title: text("Acme"),
        labels: BTreeMap::new(),
        choice: latest(plan),
        starts: None,
        trial_until: None,
        pending: false,
    }
}

/// What `created` gives, as a document.
pub(crate) fn stated(plan: &str) -> TenantDocument {
    TenantDocument {
        title: text("Acme"),
        labels: BTreeMap::new(),
        pending: false,
        choice: latest(plan),
        starts: None,
        trial_until: None,
        cancel_at: None,
        scheduled: Vec::new(),
        add_ons: BTreeMap::new(),
        overrides: Overrides::default(),
        familiarity: BTreeMap::new(),
        suspensions: BTreeMap::new(),
    }
}

pub(crate) fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}
