//! An axum service whose routes require features: one by an extractor, one by a layer.
//!
//! Run it beside `tessera dev --apply examples/quickstart`:
//! `cargo run --package tessera-client --features axum --example axum`, then ask
//! `curl -i -H 'authorization: Bearer acme-key' http://127.0.0.1:3000/export`, and the same as `shut-down-key` or without a key.
//! `LISTEN` names another address; `shared/connection.rs` says what leads to another server.

#[path = "shared/connection.rs"]
mod connection;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tessera_client::extract::{Entitled, Feature};
use tessera_client::layer::{Access, RequireFeature, Tenant};
use tessera_client::local::Answer;

/// `reporting/exports`, for handlers that require it.
struct Exports;

impl Feature for Exports {
    const SERVICE: &'static str = "reporting";
    const FEATURE: &'static str = "exports";
}

async fn export(entitled: Entitled<Exports>) -> String {
    format!("exported, shown at {} (from {:?})\n", entitled.familiarity(), entitled.source())
}

async fn dashboards(Extension(answer): Extension<Answer>) -> String {
    format!("dashboards (from {:?})\n", answer.source())
}

/// Verifies who calls and leaves their tenant with the request. A real one checks a token's signature; this one knows its keys.
async fn authenticate(mut request: Request, next: Next) -> Response {
    let key = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let tenant = match key.and_then(|value| value.strip_prefix("Bearer ")) {
        Some("acme-key") => "acme",
        Some("shut-down-key") => "shut-down",
        _ => return StatusCode::UNAUTHORIZED.into_response(),
    };
    request.extensions_mut().insert(Tenant::new(tenant));
    next.run(request).await
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> anyhow::Result<()> {
    let tessera = connection::builder()?.connect().await?;
    let local = tessera.local().last_known("reporting", "exports").start()?;

    let routes = Router::new()
        .route("/export", get(export))
        .route("/dashboards", get(dashboards).layer(RequireFeature::new(local.clone(), "reporting", "dashboards")))
        .with_state(Access::new(local))
        .layer(middleware::from_fn(authenticate));
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(listen).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}
