//! Many tasks that check at once: one checker packs what they ask into few frames of few streams.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example checker`. Another server is named by `TESSERA_DATA_ADDR`.

use tessera_client::{Check, Tessera};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::var("TESSERA_DATA_ADDR").unwrap_or_else(|_| "127.0.0.1:7400".to_owned());
    let tessera = Tessera::builder().endpoint(format!("http://{address}")).connect().await?;
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
