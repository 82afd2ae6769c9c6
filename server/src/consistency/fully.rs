//! `fully_consistent`: where the streams stand is asked of the store, strongly, at the time of the call. It is not a way past
//! the matrix: the answer comes from there, once it is as new.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::try_join_all;
use tessera_core::evaluator::revision_streams;
use tessera_core::ids::TenantId;
use tessera_core::revision::Named;
use tessera_core::stream::{Epoch, StreamId, StreamKind};
use tessera_core::tenant::TenantState;
use tessera_core::time::Timestamp;
use tessera_ports::event_store::StreamRead;
use tessera_ports::hooks::{self, Guard};
use tessera_proto::status::Failure;
use tessera_proto::storage;
use tokio::time::Instant;
use tracing::debug;

use super::{Caller, Consistency, NotReached, before};
use crate::matrix::{Found, Matrix};

/// How often the streams are asked for again because the tenant names others by now.
const ROUNDS_MAX: usize = 4;

/// Where the streams of a tenant stood.
#[derive(Debug)]
struct Heads {
    epoch: Epoch,
    names: Vec<Named>,
    streams: Vec<StreamId>,
}

impl Consistency {
    pub(super) async fn fully_consistent(&self, tenant: &str, caller: &Caller) -> Result<Arc<Matrix>, Failure> {
        // Of another store, perhaps, than its heads would be.
        if !self.shared.matrix().is_of_store_read() {
            self.shared.metrics.fully_consistent_failed.increment(1);
            return Err(Failure::store_unavailable("a snapshot is served, and whether the store is its own is not known"));
        }
        let longest = Instant::now() + self.config.store_read_timeout();
        let until = caller.deadline.map_or(longest, |deadline| longest.min(before(deadline)));
        let metrics = &self.shared.metrics;
        let id = TenantId::parse(tenant).map_err(|error| Failure::invalid_field("tenant_id", error.to_string()))?;
        let permit = self.permits.take(caller, until).await;
        let _permit = permit.inspect_err(|_| metrics.fully_consistent_refused.increment(1))?;
        for _ in 0..ROUNDS_MAX {
            let read = tokio::time::timeout_at(until, self.heads(&id)).await;
            let heads = match read.unwrap_or_else(|_| Err(Failure::store_unavailable("the store did not answer in time"))) {
                Ok(heads) => heads,
                Err(failure) => {
                    metrics.fully_consistent_failed.increment(1);
                    return Err(failure);
                }
            };
            metrics.fully_consistent_read.increment(1);
            let reached = self.reach(tenant, heads.epoch, &heads.names, &heads.streams, self.wait_until(caller)).await;
            match reached {
                Ok(matrix) if names_only(&matrix, tenant, &heads.names, self.shared.evaluation.now()) => return Ok(matrix),
                // Another stream is named by now, or another epoch is served: ask again.
                Ok(_) | Err(NotReached::NewerEpoch) => {}
                Err(NotReached::InTime) => return Err(Failure::revision_not_reached()),
            }
        }
        Err(Failure::revision_not_reached())
    }

    /// Strongly reads the tenant, then the heads of what it names.
    async fn heads(&self, id: &TenantId) -> Result<Heads, Failure> {
        let own = StreamId::Tenant(id.clone());
        let read = self.head(&own, true).await?;
        let mut streams = BTreeSet::from([StreamId::Catalog]);
        if let Some(state) = &read.state {
            match storage::decode_state::<TenantState>(state) {
                Ok((TenantState(Some(tenant)), _)) => {
                    streams.extend(tenant.named_plans().cloned().map(StreamId::Plan));
                    streams.extend(tenant.add_ons.keys().cloned().map(StreamId::AddOn));
                }
                Ok((TenantState(None), _)) => {}
                Err(error) => return Err(Failure::reader_too_old(format!("the state of the tenant cannot be read: {error}"))),
            }
        }
        if !hooks::holds(Guard::FullyConsistentReadsAllHeads) {
            streams.clear();
        }
        let others = try_join_all(streams.iter().map(|stream| self.head(stream, false))).await?;
        let mut names = Vec::with_capacity(others.len() + 1);
        for (stream, head) in std::iter::once((&own, &read)).chain(streams.iter().zip(&others)) {
            if head.epoch != read.epoch {
                return Err(Failure::store_unavailable("the store moved to another epoch meanwhile"));
            }
            if head.head.seq > 0 {
                names.push(Named::new(stream, head.head.seq));
            }
        }
        Ok(Heads { epoch: read.epoch, names, streams: streams.into_iter().collect() })
    }

    /// One strong read; the state comes along only if asked for.
    async fn head(&self, stream: &StreamId, with_state: bool) -> Result<StreamRead, Failure> {
        let known = if with_state { None } else { self.applied(stream) };
        self.store.read(stream, &[], known).await.map_err(|error| {
            debug!(%error, kind = stream.kind().name(), "a strong read failed");
            self.shared.metrics.store_errors.increment(1);
            Failure::store_unavailable("the store cannot be read, which fully_consistent needs")
        })
    }

    /// The seq that is likely still the newest, so that its state need not be sent again.
    fn applied(&self, stream: &StreamId) -> Option<u64> {
        let matrix = self.shared.matrix();
        matrix.tables().tables.seq_by_hash(stream.kind(), stream.hash()).filter(|_| stream.kind() != StreamKind::Tenant)
    }
}

/// Whether the tenant's row, as it answers, rests on nothing that was not asked for.
fn names_only(matrix: &Matrix, tenant: &str, asked: &[Named], now: Timestamp) -> bool {
    if !hooks::holds(Guard::FullyConsistentReadsAllHeads) {
        return true;
    }
    let Found::Row(row) = matrix.tenant(tenant) else { return true };
    let installed = matrix.tables();
    revision_streams(&installed.tables, tenant, Some(&row), now)
        .all(|named| asked.iter().any(|known| (known.kind, known.hash) == (named.kind, named.hash)))
}
