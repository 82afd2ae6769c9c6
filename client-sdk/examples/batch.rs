//! Many questions decided at one time: what a page needs to know before it is drawn.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example batch`. `shared/connection.rs` says what leads to another server.

#[path = "shared/connection.rs"]
mod connection;

use tessera_client::Check;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.connect().await?;

    let features = ["dashboards", "exports", "scheduled-reports", "custom-reports", "no such feature"];
    let answer = tessera.batch(features.map(|feature| Check::new("acme", "reporting", feature))).await?;
    for (feature, result) in features.iter().zip(&answer.results) {
        match result {
            Ok(decision) => println!("{feature}: {} ({})", decision.is_entitled(), decision.reason),
            // One that is wrong fails alone.
            Err(error) => println!("{feature}: {error}"),
        }
    }
    Ok(())
}
