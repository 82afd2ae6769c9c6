//! Writing a document and reading it back gives the same document, whatever it says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use tessera_core::catalog::FeatureDocument;
use tessera_core::ids::{FeatureId, LimitId, ServiceId};
use tessera_core::plan::ServiceGrant;
use tessera_core::tenant::{AccessOverride, AttachedAddOn, Effect, LimitOverride, Overrides, PlanChoice, StatedChange};
use tessera_core::time::Timestamp;
use tessera_core::value::{
    Amount, Description, Familiarity, LabelKey, LabelValue, LimitValue, Period, Quantity, Reason, Target, Title, Version,
    VersionChoice,
};

use super::*;

/// Names that YAML would take for something else are among them.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?",
        1 => prop::sample::select(vec!["no", "on", "y", "null", "true", "1", "0x1", "1e3", "1.5", "0o7", "1_0", "0b2", "0o8", "0b1_0"])
            .prop_map(str::to_owned),
    ]
}

/// Texts of anything but control characters, nasty ones among them.
fn words(len_max: usize) -> impl Strategy<Value = String> {
    let nasty = vec![
        "no",
        "~",
        "null",
        "- a",
        "a: b",
        "# x",
        "'",
        "\"",
        "\\",
        "{",
        "*a",
        "&a",
        "!b",
        "%c",
        "@d",
        " a ",
        "a #b",
        "<<",
        "---",
        "...",
        "1.0",
        "=",
        "?",
        "\u{2028}",
        "\u{feff}x",
        "é",
        "\u{1f600}",
        "2026-01-01",
        "|",
        ">",
        "a:",
        ":a",
        "",
        "\u{a0}",
    ];
    prop_oneof![prop::sample::select(nasty).prop_map(str::to_owned), "[ -~]{0,40}", "\\PC{0,10}",].prop_map(
        move |text: String| {
            let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
            while text.len() > len_max {
                text.pop();
            }
            text
        },
    )
}

fn title() -> impl Strategy<Value = Title> {
    words(200).prop_map(|text| Title::parse("a title", &text).unwrap())
}

fn description() -> impl Strategy<Value = Description> {
    words(2_000).prop_map(|text| Description::parse("a description", &text).unwrap())
}

fn reason() -> impl Strategy<Value = Reason> {
    words(190).prop_map(|text| Reason::parse("a reason", &format!("r{text}")).unwrap())
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    name().prop_map(|text| text.parse().unwrap())
}

