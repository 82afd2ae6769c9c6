//! Generators of ids, times and small values.

use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use crate::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId, TenantId};
use crate::plan::TRIAL_MAX;
use crate::tenant::TrialLength;
use crate::time::Timestamp;
use crate::value::{
    Amount, Description, Familiarity, LabelKey, LabelValue, LimitValue, Offer, OverrideTarget, Period, Quantity, Reason, Target,
    Text, Title, Version, VersionChoice,
};

/// Which names are generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Only those of the pool, all of which [`super::full_catalog`] registers.
    Pool,
    /// Others of the grammar, too.
    Any,
}

pub(super) const SERVICES: &[&str] = &["reporting", "billing", "orders"];
pub(super) const FEATURES: &[&str] = &["exports", "charts", "mail", "audit"];
pub(super) const LIMITS: &[&str] = &["users", "calls", "storage"];
pub(super) const PLANS: &[&str] = &["gold", "silver", "bronze"];
pub(super) const ADD_ONS: &[&str] = &["seats", "support"];

/// Names of the grammar that nobody would choose: shortest, longest, with every kind of character.
const ODD_NAMES: &[&str] = &["0", "z", "a.b_c-d", "9-_.9", "a23456789-123456789-123456789-123456789-123456789-123456789-12z"];

fn name<T: std::fmt::Debug>(
    names: Names,
    pool: &'static [&'static str],
    parse: impl Fn(&str) -> Option<T> + Clone + 'static,
) -> BoxedStrategy<T> {
    let odd_weight = match names {
        Names::Pool => 0,
        Names::Any => 1,
    };
    let of_pool = select(pool);
    let of_grammar = select(ODD_NAMES);
    (0..8 + odd_weight, of_pool, of_grammar)
        .prop_filter_map("a valid name", move |(pick, of_pool, odd)| parse(if pick < 8 { of_pool } else { odd }))
        .boxed()
}

/// A service.
pub fn service_id(names: Names) -> BoxedStrategy<ServiceId> {
    name(names, SERVICES, |text| ServiceId::parse(text).ok())
}

/// A feature; every service of the pool has all features of the pool.
pub fn feature_id(names: Names) -> BoxedStrategy<FeatureId> {
    name(names, FEATURES, |text| FeatureId::parse(text).ok())
}

/// A limit.
pub fn limit_id(names: Names) -> BoxedStrategy<LimitId> {
    name(names, LIMITS, |text| LimitId::parse(text).ok())
}

/// A plan.
pub fn plan_id(names: Names) -> BoxedStrategy<PlanId> {
    name(names, PLANS, |text| PlanId::parse(text).ok())
}

/// An add-on.
pub fn add_on_id(names: Names) -> BoxedStrategy<AddOnId> {
    name(names, ADD_ONS, |text| AddOnId::parse(text).ok())
}

/// A tenant.
pub fn tenant_id() -> BoxedStrategy<TenantId> {
    name(Names::Any, &["acme", "Globex", "a:b@c.d_e-"], |text| TenantId::parse(text).ok())
}

/// A plan or an add-on.
pub fn offer(names: Names) -> BoxedStrategy<Offer> {
    prop_oneof![plan_id(names).prop_map(Offer::Plan), add_on_id(names).prop_map(Offer::AddOn)].boxed()
}

/// A service or a feature.
pub fn target(names: Names) -> BoxedStrategy<Target> {
    (service_id(names), proptest::option::weighted(0.7, feature_id(names)))
        .prop_map(|(service, feature)| Target { service, feature })
        .boxed()
}

/// What an override is about.
pub fn override_target(names: Names) -> BoxedStrategy<OverrideTarget> {
    prop_oneof![target(names).prop_map(OverrideTarget::Access), limit_id(names).prop_map(OverrideTarget::Limit)].boxed()
}

/// The first instant of the grid: 2026-01-01T00:00:00Z.
const GRID_FROM: i64 = 1_767_225_600;
/// The distance of two instants of the grid: a day.
const GRID_STEP: i64 = 86_400;

