//! `tessera-loader`: the control plane as a process of its own. The one place of it that names backends.

use std::process::ExitCode;

use futures::FutureExt as _;
use tessera_loader::process::{self, Opened};
use tessera_ports::IdSource;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    process::run(std::env::args_os(), open)
}

fn open(config: &tessera_backends::Config, ids: &dyn IdSource) -> anyhow::Result<Opened> {
    config.validate().map_err(anyhow::Error::msg)?;
    if !config.is_shared() {
        tracing::warn!("these backends are for one process: no server can read while this one runs; `tessera dev` is both");
    }
    let backends = tessera_backends::open(config, ids)?;
    let fatal = backends.fatal.wait().map(|reason| reason.to_string()).boxed();
    Ok(Opened { store: backends.store, publisher: backends.publisher, hints: backends.hints, fatal })
}
