//! What a fake server knows, and the answers that follow from it. Far simpler than the real decision: no plans, no time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost_types::Timestamp;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::Reason;

use super::FakeError;
use crate::check::Check;

/// How many checks are remembered.
const ASKED_MAX: usize = 10_000;

/// Everything a fake knows.
#[derive(Debug)]
pub(super) struct State {
    tenants: BTreeMap<String, Tenant>,
    /// Counts changes; also the revision.
    changes: u64,
    pub(super) script: VecDeque<FakeError>,
    pub(super) outage: Option<FakeError>,
    pub(super) staleness: Option<Duration>,
    pub(super) now: Option<SystemTime>,
    pub(super) delay: Duration,
    pub(super) calls: u64,
    pub(super) asked: VecDeque<Check>,
}

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) plan: (String, i32),
    grants: BTreeMap<String, BTreeSet<String>>,
    /// What was denied or granted once: documents list it.
    known: BTreeMap<String, BTreeSet<String>>,
    pub(super) limits: BTreeMap<String, Option<i64>>,
    pub(super) familiarity: BTreeMap<String, i32>,
    pub(super) suspended: bool,
    pub(super) valid_until: Option<SystemTime>,
    changed: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            tenants: BTreeMap::new(),
            changes: 0,
            script: VecDeque::new(),
            outage: None,
            staleness: Some(Duration::ZERO),
            now: None,
            delay: Duration::ZERO,
            calls: 0,
            asked: VecDeque::new(),
        }
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self {
            plan: ("fake".to_owned(), 1),
            grants: BTreeMap::new(),
            known: BTreeMap::new(),
            limits: BTreeMap::new(),
            familiarity: BTreeMap::new(),
            suspended: false,
            valid_until: None,
            changed: 0,
        }
    }
}

// === impl State ===

impl State {
    pub(super) fn change_tenant(&mut self, id: &str, change: impl FnOnce(&mut Tenant)) {
        self.changes += 1;
        let tenant = self.tenants.entry(id.to_owned()).or_default();
        change(tenant);
        tenant.changed = self.changes;
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.changes += 1;
        self.tenants.remove(id);
    }

    /// A call came: after how long it is answered, and what it fails with, if anything.
    pub(super) fn take_call(&mut self) -> (Duration, Option<FakeError>) {
        self.calls += 1;
        (self.delay, self.script.pop_front().or(self.outage))
    }

    pub(super) fn check(&mut self, request: v1::CheckEntitlementRequest) -> Result<v1::CheckEntitlementResponse, Failure> {
        for (field, text) in [("tenant_id", &request.tenant_id), ("service", &request.service)] {
            if text.is_empty() {
                return Err(Failure::invalid_field(field, "`` is empty"));
            }
        }
        let limit = request.limit_check.clone();
        if limit.as_ref().is_some_and(|limit| limit.amount < 0 || limit.used() < 0) {
            return Err(Failure::invalid_field("limit_check", "a negative number; allowed are 0 and more"));
        }
        self.meet(request.consistency.as_ref())?;
        let answer = match self.tenants.get(&request.tenant_id) {
            Some(tenant) => tenant.check(&request),
            None => v1::CheckEntitlementResponse { reason: Reason::TenantUnknown.into(), ..Default::default() },
        };
        if self.asked.len() >= ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back(Check::of_wire(request));
        Ok(v1::CheckEntitlementResponse {
            revision: self.revision(),
            staleness_ms: self.staleness_ms(),
            evaluated_at: self.now.map(Timestamp::from),
            ..answer
        })
    }

    pub(super) fn document(&self, id: &str) -> Option<v1::TenantEntitlements> {
        let tenant = self.tenants.get(id)?;
        Some(v1::TenantEntitlements {
            tenant_id: id.to_owned(),
            revision: self.revision(),
            staleness_ms: self.staleness_ms(),
            evaluated_at: self.now.map(Timestamp::from),
            document_tag: tenant.changed.to_string(),
            ..tenant.document()
        })
    }

    /// Refuses what asks for the future.
    pub(super) fn meet(&self, consistency: Option<&v1::Consistency>) -> Result<(), Failure> {
        use v1::consistency::Requirement;
        let Some(Requirement::AtLeast(v1::AtLeast { revision })) = consistency.and_then(|some| some.requirement.as_ref()) else {
            return Ok(());
        };
        self.reached(revision)
    }

    pub(super) fn reached(&self, revision: &[u8]) -> Result<(), Failure> {
        let asked = <[u8; 8]>::try_from(revision).map_or(0, u64::from_be_bytes);
        if asked > self.changes { Err(Failure::revision_not_reached()) } else { Ok(()) }
    }

    pub(super) fn staleness_ms(&self) -> Option<i64> {
        self.staleness.map(|staleness| i64::try_from(staleness.as_millis()).unwrap_or(i64::MAX))
    }

