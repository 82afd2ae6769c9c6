//! `tessera-bench`, started by `cargo xtask bench`: measures, prints one table and writes the report.

use std::path::PathBuf;

use clap::Parser;
use tessera_benches::report;
use tessera_benches::rows::wire;
use tessera_benches::stores::Workshop;

/// What to measure.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many tenants there are
    #[arg(long, default_values_t = [1_000_000])]
    tenants: Vec<u64>,
    /// Where stores, logs and the report are put
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let workshop = Workshop::new(arguments.folder)?;
    let mut rows = Vec::new();
    for tenants in arguments.tenants {
        rows.extend(wire::measure(&workshop, tenants)?);
    }
    println!("{}", report::table(&rows));
    report::write(&rows, &workshop.path("report.json"))
}
