//! From a question to an answer: copies the row, loads the tables after it, evaluates, and lends the answer to whoever encodes
//! it. Nothing here waits, and nothing allocates unless revisions, details or an explanation are asked for.

use std::sync::Arc;

use tessera_core::decision::{Query, Reason};
use tessera_core::evaluator::{Tables, TenantRow, evaluate, revision_streams};
use tessera_core::revision;
use tessera_core::stream::{Epoch, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::hooks::{self, Guard};
use tessera_proto::convert::decision::{self as convert, Asked};
use tessera_proto::status::Failure;

use crate::decision_log::Logged;
use crate::matrix::{Found, Installed, Matrix};
use crate::shared::Shared;
use crate::wire::encode::{Answer, AsOf, LimitAnswer};

/// What one request is answered as of. One per request, so that its answers agree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Timestamp,
    pub(crate) staleness_ms: Option<i64>,
    as_of: AsOf,
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) query: Query<'a>,
    pub(crate) wants: Wants,
    /// Set when nobody has looked at the names yet. What is found has a good name, since nothing else is let in; when something
    /// is not found, or there is no answer, its name is looked at before anything else is said.
    pub(crate) unchecked: Option<&'a Asked<'a>>,
    /// Whether the tenant is none of the caller's: the answer is that of a tenant that never was.
    pub(crate) hidden: bool,
    /// How the decision is logged, if it is.
    pub(crate) log: Option<Logged<'a>>,
}

impl Check<'_> {
    fn check_names(&self) -> Result<(), Failure> {
        self.unchecked.map_or(Ok(()), convert::names)
    }
}

/// What an answer should say besides the decision.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    pub(crate) revision: bool,
    pub(crate) detail: bool,
    pub(crate) explanation: bool,
}

/// A matrix, and the tables of it that a batch holds.
#[derive(Debug)]
pub(crate) struct Held {
    matrix: Arc<Matrix>,
    installed: Arc<Installed>,
}

impl Moment {
    /// Now. Copy rows after it, so that no older ones are answered with what is told of newer ones.
    pub(crate) fn of(shared: &Shared) -> Self {
        let now = shared.evaluation.now();
        let staleness_ms = shared.staleness_ms(now);
        Self { now, staleness_ms, as_of: AsOf::new(staleness_ms, now) }
    }

    /// The same for answers from a matrix that was served a little before. If another one is by now, what was told may be of that
    /// one, and of this nothing is told.
    pub(crate) fn told_of(self, matrix: &Arc<Matrix>, shared: &Shared) -> Self {
        if Arc::ptr_eq(matrix, &shared.matrix()) {
            return self;
        }
        Self { staleness_ms: None, as_of: AsOf::new(None, self.now), ..self }
    }
}

impl Held {
    pub(crate) fn new(matrix: Arc<Matrix>) -> Self {
        let installed = matrix.tables_to_keep();
        Self { matrix, installed }
    }

    /// Changes over to another matrix, if it is another.
    pub(crate) fn turn_to(&mut self, matrix: &Arc<Matrix>) {
        if !Arc::ptr_eq(&self.matrix, matrix) {
            *self = Self::new(Arc::clone(matrix));
        }
    }

    /// What there is of a tenant, for [`Self::decide`].
    pub(crate) fn find(&self, tenant: &str) -> Found {
        self.matrix.tenant(tenant)
    }

