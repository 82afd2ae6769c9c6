//! Whether a deployment holds the scenario: some hundred questions before the load begins, so that a wrong place or a missing
//! `prepare` is told in a sentence and not by a million wrong answers.

use std::time::Duration;

use anyhow::bail;
use tessera_benches::scenario::{ALL_FEATURES, Tenant};
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Either;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::control::{connect, explain};
use crate::credentials::Way;
use crate::expected::{Oracle, Verdict};
use crate::failure::Failed;
use crate::question::Question;
use crate::worker::facts;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was written a moment ago may take so long to be seen, and a server that starts to be ready.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// So many tenants of either kind, with and without overrides.
const TENANTS_OF_A_KIND: usize = 20;

/// What came of asking.
enum Found {
    /// All is as it should be.
    Right,
    /// Not yet, perhaps never; why.
    NotYet(String),
}

/// Asks one server. The error says what is missing and what to do.
pub async fn probe(way: &Way, tenants: u64) -> anyhow::Result<()> {
    let channel = connect(way, "--data-addr", PATIENCE).await?;
    let mut client = EntitlementServiceClient::new(channel);
    let questions = questions(tenants)?;
    let until = Instant::now() + SETTLE;
    loop {
        let checks = questions.iter().map(Question::message).collect();
        let answer = client.batch_check_entitlement(v1::BatchCheckEntitlementRequest { checks, ..Default::default() }).await;
        let found = match answer {
            Ok(answer) => judge(&questions, &answer.into_inner().results, tenants)?,
            Err(status) if status.code() == Code::Unavailable => Found::NotYet(no_answer(way, &status)),
            Err(status) => bail!(no_answer(way, &status)),
        };
        match found {
            Found::Right => return Ok(()),
            Found::NotYet(why) if Instant::now() >= until => bail!(why),
            Found::NotYet(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Every feature of tenants of both kinds, and of the last tenant.
fn questions(tenants: u64) -> anyhow::Result<Vec<Question>> {
    let of_a_kind = |overridden: bool| {
        let all = (0..tenants).map(Tenant).filter(move |tenant| tenant.overridden().is_empty() != overridden);
        all.take(TENANTS_OF_A_KIND)
    };
    let asked = of_a_kind(false).chain(of_a_kind(true)).chain([Tenant(tenants.saturating_sub(1))]);
    let mut oracle = Oracle::new()?;
    let mut questions = Vec::new();
    for tenant in asked {
        for feature in 0..ALL_FEATURES {
            let expected = oracle.expected(tenant, feature)?;
            questions.push(Question { tenant, feature: u8::try_from(feature)?, expected });
        }
    }
    Ok(questions)
}

fn no_answer(address: &Way, status: &Status) -> String {
    let said = explain(status);
    match status.code() {
        Code::Unimplemented => {
            format!(
                "--data-addr: `{address}` answers and knows no checks: {said}; is it the control plane? allowed is a data plane"
            )
        }
        // A server of Tessera has better words: this is the transport's.
        Code::Unknown | Code::Internal if Failed::status(status).cause.reason.is_empty() => {
            format!("--data-addr: `{address}` does not speak gRPC: {said}; allowed is the address of a data plane")
        }
        _ => format!("--data-addr: no answer to a check from `{address}`: {said}"),
    }
}

fn judge(questions: &[Question], results: &[v1::CheckResult], tenants: u64) -> anyhow::Result<Found> {
    anyhow::ensure!(results.len() == questions.len(), "{} results to {} checks", results.len(), questions.len());
    let oracle = Oracle::new()?;
    let (mut differ, mut first, mut unknown) = (0, None, None);
    for (question, result) in questions.iter().zip(results) {
        let answer = match &result.result {
            Some(Either::Response(answer)) => answer,
            Some(Either::Error(status)) if status.code == Code::Unavailable as i32 => {
                return Ok(Found::NotYet(format!("a check is not answered yet: {}", status.message)));
            }
            Some(Either::Error(status)) => bail!("a check of the scenario was refused: {}", status.message),
            None => bail!("a result is neither answer nor error"),
        };
        if answer.reason() == v1::Reason::TenantUnknown {
            unknown = unknown.or(Some(question));
        }
        let Verdict { entitled, reason, plan, familiarity_basis_points } = question.expected;
        let plan_id = oracle.plan_id(plan);
        let right = (answer.entitled, answer.reason, answer.plan_id.as_str(), answer.familiarity_basis_points)
            == (entitled, reason, plan_id, familiarity_basis_points);
        if !right {
            differ += 1;
            let expected = facts(entitled, reason, plan_id, familiarity_basis_points);
            let answered = facts(answer.entitled, answer.reason, &answer.plan_id, answer.familiarity_basis_points);
            first.get_or_insert_with(|| {
                let asked = question.message();
                format!("`{}` {} {} should be ({expected}) and is ({answered})", asked.tenant_id, asked.service, asked.feature)
            });
        }
    }
    let remedy = format!("`tessera-loadtest prepare --tenants {tenants}` puts it there");
    if let Some(question) = unknown {
        let tenant = question.tenant;
        return Ok(Found::NotYet(format!(
            "the deployment does not hold the scenario of {tenants} tenants: it does not know `{}` (number {}); {remedy}",
            tenant.id(),
            tenant.0
        )));
    }
    Ok(match first {
        None => Found::Right,
        Some(first) => Found::NotYet(format!(
            "the deployment does not hold the scenario of {tenants} tenants: {differ} of {} answers differ, the first: {first}; \
             {remedy} (with --overwrite if plans were changed), --skip-probe goes on all the same",
            questions.len()
        )),
    })
}
