//! Leases in memory; they end by tokio's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::store::MemoryStore;
use super::store_faults::Operation;
use crate::event_store::ReadError;
use crate::lease_store::LeaseStore;

/// Until when, by owner.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<String, Instant>);

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError> {
        self.operate(Operation::RenewLease, |inner| {
            let now = Instant::now();
            let leases = &mut inner.leases.0;
            // An instant too far away to be told is as good as never: an hour will be renewed in time.
            leases.insert(owner.to_owned(), now.checked_add(time).unwrap_or(now + Duration::from_hours(1)));
            leases.retain(|_, until| *until > now);
            Ok(leases.keys().cloned().collect())
        })
        .await
    }
}
