//! A tenant and what it was entitled to as of a time. In the past every stream it rests on is folded to that time; in the
//! future today's states are asked with the clock set forward.
//!
//! Clocks of different loaders differ a little: a stream that the tenant, or a plan or add-on of it, was decided against is folded at
//! least to the seq that their states name, even where the event that made it is dated later.

use std::collections::{BTreeMap, BTreeSet};

use tessera_core::catalog::Catalog;
use tessera_core::evaluator::{self, Tables, TenantRow};
use tessera_core::ids::TenantId;
use tessera_core::plan::PlanState;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::tenant::{Tenant, TenantState, schedule};
use tessera_core::time::Timestamp;
use tessera_proto::convert::{decision, tenant as convert, time};
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tokio::sync::Semaphore;

use crate::aggregate::Handled;
use crate::etag;
use crate::grpc::mutation::revision_at;
use crate::grpc::tenant_svc::not_found;
use crate::refusal::Refusal;
use crate::streams::{Streams, Until};

/// Every stream there is, to be read as of a time.
#[derive(Debug)]
pub(crate) struct Past<'a> {
    pub(crate) catalog: &'a Streams<Catalog>,
    pub(crate) offers: &'a Streams<PlanState>,
    pub(crate) tenants: &'a Streams<TenantState>,
    /// Held for one read of history.
    pub(crate) turns: &'a Semaphore,
}

impl Past<'_> {
    /// The tenant as of `at`, where it is `now`.
    pub(crate) async fn tenant_at(
        &self,
        id: &TenantId,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<v1::GetTenantAtResponse, Failure> {
        let stream = StreamId::Tenant(id.clone());
        // Strong, so that everything answered before is seen.
        let (newest, _) = self.tenants.read(&stream, &[]).await?;
        let as_of = AsOf { at, is_past: at < now, turns: self.turns };
        let (seq, state) = as_of.state(self.tenants, &stream, 0).await?;
        let tenant = state.0.ok_or_else(|| not_found(id.as_str()))?;
        let tables = self.tables(as_of, &tenant).await?;
        let row = TenantRow::compile(&tables, seq, &tenant)
            .map_err(|missing| Failure::internal(format!("tenant `{id}` as of then: {missing}")))?;
        let document = evaluator::document(&tables, &row, at)
            .ok_or_else(|| Failure::internal("a row cannot be asked of the tables it was compiled against"))?;

        let stands = schedule::at(&tenant, at);
        let effective = Some(document.plan.1);
        let etag = etag::of_stream(newest.epoch, seq);
        Ok(v1::GetTenantAtResponse {
            tenant: Some(convert::to_tenant(id, &stands, stands.status(at), effective, etag)),
            entitlements: Some(v1::TenantEntitlements {
                revision: revision_at(newest.epoch, &stream, seq),
                evaluated_at: Some(time::to_timestamp(at)),
                document_tag: document.tag(),
                ..decision::to_document(id.as_str(), &document)
            }),
        })
    }

    /// Catalog, plans and add-ons as of then, as far as the tenant names them.
    async fn tables(&self, as_of: AsOf<'_>, tenant: &Tenant) -> Result<Tables, Failure> {
        let references = &tenant.references;
        let mut plans = BTreeMap::new();
        for id in tenant.named_plans().collect::<BTreeSet<_>>() {
            let at_least = references.plans.get(id).copied().unwrap_or(0);
            plans.insert(id, as_of.state(self.offers, &StreamId::Plan(id.clone()), at_least).await?);
        }
        let mut add_ons = BTreeMap::new();
        for id in tenant.add_ons.keys() {
            let at_least = references.add_ons.get(id).copied().unwrap_or(0);
            add_ons.insert(id, as_of.state(self.offers, &StreamId::AddOn(id.clone()), at_least).await?);
        }
        // After them: what they name was in the catalog before it was in them.
        let offers = plans.values().chain(add_ons.values()).filter_map(|(_, offer)| offer.0.as_ref());
        let at_least = offers.map(|offer| offer.references.catalog).fold(references.catalog, Seq::max);
        let (seq, catalog) = as_of.state(self.catalog, &StreamId::Catalog, at_least).await?;

        let mut tables = Tables::empty();
        let unreadable = |error: evaluator::TablesError| Failure::internal(error.to_string());
        tables.set_catalog(seq, &catalog).map_err(unreadable)?;
        for (id, (seq, plan)) in plans {
            tables.set_plan(id, seq, plan.0.as_ref()).map_err(unreadable)?;
        }
        for (id, (seq, add_on)) in add_ons {
            tables.set_add_on(id, seq, add_on.0.as_ref()).map_err(unreadable)?;
        }
        Ok(tables)
    }
}

/// A time at which streams are read.
#[derive(Debug, Clone, Copy)]
struct AsOf<'a> {
    at: Timestamp,
    is_past: bool,
    turns: &'a Semaphore,
}

impl AsOf<'_> {
    /// A stream as of then, at least at the seq `at_least`.
    async fn state<A: Handled>(self, streams: &Streams<A>, stream: &StreamId, at_least: Seq) -> Result<(Seq, A), Refusal> {
        if self.is_past {
            let folded = streams.fold(self.turns, stream, Until::TimeAndSeq(self.at, at_least)).await?;
            return Ok((folded.seq, folded.state));
        }
        let (now, _) = streams.read(stream, &[]).await?;
        Ok((now.head.seq, (*now.state).clone()))
    }
}