/// An instant of the grid: one of a dozen days, or a nanosecond before or after one.
pub fn grid_time() -> BoxedStrategy<Timestamp> {
    (0_i64..12, -1_i128..=1)
        .prop_filter_map("a valid time", |(day, beside)| {
            let day = Timestamp::from_seconds(GRID_FROM + day * GRID_STEP).ok()?;
            Timestamp::from_nanos(day.as_nanos() + beside).ok()
        })
        .boxed()
}

/// Any instant, mostly of the grid.
pub fn timestamp() -> BoxedStrategy<Timestamp> {
    let any = (0..=Timestamp::MAX.seconds(), 0_i64..1_000_000_000)
        .prop_filter_map("a valid time", |(seconds, nanos)| Timestamp::new(seconds, nanos).ok());
    prop_oneof![20 => grid_time(), 1 => any, 1 => Just(Timestamp::MIN), 1 => Just(Timestamp::MAX)].boxed()
}

/// How long a trial is to last, within what is allowed.
pub fn trial_length() -> BoxedStrategy<Duration> {
    let days = (1_u64..5).prop_map(|days| Duration::from_secs(days * 86_400));
    prop_oneof![8 => days, 1 => Just(Duration::from_nanos(1)), 1 => Just(TRIAL_MAX)].boxed()
}

pub(super) fn trial_length_asked() -> BoxedStrategy<TrialLength> {
    let edge = prop_oneof![Just(Duration::ZERO), Just(TRIAL_MAX + Duration::from_nanos(1))];
    prop_oneof![
        4 => Just(TrialLength::OfPlan),
        4 => trial_length().prop_map(TrialLength::For),
        1 => edge.prop_map(TrialLength::For),
    ]
    .boxed()
}

fn text<const MIN: usize, const MAX: usize>(pool: &'static [&'static str]) -> BoxedStrategy<Text<MIN, MAX>> {
    select(pool).prop_filter_map("a valid text", |text| Text::parse("text", text).ok()).boxed()
}

/// A title.
pub fn title() -> BoxedStrategy<Title> {
    text(&["", "Gold", "Für alle 🎉", "a\u{202e}b"])
}

/// A description.
pub fn description() -> BoxedStrategy<Description> {
    text(&["", "What a growing company needs", "\"quoted\" \\ and 'so on'"])
}

/// A reason.
pub fn reason() -> BoxedStrategy<Reason> {
    text(&["payment", "contract 77", "pilot", " "])
}

/// The key of a label.
pub fn label_key() -> BoxedStrategy<LabelKey> {
    text(&["region", "tier", "ä/b"])
}

/// The value of a label.
pub fn label_value() -> BoxedStrategy<LabelValue> {
    text(&["", "eu", "us east"])
}

/// An amount.
pub fn amount() -> BoxedStrategy<Amount> {
    let any = (0..=i64::MAX).prop_filter_map("a valid amount", |count| Amount::new(count).ok());
    let small = (0_i64..4).prop_filter_map("a valid amount", |count| Amount::new(count).ok());
    prop_oneof![6 => small, 1 => any, 1 => Just(Amount::MAX)].boxed()
}

/// A limit's value.
pub fn limit_value() -> BoxedStrategy<LimitValue> {
    prop_oneof![4 => amount().prop_map(LimitValue::Maximum), 1 => Just(LimitValue::Unlimited)].boxed()
}

/// A quantity of an add-on.
pub fn quantity() -> BoxedStrategy<Quantity> {
    prop_oneof![1_i64..4, Just(1_000_000)].prop_filter_map("a valid quantity", |count| Quantity::new(count).ok()).boxed()
}

/// A familiarity.
pub fn familiarity() -> BoxedStrategy<Familiarity> {
    select(&Familiarity::ALL[..]).boxed()
}

/// A reset period.
pub fn period() -> BoxedStrategy<Period> {
    select(&[Period::Never, Period::Hour, Period::Day, Period::Week, Period::Month][..]).boxed()
}

/// A version, mostly one that a generated plan has.
pub fn version() -> BoxedStrategy<Version> {
    prop_oneof![8 => 1_u32..4, 1 => Just(u32::MAX)].prop_filter_map("not 0", Version::new).boxed()
}

/// Which version is followed.
pub fn version_choice() -> BoxedStrategy<VersionChoice> {
    prop_oneof![Just(VersionChoice::Latest), version().prop_map(VersionChoice::Pinned)].boxed()
}
