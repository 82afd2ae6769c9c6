//! How a request is refused: the status by reason, and a body for programs and people. It names no tenant.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::decision::Reason;

/// Says why, for whoever does not read bodies.
const REASON: HeaderName = HeaderName::from_static("x-tessera-reason");

/// Why a request does not go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It does not say whose it is, or what it says is no tenant id.
    NoTenant,
    /// The tenant is not entitled.
    Denied(Reason),
    /// Nobody can say.
    Undecided,
}

/// A request that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    why: Why,
    service: Box<str>,
    feature: Box<str>,
}

impl Refusal {
    pub(crate) fn new(why: Why, service: &str, feature: &str) -> Self {
        Self { why, service: service.into(), feature: feature.into() }
    }

    /// 402 for what a plan or a payment would change, 429 for a limit, 503 for what cannot be decided, 403 for the rest, reasons
    /// of later releases too.
    pub fn status(&self) -> StatusCode {
        match self.why {
            Why::Undecided => StatusCode::SERVICE_UNAVAILABLE,
            Why::Denied(
                Reason::SERVICE_NOT_IN_PLAN | Reason::FEATURE_NOT_IN_PLAN | Reason::SUBSCRIPTION_ENDED | Reason::TRIAL_ENDED,
            ) => StatusCode::PAYMENT_REQUIRED,
            Why::Denied(Reason::LIMIT_EXCEEDED) => StatusCode::TOO_MANY_REQUESTS,
            Why::Denied(_) | Why::NoTenant => StatusCode::FORBIDDEN,
        }
    }

    /// Why, as `x-tessera-reason` has it: the name of the [`Reason`], `TENANT_NOT_GIVEN` or `UNDECIDED`.
    pub fn reason(&self) -> &'static str {
        match self.why {
            Why::NoTenant => "TENANT_NOT_GIVEN",
            Why::Denied(reason) => reason.as_str(),
            Why::Undecided => "UNDECIDED",
        }
    }

    /// As a response, with a body of whatever kind.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        let mut response = Response::new(B::from(Bytes::from(self.problem())));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REASON, HeaderValue::from_static(self.reason()));
        response
    }

    fn problem(&self) -> String {
        let status = self.status();
        let detail = match (self.why, status) {
            (Why::NoTenant, _) => "the request does not say of which tenant it is",
            (Why::Undecided, _) => "whether the tenant may use this cannot be decided at the moment",
            (Why::Denied(_), StatusCode::PAYMENT_REQUIRED) => "the tenant's plan does not include this",
            (Why::Denied(_), StatusCode::TOO_MANY_REQUESTS) => "the tenant has not so much left",
            (Why::Denied(_), _) => "the tenant may not use this",
        };
        let mut body = String::with_capacity(256);
        body.push_str("{\"type\":\"about:blank\",\"title\":");
        text(&mut body, status.canonical_reason().unwrap_or_default());
        // Writing to a string cannot fail.
        let _ = write!(body, ",\"status\":{}", status.as_u16());
        for (name, value) in
            [("detail", detail), ("reason", self.reason()), ("service", &self.service), ("feature", &self.feature)]
        {
            let _ = write!(body, ",\"{name}\":");
            text(&mut body, value);
        }
        body.push('}');
        body
    }
}

/// A JSON string.
fn text(body: &mut String, value: &str) {
    body.push('"');
    for letter in value.chars() {
        match letter {
            '"' | '\\' => body.extend(['\\', letter]),
            '\0'..='\u{1f}' => {
                // Writing to a string cannot fail.
                let _ = write!(body, "\\u{:04x}", u32::from(letter));
            }
            _ => body.push(letter),
        }
    }
    body.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_the_reason() {
        let table = [
            (Why::NoTenant, 403, "TENANT_NOT_GIVEN"),
            (Why::Undecided, 503, "UNDECIDED"),
            (Why::Denied(Reason::TENANT_UNKNOWN), 403, "TENANT_UNKNOWN"),
            (Why::Denied(Reason::SERVICE_UNKNOWN), 403, "SERVICE_UNKNOWN"),
            (Why::Denied(Reason::FEATURE_UNKNOWN), 403, "FEATURE_UNKNOWN"),
            (Why::Denied(Reason::DISABLED), 403, "DISABLED"),
            (Why::Denied(Reason::TENANT_SUSPENDED), 403, "TENANT_SUSPENDED"),
            (Why::Denied(Reason::NOT_STARTED), 403, "NOT_STARTED"),
            (Why::Denied(Reason::SUBSCRIPTION_ENDED), 402, "SUBSCRIPTION_ENDED"),
            (Why::Denied(Reason::TRIAL_ENDED), 402, "TRIAL_ENDED"),
            (Why::Denied(Reason::DENIED_BY_OVERRIDE), 403, "DENIED_BY_OVERRIDE"),
            (Why::Denied(Reason::SERVICE_NOT_IN_PLAN), 402, "SERVICE_NOT_IN_PLAN"),
            (Why::Denied(Reason::FEATURE_NOT_IN_PLAN), 402, "FEATURE_NOT_IN_PLAN"),
            (Why::Denied(Reason::LIMIT_UNKNOWN), 403, "LIMIT_UNKNOWN"),
            (Why::Denied(Reason::LIMIT_EXCEEDED), 429, "LIMIT_EXCEEDED"),
            (Why::Denied(Reason::of_wire(4_711)), 403, "UNKNOWN_REASON"),
        ];
        for (why, status, reason) in table {
            let response: Response<Bytes> = Refusal::new(why, "reporting", "").into_response();
            assert_eq!(response.status(), status, "{why:?}");
            assert_eq!(response.headers()["x-tessera-reason"], reason, "{why:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
    }

    #[test]
    fn the_body_is_json_whatever_stands_in_it() {
        let refusal = Refusal::new(Why::Denied(Reason::FEATURE_NOT_IN_PLAN), "re\"port\\ing", "ex\nports");
        assert_eq!(
            refusal.problem(),
            "{\"type\":\"about:blank\",\"title\":\"Payment Required\",\"status\":402,\
             \"detail\":\"the tenant's plan does not include this\",\"reason\":\"FEATURE_NOT_IN_PLAN\",\
             \"service\":\"re\\\"port\\\\ing\",\"feature\":\"ex\\u000aports\"}"
        );
    }
}
