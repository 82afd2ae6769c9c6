//! What the API shows of a document, a tenant, a service or a limit, it takes back unchanged, over random values.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tessera_core::catalog::{Limit, LimitDocument, ServiceDocument};
use tessera_core::decision::TenantStatus;
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::plan::Kind;
use tessera_core::tenant::{StatedChange, Tenant, TenantDocument};
use tessera_core::testing::{self, Names};
use tessera_proto::convert::{Fields, catalog, offer, tenant, time};
use tessera_proto::v1;

/// A document that states what the API shows of a tenant.
fn stated(shown: v1::Tenant, pending: bool) -> v1::TenantDocument {
    let subscription = shown.subscription.unwrap_or_default();
    v1::TenantDocument {
        tenant_id: shown.tenant_id,
        title: shown.title,
        labels: shown.labels,
        pending,
        plan_id: subscription.plan_id,
        plan_version: subscription.pinned_version,
        starts: subscription.starts,
        trial_until: subscription.trial_until,
        cancel_at: subscription.cancel_at,
        scheduled: subscription.scheduled,
        add_ons: shown.add_ons,
        overrides: shown.overrides,
        familiarity_basis_points: shown.familiarity_basis_points,
        suspensions: shown.suspensions,
    }
}

fn document_of(tenant: Tenant) -> TenantDocument {
    let scheduled = tenant.subscription.scheduled.into_iter();
    TenantDocument {
        title: tenant.title,
        labels: tenant.labels,
        pending: tenant.pending,
        choice: tenant.subscription.choice,
        starts: tenant.subscription.starts,
        trial_until: tenant.subscription.trial_until,
        cancel_at: tenant.subscription.cancel_at,
        scheduled: scheduled.map(|change| StatedChange { at: change.at, choice: change.choice }).collect(),
        add_ons: tenant.add_ons,
        overrides: tenant.overrides,
        familiarity: tenant.familiarity,
        suspensions: tenant.suspensions,
    }
}

/// Whether all version numbers fit the API's int32. The domain counts further, but no plan gets there: its state would long
/// have been refused as too large.
fn versions_fit(tenant: &v1::Tenant) -> bool {
    let subscription = tenant.subscription.as_ref();
    let scheduled = subscription.into_iter().flat_map(|subscription| &subscription.scheduled);
    let versions = scheduled.map(|change| change.version).chain(tenant.add_ons.iter().map(|add_on| add_on.pinned_version));
    versions.chain(subscription.map(|subscription| subscription.pinned_version)).all(|version| version < i32::MAX)
}

fn upsert_of(document: &ServiceDocument) -> v1::UpsertServiceRequest {
    let feature = |feature: &tessera_core::catalog::FeatureDocument| v1::FeatureDocument {
        feature_id: feature.id.to_string(),
        title: feature.title.to_string(),
        description: feature.description.to_string(),
    };
    v1::UpsertServiceRequest {
        service_id: document.id.to_string(),
        title: document.title.to_string(),
        description: document.description.to_string(),
        features: document.features.iter().map(feature).collect(),
        ..v1::UpsertServiceRequest::default()
    }
}

fn upsert_of_shown(shown: v1::Limit) -> v1::UpsertLimitRequest {
    v1::UpsertLimitRequest {
        limit_id: shown.limit_id,
        title: shown.title,
        description: shown.description,
        unit: shown.unit,
        period: shown.period,
        ..v1::UpsertLimitRequest::default()
    }
}

proptest! {
    #[test]
    fn documents_of_plans(document in testing::document(Names::Any, Kind::Plan)) {
        prop_assert_eq!(offer::plan_document(Some(&offer::to_plan_document(&document))), Ok(document));
    }

    #[test]
    fn documents_of_add_ons(document in testing::document(Names::Any, Kind::AddOn)) {
        prop_assert_eq!(offer::add_on_document(Some(&offer::to_add_on_document(&document))), Ok(document));
    }

    #[test]
    fn tenants(tenant in testing::tenant(Names::Any), id in testing::tenant_id(), status in prop::sample::select(&[
        TenantStatus::Active, TenantStatus::Pending, TenantStatus::Suspended, TenantStatus::Deleted,
    ][..])) {
        let shown = tenant::to_tenant(&id, &tenant, status, None, "etag".to_owned());
        prop_assume!(versions_fit(&shown));
        prop_assert_eq!(shown.status, tenant::to_status(status) as i32);
        prop_assert_eq!(shown.delete_time.is_some(), tenant.deleted_at.is_some());
        let document = stated(shown, tenant.pending);
        let read = tenant::document("document", id.as_str(), Some(&document));
        prop_assert_eq!(read, Ok((id, document_of(tenant), BTreeSet::new())));
    }

    #[test]
    fn services(document in testing::service_document(Names::Any)) {
        prop_assert_eq!(catalog::service_document(&upsert_of(&document)), Ok(document));
    }

    #[test]
    fn limits(document in testing::limit_document(Names::Any), archived: bool) {
        let LimitDocument { id, title, description, unit, period } = document.clone();
        let shown = catalog::to_limit(&Limit { id, title, description, unit, period, archived }, String::new());
        prop_assert_eq!(shown.archived, archived);
        prop_assert_eq!(catalog::limit_document(&upsert_of_shown(shown)), Ok(document));
    }

    #[test]
    fn instants(at in testing::timestamp()) {
        let mut fields = Fields::new();
        let read = time::timestamp(&mut fields, "at", Some(&time::to_timestamp(at)));
        prop_assert_eq!(fields.finish(read), Ok(at));
    }
}

#[test]
fn a_document_without_an_id_takes_the_one_beside_it() {
    let document = v1::TenantDocument { plan_id: "gold".to_owned(), ..v1::TenantDocument::default() };
    let (id, read, _) = tenant::document("document", "acme", Some(&document)).expect("a good document");
    assert_eq!((id, read.choice.plan), (TenantId::parse("acme").unwrap(), PlanId::parse("gold").unwrap()));
}

#[test]
fn a_suspension_without_an_instant_is_told_apart() {
    let suspension = v1::Suspension { reason: "payment".to_owned(), effective_at: None };
    let document =
        v1::TenantDocument { plan_id: "gold".to_owned(), suspensions: vec![suspension], ..v1::TenantDocument::default() };
    let (_, read, suspended) = tenant::document("document", "acme", Some(&document)).expect("a good document");
    assert!(read.suspensions.is_empty());
    assert_eq!(suspended.iter().map(ToString::to_string).collect::<Vec<_>>(), ["payment"]);
}

#[test]
fn an_attached_add_on_without_a_quantity_is_one() {
    let mut fields = Fields::new();
    let attached = v1::AttachedAddOn { add_on_id: "seats".to_owned(), ..v1::AttachedAddOn::default() };
    let read = tenant::add_on(&mut fields, "add_on", &attached);
    let (_, attached) = fields.finish(read).expect("a good add-on");
    assert_eq!(attached.quantity.get(), 1);
}