fn time() -> impl Strategy<Value = Timestamp> {
    (prop_oneof![Just(0), Just(253_402_300_799), 0..=253_402_300_799_i64], prop_oneof![Just(0), 0..1_000_000_000_i64])
        .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

fn limit_value() -> impl Strategy<Value = LimitValue> {
    prop_oneof![Just(LimitValue::Unlimited), (0..=i64::MAX).prop_map(|count| LimitValue::Maximum(Amount::new(count).unwrap()))]
}

fn familiarity() -> impl Strategy<Value = Familiarity> {
    prop::sample::select(Familiarity::ALL.to_vec())
}

fn version() -> impl Strategy<Value = VersionChoice> {
    option::of(1..=i32::MAX.unsigned_abs()).prop_map(|number| match number.and_then(Version::new) {
        Some(version) => VersionChoice::Pinned(version),
        None => VersionChoice::Latest,
    })
}

fn choice() -> impl Strategy<Value = PlanChoice> {
    (id(), version()).prop_map(|(plan, version)| PlanChoice { plan, version })
}

prop_compose! {
    fn service()(id in id(), title in title(), description in description(),
        features in btree_map(id(), title_pair(), 0..6)) -> Document
    {
        let feature = |(id, (title, description)): (FeatureId, (Title, Description))| {
            FeatureDocument { id, title, description }
        };
        // Order counts, so it must not always be the alphabet's.
        let features = features.into_iter().map(feature).rev().collect();
        Document::Service(ServiceDocument { id, title, description, features })
    }
}

fn title_pair() -> impl Strategy<Value = (Title, Description)> {
    (title(), description())
}

prop_compose! {
    fn limit()(id in id(), title in title(), description in description(), unit in title(),
        period in prop::sample::select(vec![Period::Never, Period::Hour, Period::Day, Period::Week, Period::Month])) -> Document
    {
        Document::Limit(LimitDocument { id, title, description, unit, period })
    }
}

prop_compose! {
    fn grant()(features in btree_set(id(), 0..5), familiarity in option::of(familiarity())) -> Arc<ServiceGrant> {
        Arc::new(ServiceGrant { features, familiarity })
    }
}

prop_compose! {
    fn offer(trial: bool)(title in title(), description in description(),
        services in btree_map(id::<ServiceId>(), grant(), 0..4), limits in btree_map(id::<LimitId>(), limit_value(), 0..4),
        length in option::of((1..315_619_200_u64, prop_oneof![Just(0), 0..1_000_000_000_u32]))) -> tessera_core::plan::Document
    {
        let trial = length.filter(|_| trial).map(|(seconds, nanos)| Duration::new(seconds, nanos));
        tessera_core::plan::Document { title, description, services, limits, trial }
    }
}

prop_compose! {
    fn overrides()(
        access in btree_map((id(), option::of(id())).prop_map(|(service, feature)| Target { service, feature }),
            (any::<bool>(), option::of(time()), reason()), 0..4),
        limits in btree_map(id::<LimitId>(), (limit_value(), option::of(time()), reason()), 0..4)) -> Overrides
    {
        let access = access.into_iter().map(|(target, (grants, until, reason))| {
            let effect = if grants { Effect::Grant } else { Effect::Deny };
            (target, AccessOverride { effect, until, reason })
        });
        let limits = limits.into_iter().map(|(id, (value, until, reason))| (id, LimitOverride { value, until, reason }));
        Overrides { access: access.collect(), limits: limits.collect() }
    }
}

fn labels() -> impl Strategy<Value = BTreeMap<LabelKey, LabelValue>> {
    let key = words(60).prop_map(|text| LabelKey::parse("key", &format!("k{text}")).unwrap());
    let value = words(63).prop_map(|text| LabelValue::parse("value", &text).unwrap());
    btree_map(key, value, 0..4)
}

prop_compose! {
    fn tenant()(id in "[A-Za-z0-9][A-Za-z0-9._:@-]{0,12}", title in title(), labels in labels(), pending in any::<bool>(),
        choice in choice(), times in (option::of(time()), option::of(time()), option::of(time())),
        scheduled in vec((time(), choice()), 0..3),
        add_ons in btree_map(id(), (1..=1_000_000_i64, version()), 0..3), overrides in overrides(),
        own in btree_map(id(), familiarity(), 0..3), suspensions in btree_map(reason(), time(), 0..3)) -> Document
    {
        let (starts, trial_until, cancel_at) = times;
        let attached = |(id, (quantity, version))| (id, AttachedAddOn { quantity: Quantity::new(quantity).unwrap(), version });
        Document::Tenant(id.parse().unwrap(), Box::new(TenantDocument {
            title, labels, pending, choice, starts, trial_until, cancel_at,
            scheduled: scheduled.into_iter().map(|(at, choice)| StatedChange { at, choice }).collect(),
            add_ons: add_ons.into_iter().map(attached).collect(),
            overrides, familiarity: own, suspensions,
        }))
    }
}

/// Any document at all; other tests convert these to the wire and back.
pub(crate) fn document() -> impl Strategy<Value = Document> {
    prop_oneof![
        service(),
        limit(),
        (id(), offer(true)).prop_map(|(id, document)| Document::Plan(id, document)),
        (id(), offer(false)).prop_map(|(id, document)| Document::AddOn(id, document)),
        tenant(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(documents in vec(document(), 1..4)) {
        let texts: Vec<String> = documents.iter().map(Document::to_yaml).collect();
        let text = texts.join("---\n");
        let read: Result<Vec<Document>, _> = read("x", text.as_bytes()).map(|l| l.map(|l| l.document)).collect();
        prop_assert_eq!(read.map_err(|error| format!("{error}\n{text}")), Ok(documents));
    }
}
