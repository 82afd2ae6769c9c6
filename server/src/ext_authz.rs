//! Envoy's external authorization, `envoy.service.auth.v3.Authorization`: each request that passes a proxy is a check, and needs no
//! code in the service behind it.
//!
//! - `ext_authz/settings.rs`: from where tenant, service, feature and limit are taken;
//! - `ext_authz/request.rs`: what Envoy says of the request, read in place;
//! - `ext_authz/routes.rs`: methods and path templates, and which paths are looked up at all;
//! - `ext_authz/rules.rs`: from a request to what is asked;
//! - `ext_authz/answer.rs`: from a decision to what Envoy is told.
//!
//! What a client can write never makes a call fail, since Envoy may be told to let requests pass that nobody could judge: it is
//! denied. A call fails when there is no data, no time, an empty bucket, or a message that no Envoy sends.

pub(crate) mod answer;
pub(crate) mod request;
pub(crate) mod routes;
pub(crate) mod rules;
pub mod settings;
