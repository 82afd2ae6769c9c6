//! Local mode: answers out of memory, where they come from, how old they are, and what happens when nobody can answer.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --features local --example local`. `shared/connection.rs` says what leads to another
//! server.

#[path = "shared/connection.rs"]
mod connection;

use std::time::{Duration, Instant};

const CHECKS: u32 = 100_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::disallowed_methods, reason = "an example that shows how long a check takes")]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.connect().await?;
    let local = tessera
        .local()
        .max_staleness(Duration::from_secs(15))
        .preload(["acme"])
        .fail_open("reporting", "dashboards")
        .last_known("reporting", "exports")
        .start()?;
    tokio::time::timeout(Duration::from_secs(10), local.loaded()).await?;

    let answer = local.check("acme", "reporting", "exports").await?;
    println!("exports: {} ({:?}), from {:?}, {:?}", answer.is_entitled(), answer.reason(), answer.source(), answer.staleness());
    let seats = local.check("acme", "reporting", "").limit("max_users", 20).used(1_190).await?;
    println!("20 more seats: {}, left {:?}", seats.is_entitled(), seats.remaining());

    // The first question about a tenant goes over the wire; it is held from then on.
    let first = local.check("globex", "reporting", "exports").await?;
    println!("globex: {}, from {:?}", first.is_entitled(), first.source());

    let begun = Instant::now();
    let entitled = (0..CHECKS).filter(|_| local.check("acme", "reporting", "exports").at_hand().is_some()).count();
    println!("{entitled} checks out of memory, each {:?}", begun.elapsed() / CHECKS);
    Ok(())
}
