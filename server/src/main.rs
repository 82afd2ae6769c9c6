//! `tessera-server`: the data plane as a process of its own. The one place of it that names backends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_backends::{Config, Opening, Patience, Purpose};
use tessera_ports::IdSource;
use tessera_runtime::clock::SystemClock;
use tessera_server::process::{self, Backends, Opened};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::run(std::env::args_os(), &Backends { check, open, data_dir })
}

fn check(config: &Config) -> anyhow::Result<()> {
    config.validate().map_err(anyhow::Error::msg)
}

fn data_dir(config: &Config) -> Option<PathBuf> {
    config.data_dir().map(Path::to_owned)
}

fn open(config: Config, ids: Arc<dyn IdSource>, can_wait: bool) -> BoxFuture<'static, anyhow::Result<Opened>> {
    async move {
        if !config.is_shared() {
            tracing::warn!("these backends are for one process: no loader can write while this one runs; `tessera dev` is both");
        }
        let patience = if can_wait { Patience::Endless } else { Patience::UntilRefused };
        let opening = Opening { purpose: Purpose::Serving, ids, clock: Arc::new(SystemClock) };
        let tessera_backends::Backends { ports, fatal } = tessera_backends::open_in_time(&config, opening, patience).await?;
        Ok(Opened { store: ports.store, feed: ports.feed, fatal })
    }
    .boxed()
}
