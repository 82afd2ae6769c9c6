//! `envoy.service.auth.v3.CheckResponse`. Envoy takes a response without a status for "allowed", so that there is one way to make
//! one, which writes the status first.
//!
//! Headers overwrite what the client sent, in both of the ways in which Envoys of different ages are told so, and whatever is not
//! set is removed, so that nothing of these names reaches a service that does not come from here. No name is in both lists: the
//! removal comes last.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::{WireType, encode_key, encode_varint};
use tessera_core::decision::Reason;
use tonic::Code;
use tonic::codegen::http::StatusCode;

use super::rules::Denial;
use crate::metric_definitions::reason_name;
use crate::wire::encode::Answer;

/// The headers that only we set.
const TENANT: &str = "x-tessera-tenant";
const PLAN: &str = "x-tessera-plan";
const PLAN_VERSION: &str = "x-tessera-plan-version";
const FAMILIARITY: &str = "x-tessera-familiarity";
const REVISION: &str = "x-tessera-revision";
const REASON: &str = "x-tessera-reason";

/// `append_action`: whatever is there is overwritten.
const OVERWRITE: u64 = 2;

/// What is said of a decision besides its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) service: &'a str,
    pub(crate) feature: &'a str,
}

/// What Envoy is told of a decision.
pub(crate) fn decided(out: &mut Vec<u8>, about: &About<'_>, answer: &Answer<'_>, dry_run: bool) {
    let reason = reason_name(answer.reason);
    let metadata = |fields: &mut Vec<u8>| {
        text_entry(fields, "tenant", about.tenant);
        text_entry(fields, "service", about.service);
        text_entry(fields, "feature", about.feature);
        text_entry(fields, "plan", answer.plan_id);
        number_entry(fields, "plan_version", f64::from(answer.plan_version));
        number_entry(fields, "familiarity_basis_points", f64::from(answer.familiarity_basis_points));
        text_entry(fields, "reason", reason);
        flag_entry(fields, "entitled", answer.reason.entitles());
        flag_entry(fields, "dry_run", dry_run);
        // How much of it is left nobody knows here: what was used before is not.
        if let Some(limit) = &answer.limit {
            text_entry(fields, "limit", limit.name);
        }
    };
    if !answer.reason.entitles() && !dry_run {
        return response(
            out,
            Code::PermissionDenied,
            |out| denied(out, status_of(answer.reason), reason, detail_of(answer.reason)),
            metadata,
        );
    }
    let mut version = String::new();
    let mut familiarity = String::new();
    if answer.plan_version > 0 {
        // Writing to a text cannot fail.
        let _ = write!(version, "{}", answer.plan_version);
    }
    if answer.reason.entitles() {
        let _ = write!(familiarity, "{}", answer.familiarity_basis_points);
    }
    let revision = STANDARD.encode(answer.revision);
    let headers = [
        (TENANT, about.tenant),
        (PLAN, answer.plan_id),
        (PLAN_VERSION, &version),
        (FAMILIARITY, &familiarity),
        (REVISION, &revision),
        (REASON, reason),
    ];
    response(out, Code::Ok, |out| allowed(out, &headers), metadata);
}

/// What Envoy is told of a request about which nothing can be asked.
pub(crate) fn refused(out: &mut Vec<u8>, denial: Denial, dry_run: bool) {
    let reason = denial.name();
    let metadata = |fields: &mut Vec<u8>| {
        text_entry(fields, "reason", reason);
        flag_entry(fields, "entitled", false);
        flag_entry(fields, "dry_run", dry_run);
    };
    if dry_run {
        let headers = [(TENANT, ""), (PLAN, ""), (PLAN_VERSION, ""), (FAMILIARITY, ""), (REVISION, ""), (REASON, reason)];
        return response(out, Code::Ok, |out| allowed(out, &headers), metadata);
    }
    response(out, Code::PermissionDenied, |out| denied(out, StatusCode::FORBIDDEN, reason, detail_of_denial(denial)), metadata);
}

/// The only way to make one: a status, what belongs to it, and the dynamic metadata.
fn response(out: &mut Vec<u8>, code: Code, http: impl FnOnce(&mut Vec<u8>), metadata: impl FnOnce(&mut Vec<u8>)) {
    // A code is never negative, and 2 is "unknown", which denies.
    nested(out, 1, |status| number(status, 1, u64::try_from(i32::from(code)).unwrap_or(2)));
    http(out);
    nested(out, 4, metadata);
}

/// `ok_response`: sets every header that has a value, and removes the others.
fn allowed(out: &mut Vec<u8>, headers: &[(&str, &str)]) {
    nested(out, 3, |ok| {
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            header(ok, 2, name, value);
        }
        for (name, _) in headers.iter().filter(|(_, value)| value.is_empty()) {
            bytes(ok, 5, name.as_bytes());
        }
    });
}

