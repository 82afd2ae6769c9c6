//! Holds the tenants of the scenario in local mode and asks about them at random: prints a line of JSON with what each round took.
//! A process of its own, because its allocator counts.
#![expect(clippy::disallowed_methods, reason = "who measures looks at the clock")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mimalloc::MiMalloc;
use tessera_benches::rows::local::TENANTS;
use tessera_benches::scenario::{self, Question, Tenant};
use tessera_client::Tessera;
use tessera_client::local::{Local, Source};
use tessera_ports::memory::SplitMix64;

/// Checks of a round.
const CHECKS: usize = 1_000_000;
/// Rounds, after one that warms up.
const ROUNDS: usize = 5;
/// How long all documents may take to arrive: a server sends 1,000 a second.
const PATIENCE: Duration = Duration::from_mins(2);

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The allocator of the processes, counting by thread.
struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts cannot be written without; it only forwards")]
// SAFETY: every call goes to mimalloc unchanged; the counter is a plain cell that never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is asked, made before the clock runs.
struct Questions {
    names: Vec<(String, String)>,
    asked: Vec<(String, usize, bool)>,
}

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: local-checks ADDRESS")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let local = runtime.block_on(async {
        let tessera = Tessera::builder().endpoint(format!("http://{address}")).connect().await?;
        let tenants = (0..TENANTS).map(|number| Tenant(number).id());
        let local = tessera.local().max_staleness(PATIENCE).preload(tenants).start()?;
        tokio::time::timeout(PATIENCE, local.loaded()).await.context("the documents did not come")?;
        anyhow::Ok(local)
    })?;
    let mut random = SplitMix64::new(4);
    let asked = std::iter::repeat_with(|| Question::draw(&mut random, TENANTS)).take(CHECKS);
    let questions = Questions {
        names: (0..scenario::SERVICES * scenario::FEATURES).map(scenario::names).collect(),
        asked: asked.map(|question| (question.tenant.id(), question.feature, question.entitled)).collect(),
    };
    round(&local, &questions)?;
    let rounds = std::iter::repeat_with(|| round(&local, &questions)).take(ROUNDS).collect::<anyhow::Result<Vec<_>>>()?;
    println!("{}", serde_json::Value::from(rounds));
    Ok(())
}

/// All questions twice: each by itself between two readings of the clock, and one after the other.
#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds are far below 2^52")]
fn round(local: &Local, questions: &Questions) -> anyhow::Result<serde_json::Value> {
    let mut nanos = Vec::with_capacity(CHECKS);
    for (tenant, feature, entitled) in &questions.asked {
        let (service, feature) = &questions.names[*feature];
        let began = Instant::now();
        let answer = local.check(tenant, service, feature).at_hand();
        nanos.push(began.elapsed().as_nanos() as f64);
        let answer = answer.with_context(|| format!("nothing is held of {tenant}"))?;
        anyhow::ensure!(answer.source() == Source::Local && answer.is_entitled() == *entitled, "{tenant} {service} {feature}");
    }
    let before = ALLOCATIONS.with(Cell::get);
    let began = Instant::now();
    let mut right = 0_usize;
    for (tenant, feature, entitled) in &questions.asked {
        let (service, feature) = &questions.names[*feature];
        let answer = black_box(local.check(tenant, service, feature).at_hand());
        right += usize::from(answer.is_some_and(|answer| answer.is_entitled() == *entitled));
    }
    let took = began.elapsed();
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    anyhow::ensure!(right == CHECKS, "{right} right answers of {CHECKS}");
    nanos.sort_by(f64::total_cmp);
    let at = |per_mille: usize| nanos.get(nanos.len() * per_mille / 1_000).copied();
    Ok(serde_json::json!({
        "in_a_row": took.as_nanos() as f64 / CHECKS as f64,
        "p50": at(500),
        "p99": at(990),
        "allocations": allocations as f64 / CHECKS as f64,
    }))
}
