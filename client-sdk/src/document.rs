//! Everything a tenant may use at one time: what `list` answers and a watch sends.

use std::time::SystemTime;

use tessera_proto::v1;

use crate::decision::{Allowance, Familiarity, PlanVersion, Reason, time};
use crate::freshness::{Revision, Staleness};

/// The document of a tenant. It says of every registered service and feature what a check would say, until `valid_until`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entitlements {
    /// Which tenant.
    pub tenant: String,
    /// The plan in force.
    pub plan: PlanVersion,
    /// What the tenant is.
    pub status: TenantStatus,
    /// Every registered service, by id.
    pub services: Vec<ServiceEntitlement>,
    /// Every registered limit, by id.
    pub limits: Vec<LimitEntitlement>,
    /// Not running before.
    pub starts: Option<SystemTime>,
    /// End of a trial that has not been converted.
    pub trial_until: Option<SystemTime>,
    /// When the subscription ends.
    pub cancel_at: Option<SystemTime>,
    /// The earliest instant at which a suspension takes effect that has not yet.
    pub grace_until: Option<SystemTime>,
    /// When the next scheduled plan change takes effect.
    pub next_change_at: Option<SystemTime>,
    /// The plan it changes to; empty when there is none.
    pub next_plan: String,
    /// How new this document is.
    pub revision: Revision,
    /// How far it may lag behind.
    pub staleness: Staleness,
    /// The time it was made for.
    pub evaluated_at: Option<SystemTime>,
    /// The next instant at which time alone changes it; `None` is never.
    pub valid_until: Option<SystemTime>,
    /// Changes with every change of the document, also by time.
    pub tag: String,
}

/// What a tenant is at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantStatus {
    /// Served, also while in grace.
    Active,
    /// Created, not yet activated.
    Pending,
    /// A suspension is in effect.
    Suspended,
    /// Deleted for ever.
    Deleted,
    /// Something that this release does not know.
    Unknown,
}

/// A service in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntitlement {
    /// Which service.
    pub service: String,
    /// What a check of the service itself says.
    pub entitled: bool,
    /// Why.
    pub reason: Reason,
    /// How much of its UI is shown; zero when not entitled.
    pub familiarity: Familiarity,
    /// The add-on that grants it, where the reason is one; else empty.
    pub add_on: String,
    /// Its registered features, by id.
    pub features: Vec<FeatureEntitlement>,
}

/// A feature in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureEntitlement {
    /// Which feature.
    pub feature: String,
    /// What a check of it says.
    pub entitled: bool,
    /// Why.
    pub reason: Reason,
    /// The add-on that grants it, where the reason is one; else empty.
    pub add_on: String,
}

/// A limit in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitEntitlement {
    /// Which limit.
    pub limit: String,
    /// What the tenant has of it.
    pub allowance: Allowance,
}

impl Entitlements {
    /// The service of this id, if it is registered.
    pub fn service(&self, service: &str) -> Option<&ServiceEntitlement> {
        self.services.iter().find(|entry| entry.service == service)
    }

    /// The feature of this id, if it is registered.
    pub fn feature(&self, service: &str, feature: &str) -> Option<&FeatureEntitlement> {
        self.service(service)?.features.iter().find(|entry| entry.feature == feature)
    }

    /// Whether the document entitles to a feature, or to the service itself when `feature` is empty. What is not registered
    /// is denied. Holds until `valid_until` at most.
    pub fn is_entitled(&self, service: &str, feature: &str) -> bool {
        if feature.is_empty() {
            return self.service(service).is_some_and(|entry| entry.entitled);
        }
        self.feature(service, feature).is_some_and(|entry| entry.entitled)
    }

    /// What the tenant has of a limit, if it is registered.
    pub fn limit(&self, limit: &str) -> Option<Allowance> {
        self.limits.iter().find(|entry| entry.limit == limit).map(|entry| entry.allowance)
    }

    pub(crate) fn of_wire(document: v1::TenantEntitlements) -> Self {
        let status = TenantStatus::of_wire(document.status());
        Self {
            tenant: document.tenant_id,
            plan: PlanVersion { id: document.plan_id, version: document.plan_version },
            status,
            services: document.services.into_iter().map(ServiceEntitlement::of_wire).collect(),
            limits: document.limits.into_iter().filter_map(LimitEntitlement::of_wire).collect(),
            starts: time(document.starts),
            trial_until: time(document.trial_until),
            cancel_at: time(document.cancel_at),
            grace_until: time(document.grace_until),
            next_change_at: time(document.next_change_at),
            next_plan: document.next_plan_id,
            revision: Revision::from_bytes(document.revision),
            staleness: Staleness::of_wire(document.staleness_ms),
            evaluated_at: time(document.evaluated_at),
            valid_until: time(document.valid_until),
            tag: document.document_tag,
        }
    }
}

impl TenantStatus {
    fn of_wire(status: v1::TenantStatus) -> Self {
        match status {
            v1::TenantStatus::Active => Self::Active,
            v1::TenantStatus::Pending => Self::Pending,
            v1::TenantStatus::Suspended => Self::Suspended,
            v1::TenantStatus::Deleted => Self::Deleted,
            v1::TenantStatus::Unspecified => Self::Unknown,
        }
    }
}

impl ServiceEntitlement {
    fn of_wire(entry: v1::ServiceEntitlement) -> Self {
        Self {
            service: entry.service,
            entitled: entry.entitled,
            reason: Reason::of_wire(entry.reason),
            familiarity: Familiarity { basis_points: entry.familiarity_basis_points },
            add_on: entry.add_on_id,
            features: entry.features.into_iter().map(FeatureEntitlement::of_wire).collect(),
        }
    }
}

impl FeatureEntitlement {
    fn of_wire(entry: v1::FeatureEntitlement) -> Self {
        Self { feature: entry.feature, entitled: entry.entitled, reason: Reason::of_wire(entry.reason), add_on: entry.add_on_id }
    }
}

impl LimitEntitlement {
    fn of_wire(entry: v1::LimitEntitlement) -> Option<Self> {
        let allowance = match entry.value? {
            v1::limit_entitlement::Value::Maximum(maximum) => Allowance::AtMost(maximum),
            v1::limit_entitlement::Value::Unlimited(_) => Allowance::Unlimited,
        };
        Some(Self { limit: entry.limit, allowance })
    }
}
