//! A client for services that ask Tessera: may this tenant use this feature of this service, and how much of it?
#![deny(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

mod batch;
mod builder;
mod call;
mod check;
mod checker;
mod client;
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
