//! Many questions decided at one time: what a page needs to know before it is drawn.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example batch`. Another server is named by `TESSERA_DATA_ADDR`.

use tessera_client::{Check, Tessera};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let address = std::env::var("TESSERA_DATA_ADDR").unwrap_or_else(|_| "127.0.0.1:7400".to_owned());
    let tessera = Tessera::builder().endpoint(format!("http://{address}")).connect().await?;

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
