//! Leases: who of several loaders is at work, so that they share what one of them would be enough for.
//!
//! A lease divides work and makes nothing safe: two who take each other for dead do the same work twice, and whatever is
//! shared by leases must be harmless when done twice.

use std::time::Duration;

use async_trait::async_trait;

use crate::event_store::ReadError;

/// Keeps leases. They end by the store's own clock.
#[async_trait]
pub trait LeaseStore: std::fmt::Debug + Send + Sync + 'static {
    /// Begins the lease of `owner`, or has it end sooner or later, so that it ends `time` from now (whole seconds, at least one);
    /// who has one now, `owner` among them, in order.
    async fn renew(&self, owner: &str, time: Duration) -> Result<Vec<String>, ReadError>;
}
