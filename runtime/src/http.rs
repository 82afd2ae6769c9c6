//! The pages for machines that watch: `/metrics`, `/livez`, `/readyz`, `/startupz`, `/digest`, `/digest/store`, `/version`,
//! `/log-filter`. They name no tenant and no plan, so they may listen beyond loopback. They stay up while the process drains, and
//! say so. One thing can be changed here, and only from the machine itself: what is logged (`http/log_filter.rs`). What a
//! connection may take is in `http/connections.rs`.

mod connections;
mod log_filter;

use std::iter::once;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::lifecycle::Shutdown;
use crate::metric_definitions::{COMMIT, VERSION};
use connections::{Deadline, REQUEST_MAX};

/// How long a scan of the store may take for its digest: a million tenants from another machine are minutes.
const SCAN_MAX: Duration = Duration::from_mins(10);

/// A digest, made when it is asked for.
pub type Digest = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<serde_json::Value>> + Send + Sync>;

/// What the pages say.
#[derive(Clone)]
pub struct Pages {
    /// The metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether requests should be sent here, and what is wrong all the same; else what is not ready yet, one reason each.
    pub ready: Arc<dyn Fn() -> Result<Vec<String>, Vec<String>> + Send + Sync>,
    /// Whether starting is over, ready or not since.
    pub started: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What the matrix holds, without names: epoch, counts and a digest. `None` in a process without a matrix.
    pub digest: Option<Digest>,
    /// The same of the store, at `/digest/store`. `None` in a process that does not answer for one.
    pub store_digest: Option<Digest>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

/// Problems of a dependency, each with its name before it.
pub fn named(dependency: &'static str, problems: Vec<String>) -> impl Iterator<Item = String> {
    problems.into_iter().map(move |problem| format!("{dependency}: {problem}"))
}

/// Serves the pages until `hard`. Spawn it behind the work, so that it answers while that drains.
pub async fn serve(listener: TcpListener, pages: Pages, shutdown: Shutdown) -> anyhow::Result<()> {
    let hard = shutdown.hard.clone();
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/digest", get(async |State(shown): State<Shown>| digest(shown.pages.digest).await))
        .route("/digest/store", get(store_digest))
        .route("/version", get(version))
        .route("/log-filter", get(log_filter::show).put(log_filter::change))
        .with_state(Shown { pages, shutdown, scanning: Arc::default() });
    connections::serve(listener, router, hard).await;
    Ok(())
}

#[derive(Clone)]
struct Shown {
    pages: Pages,
    shutdown: Shutdown,
    /// Held by the one request that scans the store.
    scanning: Arc<Mutex<()>>,
}

async fn metrics(State(shown): State<Shown>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, (shown.pages.metrics)()).into_response()
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let ready = (shown.pages.ready)();
    if shown.shutdown.is_draining() {
        let mut missing = ready.err().unwrap_or_default();
        missing.insert(0, "draining".to_owned());
        return answer(&missing);
    }
    match ready {
        Ok(wrong) => once("ok".to_owned()).chain(wrong).map(|line| line + "\n").collect::<String>().into_response(),
        Err(missing) => answer(&missing),
    }
}

async fn startupz(State(shown): State<Shown>) -> Response {
    let missing = if (shown.pages.started)() { Vec::new() } else { (shown.pages.ready)().err().unwrap_or_default() };
    if missing.is_empty() && !(shown.pages.started)() { answer(&["starting".to_owned()]) } else { answer(&missing) }
}

async fn version() -> Response {
    let text = serde_json::json!({ "version": VERSION, "commit": COMMIT });
    ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
}

async fn digest(digest: Option<Digest>) -> Response {
    let Some(digest) = digest else { return StatusCode::NOT_FOUND.into_response() };
    match digest().await {
        Ok(value) => ([(header::CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}\n")).into_response(),
    }
}

/// One scan at a time: anybody may ask, and each reads the whole store.
async fn store_digest(State(shown): State<Shown>, Extension(deadline): Extension<Deadline>) -> Response {
    let Shown { pages, scanning, .. } = shown;
    let Ok(_alone) = scanning.try_lock() else {
        let later = "the store is being read for somebody else's digest; ask again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], later).into_response();
    };
    deadline.allow(SCAN_MAX);
    let answer = digest(pages.store_digest).await;
    deadline.allow(REQUEST_MAX);
    answer
}

/// 200 `ok`, or 503 with one reason per line.
fn answer(missing: &[String]) -> Response {
    if missing.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n"))).into_response()
}

#[cfg(test)]
mod tests;
