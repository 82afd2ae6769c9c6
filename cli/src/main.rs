//! `tessera`: the command line, and `tessera dev`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tessera_cli::run(std::env::args_os())
}
