//! Puts the scenario into a deployment, through the control plane as anybody would. Doing it again repairs what differs and
//! changes nothing else.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use indicatif::ProgressBar;
use tessera_benches::scenario::{self, SplitMix64, Tenant};
use tessera_proto::convert::offer;
use tessera_proto::v1;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::import_tenants_request::Item;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::Code;

use crate::arguments::Prepare;
use crate::control::{Plane, connect, connect_lazily, explain};
use crate::credentials::Way;
use crate::storm;

/// How often an import that broke off is taken up again without having come further.
const RESUMPTIONS_MAX: u32 = 5;
/// Before it is taken up again.
const PAUSE: Duration = Duration::from_millis(500);
/// Refused rows that are shown.
const REFUSALS_SHOWN_MAX: usize = 5;

/// What had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prepared {
    /// Plan versions published.
    pub plans: u32,
    /// Tenants created or changed.
    pub tenants: u64,
    /// Tenants that were as they should be.
    pub unchanged: u64,
}

/// Puts it there. `seed` names the import, and must be a new one each time: rows of an import that was seen are not done again.
pub async fn prepare(arguments: &Prepare, seed: u64) -> anyhow::Result<Prepared> {
    let way = arguments.who.read()?.way(&arguments.control_addr, "--control-addr")?;
    let channel = connect(&way, "--control-addr", arguments.timeout).await?;
    let said = |status: tonic::Status| {
        let hint = if status.code() == Code::Unimplemented {
            "; is it the data plane? --control-addr names the control plane"
        } else {
            ""
        };
        anyhow::anyhow!("{}{hint}", explain(&status))
    };
    for service in scenario::services().chain([storm::service()]) {
        let id = service.service_id.clone();
        let answer = CatalogServiceClient::new(channel.clone()).upsert_service(service).await;
        answer.map_err(said).with_context(|| format!("register the service `{id}`"))?;
    }
    let mut prepared = Prepared::default();
    for plan in scenario::plans() {
        let id = plan.plan_id.clone();
        let published = publish(&channel, plan, arguments.overwrite).await;
        prepared.plans += u32::from(published.with_context(|| format!("publish the plan `{id}`"))?);
    }
    let bar = bar(arguments);
    let imported = import(&way, arguments, seed, &bar, &mut prepared).await;
    bar.finish_and_clear();
    imported.map(|()| prepared)
}

fn bar(arguments: &Prepare) -> ProgressBar {
    if arguments.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec} {eta}");
    let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
    ProgressBar::new(arguments.tenants).with_style(style).with_message("importing tenants")
}

/// Whether a version had to be published.
async fn publish(channel: &Plane, wanted: v1::CreatePlanRequest, overwrite: bool) -> anyhow::Result<bool> {
    let said = |status: tonic::Status| anyhow::anyhow!(explain(&status));
    let mut plans = PlanServiceClient::new(channel.clone());
    let plan_id = wanted.plan_id.clone();
    let found = match plans.get_plan(v1::GetPlanRequest { plan_id: plan_id.clone() }).await {
        Ok(answer) => answer.into_inner().plan,
        Err(status) if status.code() == Code::NotFound => None,
        Err(status) => return Err(said(status)),
    };
    let Some(found) = found else {
        plans.create_plan(wanted).await.map_err(said)?;
        plans.publish_plan(v1::PublishPlanRequest { plan_id, ..Default::default() }).await.map_err(said)?;
        return Ok(true);
    };
    let document = offer::plan_document(wanted.document.as_ref()).map_err(tonic::Status::from).map_err(said)?;
    let newest = match found.latest_version {
        0 => found.draft,
        version => {
            let request = v1::GetPlanVersionRequest { plan_id: plan_id.clone(), version };
            plans.get_plan_version(request).await.map_err(said)?.into_inner().plan_version.and_then(|newest| newest.document)
        }
    };
    let same = offer::plan_document(newest.as_ref()).is_ok_and(|newest| newest == document);
    if same && found.latest_version > 0 {
        return Ok(false);
    }
    if !same {
        anyhow::ensure!(
            overwrite,
            "it exists and says something else; use a deployment of its own for load tests, or say --overwrite to change it"
        );
        let request = v1::UpdatePlanRequest { plan_id: plan_id.clone(), document: wanted.document, ..Default::default() };
        plans.update_plan(request).await.map_err(said)?;
    }
    plans.publish_plan(v1::PublishPlanRequest { plan_id, ..Default::default() }).await.map_err(said)?;
    Ok(true)
}

