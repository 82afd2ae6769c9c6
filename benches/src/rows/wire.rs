//! CPU time of the real server process per check, beside a bare echo of the same answers on the same listener.

use std::time::Duration;

use anyhow::Context as _;

use crate::child::{self, Running};
use crate::load::{self, Call, Shape, Source};
use crate::place::{pinned, serving_core};
use crate::report::{Goal, Row};
use crate::stores::Workshop;
use crate::twin;

/// Rounds, each with the server and the twin in turns.
const ROUNDS: usize = 5;
/// Tenants from which a larger goal holds.
const MANY_TENANTS: u64 = 10_000_000;

/// How calls are made, how many messages a round has, and the name of it all.
const SHAPES: [(&str, Shape, u64); 6] = [
    ("unary, 16 connections × 10 calls", Shape { call: Call::Unary, connections: 16, under_way: 10 }, 100_000),
    ("unary, 1 connection × 100 calls", Shape { call: Call::Unary, connections: 1, under_way: 100 }, 100_000),
    ("Envoy, 16 connections × 10 calls", Shape { call: Call::Envoy, connections: 16, under_way: 10 }, 100_000),
    ("stream, 1 check a frame", Shape { call: Call::Frame(1), connections: 1, under_way: 1_000 }, 400_000),
    ("stream, 50 checks a frame", Shape { call: Call::Frame(50), connections: 1, under_way: 20 }, 40_000),
    ("batch of 1,000", Shape { call: Call::Batch(1_000), connections: 4, under_way: 1 }, 2_000),
];

/// More of them, for whoever wants to see where a frame or a batch begins to pay.
const GRID: [(&str, Shape, u64); 6] = [
    ("stream, 10 checks a frame", Shape { call: Call::Frame(10), connections: 1, under_way: 100 }, 100_000),
    ("stream, 200 checks a frame", Shape { call: Call::Frame(200), connections: 1, under_way: 10 }, 10_000),
    ("stream, 1,000 checks a frame", Shape { call: Call::Frame(1_000), connections: 1, under_way: 4 }, 2_000),
    ("stream, 50 checks a frame, 16 connections", Shape { call: Call::Frame(50), connections: 16, under_way: 4 }, 40_000),
    ("batch of 100", Shape { call: Call::Batch(100), connections: 4, under_way: 4 }, 20_000),
    ("batch of 10,000", Shape { call: Call::Batch(10_000), connections: 4, under_way: 1 }, 200),
];

/// All rows of this kind; with `grid`, of more shapes.
pub fn measure(workshop: &Workshop, tenants: u64, grid: bool) -> anyhow::Result<Vec<Row>> {
    let store = workshop.store(tenants)?;
    let mut server = workshop.server(pinned(&child::beside("tessera-server")?, serving_core()), &store)?;
    server.ready()?;
    let twin = twin::of(&server, pinned(&child::beside("echo-twin")?, serving_core()), workshop)?;
    let mut rows = Vec::new();
    let more = if grid { &GRID[..] } else { &[] };
    for &(name, shape, messages) in SHAPES.iter().chain(more) {
        rows.extend(compare(name, shape, messages, tenants, &server, &twin).with_context(|| format!("row `{name}`"))?);
    }
    server.stop()?;
    twin.stop()?;
    Ok(rows)
}

fn compare(name: &str, shape: Shape, messages: u64, tenants: u64, server: &Running, twin: &Running) -> anyhow::Result<Vec<Row>> {
    let questions = shape.call.questions();
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // One more, which warms up.
    for round in 0..=ROUNDS as u64 {
        let of_server = cost(server, shape, &Plan { seed: round, tenants, messages, checked: true })?;
        let of_twin = cost(twin, shape, &Plan { seed: round, tenants, messages, checked: false })?;
        if round > 0 {
            ours.push(micros(of_server, messages, questions));
            bare.push(micros(of_twin, messages, questions));
            ratios.push(of_server.as_secs_f64() / of_twin.as_secs_f64());
        }
    }
    let mut rows = vec![
        Row::measured(format!("{name}: CPU per check"), tenants, "µs", &ours),
        Row::measured(format!("{name}: CPU per check of the bare echo"), tenants, "µs", &bare),
    ];
    let ratio = Row::measured(format!("{name}: ratio"), tenants, "×", &ratios);
    let per_core: Vec<f64> = ours.iter().map(|micros| 1e6 / micros).collect();
    let rate = Row::measured(format!("{name}: checks per second of one core"), tenants, "1/s", &per_core);
    let (ratio, rate) = match shape.call {
        Call::Unary => (ratio.goal(Goal::AtMost(if tenants >= MANY_TENANTS { 1.2 } else { 1.1 })), rate),
        Call::Envoy => (ratio.goal(Goal::AtMost(1.25)), rate),
        Call::Frame(50) => (ratio, rate.goal(Goal::AtLeast(4e6))),
        Call::Batch(1_000) => (ratio, rate.goal(Goal::AtLeast(8e6))),
        Call::Frame(_) | Call::Batch(_) => (ratio, rate),
    };
    rows.extend([ratio, rate]);
    Ok(rows)
}

struct Plan {
    seed: u64,
    tenants: u64,
    messages: u64,
    checked: bool,
}

/// CPU time that the process took for it.
fn cost(process: &Running, shape: Shape, plan: &Plan) -> anyhow::Result<Duration> {
    let source = Source::new(plan.seed, plan.tenants, plan.messages, plan.checked);
    let before = process.cpu()?;
    load::run(process.address("data")?, shape, &source)?;
    Ok(process.cpu()?.saturating_sub(before))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn micros(cpu: Duration, messages: u64, questions: usize) -> f64 {
    cpu.as_secs_f64() * 1e6 / (messages as f64 * questions as f64)
}
