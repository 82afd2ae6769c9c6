//! Project chores, called as `cargo xtask <chore>`. Only reads the arguments and hands over; each chore is a module.

mod bench;
mod codegen;
mod engines;
mod test;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask <chore>

  test [--list] [--only STEP]...   everything that has to hold before a commit, and the same that CI runs
       [--explore]                 properties on new cases instead of the same ones every time
  bench [--short|--full|--help]    measure; --short only counts, and holds the counts against benches/baseline.json
  codegen [--check]                generate the protobuf code; with --check only compare it with what is checked in
  up                               start a Cassandra and a Kafka in target/cluster and leave them running
  down                             end them and remove everything of theirs
  engines                          only fetch what they need, into target/tools/engines
  tidy                             the house rules that no compiler knows";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["test", rest @ ..] => test::run(rest),
        ["bench", rest @ ..] => bench::run(rest),
        ["codegen"] => codegen::run(false),
        ["codegen", "--check"] => codegen::run(true),
        ["up"] => engines::up(),
        ["down"] => engines::down(),
        ["engines"] => engines::install(),
        ["tidy"] => tidy::run(),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
