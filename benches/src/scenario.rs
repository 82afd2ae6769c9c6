//! The scenario set: any number of tenants on 6 plans over 8 services of 5 features, from a fixed seed.
//!
//! Every plan grants 20 of the 40 features. One tenant in twenty has one to three overrides, each of which turns the answer of its
//! plan for one feature round. Tenant ids have 24 bytes. Whether an answer is right can be told without a store.

use std::fmt;

pub use tessera_ports::memory::SplitMix64;
use tessera_proto::v1;

/// Changes whenever stores of an earlier version of this file would give other answers.
pub const VERSION: u32 = 1;
/// Bytes of a tenant's id.
pub const ID_LEN: usize = 24;
/// Services.
pub const SERVICES: usize = 8;
/// Features of each.
pub const FEATURES: usize = 5;
/// Plans.
pub const PLANS: usize = 6;
/// Features that a plan grants.
const GRANTED: usize = 20;
/// One tenant in so many has overrides.
const OVERRIDDEN: u64 = 20;
/// Most overrides of a tenant.
const OVERRIDES_MAX: u64 = 3;
/// Features of all services.
pub const ALL_FEATURES: usize = SERVICES * FEATURES;

/// A tenant of the scenario, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenant(pub u64);

/// A question and its right answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who is asked about.
    pub tenant: Tenant,
    /// Which of the 40 features.
    pub feature: usize,
    /// The right answer.
    pub entitled: bool,
}

impl Tenant {
    /// 24 bytes, in no order.
    pub fn id(self) -> String {
        let mut id = String::with_capacity(ID_LEN);
        // A string takes everything.
        self.write_id(&mut id).unwrap_or_default();
        id
    }

    /// Writes its id behind what `to` holds.
    pub fn write_id(self, to: &mut impl fmt::Write) -> fmt::Result {
        write!(to, "tenant-{:017x}", self.hash())
    }

    fn hash(self) -> u64 {
        SplitMix64::new(self.0 ^ 0x7e55_e7a0).next_u64()
    }

    /// The number of its plan, below [`PLANS`].
    pub fn plan(self) -> usize {
        usize::try_from(self.hash() % PLANS as u64).unwrap_or(0)
    }

    /// The features whose answer an override turns round, in order.
    pub fn overridden(self) -> Vec<usize> {
        let mut random = SplitMix64::new(self.hash());
        if random.below(OVERRIDDEN) != 0 {
            return Vec::new();
        }
        let count = 1 + random.below(OVERRIDES_MAX);
        let mut features: Vec<usize> = (0..count).map(|_| random.index(ALL_FEATURES)).collect();
        features.sort_unstable();
        features.dedup();
        features
    }

    /// Whether the tenant may use the feature.
    pub fn may_use(self, feature: usize) -> bool {
        grants(self.plan(), feature) != self.overridden().contains(&feature)
    }

    /// The whole tenant, as it is imported.
    pub fn document(self) -> v1::TenantDocument {
        let overrides = self.overridden().into_iter().map(|feature| {
            let (service, name) = names(feature);
            let effect = if self.may_use(feature) { v1::OverrideEffect::Grant } else { v1::OverrideEffect::Deny };
            v1::Override {
                target: Some(v1::OverrideTarget { service, feature: name, limit: String::new() }),
                effect: effect.into(),
                reason: "scenario".to_owned(),
                ..Default::default()
            }
        });
        v1::TenantDocument {
            tenant_id: self.id(),
            plan_id: plan_id(self.plan()),
            overrides: overrides.collect(),
            ..Default::default()
        }
    }
}

impl Question {
    /// A random one about the first `tenants` tenants.
    pub fn draw(random: &mut SplitMix64, tenants: u64) -> Self {
        let (tenant, feature) = (Tenant(random.below(tenants)), random.index(ALL_FEATURES));
        Self { tenant, feature, entitled: tenant.may_use(feature) }
    }

    /// As it is asked.
    pub fn message(&self) -> v1::CheckEntitlementRequest {
        let (service, feature) = names(self.feature);
        v1::CheckEntitlementRequest { tenant_id: self.tenant.id(), service, feature, ..Default::default() }
    }
}

/// Service and feature of a number below 40.
pub fn names(feature: usize) -> (String, String) {
    (format!("service-{}", feature / FEATURES), format!("feature-{}", feature % FEATURES))
}

/// Seven is prime to forty, so that every plan grants its 20 features spread over all services.
fn grants(plan: usize, feature: usize) -> bool {
    (feature * 7 + plan * 5) % ALL_FEATURES < GRANTED
}

fn plan_id(plan: usize) -> String {
    format!("plan-{plan}")
}

/// The services, with their features.
pub fn services() -> impl Iterator<Item = v1::UpsertServiceRequest> {
    (0..SERVICES).map(|service| {
        let features = (0..FEATURES).map(|feature| names(service * FEATURES + feature).1);
        let features = features.map(|feature_id| v1::FeatureDocument { feature_id, ..Default::default() });
        v1::UpsertServiceRequest { service_id: names(service * FEATURES).0, features: features.collect(), ..Default::default() }
    })
}

/// The plans.
pub fn plans() -> impl Iterator<Item = v1::CreatePlanRequest> {
    (0..PLANS).map(|plan| {
        let services = (0..SERVICES).map(|service| {
            let numbers = service * FEATURES..(service + 1) * FEATURES;
            let features = numbers.filter(|feature| grants(plan, *feature)).map(|feature| names(feature).1);
            (names(service * FEATURES).0, v1::ServiceGrant { features: features.collect(), familiarity_basis_points: 0 })
        });
        let services = services.filter(|(_, grant)| !grant.features.is_empty()).collect();
        let document = v1::PlanDocument { title: plan_id(plan), services, ..Default::default() };
        v1::CreatePlanRequest { plan_id: plan_id(plan), document: Some(document), ..Default::default() }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn it_is_what_it_says() {
        for plan in 0..PLANS {
            assert_eq!((0..ALL_FEATURES).filter(|feature| grants(plan, *feature)).count(), GRANTED);
        }
        let tenants: Vec<Tenant> = (0..20_000).map(Tenant).collect();
        assert_eq!(tenants.iter().map(|tenant| tenant.id()).collect::<HashSet<_>>().len(), tenants.len());
        assert!(tenants.iter().all(|tenant| tenant.id().len() == ID_LEN));
        let overridden = tenants.iter().filter(|tenant| !tenant.overridden().is_empty()).count();
        assert!((800..1_200).contains(&overridden), "{overridden} of 20,000");
        for plan in 0..PLANS {
            assert!(tenants.iter().filter(|tenant| tenant.plan() == plan).count() > 3_000);
        }
    }

    #[test]
    fn an_override_turns_the_answer_of_the_plan_round() {
        let tenant = (0..1_000).map(Tenant).find(|tenant| !tenant.overridden().is_empty()).unwrap();
        let feature = tenant.overridden()[0];
        assert_ne!(tenant.may_use(feature), grants(tenant.plan(), feature));
        let effect = if tenant.may_use(feature) { v1::OverrideEffect::Grant } else { v1::OverrideEffect::Deny };
        assert_eq!(tenant.document().overrides[0].effect, i32::from(effect));
    }
}
