//! Effective documents: what they list, and that their tags tell any two apart.

use std::collections::BTreeSet;

use tessera_core::decision::{EffectiveDocument, Reason, TenantStatus};
use tessera_core::evaluator::{TenantRow, document};
use tessera_core::ids::{AddOnId, FeatureId, LimitId, ServiceId};
use tessera_core::reference;
use tessera_core::value::{Amount, Familiarity, LimitValue, Version};

use crate::differential::world;
use crate::script::{given, time};
use crate::stage::id;

fn document_of(line: &str, now: &str) -> EffectiveDocument {
    let (stage, tenant) = given(line);
    let tenant = tenant.unwrap();
    let row = TenantRow::compile(&stage.tables, 1, &tenant).unwrap();
    let fast = document(&stage.tables, &row, time(now)).unwrap();
    let slow = reference::document(&world(&stage), &tenant, time(now)).unwrap();
    assert_eq!(EffectiveDocument { valid_until: None, ..fast.clone() }, EffectiveDocument { valid_until: None, ..slow });
    fast
}

#[test]
fn a_document_lists_every_registered_service_feature_and_limit() {
    let document =
        document_of("plan silver@1; starts 5; trial 30; cancel 40; then 20 gold; then 25 bronze; add-on export-pack", "10");
    let services: Vec<_> = document.services.keys().map(ServiceId::as_str).collect();
    assert_eq!(services, ["billing", "legacy", "orders", "reporting"]);
    let limits: Vec<_> = document.limits.keys().map(LimitId::as_str).collect();
    assert_eq!(limits, ["calls", "faxes", "storage", "users"]);
    let reporting = &document.services["reporting"];
    let features: Vec<_> = reporting.features.iter().map(|(id, f)| (id.as_str(), f.entitled, f.reason)).collect();
    assert_eq!(
        features,
        [
            ("charts", true, Reason::GrantedByPlan),
            ("exports", true, Reason::GrantedByAddOn),
            ("mail", false, Reason::FeatureNotInPlan)
        ]
    );
    assert_eq!((reporting.entitled, reporting.reason), (true, Reason::GrantedByAddOn));
    assert_eq!(reporting.add_on.as_ref().map(AddOnId::as_str), Some("export-pack"));
    assert_eq!(reporting.familiarity, Some(Familiarity::Full));
    assert_eq!(document.services["orders"].familiarity, None);
    assert_eq!(document.plan, (id("silver"), Version::MIN));
    assert_eq!(document.status, TenantStatus::Active);
    assert_eq!((document.starts, document.trial_until), (Some(time("5")), Some(time("30"))));
    assert_eq!(document.cancel_at, Some(time("40")));
    assert_eq!(document.next_change, Some((time("20"), id("gold"))));
    assert_eq!(document.valid_until, Some(time("20")));
}

#[test]
fn an_applied_change_clears_the_trial_and_gives_way_to_the_next() {
    let document = document_of("trial 30; then 20 gold; then 25 bronze", "20");
    assert_eq!((document.plan.0.as_str(), document.trial_until), ("gold", None));
    assert_eq!(document.next_change, Some((time("25"), id("bronze"))));
}

#[test]
fn limits_are_listed_while_the_tenant_is_active() {
    for (line, status) in
        [("pending", TenantStatus::Pending), ("suspend payment 5", TenantStatus::Suspended), ("deleted", TenantStatus::Deleted)]
    {
        let document = document_of(line, "10");
        assert_eq!(document.status, status);
        assert!(document.limits.is_empty(), "{line}");
        assert!(document.services.values().all(|service| !service.entitled), "{line}");
    }
    assert_eq!(document_of("suspend payment 20", "10").limits.len(), 4);
    assert_eq!(document_of("cancel 5", "10").limits.len(), 4);
}

