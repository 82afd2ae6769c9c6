//! Which streams an answer rests on, for revisions.

use super::row::TenantRow;
use super::standing::Standing;
use super::tables::Tables;
use crate::revision::Named;
use crate::stream::{Seq, StreamId, StreamKind, stream_hash};
use crate::time::Timestamp;

/// The streams that answers about `tenant` as of `now` rest on, at their applied seqs: the catalog, the tenant, the plan in
/// force, its add-ons. For an unknown tenant (`None`) the catalog alone, and nothing at all before there is one.
pub fn revision_streams<'t>(
    tables: &'t Tables,
    tenant: &str,
    row: Option<&'t TenantRow>,
    now: Timestamp,
) -> impl Iterator<Item = Named> + use<'t> {
    let catalog = named(StreamKind::Catalog, StreamId::Catalog.hash(), tables.catalog_seq());
    let tenant = row.and_then(|row| named(StreamKind::Tenant, stream_hash(StreamKind::Tenant, tenant), row.seq()));
    let standing = row.map(|row| Standing::of(tables, row, now));
    let plan = standing.as_ref().and_then(|standing| tables.plan_table().get(standing.plan.index));
    let plan = plan.and_then(|plan| named(StreamKind::Plan, plan.hash, plan.seq));
    let attached = standing.and_then(|standing| standing.extras).map_or(&[][..], |extras| &extras.add_ons);
    let add_ons = attached.iter().filter_map(|row| {
        let add_on = tables.add_on_table().get(row.add_on.index)?;
        named(StreamKind::AddOn, add_on.hash, add_on.seq)
    });
    [catalog, tenant, plan].into_iter().flatten().chain(add_ons)
}

/// A stream without an event has no name in a revision.
fn named(kind: StreamKind, hash: u64, seq: Seq) -> Option<Named> {
    (seq > 0).then_some(Named { kind, hash, seq })
}
