//! A client for services that ask Tessera: may this tenant use this feature of this service, and how much of it?
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tessera_client::Tessera;
//!
//! let tessera = Tessera::builder().endpoint("http://127.0.0.1:7400").connect().await?;
//! if tessera.check("acme", "reporting", "exports").await?.is_entitled() {
//!     // …
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Tessera::check`] asks once, [`Tessera::batch`] up to 10,000 times at one evaluation time, [`Tessera::list`] for everything a
//!   tenant may;
//! - [`Tessera::checker`] packs what many tasks ask into few messages;
//! - [`Tessera::watch`] tells when something changes, and when nothing is known.
//!
//! All of them spread over the endpoints that are healthy, keep their deadlines whatever servers do, and try again where that helps
//! and the budget allows; the crate's README has a table of what happens when. A denial is a [`Decision`], never an [`Error`].
//!
//! [`Builder::token`], [`Builder::token_file`] and [`Builder::client_certificate`] say who asks; `https://` endpoints are known by
//! the system's authorities or by those of [`Builder::certificate_authority`].
//!
//! What this crate does not do: write anything (the control plane has its own API), or decide what a service does when nobody can
//! be asked.
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod call;
mod check;
mod checker;
mod client;
mod credentials;
mod decision;
mod document;
mod endpoint;
mod error;
#[cfg(feature = "axum")]
pub mod extract;
mod failure;
#[cfg(feature = "fake")]
pub mod fake;
mod freshness;
#[cfg(feature = "tower")]
pub mod layer;
mod list;
#[cfg(feature = "local")]
pub mod local;
mod metrics;
mod pool;
mod random;
mod retry;
mod settings;
mod tenant;
mod watch;
mod wire;

pub use batch::{BatchAnswer, BatchCall};
pub use builder::Builder;
pub use check::{Check, CheckCall};
pub use checker::{Checker, CheckerOptions};
pub use client::Tessera;
pub use decision::{
    Allowance, Decision, Denied, Detail, ExplainedStep, Familiarity, LimitState, PlanVersion, Reason, StepOutcome,
};
pub use document::{Entitlements, FeatureEntitlement, LimitEntitlement, ServiceEntitlement, TenantStatus};
pub use error::Error;
pub use failure::{Failure, Violation};
pub use freshness::{Revision, Staleness};
pub use list::{ListCall, ListIfChangedCall};
pub use metrics::{Method, Metrics, NoMetrics};
pub use retry::RetryPolicy;
pub use settings::Keepalive;
pub use tonic::Code;
pub use watch::{Subscriptions, Watch, WatchEvent};
