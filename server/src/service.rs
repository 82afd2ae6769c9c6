//! `tessera.v1.EntitlementService`: one file per call, and what every call goes through first.
//!
//! - `service/services.rs`: whose call it is; `service/server.rs`: from HTTP to the calls and back;
//! - `service/admission.rs`, `service/request_id.rs`: before the message is read, and what goes back with every answer;
//! - `service/check.rs`, `service/batch.rs`, `service/stream.rs`: checks, alone and many at a time;
//! - `service/list.rs`, `service/watch.rs`: documents;
//! - `service/ext_authz.rs`: checks that Envoys ask for, in their own protocol.

mod admission;
mod batch;
mod check;
pub(crate) mod ext_authz;
mod list;
mod request_id;
pub(crate) mod server;
pub(crate) mod services;
mod stream;
mod watch;

use std::sync::Arc;

use tessera_runtime::lifecycle::Shutdown;

use crate::Config;
use crate::consistency::Consistency;
use crate::limits::Limits;
use crate::shared::Shared;
use request_id::RequestIds;
use watch::places::Places;

/// Longest request, in bytes: 10,000 checks of ordinary ids.
pub(crate) const REQUEST_LEN_MAX: usize = 2 << 20;
/// Longest answer, in bytes. Kept by construction: see `batch.rs`.
pub(crate) const ANSWER_LEN_MAX: usize = 4 << 20;

/// The calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Entitlements(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    shared: Arc<Shared>,
    consistency: Consistency,
    config: Arc<Config>,
    shutdown: Shutdown,
    watches: Arc<Places>,
    request_ids: RequestIds,
    limits: Limits,
}

impl Entitlements {
    pub(crate) fn new(shared: Arc<Shared>, consistency: Consistency, config: Arc<Config>, shutdown: Shutdown) -> Self {
        let request_ids = RequestIds::new(shared.clock.now());
        let limits = Limits::new(&config);
        let watches = Arc::new(Places::new(&config, shared.metrics.watch_streams.clone()));
        Self(Arc::new(Parts { shared, consistency, config, shutdown, watches, request_ids, limits }))
    }
}
