//! A tenant's document, compiled for look-ups: what a check would be answered, told without asking.
//!
//! Most tenants of a plan have the same rights: what two documents say alike is kept once ([`Entitlements`], found by comparing
//! all of it), and a tenant's own [`Document`] is small. No clock is read here: whether a document still counts is decided by
//! who holds it (`tenants.rs`).
//!
//! The answer is the server's in every field but these: `valid_until` is that of the whole document, which is never later than
//! the check's own; `reason_detail` and the explanation are not in a document, and who asks for them asks the server.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tessera_proto::convert::decision::{Asked, AskedLimit, query};
use tessera_proto::v1;
use tessera_proto::v1::limit_entitlement::Value;

use super::names::Names;

/// What a tenant may use until time or a change makes it otherwise.
#[derive(Debug, Clone)]
pub struct Document {
    entitlements: Arc<Entitlements>,
    revision: Bytes,
    valid_until: Option<SystemTime>,
    grace_until: Option<SystemTime>,
}

/// What is said alike of many tenants.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Entitlements {
    names: Arc<Names>,
    plan_id: Box<str>,
    plan_version: i32,
    is_active: bool,
    /// By the ordinal of the service or feature.
    outcomes: Box<[Outcome]>,
    /// By the ordinal of the limit; `None` is unlimited.
    limits: Box<[Option<i64>]>,
}

/// What a check of one service or feature says, limits aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Outcome {
    entitled: bool,
    reason: i32,
    /// The service's; 0 when not entitled.
    familiarity_basis_points: i32,
}

/// An answer out of a [`Document`], to be read beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no; the one field to decide by.
    pub entitled: bool,
    /// Why: a number of [`v1::Reason`], or one that came later than this version.
    pub reason: i32,
    /// How much of the service's UI is shown; 0 when not entitled.
    pub familiarity_basis_points: i32,
    /// The limit that was asked about, whenever a check would tell it.
    pub limit: Option<LimitVerdict>,
}

/// What is known of the limit that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitVerdict {
    at: usize,
    /// What the tenant has of it; `None` is unlimited.
    pub maximum: Option<i64>,
    /// As the caller reported, 0 or more.
    pub used: i64,
}

/// A message is no document that answers could be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document of tenant `{tenant_id}` cannot be answered from: {problem}")]
pub struct Unusable {
    /// Which tenant, as the message says.
    pub tenant_id: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Compiles documents, and keeps what they share once.
#[derive(Debug, Default)]
pub struct Compiler {
    names: HashSet<Arc<Names>>,
    entitlements: HashSet<Arc<Entitlements>>,
    /// How many of them there may be before those that nobody has any more are looked for.
    sweep_at: usize,
}

/// So few are not worth a search for those that nobody has.
const SWEEP_FROM: usize = 64;

impl Document {
    /// The answer to `asked` about this tenant; `None` when only the server can tell: what is asked breaks the grammar, or the
    /// document does not say it. Never allocates for what is registered.
    pub fn verdict(&self, asked: &Asked<'_>) -> Option<Verdict> {
        let known = &*self.entitlements;
        let Some(outcome) = known.names.target(asked.service, asked.feature).and_then(|at| known.outcomes.get(at)) else {
            return known.unregistered(asked);
        };
        let verdict = Verdict {
            entitled: outcome.entitled,
            reason: outcome.reason,
            familiarity_basis_points: outcome.familiarity_basis_points,
            limit: None,
        };
        match &asked.limit {
            None => Some(verdict),
            Some(limit) => known.with_limit(verdict, asked, limit),
        }
    }

    /// The plan in force.
    pub fn plan_id(&self) -> &str {
        &self.entitlements.plan_id
    }

    /// Its version in force, from 1.
    pub fn plan_version(&self) -> i32 {
        self.entitlements.plan_version
    }

    /// How new the document is.
    pub fn revision(&self) -> &Bytes {
        &self.revision
    }

    /// When time alone changes the document next; `None`: never. From then on it is no answer any more.
    pub fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }

    /// The earliest instant at which a suspension takes effect that has not yet.
    pub fn grace_until(&self) -> Option<SystemTime> {
        self.grace_until
    }

    /// The name of the limit that a verdict of this document tells of.
    pub fn limit_name(&self, limit: &LimitVerdict) -> &str {
        self.entitlements.names.limit_name(limit.at).unwrap_or_default()
    }
}

impl LimitVerdict {
    /// How much is left before the amount that was asked for; `None` when unlimited.
    pub fn remaining(&self) -> Option<i64> {
        self.maximum.map(|maximum| maximum.saturating_sub(self.used).max(0))
    }

    fn exceeded_by(&self, amount: i64) -> bool {
        // Counts from 0 on: their difference never overflows.
        self.maximum.is_some_and(|maximum| amount > maximum.saturating_sub(self.used))
    }
}

// === impl Entitlements ===

impl Entitlements {
    /// What is asked for is not in the catalog: the answer, if the question is a good one.
    #[cold]
    fn unregistered(&self, asked: &Asked<'_>) -> Option<Verdict> {
        query(asked).ok()?;
        let service = self.names.target(asked.service, "").is_some();
        let reason = if service { v1::Reason::FeatureUnknown } else { v1::Reason::ServiceUnknown };
        Some(Verdict { entitled: false, reason: reason.into(), familiarity_basis_points: 0, limit: None })
    }

