//! What the scenario's answers must be: the naive reference evaluator over the scenario's own documents, remembered by kind.
//!
//! The documents take the way they take into a deployment (the API's messages, validated and converted), and no server code is
//! asked. A tenant's kind is its plan and the features that its overrides turn round: tenants of a kind have equal documents
//! but for the id, so one evaluation serves them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use tessera_benches::scenario::{self, ALL_FEATURES, PLANS, Tenant};
use tessera_core::aggregate::References;
use tessera_core::catalog::{Catalog, Feature, Service};
use tessera_core::decision::Query;
use tessera_core::ids::PlanId;
use tessera_core::plan::{Plan, PublishedVersion};
use tessera_core::reference::{self, World};
use tessera_core::tenant::{Subscription, Tenant as CoreTenant, TenantDocument};
use tessera_core::time::Timestamp;
use tessera_proto::convert::{catalog, decision, offer, tenant};
use tessera_proto::v1;

/// The parts of an answer that are known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the tenant may.
    pub entitled: bool,
    /// The number of the reason.
    pub reason: i32,
    /// The number of the plan.
    pub plan: u8,
    /// How much of the service's UI is shown.
    pub familiarity_basis_points: i32,
}

type Verdicts = [Verdict; ALL_FEATURES];

/// Knows every right answer.
#[derive(Debug)]
pub struct Oracle {
    catalog: Catalog,
    plans: BTreeMap<PlanId, Plan>,
    /// By number.
    plan_ids: Vec<String>,
    /// By service and feature.
    names: Vec<(String, String)>,
    /// By plan and the set of overridden features, a bit for each.
    kinds: HashMap<(usize, u64), Verdicts>,
    /// Of tenants without overrides, by plan: nineteen questions of twenty are answered here.
    plain: Vec<Option<Verdicts>>,
}

impl Oracle {
    /// Builds the scenario's world.
    pub fn new() -> anyhow::Result<Self> {
        let mut plans = BTreeMap::new();
        let mut plan_ids = Vec::with_capacity(PLANS);
        for request in scenario::plans() {
            let id = offer::plan_id(&request.plan_id).map_err(tonic::Status::from)?;
            plan_ids.push(request.plan_id.clone());
            plans.insert(id, plan(&request)?);
        }
        let names = (0..ALL_FEATURES).map(scenario::names).collect();
        Ok(Self { catalog: registry()?, plans, plan_ids, names, kinds: HashMap::new(), plain: vec![None; PLANS] })
    }

    /// What a check of that feature must say of that tenant.
    pub fn expected(&mut self, tenant: Tenant, feature: usize) -> anyhow::Result<Verdict> {
        let (plan, overridden) = (tenant.plan(), tenant.overridden());
        let verdicts = if overridden.is_empty() {
            if self.plain.get(plan).is_none_or(Option::is_none) {
                let found = self.evaluate(tenant)?;
                *self.plain.get_mut(plan).context("a plan beyond the last")? = Some(found);
            }
            self.plain.get(plan).and_then(Option::as_ref).context("just put there")?
        } else {
            let set = overridden.iter().fold(0_u64, |set, feature| set | 1 << feature);
            if !self.kinds.contains_key(&(plan, set)) {
                let found = self.evaluate(tenant)?;
                self.kinds.insert((plan, set), found);
            }
            self.kinds.get(&(plan, set)).context("just put there")?
        };
        verdicts.get(feature).copied().with_context(|| format!("there is no feature `{feature}`"))
    }

    /// The id of a plan.
    pub fn plan_id(&self, plan: u8) -> &str {
        self.plan_ids.get(usize::from(plan)).map_or("", String::as_str)
    }

    /// Every feature asked of the reference evaluator.
    fn evaluate(&self, tenant: Tenant) -> anyhow::Result<Verdicts> {
        let now = Timestamp::MIN;
        let document = tenant.document();
        let (_, document, _) = tenant::document("tenant", "", Some(&document)).map_err(tonic::Status::from)?;
        let tenant = stated(document);
        let (world, none) = (BTreeMap::new(), Verdict { entitled: false, reason: 0, plan: 0, familiarity_basis_points: 0 });
        let world = World { catalog: &self.catalog, plans: &self.plans, add_ons: &world };
        let mut verdicts = [none; ALL_FEATURES];
        for (verdict, (service, feature)) in verdicts.iter_mut().zip(&self.names) {
            let query = Query { service, feature, limit: None };
            *verdict = self.verdict(&decision::to_response(&reference::check(&world, Some(&tenant), &query, now)))?;
        }
        Ok(verdicts)
    }

