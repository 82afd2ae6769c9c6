//! `ListEntitlements`: the whole document of a tenant; and how documents are made, for watches too.

use tessera_core::evaluator::{TenantRow, document};
use tessera_core::ids::TenantId;
use tessera_core::rejection::Rejection;
use tessera_core::time::Timestamp;
use tessera_proto::convert::decision::to_document;
use tessera_proto::convert::time::to_timestamp;
use tessera_proto::status::Failure;
use tessera_proto::v1;

use super::Entitlements;
use crate::consistency::{Caller, Demand};
use crate::decide::{Moment, row_of, write_revision};
use crate::matrix::Matrix;

/// A document, and until when time leaves it as it is.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) message: v1::TenantEntitlements,
    pub(super) valid_until: Option<Timestamp>,
}

impl Entitlements {
    pub(super) async fn list(
        &self,
        message: v1::ListEntitlementsRequest,
        caller: Caller,
    ) -> Result<v1::ListEntitlementsResponse, Failure> {
        let parts = &*self.0;
        let tenant = message.tenant_id.as_str();
        check_tenant("tenant_id", tenant)?;
        tessera_runtime::telemetry::traces::note_tenant(tenant);
        let demand = Demand::of(message.consistency.as_ref(), tenant)?;
        // Whoever has nothing left waits for nothing, and has nothing read.
        let features = parts.shared.matrix().tables().tables.feature_count();
        parts.limits.charge_caller(&caller, features)?;
        // A tenant that is not there has no bucket. It may come while it is waited for.
        let is_there = !matches!(row_of(&parts.shared.matrix(), tenant), Ok(None));
        if is_there {
            parts.limits.charge_tenant(&caller, tenant, features)?;
        }
        let matrix = parts.consistency.meet(tenant, &demand, &caller, parts.consistency.wait_until(&caller)).await?;
        let moment = Moment::of(&parts.shared).told_of(&matrix, &parts.shared);
        let row = known_row(&matrix, tenant, &caller)?;
        if !is_there {
            parts.limits.charge_tenant(&caller, tenant, features)?;
        }
        parts.shared.metrics.lists.increment(1);
        let document = make(&matrix, &row, tenant, &moment)?;
        let known = &message.if_document_tag_differs_from;
        if !known.is_empty() && *known == document.message.document_tag {
            return Ok(v1::ListEntitlementsResponse { document: None, not_modified: true });
        }
        Ok(v1::ListEntitlementsResponse { document: Some(document.message), not_modified: false })
    }
}

/// `Err` names the field when the id breaks the grammar.
pub(super) fn check_tenant(field: &str, tenant: &str) -> Result<(), Failure> {
    TenantId::check(tenant).map_err(|error| Failure::invalid_field(field, error.to_string()))
}

/// The tenant's row; `NOT_FOUND` when there is no such tenant, as far as the caller can see.
pub(super) fn known_row(matrix: &Matrix, tenant: &str, caller: &Caller) -> Result<TenantRow, Failure> {
    let unknown = || Rejection::not_found("TENANT_NOT_FOUND", format!("tenant `{tenant}` does not exist")).into();
    if !caller.sees(tenant) {
        return Err(unknown());
    }
    row_of(matrix, tenant)?.ok_or_else(unknown)
}

/// The document of a row, with the newest tables: loaded after the row was copied.
pub(super) fn make(matrix: &Matrix, row: &TenantRow, tenant: &str, moment: &Moment) -> Result<Document, Failure> {
    let installed = matrix.tables();
    let tables = &installed.tables;
    let effective = document(tables, row, moment.now);
    let effective = effective.ok_or_else(|| Failure::internal("the tenant's plan is not in the matrix"))?;
    let mut revision = Vec::with_capacity(64);
    write_revision(&mut revision, matrix.epoch(), tables, Some(row), tenant, moment.now);
    let message = v1::TenantEntitlements {
        revision: revision.into(),
        staleness_ms: moment.staleness_ms,
        evaluated_at: Some(to_timestamp(moment.now)),
        document_tag: effective.tag(),
        ..to_document(tenant, &effective)
    };
    Ok(Document { message, valid_until: effective.valid_until })
}