/// How far an import has come.
#[derive(Default)]
struct Through {
    row: i64,
    unchanged: i64,
    refused: u64,
    shown: Vec<String>,
}

/// Why one call of an import ended early.
enum Broken {
    Call(tonic::Status),
    Silent,
}

async fn import(way: &Way, arguments: &Prepare, seed: u64, bar: &ProgressBar, prepared: &mut Prepared) -> anyhow::Result<()> {
    // Streams outlive any time-out of a call; silence is watched for answer by answer.
    let channel = connect_lazily(way, arguments.timeout);
    let import_id = format!("loadtest-{:016x}", SplitMix64::new(seed).next_u64());
    let mut through = Through::default();
    let mut idle = 0;
    loop {
        let before = through.row;
        let Err(broken) = call(&channel, arguments, &import_id, &mut through, bar).await else { break };
        idle = if through.row > before { 0 } else { idle + 1 };
        let (said, refused) = match broken {
            Broken::Call(status) => {
                let refused = matches!(
                    status.code(),
                    Code::InvalidArgument
                        | Code::Unimplemented
                        | Code::FailedPrecondition
                        | Code::Unauthenticated
                        | Code::PermissionDenied
                );
                (explain(&status), refused)
            }
            Broken::Silent => (format!("no answer for {:?} (--timeout)", arguments.timeout), false),
        };
        if refused || idle > RESUMPTIONS_MAX {
            bail!("the import broke off after {} of {} tenants: {said}; do it again to go on", through.row, arguments.tenants);
        }
        tokio::time::sleep(PAUSE).await;
    }
    if through.refused > 0 {
        bail!("{} of {} tenants were refused:\n  {}", through.refused, arguments.tenants, through.shown.join("\n  "));
    }
    prepared.unchanged = u64::try_from(through.unchanged).unwrap_or(0);
    prepared.tenants = arguments.tenants.saturating_sub(prepared.unchanged);
    Ok(())
}

async fn call(
    channel: &Plane,
    arguments: &Prepare,
    import_id: &str,
    through: &mut Through,
    bar: &ProgressBar,
) -> Result<(), Broken> {
    let start = v1::ImportStart { import_id: import_id.to_owned(), mode: v1::ImportMode::Upsert.into() };
    let after = u64::try_from(through.row).unwrap_or(0);
    let rows = (after..arguments.tenants).map(|number| {
        let row = i64::try_from(number + 1).unwrap_or(i64::MAX);
        Item::Row(v1::ImportRow { row, tenant: Some(Tenant(number).document()) })
    });
    let items = std::iter::once(Item::Start(start)).chain(rows);
    let requests = tokio_stream::iter(items.map(|item| v1::ImportTenantsRequest { item: Some(item) }));
    let mut tenants = TenantServiceClient::new(channel.clone());
    let begun = tokio::time::timeout(arguments.timeout, tenants.import_tenants(requests)).await.map_err(|_| Broken::Silent)?;
    let mut answers = begun.map_err(Broken::Call)?.into_inner();
    let unchanged_before = through.unchanged;
    loop {
        let answer = tokio::time::timeout(arguments.timeout, answers.message()).await.map_err(|_| Broken::Silent)?;
        let Some(answer) = answer.map_err(Broken::Call)? else { return Ok(()) };
        through.row = through.row.max(answer.applied_through_row);
        through.unchanged = unchanged_before + answer.unchanged;
        for error in answer.errors {
            through.refused += 1;
            if through.shown.len() < REFUSALS_SHOWN_MAX {
                let said = error.status.map(|status| status.message).unwrap_or_default();
                through.shown.push(format!("`{}`: {said}", error.tenant_id));
            }
        }
        bar.set_position(u64::try_from(through.row).unwrap_or(0));
    }
}
