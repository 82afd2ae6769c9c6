//! What is logged of one decision, and its line. Lines are read by machines of others: fields are added, never renamed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tessera_core::time::Timestamp;
use tonic::codegen::http::HeaderValue;

use super::CALL;
use crate::decide::Check;
use crate::metric_definitions::{Mode, reason_name};
use crate::wire::encode::Answer;

/// A decision that was sampled.
#[derive(Debug)]
pub(super) struct Record {
    /// The time it was decided as of.
    pub(super) at: Timestamp,
    mode: Mode,
    dry_run: bool,
    entitled: bool,
    reason: &'static str,
    request_id: Option<HeaderValue>,
    /// `None` when nothing could be asked.
    asked: Option<Box<Asked>>,
}

#[derive(Debug)]
struct Asked {
    tenant: Box<str>,
    service: Box<str>,
    feature: Box<str>,
    limit: Option<(Box<str>, i64, i64)>,
    plan: Box<str>,
    plan_version: u32,
    revision: Box<[u8]>,
}

impl Record {
    pub(super) fn of_decision(
        at: Timestamp,
        check: &Check<'_>,
        answer: &Answer<'_>,
        revision: &[u8],
        mode: Mode,
        dry_run: bool,
    ) -> Self {
        let limit = check.query.limit.map(|limit| (limit.name.into(), limit.amount.get(), limit.used.get()));
        let asked = Asked {
            tenant: check.tenant.into(),
            service: check.query.service.into(),
            feature: check.query.feature.into(),
            limit,
            plan: answer.plan_id.into(),
            plan_version: answer.plan_version,
            revision: revision.into(),
        };
        let (entitled, reason) = (answer.reason.entitles(), reason_name(answer.reason));
        Self { at, mode, dry_run, entitled, reason, request_id: named(), asked: Some(Box::new(asked)) }
    }

    pub(super) fn of_refusal(at: Timestamp, reason: &'static str, mode: Mode, dry_run: bool) -> Self {
        Self { at, mode, dry_run, entitled: false, reason, request_id: named(), asked: None }
    }

    /// As one object of JSON, without what there is not.
    pub(super) fn line(&self) -> String {
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
        // Times end in the year 9999, as the library's do.
        let time = jiff::Timestamp::from_nanosecond(self.at.as_nanos()).unwrap_or(jiff::Timestamp::MAX);
        put("time", time.to_string().into());
        put("mode", self.mode.name().into());
        if let Some(asked) = &self.asked {
            put("tenant", (*asked.tenant).into());
            put("service", (*asked.service).into());
            if !asked.feature.is_empty() {
                put("feature", (*asked.feature).into());
            }
            if let Some((name, amount, used)) = &asked.limit {
                put("limit", json!({ "name": **name, "amount": amount, "used": used }));
            }
        }
        put("entitled", self.entitled.into());
        put("reason", self.reason.into());
        if let Some(asked) = &self.asked {
            if !asked.plan.is_empty() {
                put("plan", (*asked.plan).into());
                put("plan_version", asked.plan_version.into());
            }
            if !asked.revision.is_empty() {
                put("revision", STANDARD.encode(&asked.revision).into());
            }
        }
        if let Some(id) = self.request_id.as_ref().and_then(|id| id.to_str().ok()) {
            put("request_id", id.into());
        }
        if self.dry_run {
            put("dry_run", true.into());
        }
        Value::Object(line).to_string()
    }
}

/// What the call of this task is named by. Calls that are streams do not say.
fn named() -> Option<HeaderValue> {
    CALL.try_with(HeaderValue::clone).ok()
}
