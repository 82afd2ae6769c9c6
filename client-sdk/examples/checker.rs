//! Many tasks that check at once: one checker packs what they ask into few frames of few streams.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example checker`. `shared/connection.rs` says what leads to another server.

#[path = "shared/connection.rs"]
mod connection;

use tessera_client::Check;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.connect().await?;
    let checker = tessera.checker();

    let mut tasks = JoinSet::new();
    for number in 0..1_000 {
        let checker = checker.clone();
        let tenant = if number % 2 == 0 { "acme" } else { "corner-shop" };
        tasks.spawn(async move { checker.check(Check::new(tenant, "entity-management", "team-management")).await });
    }
    let (mut entitled, mut denied) = (0, 0);
    for answer in tasks.join_all().await {
        if answer?.is_entitled() { entitled += 1 } else { denied += 1 }
    }
    println!("{entitled} entitled, {denied} denied");
    Ok(())
}
