//! `check`, `explain`, `list`: what a tenant may use. A denial is an answer; the exit code tells it from an error.

use anyhow::Context as _;
use clap::Args;
use tessera_proto::v1;

use crate::connection::{Plane, Planes};
use crate::console::{Console, facts, table};
use crate::{json, values};

/// Whether a tenant was found to be entitled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Entitled,
    /// No.
    Denied,
}

/// Who asks for what.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The tenant
    tenant: String,
    /// The service
    service: String,
    /// A feature of it; without one the service itself is asked for
    feature: Option<String>,
    /// Also ask whether so much more of a limit may be used
    #[arg(long, value_name = "NAME=AMOUNT[,used=N]", value_parser = values::limit_check)]
    limit: Option<v1::LimitCheck>,
    #[command(flatten)]
    freshness: Freshness,
}

/// How new an answer has to be.
#[derive(Debug, Args)]
pub struct Freshness {
    /// As new as this revision, which a change answered (base64, as in -o json)
    #[arg(long, value_name = "REVISION", conflicts_with = "fully_consistent")]
    at_least: Option<String>,
    /// As new as everything committed before the question
    #[arg(long)]
    fully_consistent: bool,
}

impl Freshness {
    fn consistency(&self) -> anyhow::Result<Option<v1::Consistency>> {
        use v1::consistency::Requirement;
        let requirement = match (&self.at_least, self.fully_consistent) {
            (Some(text), _) => {
                let revision = base64_decode(text)
                    .with_context(|| format!("`{text}` is not a revision; allowed is base64 as in the JSON of an answer"))?;
                Requirement::AtLeast(v1::AtLeast { revision: revision.into() })
            }
            (None, true) => Requirement::FullyConsistent(v1::FullyConsistent {}),
            (None, false) => return Ok(None),
        };
        Ok(Some(v1::Consistency { requirement: Some(requirement) }))
    }
}

/// Base64 of the kind that proto3 JSON has, through the same library that writes it.
fn base64_decode(text: &str) -> anyhow::Result<Vec<u8>> {
    let json = serde_json::json!({ "revision": text });
    let message: v1::AtLeast = json::parse("AtLeast", json)?;
    Ok(message.revision.to_vec())
}

/// `tessera check` and `tessera explain`.
pub async fn check(planes: &Planes, console: &Console, arguments: CheckArguments, explain: bool) -> anyhow::Result<Verdict> {
    let request = v1::CheckEntitlementRequest {
        tenant_id: arguments.tenant,
        service: arguments.service,
        feature: arguments.feature.unwrap_or_default(),
        limit_check: arguments.limit,
        consistency: arguments.freshness.consistency()?,
        explain,
    };
    let mut client = planes.entitlements();
    let answer = planes.read(Plane::Data, request, async |request| client.check_entitlement(request).await).await?;
    console.answer(&json::of("CheckEntitlementResponse", &answer)?, || show(&answer))?;
    Ok(if answer.entitled { Verdict::Entitled } else { Verdict::Denied })
}

fn show(answer: &v1::CheckEntitlementResponse) -> String {
    let word = if answer.entitled { "entitled" } else { "denied" };
    let mut text = format!("{word}  {}\n", values::show_reason(answer.reason));
    let plan = if answer.plan_id.is_empty() { String::new() } else { values::show_choice(&answer.plan_id, answer.plan_version) };
    text.push_str(&facts(&[
        ("detail", answer.reason_detail.as_ref().map(show_detail).unwrap_or_default()),
        ("plan", plan),
        ("familiarity", values::show_familiarity(answer.familiarity_basis_points)),
        ("limit", answer.limit.as_ref().map(show_limit).unwrap_or_default()),
        ("grace until", values::show_time(answer.grace_until.as_ref())),
        ("valid until", values::show_time(answer.valid_until.as_ref())),
        ("staleness", answer.staleness_ms.map(|ms| format!("{ms} ms")).unwrap_or_default()),
    ]));
    if !answer.explanation.is_empty() {
        let rows = answer.explanation.iter().zip(1..).map(|(step, number)| {
            let name = v1::Step::try_from(step.step).map_or("?", |step| step.as_str_name());
            let outcome = v1::StepOutcome::try_from(step.outcome).map_or("?", |outcome| outcome.as_str_name());
            let words = |name: &str, prefix| values::show_name(name, prefix).to_lowercase().replace('_', " ");
            [number.to_string(), words(name, "STEP_"), words(outcome, "STEP_OUTCOME_")]
        });
        text.push('\n');
        text.push_str(&table(["", "STEP", "OUTCOME"], rows));
    }
    text
}