/// `denied_response`: a problem (RFC 9457) in JSON.
fn denied(out: &mut Vec<u8>, status: StatusCode, reason: &str, detail: &str) {
    nested(out, 2, |denied| {
        nested(denied, 1, |http| number(http, 1, u64::from(status.as_u16())));
        header(denied, 2, "content-type", "application/problem+json");
        header(denied, 2, REASON, reason);
        let title = status.canonical_reason().unwrap_or_default();
        // Nothing in it that would have to be escaped: all of these are words of ours.
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\",\"reason\":\"{reason}\"}}",
            status.as_u16()
        );
        bytes(denied, 3, body.as_bytes());
    });
}

/// A `HeaderValueOption` that overwrites.
fn header(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    nested(out, field, |option| {
        nested(option, 1, |header| {
            bytes(header, 1, name.as_bytes());
            bytes(header, 2, value.as_bytes());
        });
        // `append` is a message: empty, it says "no", which is not the same as saying nothing.
        nested(option, 2, |_| {});
        number(option, 3, OVERWRITE);
    });
}

fn text_entry(out: &mut Vec<u8>, key: &str, text: &str) {
    entry(out, key, |value| bytes(value, 3, text.as_bytes()));
}

fn number_entry(out: &mut Vec<u8>, key: &str, number: f64) {
    entry(out, key, |value| {
        encode_key(2, WireType::SixtyFourBit, value);
        value.extend(number.to_le_bytes());
    });
}

fn flag_entry(out: &mut Vec<u8>, key: &str, flag: bool) {
    entry(out, key, |value| number(value, 4, u64::from(flag)));
}

/// A field of a `Struct`.
fn entry(out: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    nested(out, 1, |entry| {
        bytes(entry, 1, key.as_bytes());
        nested(entry, 2, value);
    });
}

fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    encode_key(field, WireType::Varint, out);
    encode_varint(number, out);
}

fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A message within, whose length comes before it: nearly all are shorter than 128 bytes and take one byte for it.
fn nested(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(field, WireType::LengthDelimited, out);
    let place = out.len();
    out.push(0);
    write(out);
    let len = out.len().saturating_sub(place + 1);
    if let (Ok(short @ 0..0x80), Some(byte)) = (u8::try_from(len), out.get_mut(place)) {
        *byte = short;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    encode_varint(len as u64, &mut prefix);
    out.splice(place..=place, prefix);
}

/// What a client can do about it: pay for more, wait, or nothing.
fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::SubscriptionEnded | Reason::TrialEnded | Reason::ServiceNotInPlan | Reason::FeatureNotInPlan => {
            StatusCode::PAYMENT_REQUIRED
        }
        Reason::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    }
}

fn detail_of(reason: Reason) -> &'static str {
    match reason {
        Reason::TenantUnknown => "no such tenant is known",
        Reason::ServiceUnknown => "no such service is known",
        Reason::FeatureUnknown => "the service has no such feature",
        Reason::Disabled => "this is switched off for everybody",
        Reason::TenantDeleted => "the tenant was deleted",
        Reason::TenantPending => "the tenant is not active yet",
        Reason::TenantSuspended => "the tenant is suspended",
        Reason::NotStarted => "the subscription has not begun",
        Reason::SubscriptionEnded => "the subscription has ended",
        Reason::TrialEnded => "the trial has ended",
        Reason::DeniedByOverride => "this is denied to the tenant",
        Reason::ServiceNotInPlan => "the plan does not have this service",
        Reason::FeatureNotInPlan => "the plan does not have this feature",
        Reason::LimitUnknown => "no such limit is known",
        Reason::LimitExceeded => "the limit is reached",
        Reason::GrantedByOverride | Reason::GrantedByAddOn | Reason::GrantedByPlan => "granted",
    }
}

fn detail_of_denial(denial: Denial) -> &'static str {
    match denial {
        Denial::TenantMissing => "the request names no tenant",
        Denial::ServiceMissing => "the request names no service",
        Denial::FeatureMissing => "the request names no feature",
        Denial::LimitMissing => "nobody but the client names the limit, or it is empty",
        Denial::RouteUnknown => "no rule is for this method and path",
        Denial::SourcesConflict => "the request contradicts itself",
        Denial::SourceAmbiguous => "the request says something twice",
        Denial::PathNotNormal => "the path is not in its normal form",
        Denial::AmountInvalid => "the amount is no number, or nobody but the client says it",
        Denial::NameInvalid => "a name is not well formed",
    }
}

#[cfg(test)]
mod tests;
