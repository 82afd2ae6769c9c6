//! Single checks: a feature, a limit, an answer at least as new as another, and what a denial looks like.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example check`. `shared/connection.rs` says what leads to another server.

#[path = "shared/connection.rs"]
mod connection;

use std::time::Duration;

use tessera_client::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.deadline(Duration::from_secs(2)).connect().await?;

    let decision = tessera.check("acme", "reporting", "exports").await?;
    println!("exports: {} ({}), shown at {}", decision.is_entitled(), decision.reason, decision.familiarity);

    // How much of a limit? Acme has two packs of a hundred seats on top of a thousand.
    let seats = tessera.check("acme", "reporting", "").limit("max_users", 5).used(1_190).await?.require()?;
    println!("seats left before these five: {:?}", seats.limit.and_then(|limit| limit.remaining));

    // A revision names how new an answer was; any server can be asked for "at least that".
    let later = tessera.check("acme", "api-gateway", "bulk-api").at_least(&decision.revision).await?;
    match later.require() {
        Ok(_) => println!("bulk API: yes"),
        Err(denied) => println!("bulk API: {denied}"),
    }

    // A wrong request is an error; it names the field, the request's id in the logs, and the endpoint.
    match tessera.check("not a tenant", "reporting", "exports").await {
        Err(Error::Invalid(failure)) => println!("wrong field: {}", failure.violations()[0].field),
        other => anyhow::bail!("expected to be refused, got {other:?}"),
    }
    Ok(())
}