    fn verdict(&self, answer: &v1::CheckEntitlementResponse) -> anyhow::Result<Verdict> {
        let plan = self.plan_ids.iter().position(|id| *id == answer.plan_id);
        Ok(Verdict {
            entitled: answer.entitled,
            reason: answer.reason,
            plan: plan.and_then(|plan| u8::try_from(plan).ok()).context("an answer without a plan of the scenario")?,
            familiarity_basis_points: answer.familiarity_basis_points,
        })
    }
}

/// The scenario's services, as a catalog that registered them in their order.
fn registry() -> anyhow::Result<Catalog> {
    let mut registry = Catalog::default();
    for request in scenario::services() {
        let document = catalog::service_document(&request).map_err(tonic::Status::from)?;
        let mut features = Vec::with_capacity(document.features.len());
        for feature in document.features {
            let (id, title, description) = (feature.id, feature.title, feature.description);
            features.push(Feature { id, ordinal: registry.feature_count, title, description, archived: false, disabled: None });
            registry.feature_count += 1;
        }
        let (id, title, description) = (document.id, document.title, document.description);
        registry.services.push(Service { id, title, description, archived: false, disabled: None, features });
    }
    Ok(registry)
}

fn plan(request: &v1::CreatePlanRequest) -> anyhow::Result<Plan> {
    let draft = offer::plan_document(request.document.as_ref()).map_err(tonic::Status::from)?;
    let published = PublishedVersion { document: Arc::new(draft.clone()), published_at: Timestamp::MIN };
    Ok(Plan {
        draft,
        versions: vec![published],
        archived: false,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
        references: References::default(),
    })
}

/// The tenant that a document states.
fn stated(document: TenantDocument) -> CoreTenant {
    let subscription = Subscription {
        choice: document.choice,
        starts: document.starts,
        trial_until: document.trial_until,
        cancel_at: document.cancel_at,
        // The scenario schedules nothing.
        scheduled: Vec::new(),
    };
    CoreTenant {
        title: document.title,
        labels: document.labels,
        pending: document.pending,
        deleted_at: None,
        subscription,
        add_ons: document.add_ons,
        overrides: document.overrides,
        familiarity: document.familiarity,
        suspensions: document.suspensions,
        trials_used: BTreeSet::new(),
        last_change_id: 0,
        recorded_through: Timestamp::MIN,
        created_at: Timestamp::MIN,
        updated_at: Timestamp::MIN,
        references: References::default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The scenario tells entitled from not by arithmetic, the reference evaluator from the documents: they agree.
        #[test]
        fn the_reference_agrees_with_the_scenario(numbers in proptest::collection::vec(0_u64..10_000_000, 1..20)) {
            let mut oracle = Oracle::new().unwrap();
            for number in numbers {
                let tenant = Tenant(number);
                for feature in 0..ALL_FEATURES {
                    let verdict = oracle.expected(tenant, feature).unwrap();
                    prop_assert_eq!(verdict.entitled, tenant.may_use(feature), "tenant {} feature {}", number, feature);
                    prop_assert_eq!(oracle.plan_id(verdict.plan), &tenant.document().plan_id);
                    let familiarity = if verdict.entitled { 5_000 } else { 0 };
                    prop_assert_eq!(verdict.familiarity_basis_points, familiarity);
                    let by_override = matches!(
                        v1::Reason::try_from(verdict.reason),
                        Ok(v1::Reason::GrantedByOverride | v1::Reason::DeniedByOverride)
                    );
                    prop_assert_eq!(by_override, tenant.overridden().contains(&feature));
                }
            }
        }

        /// What is remembered of one tenant of a kind is what evaluating another would say.
        #[test]
        fn a_kind_answers_as_its_tenants_do(first in 0_u64..5_000, count in 1_u64..20) {
            let mut oracle = Oracle::new().unwrap();
            for tenant in (first..first + count).map(Tenant) {
                let fresh = oracle.evaluate(tenant).unwrap();
                for (feature, verdict) in fresh.iter().enumerate() {
                    prop_assert_eq!(oracle.expected(tenant, feature).unwrap(), *verdict);
                }
            }
        }
    }

    #[test]
    fn there_are_no_features_beyond_the_last() {
        let error = Oracle::new().unwrap().expected(Tenant(0), ALL_FEATURES).unwrap_err().to_string();
        assert!(error.contains("`40`"), "{error}");
    }
}
