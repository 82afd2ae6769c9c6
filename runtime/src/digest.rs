//! Digests as the pages and the command line show them: that of a matrix and that of its store, equal when nothing is under way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tessera_core::digest::{StateDigest, state_checksum};
use tessera_core::stream::{Epoch, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::event_store::ReadError;

/// States read at a time: so many of the longest are about 64 MiB of tenants, or 14 MiB of anything else.
fn page_rows(kind: StreamKind) -> usize {
    if kind == StreamKind::Tenant { 256 } else { 16 }
}

/// Epoch, counts by kind and digest; names nothing.
pub fn shown(epoch: Epoch, digest: &StateDigest) -> Value {
    let counts: BTreeMap<&str, u64> = StreamKind::ALL.into_iter().map(|kind| (kind.name(), digest.count(kind))).collect();
    json!({ "epoch": epoch, "streams": counts, "digest": digest.to_string() })
}

/// Scans every current state of the store.
pub async fn of_store(store: &dyn EventStore) -> Result<Value, ReadError> {
    let identity = store.identity().await?;
    let mut digest = StateDigest::default();
    for kind in StreamKind::ALL {
        for range in store.scan_ranges(kind).await? {
            let mut rest = Some(range);
            while let Some(range) = rest {
                let page = store.scan(&range, page_rows(kind)).await?;
                for change in &page.changes {
                    digest.add(kind, change.stream.key().as_bytes(), change.seq, state_checksum(&change.state));
                }
                rest = page.rest;
            }
        }
    }
    Ok(shown(identity.epoch, &digest))
}
