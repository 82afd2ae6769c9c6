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

use tessera_proto::convert::decision::{Asked, AskedLimit, query};

use super::names::Names;
use crate::decision::{Allowance, Familiarity, PlanVersion, Reason};
use crate::document::{Entitlements as Message, TenantStatus};
use crate::freshness::Revision;

/// What a tenant may use until time or a change makes it otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    entitlements: Arc<Entitlements>,
    revision: Revision,
    valid_until: Option<SystemTime>,
    grace_until: Option<SystemTime>,
}

/// What is said alike of many tenants.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Entitlements {
    names: Arc<Names>,
    plan: PlanVersion,
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
    reason: Reason,
    /// The service's; zero when not entitled.
    familiarity: Familiarity,
}

/// An answer out of a [`Document`], to be read beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Yes or no; the one field to decide by.
    pub(crate) entitled: bool,
    /// Why.
    pub(crate) reason: Reason,
    /// How much of the service's UI is shown; zero when not entitled.
    pub(crate) familiarity: Familiarity,
    /// The limit that was asked about, whenever a check would tell it.
    pub(crate) limit: Option<LimitVerdict>,
}

/// What is known of the limit that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitVerdict {
    at: usize,
    /// What the tenant has of it; `None` is unlimited.
    pub(crate) maximum: Option<i64>,
    /// As the caller reported, 0 or more.
    pub(crate) used: i64,
}

/// A message is no document that answers could be made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the document cannot be answered from: {0}")]
pub(crate) struct Unusable(&'static str);

/// Compiles documents, and keeps what they share once.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
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
    pub(crate) fn verdict(&self, asked: &Asked<'_>) -> Option<Verdict> {
        let known = &*self.entitlements;
        let Some(outcome) = known.names.target(asked.service, asked.feature).and_then(|at| known.outcomes.get(at)) else {
            return known.unregistered(asked);
        };
        let verdict =
            Verdict { entitled: outcome.entitled, reason: outcome.reason, familiarity: outcome.familiarity, limit: None };
        match &asked.limit {
            None => Some(verdict),
            Some(limit) => known.with_limit(verdict, asked, limit),
        }
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> &PlanVersion {
        &self.entitlements.plan
    }

    /// How new the document is.
    pub(crate) fn revision(&self) -> &Revision {
        &self.revision
    }

    /// When time alone changes the document next; `None`: never. From then on it is no answer any more.
    pub(crate) fn valid_until(&self) -> Option<SystemTime> {
        self.valid_until
    }

    /// The earliest instant at which a suspension takes effect that has not yet.
    pub(crate) fn grace_until(&self) -> Option<SystemTime> {
        self.grace_until
    }

    /// The name of the limit that a verdict of this document tells of.
    pub(crate) fn limit_name(&self, limit: &LimitVerdict) -> &str {
        self.entitlements.names.limit_name(limit.at).unwrap_or_default()
    }
}

impl Verdict {
    fn denied(reason: Reason, limit: Option<LimitVerdict>) -> Self {
        Self { entitled: false, reason, familiarity: Familiarity::default(), limit }
    }
}

impl LimitVerdict {
    /// How much is left before the amount that was asked for; `None` when unlimited.
    pub(crate) fn remaining(&self) -> Option<i64> {
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
        let reason = if service { Reason::FEATURE_UNKNOWN } else { Reason::SERVICE_UNKNOWN };
        Some(Verdict::denied(reason, None))
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
            None => Some(Reason::LIMIT_UNKNOWN),
            Some(found) if found.exceeded_by(limit.amount) => Some(Reason::LIMIT_EXCEEDED),
            Some(_) => None,
        };
        Some(match refused.filter(|_| verdict.entitled) {
            None => Verdict { limit: found, ..verdict },
            Some(reason) => Verdict::denied(reason, found),
        })
    }
}

/// Whether a decision for that reason has come to step 5, from which on it tells of limits. `None`: a reason of a later version.
fn tells_limits(reason: Reason) -> Option<bool> {
    match reason {
        Reason::TENANT_UNKNOWN
        | Reason::SERVICE_UNKNOWN
        | Reason::FEATURE_UNKNOWN
        | Reason::DISABLED
        | Reason::TENANT_DELETED
        | Reason::TENANT_PENDING
        | Reason::TENANT_SUSPENDED => Some(false),
        Reason::NOT_STARTED
        | Reason::SUBSCRIPTION_ENDED
        | Reason::TRIAL_ENDED
        | Reason::DENIED_BY_OVERRIDE
        | Reason::GRANTED_BY_OVERRIDE
        | Reason::GRANTED_BY_ADD_ON
        | Reason::GRANTED_BY_PLAN
        | Reason::SERVICE_NOT_IN_PLAN
        | Reason::FEATURE_NOT_IN_PLAN
        | Reason::LIMIT_UNKNOWN
        | Reason::LIMIT_EXCEEDED => Some(true),
        _ => None,
    }
}

// === impl Compiler ===

impl Compiler {
    /// Compiles what a watch said of a tenant.
    pub(crate) fn compile(&mut self, message: &Message) -> Result<Document, Unusable> {
        if message.revision.is_empty() {
            return Err(Unusable("it has no revision"));
        }
        let entitlements = self.entitlements(message)?;
        Ok(Document {
            entitlements: self.shared(entitlements),
            // A copy: the bytes of the message would keep all of it in memory.
            revision: Revision::from_bytes(message.revision.as_bytes().to_vec()),
            valid_until: message.valid_until,
            grace_until: message.grace_until,
        })
    }

    fn entitlements(&mut self, message: &Message) -> Result<Entitlements, Unusable> {
        let mut registry = Names::default();
        let mut outcomes = Vec::new();
        for service in &message.services {
            let named = registry.add_target(&service.service, "").filter(|_| !service.service.is_empty());
            named.ok_or(Unusable("it names a service twice, or one without a name"))?;
            outcomes.push(Outcome { entitled: service.entitled, reason: service.reason, familiarity: service.familiarity });
            for feature in &service.features {
                let named = registry.add_target(&service.service, &feature.feature).filter(|_| !feature.feature.is_empty());
                named.ok_or(Unusable("it names a feature twice, or one without a name"))?;
                if feature.entitled && !service.entitled {
                    return Err(Unusable("it entitles to a feature of a service that it does not entitle to"));
                }
                let familiarity = if feature.entitled { service.familiarity } else { Familiarity::default() };
                outcomes.push(Outcome { entitled: feature.entitled, reason: feature.reason, familiarity });
            }
        }
        let mut limits = Vec::with_capacity(message.limits.len());
        for limit in &message.limits {
            let named = registry.add_limit(&limit.limit).filter(|_| !limit.limit.is_empty());
            named.ok_or(Unusable("it names a limit twice, or one without a name"))?;
            limits.push(match limit.allowance {
                Allowance::Unlimited => None,
                Allowance::AtMost(maximum) if maximum >= 0 => Some(maximum),
                Allowance::AtMost(_) => return Err(Unusable("a limit in it is below zero")),
            });
        }
        Ok(Entitlements {
            names: self.shared_names(registry),
            plan: message.plan.clone(),
            is_active: message.status == TenantStatus::Active,
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
