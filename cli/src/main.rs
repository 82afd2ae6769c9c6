//! `tessera`: the command line, and `tessera dev`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tessera_cli::run(std::env::args_os())
}