    fn revision(&self) -> Bytes {
        Bytes::copy_from_slice(&self.changes.to_be_bytes())
    }
}

// === impl Tenant ===

impl Tenant {
    pub(super) fn grant(&mut self, service: &str, feature: &str) {
        self.grants.entry(service.to_owned()).or_default().insert(feature.to_owned());
        self.known.entry(service.to_owned()).or_default().insert(feature.to_owned());
    }

    pub(super) fn deny(&mut self, service: &str, feature: &str) {
        self.known.entry(service.to_owned()).or_default().insert(feature.to_owned());
        if let Some(features) = self.grants.get_mut(service) {
            features.remove(feature);
            if features.is_empty() {
                self.grants.remove(service);
            }
        }
    }

    fn reason(&self, service: &str, feature: &str) -> Reason {
        match self.grants.get(service) {
            _ if self.suspended => Reason::TenantSuspended,
            None => Reason::ServiceNotInPlan,
            Some(features) if feature.is_empty() || features.contains(feature) => Reason::GrantedByPlan,
            Some(_) => Reason::FeatureNotInPlan,
        }
    }

    fn familiarity(&self, service: &str, entitled: bool) -> i32 {
        if entitled { self.familiarity.get(service).copied().unwrap_or(5_000) } else { 0 }
    }

    fn check(&self, request: &v1::CheckEntitlementRequest) -> v1::CheckEntitlementResponse {
        let mut reason = self.reason(&request.service, &request.feature);
        let mut state = None;
        if let Some(limit) = request.limit_check.as_ref().filter(|_| !self.suspended) {
            state = self.limit_state(limit);
            let over = state.as_ref().is_some_and(|state| over(state, limit.amount));
            if reason == Reason::GrantedByPlan && state.is_none() {
                reason = Reason::LimitUnknown;
            } else if reason == Reason::GrantedByPlan && over {
                reason = Reason::LimitExceeded;
            }
        }
        let entitled = reason == Reason::GrantedByPlan;
        v1::CheckEntitlementResponse {
            entitled,
            reason: reason.into(),
            plan_id: self.plan.0.clone(),
            plan_version: self.plan.1,
            familiarity_basis_points: self.familiarity(&request.service, entitled),
            limit: state,
            valid_until: self.valid_until.map(Timestamp::from),
            ..Default::default()
        }
    }

    fn limit_state(&self, limit: &v1::LimitCheck) -> Option<v1::LimitState> {
        use v1::limit_state::Value;
        let maximum = *self.limits.get(&limit.name)?;
        let used = limit.used();
        Some(v1::LimitState {
            name: limit.name.clone(),
            value: Some(maximum.map_or(Value::Unlimited(true), Value::Maximum)),
            used,
            remaining: maximum.map(|maximum| maximum.saturating_sub(used).max(0)),
        })
    }

    fn document(&self) -> v1::TenantEntitlements {
        use v1::limit_entitlement::Value;
        let services = self.known.iter().map(|(service, features)| self.service(service, features)).collect();
        let limit = |(name, maximum): (&String, &Option<i64>)| v1::LimitEntitlement {
            limit: name.clone(),
            value: Some(maximum.map_or(Value::Unlimited(true), Value::Maximum)),
        };
        let status = if self.suspended { v1::TenantStatus::Suspended } else { v1::TenantStatus::Active };
        v1::TenantEntitlements {
            plan_id: self.plan.0.clone(),
            plan_version: self.plan.1,
            status: status.into(),
            services,
            limits: self.limits.iter().map(limit).collect(),
            valid_until: self.valid_until.map(Timestamp::from),
            ..Default::default()
        }
    }

    fn service(&self, service: &str, features: &BTreeSet<String>) -> v1::ServiceEntitlement {
        let reason = self.reason(service, "");
        let entitled = reason == Reason::GrantedByPlan;
        let feature = |feature: &String| {
            let reason = self.reason(service, feature);
            let entitled = reason == Reason::GrantedByPlan;
            v1::FeatureEntitlement { feature: feature.clone(), entitled, reason: reason.into(), ..Default::default() }
        };
        v1::ServiceEntitlement {
            service: service.to_owned(),
            entitled,
            reason: reason.into(),
            familiarity_basis_points: self.familiarity(service, entitled),
            features: features.iter().filter(|feature| !feature.is_empty()).map(feature).collect(),
            ..Default::default()
        }
    }
}

/// Whether the amount does not fit.
fn over(state: &v1::LimitState, amount: i64) -> bool {
    match state.value {
        Some(v1::limit_state::Value::Maximum(maximum)) => i128::from(amount) > i128::from(maximum) - i128::from(state.used),
        _ => false,
    }
}
