//! Watching tenants: their documents now and whenever they change, until one of each has come.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --example watch`. `shared/connection.rs` says what leads to another server.

#[path = "shared/connection.rs"]
mod connection;

use std::collections::BTreeSet;

use tessera_client::WatchEvent;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.connect().await?;

    let mut watch = tessera.watch();
    let mut awaited = BTreeSet::from(["acme".to_owned(), "globex".to_owned(), "nobody".to_owned()]);
    for tenant in &awaited {
        watch.subscribe(tenant)?;
    }
    while !awaited.is_empty() {
        let Some(event) = watch.next().await else { break };
        match event {
            WatchEvent::Document(document) => {
                println!("{} is on {} {}", document.tenant, document.plan.id, document.plan.version);
                awaited.remove(&document.tenant);
            }
            // Without a time to try again, the subscription has ended: there is no such tenant.
            WatchEvent::Refused { tenant, error, retry_in: None } => {
                println!("{tenant}: {}", error.reason());
                awaited.remove(&tenant);
            }
            WatchEvent::Disconnected { error, retry_in } => {
                // Whoever keeps documents must let them grow stale from here on.
                println!("nothing is known for {retry_in:?}: {error}");
            }
            WatchEvent::Connected { endpoint, resumed } => println!("connected to {endpoint}, resumed: {resumed}"),
            _ => {}
        }
    }
    Ok(())
}