#[test]
fn a_deleted_tenant_has_a_document_that_time_does_not_change() {
    let document =
        document_of("deleted; suspend payment 20; starts 5; then 30 gold; trial 40; cancel 50; grant orders until 60", "1");
    assert_eq!((document.starts, document.trial_until, document.cancel_at), (None, None, None));
    assert_eq!((document.grace_until, document.next_change.as_ref()), (None, None));
    assert_eq!(document.valid_until, None);
}

/// A change of one part of a document, with a name for messages.
type Change = (&'static str, fn(&mut EffectiveDocument));

#[test]
fn the_tag_changes_with_every_part_of_the_document() {
    let first = document_of("plan silver@1; add-on export-pack", "10");
    let changes: &[Change] = &[
        ("plan", |d| d.plan.0 = id("bronze")),
        ("version", |d| d.plan.1 = Version::new(2).unwrap()),
        ("status", |d| d.status = TenantStatus::Pending),
        ("grace", |d| d.grace_until = Some(time("20"))),
        ("starts", |d| d.starts = Some(time("20"))),
        ("trial", |d| d.trial_until = Some(time("20"))),
        ("cancel", |d| d.cancel_at = Some(time("20"))),
        ("cancel a nanosecond later", |d| d.cancel_at = Some(time("20+1ns"))),
        ("next change", |d| d.next_change = Some((time("20"), id("gold")))),
        ("next plan", |d| d.next_change = Some((time("20"), id("bronze")))),
        ("a service less", |d| drop(d.services.remove("orders"))),
        ("a service entitled", |d| d.services.get_mut("reporting").unwrap().entitled = false),
        ("a service's reason", |d| d.services.get_mut("reporting").unwrap().reason = Reason::GrantedByPlan),
        ("familiarity", |d| d.services.get_mut("reporting").unwrap().familiarity = None),
        ("a service's add-on", |d| d.services.get_mut("reporting").unwrap().add_on = None),
        ("another add-on", |d| d.services.get_mut("reporting").unwrap().add_on = Some(id("seats"))),
        ("a feature less", |d| drop(d.services.get_mut("reporting").unwrap().features.remove("mail"))),
        ("a feature entitled", |d| d.services.get_mut("reporting").unwrap().features.get_mut("mail").unwrap().entitled = true),
        ("a feature's reason", |d| {
            d.services.get_mut("reporting").unwrap().features.get_mut("mail").unwrap().reason = Reason::Disabled;
        }),
        ("a feature's add-on", |d| {
            d.services.get_mut("reporting").unwrap().features.get_mut("mail").unwrap().add_on = Some(id("e"));
        }),
        ("a feature under another service", |d| {
            let mail = d.services.get_mut("reporting").unwrap().features.remove("mail").unwrap();
            d.services.get_mut("orders").unwrap().features.insert(id::<FeatureId>("mail"), mail);
        }),
        ("a limit less", |d| {
            d.limits.remove("users");
        }),
        ("a limit's value", |d| {
            d.limits.insert(id("users"), LimitValue::Maximum(Amount::MAX));
        }),
        ("a limit unlimited", |d| {
            d.limits.insert(id("users"), LimitValue::Unlimited);
        }),
        ("a limit none", |d| {
            d.limits.insert(id("users"), LimitValue::Maximum(Amount::ZERO));
        }),
        ("when it may be another", |d| d.valid_until = Some(time("99"))),
    ];
    assert_ne!(first.valid_until, Some(time("99")));
    let mut tags = BTreeSet::from([first.tag()]);
    for (part, change) in changes {
        let mut other = first.clone();
        change(&mut other);
        assert_ne!(other, first, "{part}");
        assert!(tags.insert(other.tag()), "{part} does not change the tag");
    }
}

#[test]
fn a_tag_is_short_lower_case_and_stable() {
    let tag = document_of("", "10").tag();
    assert_eq!(tag.len(), 32);
    assert!(tag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{tag}");
    assert_eq!(tag, document_of("", "99").tag());
}