fn show_detail(detail: &v1::ReasonDetail) -> String {
    use v1::reason_detail::Detail;
    match &detail.detail {
        Some(Detail::Override(detail)) => {
            let until = values::show_time(detail.until.as_ref());
            let until = if until.is_empty() { until } else { format!(", until {until}") };
            format!("override of {} ({}{until})", target(&detail.service, &detail.feature), detail.reason)
        }
        Some(Detail::AddOnId(id)) => format!("add-on {id}"),
        Some(Detail::Suspension(detail)) => format!("suspended: {}", detail.reasons.join(", ")),
        Some(Detail::KillSwitch(detail)) => {
            format!("{} is disabled ({})", target(&detail.service, &detail.feature), detail.reason)
        }
        None => String::new(),
    }
}

fn target(service: &str, feature: &str) -> String {
    if feature.is_empty() { service.to_owned() } else { format!("{service}/{feature}") }
}

fn show_limit(limit: &v1::LimitState) -> String {
    use v1::limit_state::Value;
    let maximum = match limit.value {
        Some(Value::Maximum(maximum)) => maximum.to_string(),
        Some(Value::Unlimited(_)) => "unlimited".to_owned(),
        None => "?".to_owned(),
    };
    let remaining = limit.remaining.map(|remaining| format!(", {remaining} left")).unwrap_or_default();
    format!("{}: {} of {maximum} used{remaining}", limit.name, limit.used)
}

/// `tessera list`.
pub async fn list(planes: &Planes, console: &Console, tenant: String, freshness: &Freshness) -> anyhow::Result<()> {
    let request = v1::ListEntitlementsRequest { tenant_id: tenant, consistency: freshness.consistency()?, ..Default::default() };
    let mut client = planes.entitlements();
    let answer = planes.read(Plane::Data, request, async |request| client.list_entitlements(request).await).await?;
    let shown = answer.document.as_ref().map(show_document).unwrap_or_default();
    console.answer(&json::of("ListEntitlementsResponse", &answer)?, || shown)
}

/// A tenant's whole document for people.
pub fn show_document(document: &v1::TenantEntitlements) -> String {
    let mut text = facts(&[
        ("tenant", document.tenant_id.clone()),
        ("status", values::show_status(document.status)),
        ("plan", values::show_choice(&document.plan_id, document.plan_version)),
        ("starts", values::show_time(document.starts.as_ref())),
        ("trial until", values::show_time(document.trial_until.as_ref())),
        ("cancelled at", values::show_time(document.cancel_at.as_ref())),
        ("grace until", values::show_time(document.grace_until.as_ref())),
        ("next plan", next_plan(document)),
        ("valid until", values::show_time(document.valid_until.as_ref())),
    ]);
    let word = |entitled: bool| if entitled { "yes" } else { "no" }.to_owned();
    let rows = document.services.iter().flat_map(|service| {
        let own = [
            service.service.clone(),
            String::new(),
            word(service.entitled),
            values::show_reason(service.reason),
            service.add_on_id.clone(),
            values::show_familiarity(service.familiarity_basis_points),
        ];
        let features = service.features.iter().map(move |feature| {
            [
                service.service.clone(),
                feature.feature.clone(),
                word(feature.entitled),
                values::show_reason(feature.reason),
                feature.add_on_id.clone(),
                String::new(),
            ]
        });
        std::iter::once(own).chain(features)
    });
    text.push('\n');
    text.push_str(&table(["SERVICE", "FEATURE", "ENTITLED", "REASON", "ADD-ON", "FAMILIARITY"], rows));
    let limits = document.limits.iter().map(|limit| {
        use v1::limit_entitlement::Value;
        let maximum = match limit.value {
            Some(Value::Maximum(maximum)) => maximum.to_string(),
            Some(Value::Unlimited(_)) => "unlimited".to_owned(),
            None => String::new(),
        };
        [limit.limit.clone(), maximum]
    });
    text.push('\n');
    text.push_str(&table(["LIMIT", "MAXIMUM"], limits));
    text
}

fn next_plan(document: &v1::TenantEntitlements) -> String {
    if document.next_plan_id.is_empty() {
        return String::new();
    }
    format!("{} at {}", document.next_plan_id, values::show_time(document.next_change_at.as_ref()))
}