    /// Decides about what [`Self::find`] found, with the tables that are held unless they are too old for the row.
    pub(crate) fn decide<T>(
        &mut self,
        found: &Found,
        check: &Check<'_>,
        moment: &Moment,
        scratch: &mut Vec<u8>,
        encode: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<(Reason, T), Failure> {
        let found = if check.hidden { &Found::Unknown } else { found };
        let row = found.row().or_else(|failure| check.check_names().and(Err(failure)))?;
        if !self.matrix.is_newest(&self.installed) && hooks::holds(Guard::RowBeforeCatalog) {
            self.installed = self.matrix.tables_to_keep();
        }
        decide_with(&self.installed.tables, row, self.matrix.epoch(), check, moment, scratch, encode)
    }
}

/// Decides one check by itself.
pub(crate) fn decide<T>(
    matrix: &Matrix,
    check: &Check<'_>,
    moment: &Moment,
    scratch: &mut Vec<u8>,
    encode: impl FnOnce(&Answer<'_>) -> T,
) -> Result<(Reason, T), Failure> {
    let row = if check.hidden { None } else { row_of(matrix, check.tenant)? };
    // After the row: see the matrix.
    let installed = matrix.tables();
    decide_with(&installed.tables, row.as_ref(), matrix.epoch(), check, moment, scratch, encode)
}

/// A copy of the tenant's row; `None` when there is no such tenant.
pub(crate) fn row_of(matrix: &Matrix, tenant: &str) -> Result<Option<TenantRow>, Failure> {
    match matrix.tenant(tenant) {
        Found::Row(row) => Ok(Some(row)),
        other => other.row().map(|_| None),
    }
}

impl Found {
    /// The row; `None` when there is no such tenant.
    fn row(&self) -> Result<Option<&TenantRow>, Failure> {
        match self {
            Self::Row(row) => Ok(Some(row)),
            Self::Unknown => Ok(None),
            Self::CatalogBehind => Err(Failure::catalog_behind()),
            Self::Unreadable => {
                Err(Failure::reader_too_old("the state of the tenant cannot be read by this version of the software"))
            }
        }
    }
}

/// Writes the revision of answers about the tenant: every stream they rest on. Nothing when there is none yet.
pub(crate) fn write_revision(
    out: &mut Vec<u8>,
    epoch: Epoch,
    tables: &Tables,
    row: Option<&TenantRow>,
    tenant: &str,
    now: Timestamp,
) {
    let all = hooks::holds(Guard::RevisionNamesAll);
    let streams = revision_streams(tables, tenant, row, now).filter(|named| all || named.kind == StreamKind::Tenant);
    let mut streams = streams.peekable();
    if streams.peek().is_some() {
        revision::write(out, epoch, streams);
    }
}

fn decide_with<T>(
    tables: &Tables,
    row: Option<&TenantRow>,
    epoch: Epoch,
    check: &Check<'_>,
    moment: &Moment,
    scratch: &mut Vec<u8>,
    encode: impl FnOnce(&Answer<'_>) -> T,
) -> Result<(Reason, T), Failure> {
    let verdict = evaluate(tables, row, &check.query, moment.now);
    if matches!(verdict.reason(), Reason::TenantUnknown | Reason::ServiceUnknown | Reason::FeatureUnknown) {
        check.check_names()?;
    }
    scratch.clear();
    if check.wants.revision {
        write_revision(scratch, epoch, tables, row, check.tenant, moment.now);
    }
    let (plan_id, plan_version) = verdict.plan(tables).map_or(("", 0), |(id, version)| (id.as_str(), version.get()));
    let limit = verdict.limit().and_then(|limit| {
        let name = limit.name(tables)?.as_str();
        let remaining = limit.remaining().map(tessera_core::value::Amount::get);
        Some(LimitAnswer { name, value: limit.value, used: limit.used.get(), remaining })
    });
    let detail = if check.wants.detail { verdict.detail(tables, row, moment.now) } else { None };
    let answer = Answer {
        reason: verdict.reason(),
        plan_id,
        plan_version,
        familiarity_basis_points: verdict.familiarity_basis_points(),
        limit,
        valid_until: verdict.valid_until(),
        revision: scratch,
        as_of: &moment.as_of,
        grace_until: verdict.grace_until(),
        detail: detail.as_ref().map(convert::to_detail),
        explanation: check.wants.explanation.then(|| verdict.explanation()),
    };
    if let Some(log) = &check.log
        && log.samples(verdict.reason().entitles())
    {
        let mut revision = Vec::new();
        write_revision(&mut revision, epoch, tables, row, check.tenant, moment.now);
        log.decided(moment.now, check, &answer, &revision);
    }
    Ok((verdict.reason(), encode(&answer)))
}

#[cfg(test)]
mod tests;
