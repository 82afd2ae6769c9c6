//! `tessera-loadtest`: open-loop load for whole deployments.

use std::process::ExitCode;

/// The allocator of the other binaries: what is sent fast is allocated fast.
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tessera_loadtest::commands(std::env::args_os())
}