    /// The last step of a decision, which only an entitled answer reaches; the limit is told from step 5 on.
    fn with_limit(&self, verdict: Verdict, asked: &Asked<'_>, limit: &AskedLimit<'_>) -> Option<Verdict> {
        let used = limit.used.unwrap_or(0);
        if limit.amount < 0 || used < 0 {
            return None;
        }
        let at = self.names.limit(limit.name);
        if at.is_none() {
            // Whether the name is one at all.
            query(asked).ok()?;
        }
        if !tells_limits(verdict.reason)? {
            return Some(verdict);
        }
        // Documents list limits while the tenant is active; otherwise nothing is known of them.
        if !self.is_active {
            return None;
        }
        let found = at.and_then(|at| Some(LimitVerdict { at, maximum: *self.limits.get(at)?, used }));
        let refused = match found {
            None => Some(v1::Reason::LimitUnknown),
            Some(found) if found.exceeded_by(limit.amount) => Some(v1::Reason::LimitExceeded),
            Some(_) => None,
        };
        Some(match refused.filter(|_| verdict.entitled) {
            None => Verdict { limit: found, ..verdict },
            Some(reason) => Verdict { entitled: false, reason: reason.into(), familiarity_basis_points: 0, limit: found },
        })
    }
}

/// Whether a decision for that reason has come to step 5, from which on it tells of limits. `None`: a reason of a later version.
fn tells_limits(reason: i32) -> Option<bool> {
    use v1::Reason as R;
    match R::try_from(reason).ok()? {
        R::Unspecified => None,
        R::TenantUnknown
        | R::ServiceUnknown
        | R::FeatureUnknown
        | R::Disabled
        | R::TenantDeleted
        | R::TenantPending
        | R::TenantSuspended => Some(false),
        R::NotStarted
        | R::SubscriptionEnded
        | R::TrialEnded
        | R::DeniedByOverride
        | R::GrantedByOverride
        | R::GrantedByAddOn
        | R::GrantedByPlan
        | R::ServiceNotInPlan
        | R::FeatureNotInPlan
        | R::LimitUnknown
        | R::LimitExceeded => Some(true),
    }
}

// === impl Compiler ===

impl Compiler {
    /// Compiles what a watch or a listing said of a tenant.
    pub fn compile(&mut self, message: &v1::TenantEntitlements) -> Result<Document, Unusable> {
        let entitlements = self.entitlements(message).map_err(|problem| {
            let tenant_id = message.tenant_id.clone();
            Unusable { tenant_id, problem }
        })?;
        let time = |at: Option<prost_types::Timestamp>| at.map(SystemTime::try_from).transpose();
        let (Ok(valid_until), Ok(grace_until)) = (time(message.valid_until), time(message.grace_until)) else {
            return Err(Unusable { tenant_id: message.tenant_id.clone(), problem: "a time in it is no time" });
        };
        // A copy: the bytes of the message would keep all of it in memory.
        let revision = Bytes::copy_from_slice(&message.revision);
        Ok(Document { entitlements: self.shared(entitlements), revision, valid_until, grace_until })
    }

    fn entitlements(&mut self, message: &v1::TenantEntitlements) -> Result<Entitlements, &'static str> {
        if message.revision.is_empty() {
            return Err("it has no revision");
        }
        let mut names = Names::default();
        let mut outcomes = Vec::new();
        for service in &message.services {
            names.add_target(&service.service, "").filter(|_| !service.service.is_empty()).ok_or("it names a service twice")?;
            let outcome =
                |entitled, reason, familiarity_basis_points| Outcome { entitled, reason, familiarity_basis_points };
            outcomes.push(outcome(service.entitled, service.reason, service.familiarity_basis_points));
            for feature in &service.features {
                let named = names.add_target(&service.service, &feature.feature);
                named.filter(|_| !feature.feature.is_empty()).ok_or("it names a feature twice")?;
                if feature.entitled && !service.entitled {
                    return Err("it entitles to a feature of a service that it does not entitle to");
                }
                let familiarity = if feature.entitled { service.familiarity_basis_points } else { 0 };
                outcomes.push(outcome(feature.entitled, feature.reason, familiarity));
            }
        }
        let mut limits = Vec::with_capacity(message.limits.len());
        for limit in &message.limits {
            names.add_limit(&limit.limit).filter(|_| !limit.limit.is_empty()).ok_or("it names a limit twice")?;
            limits.push(match limit.value {
                Some(Value::Maximum(maximum)) if maximum >= 0 => Some(maximum),
                Some(Value::Unlimited(true)) => None,
                Some(_) | None => return Err("it says of a limit neither a maximum nor that there is none"),
            });
        }
        Ok(Entitlements {
            names: self.shared_names(names),
            plan_id: message.plan_id.as_str().into(),
            plan_version: message.plan_version,
            is_active: message.status() == v1::TenantStatus::Active,
            outcomes: outcomes.into(),
            limits: limits.into(),
        })
    }

    fn shared_names(&mut self, names: Names) -> Arc<Names> {
        if let Some(known) = self.names.get(&names) {
            return Arc::clone(known);
        }
        let names = Arc::new(names);
        self.names.insert(Arc::clone(&names));
        names
    }

    fn shared(&mut self, entitlements: Entitlements) -> Arc<Entitlements> {
        if let Some(known) = self.entitlements.get(&entitlements) {
            return Arc::clone(known);
        }
        if self.entitlements.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.entitlements.retain(|known| Arc::strong_count(known) > 1);
            self.names.retain(|known| Arc::strong_count(known) > 1);
            // Twice what is in use: the search costs a step per document.
            self.sweep_at = 2 * self.entitlements.len();
        }
        let entitlements = Arc::new(entitlements);
        self.entitlements.insert(Arc::clone(&entitlements));
        entitlements
    }
}

#[cfg(test)]
pub(super) mod tests;
