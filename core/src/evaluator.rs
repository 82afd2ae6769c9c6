//! The evaluator: one question about one tenant at one time, answered from compiled tables without an allocation.
//!
//! [`Tables`] hold the catalog, plans and add-ons, compiled to ordinals and bitsets; a [`TenantRow`] holds a tenant, compiled
//! against them; [`evaluate`] answers with a [`Verdict`] of indices, which the edges turn into what they send. Who keeps
//! tables and rows, and in which order they are swapped, is the matrix's business, not this module's; what the answers mean
//! is written once more, slowly, in [`crate::reference`], and tests hold the two equal.
//!
//! Rows and tables belong to one lineage: tables that came from one another by `set_*` or `with_*`. A row may be asked of the
//! tables it was compiled against or of any later ones of the lineage.

mod catalog_table;
mod document;
mod offer_table;
mod packed_row;
mod row;
mod standing;
mod steps;
mod streams;
mod tables;
mod verdict;

pub use document::{document, next_edge};
pub use packed_row::{NotARow, ROW_FORMAT};
pub use row::TenantRow;
pub use streams::revision_streams;
pub use tables::{Missing, Tables, TablesError, Unresolved};
pub use verdict::{LimitVerdict, Verdict};

use crate::decision::{Query, Reason, Step, StepOutcome};
use crate::time::Timestamp;
use standing::Standing;

/// Answers `query` for the tenant of `row` (`None`: there is no such tenant) as of `now`. Never allocates, never fails.
pub fn evaluate(tables: &Tables, row: Option<&TenantRow>, query: &Query<'_>, now: Timestamp) -> Verdict {
    let Some(row) = row else { return Verdict::unknown_tenant() };
    let standing = Standing::of(tables, row, now);
    let mut verdict = Verdict::before_step_two(&standing);

    let catalog = tables.catalog();
    let asked_feature = if query.feature.is_empty() { None } else { catalog.feature_named(query.service, query.feature) };
    verdict.feature = asked_feature.map(|(_, feature)| feature);
    let service = asked_feature.map_or_else(|| catalog.service_ordinal(query.service), |(service, _)| Some(service));
    verdict.service = service;
    let Some(service) = service else {
        return verdict.denied(Step::NotRegistered, Reason::ServiceUnknown);
    };
    if !query.feature.is_empty() && verdict.feature.is_none() {
        return verdict.denied(Step::NotRegistered, Reason::FeatureUnknown);
    }

    let outcome = steps::access(&standing, service, verdict.feature);
    verdict.take_access(&outcome);
    if let Some(asked) = query.limit {
        let limit = catalog.limit_ordinal(asked.name);
        if let Some(ordinal) = limit.filter(|_| outcome.step >= Step::Subscription) {
            let (value, edge) = steps::limit_value(&standing, ordinal);
            verdict.take_limit(LimitVerdict { ordinal, value, used: asked.used }, edge);
        }
        if outcome.reason.entitles() {
            let refused = match verdict.limit {
                None => Some(Reason::LimitUnknown),
                Some(limit) if limit.exceeded_by(asked.amount) => Some(Reason::LimitExceeded),
                Some(_) => None,
            };
            verdict.limit_step = if refused.is_some() { StepOutcome::Matched } else { StepOutcome::NotMatched };
            verdict.reason = refused.unwrap_or(outcome.reason);
        }
    }
    if verdict.entitled() {
        verdict.familiarity = Some(steps::familiarity(&standing, service));
    }
    verdict
}
