//! `tessera-server`: the data plane as a process of its own. The one place of it that names backends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use futures::FutureExt as _;
use tessera_ports::IdSource;
use tessera_server::process::{self, Backends, Opened};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::run(std::env::args_os(), &Backends { check, open, data_dir })
}

fn check(config: &tessera_backends::Config) -> anyhow::Result<()> {
    config.validate().map_err(anyhow::Error::msg)
}

fn data_dir(config: &tessera_backends::Config) -> Option<PathBuf> {
    config.data_dir().map(Path::to_owned)
}

fn open(config: &tessera_backends::Config, ids: &dyn IdSource) -> anyhow::Result<Opened> {
    if !config.is_shared() {
        tracing::warn!("these backends are for one process: no loader can write while this one runs; `tessera dev` is both");
    }
    let backends = tessera_backends::open(config, ids)?;
    let fatal = backends.fatal.wait().map(|reason| reason.to_string()).boxed();
    Ok(Opened { store: backends.store, feed: backends.feed, fatal })
}
