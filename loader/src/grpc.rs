//! The control plane's gRPC services: they validate, convert, call and convert back, and decide nothing.
//!
//! - [`gate`]: what every call goes through: draining, deadline, request id, metadata;
//! - [`mutation`]: what mutation requests have in common;
//! - [`page`]: page sizes, page tokens, pages of a scan;
//! - [`undecoded`]: requests that never became messages;
//! - one `*_svc.rs` per service.

pub(crate) mod add_on_svc;
pub(crate) mod audit;
pub(crate) mod audit_svc;
pub(crate) mod catalog_svc;
pub(crate) mod failure;
pub(crate) mod gate;
pub(crate) mod import;
pub(crate) mod mutation;
pub(crate) mod offers;
pub(crate) mod page;
pub(crate) mod plan_svc;
pub(crate) mod tenant_svc;
pub(crate) mod undecoded;
