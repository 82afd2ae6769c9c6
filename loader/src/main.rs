//! `tessera-loader`: the control plane as a process of its own. The one place of it that names backends.

use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_backends::{Backends, Config, Opening, Patience, Ports, Purpose};
use tessera_loader::process::{self, Opened};
use tessera_ports::IdSource;
use tessera_runtime::clock::SystemClock;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::run(std::env::args_os(), open)
}

fn open(config: Config, ids: Arc<dyn IdSource>) -> BoxFuture<'static, anyhow::Result<Opened>> {
    async move {
        if !config.is_shared() {
            tracing::warn!("these backends are for one process: no server can read while this one runs; `tessera dev` is both");
        }
        let opening = Opening { purpose: Purpose::Loading, ids, clock: Arc::new(SystemClock) };
        let opened = tessera_backends::open_in_time(&config, opening, Patience::UntilRefused).await?;
        let Backends { ports: Ports { store, publisher, events, hints, leases, .. }, fatal } = opened;
        Ok(Opened { store, publisher, events, hints, leases, fatal })
    }
    .boxed()
}
