//! `tessera-bench`, started by `cargo xtask bench`: measures, prints one table and writes the report.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tessera_benches::report::{self, Row};
use tessera_benches::rows::{cluster, counts, local, matrix, overload, residence, snapshot, wire, writes};
use tessera_benches::stores::Workshop;

/// What to measure.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Only what is counted and has a baseline; fails when a count exceeds it
    #[arg(long)]
    short: bool,
    /// Also ten million tenants, and more shapes of calls
    #[arg(long, conflicts_with = "short")]
    full: bool,
    /// Only rows of that kind; may be said more than once
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "short")]
    only: Vec<Kind>,
    /// Where stores, logs and the report are put
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

/// What rows there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Instructions and allocations
    Counts,
    /// Imports, and writes until they are visible
    Writes,
    /// Decisions inside the process
    Matrix,
    /// Memory and starts
    Residence,
    /// The local snapshot, and starts from it
    Snapshot,
    /// CPU time beside a bare echo
    Wire,
    /// Checks in local mode of the client
    Local,
    /// More asked than can be done
    Overload,
    /// Store and feed of a cluster, on real engines
    Cluster,
}

/// Tenants of an ordinary run.
const TENANTS: u64 = 1_000_000;
/// Tenants of `--full`, besides.
const MANY_TENANTS: u64 = 10_000_000;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let workshop = Workshop::new(&arguments.folder)?;
    let wanted = |kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    let mut rows = Vec::new();
    if wanted(Kind::Counts) {
        rows.extend(counts::allocations(&workshop)?);
        rows.extend(counts::instructions(&workshop)?);
    }
    if arguments.short {
        println!("{}", report::table(&rows));
        return held_against_the_baseline(&rows);
    }
    if wanted(Kind::Writes) {
        rows.extend(writes::measure(&workshop)?);
    }
    if wanted(Kind::Local) {
        rows.extend(local::measure(&workshop)?);
    }
    if wanted(Kind::Overload) {
        rows.extend(overload::measure(&workshop)?);
    }
    let many = arguments.full.then_some(MANY_TENANTS);
    for tenants in std::iter::once(TENANTS).chain(many) {
        if wanted(Kind::Matrix) {
            rows.extend(matrix::measure(&workshop, tenants)?);
        }
        if wanted(Kind::Residence) {
            rows.extend(residence::measure(&workshop, tenants)?);
        }
        if wanted(Kind::Snapshot) {
            rows.extend(snapshot::measure(&workshop, tenants)?);
        }
        if wanted(Kind::Wire) {
            rows.extend(wire::measure(&workshop, tenants, arguments.full)?);
        }
    }
    if wanted(Kind::Cluster) {
        rows.extend(cluster::measure(&workshop, arguments.full)?);
    }
    println!("{}", report::table(&rows));
    report::write(&rows, &workshop.path("report.json"))?;
    Ok(ExitCode::SUCCESS)
}

fn held_against_the_baseline(rows: &[Row]) -> anyhow::Result<ExitCode> {
    let exceeded = counts::exceeded(rows, &Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json"))?;
    for line in &exceeded {
        eprintln!("bench: {line}");
    }
    if !exceeded.is_empty() {
        eprintln!("bench: a higher baseline is a change of benches/baseline.json and a line in CHANGELOG.md that says why");
    }
    Ok(if exceeded.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
