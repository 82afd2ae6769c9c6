//! `tenant`: one tenant at a time. Whole documents are stated by `apply` and `tenant import`.

mod arguments;
mod attach;
mod show;

use prost_types::Timestamp;
use tessera_core::shown::shown;
use tessera_ports::Clock as _;
use tessera_proto::convert::time::to_timestamp;
use tessera_proto::v1;
use tessera_runtime::clock::SystemClock;

pub use arguments::TenantCommand;
use arguments::{AddOnCommand, OverrideCommand, OverrideSubject, TrialCommand};

use super::{Change, import};
use crate::connection::{Plane, Planes};
use crate::console::Console;
use crate::{json, values};

/// How many tenants are asked for at a time.
const PAGE_SIZE: i32 = 500;

/// `tessera tenant`.
pub async fn run(planes: &Planes, console: &Console, command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::List { plan, status, label, deleted, limit, page_token } => {
            let filter = v1::ListTenantsRequest {
                plan_id: plan.unwrap_or_default(),
                status: status.map_or(0, |status| v1::TenantStatus::from(status).into()),
                labels: values::labels(label)?,
                show_deleted: deleted,
                page_token: page_token.unwrap_or_default(),
                ..Default::default()
            };
            list(planes, console, filter, usize::try_from(limit)?).await
        }
        TenantCommand::Show { tenant, deleted } => {
            let mut client = planes.tenants();
            let request = v1::GetTenantRequest { tenant_id: tenant, show_deleted: deleted };
            let answer = planes.read(Plane::Control, request, async |request| client.get_tenant(request).await).await?;
            console.answer(&json::of("GetTenantResponse", &answer)?, || show::tenant(answer.tenant.as_ref()))
        }
        TenantCommand::At { tenant, time } => {
            let mut client = planes.audit();
            let request = v1::GetTenantAtRequest { tenant_id: tenant, time: Some(time) };
            let answer = planes.read(Plane::Control, request, async |request| client.get_tenant_at(request).await).await?;
            console.answer(&json::of("GetTenantAtResponse", &answer)?, || {
                let entitlements = answer.entitlements.as_ref().map(super::check::show_document).unwrap_or_default();
                format!("{}\n{entitlements}", show::tenant(answer.tenant.as_ref()))
            })
        }
        TenantCommand::Import(arguments) => import::tenants(planes, console, arguments).await,
        command => change(planes, console, command).await,
    }
}

async fn list(planes: &Planes, console: &Console, mut asked: v1::ListTenantsRequest, limit: usize) -> anyhow::Result<()> {
    let mut whole = v1::ListTenantsResponse::default();
    loop {
        // No page is greater than what is still wanted, so that the token of the last one says where the list ends.
        let wanted = limit.saturating_sub(whole.tenants.len());
        asked.page_size = i32::try_from(wanted).map_or(PAGE_SIZE, |wanted| wanted.min(PAGE_SIZE));
        let mut client = planes.tenants();
        let page = planes.read(Plane::Control, asked.clone(), async |request| client.list_tenants(request).await).await?;
        whole.tenants.extend(page.tenants);
        whole.unreadable_count = whole.unreadable_count.saturating_add(page.unreadable_count);
        asked.page_token.clone_from(&page.next_page_token);
        whole.next_page_token = page.next_page_token;
        if whole.next_page_token.is_empty() || whole.tenants.len() >= limit {
            break;
        }
    }
    whole.tenants.sort_by(|a, b| a.tenant_id.cmp(&b.tenant_id));
    console.answer(&json::of("ListTenantsResponse", &whole)?, || show::list(&whole.tenants))?;
    console.note_unreadable("tenant", whole.unreadable_count);
    if !whole.next_page_token.is_empty() {
        console.note_more(limit);
    }
    Ok(())
}

/// Hands over every tenant that is not deleted. Returns how many were left out since they cannot be read.
pub async fn each(planes: &Planes, mut take: impl FnMut(v1::Tenant) -> anyhow::Result<()>) -> anyhow::Result<i32> {
    let (mut page_token, mut unreadable) = (String::new(), 0_i32);
    loop {
        let request = v1::ListTenantsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        let mut client = planes.tenants();
        let page = planes.read(Plane::Control, request, async |request| client.list_tenants(request).await).await?;
        unreadable = unreadable.saturating_add(page.unreadable_count);
        for tenant in page.tenants {
            take(tenant)?;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(unreadable);
        }
    }
}

/// Sends one command and shows the tenant after it. Every command of the service has a response of the same shape.
macro_rules! send {
    ($planes:ident, $console:ident, $change:ident, $question:expr, $method:ident, $Response:literal,
        $Request:ident { $($field:ident: $value:expr),* $(,)? }) => {{
        let change: Change = $change;
        $console.confirm(change.yes, &$question)?;
        let command = change.command_id($planes);
        let mut request = v1::$Request::default();
        $(request.$field = $value;)*
        request.request_id = command.as_str().to_owned();
        let mut client = $planes.tenants();
        let answer = $planes.change(&command, request, async |request| client.$method(request).await).await?;
        $console.answer(&json::of($Response, &answer)?, || show::tenant(answer.tenant.as_ref()))
    }};
}

#[expect(clippy::too_many_lines, reason = "one arm per command, each a question and a message")]
async fn change(planes: &Planes, console: &Console, command: TenantCommand) -> anyhow::Result<()> {
    match command {
        TenantCommand::List { .. } | TenantCommand::Show { .. } | TenantCommand::At { .. } | TenantCommand::Import(_) => {
            anyhow::bail!("this changes nothing")
        }
        TenantCommand::Create(arguments) => {
            let (change, labels) = (arguments.change, values::labels(arguments.label)?);
            let plan = choice_in_words(&arguments.plan.id, arguments.plan.version);
            let question = match &arguments.tenant {
                Some(tenant) => format!("create tenant `{tenant}` on {plan}?"),
                None => format!("create a tenant on {plan}?"),
            };
            send!(
                planes,
                console,
                change,
                question,
                create_tenant,
                "CreateTenantResponse",
                CreateTenantRequest {
                    tenant_id: arguments.tenant.unwrap_or_default(),
                    title: arguments.title.unwrap_or_default(),
                    labels: labels,
                    plan_id: arguments.plan.id,
                    plan_version: arguments.plan.version,
                    starts: arguments.starts,
                    trial: arguments.trial,
                    pending: arguments.pending,
                }
            )
        }
        TenantCommand::ChangePlan { tenant, undo: Some(id), change, .. } => {
            let question = format!("undo the scheduled change {id} of `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                cancel_scheduled_change,
                "CancelScheduledChangeResponse",
                CancelScheduledChangeRequest { tenant_id: tenant, scheduled_change_id: id }
            )
        }
        TenantCommand::ChangePlan { tenant, plan, at, undo: None, change } => {
            let Some(plan) = plan else { anyhow::bail!("a plan is missing; allowed is `gold` or `gold@3`") };
            let question = format!("move `{tenant}` to {} {}?", choice_in_words(&plan.id, plan.version), when(at.as_ref()));
            send!(
                planes,
                console,
                change,
                question,
                change_plan,
                "ChangePlanResponse",
                ChangePlanRequest { tenant_id: tenant, plan_id: plan.id, plan_version: plan.version, at: at }
            )
        }
        TenantCommand::Cancel { tenant, undo: true, change, .. } => {
            let question = format!("undo the cancellation of `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                renew_subscription,
                "RenewSubscriptionResponse",
                RenewSubscriptionRequest { tenant_id: tenant }
            )
        }
        TenantCommand::Cancel { tenant, at, undo: false, change } => {
            let question = format!("end the subscription of `{tenant}` {}?", when(at.as_ref()));
            send!(
                planes,
                console,
                change,
                question,
                cancel_subscription,
                "CancelSubscriptionResponse",
                CancelSubscriptionRequest { tenant_id: tenant, at: at }
            )
        }
        TenantCommand::Trial(TrialCommand::Start { tenant, length, change }) => {
            let question = format!("start a trial for `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                start_trial,
                "StartTrialResponse",
                StartTrialRequest { tenant_id: tenant, trial: Some(v1::Trial { length }) }
            )
        }
        TenantCommand::Trial(TrialCommand::End { tenant, convert, change, .. }) => {
            let (question, end) = if convert {
                (format!("convert the trial of `{tenant}` to paid?"), v1::TrialEnd::Convert)
            } else {
                (format!("end the trial of `{tenant}` now?"), v1::TrialEnd::End)
            };
            send!(
                planes,
                console,
                change,
                question,
                end_trial,
                "EndTrialResponse",
                EndTrialRequest { tenant_id: tenant, end: end.into() }
            )
        }
        TenantCommand::AddOn(AddOnCommand::Attach { tenant, add_on, quantity, change }) => {
            attach::run(planes, console, attach::Asked { tenant, add_on, quantity }, &change).await
        }
        TenantCommand::AddOn(AddOnCommand::Detach { tenant, add_on, change }) => {
            let question = format!("take the add-on `{add_on}` from `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                detach_add_on,
                "DetachAddOnResponse",
                DetachAddOnRequest { tenant_id: tenant, add_on_id: add_on }
            )
        }
        TenantCommand::Override(OverrideCommand::Set { tenant, subject, grant, deny, maximum, until, reason, change }) => {
            let (effect, said) = match (grant, deny) {
                (true, _) => (v1::OverrideEffect::Grant, format!("grant {subject}")),
                (_, true) => (v1::OverrideEffect::Deny, format!("deny {subject}")),
                _ => {
                    let maximum = maximum.as_ref().map(values::show_limit).unwrap_or_default();
                    (v1::OverrideEffect::Unspecified, format!("{subject} is {maximum}"))
                }
            };
            let end = until.as_ref().map_or_else(|| "it is removed".to_owned(), |until| values::show_time(Some(until)));
            let question = format!("make an exception for `{tenant}`: {said}, until {end}?");
            let set = v1::Override { target: Some(target(subject)), effect: effect.into(), value: maximum, until, reason };
            send!(
                planes,
                console,
                change,
                question,
                set_override,
                "SetOverrideResponse",
                SetOverrideRequest { tenant_id: tenant, r#override: Some(set) }
            )
        }
        TenantCommand::Override(OverrideCommand::Remove { tenant, subject, change }) => {
            let question = format!("remove the exception of `{tenant}`: {subject}?");
            send!(
                planes,
                console,
                change,
                question,
                remove_override,
                "RemoveOverrideResponse",
                RemoveOverrideRequest { tenant_id: tenant, target: Some(target(subject)) }
            )
        }
        TenantCommand::Activate { tenant, change } => {
            let question = format!("activate `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                activate_tenant,
                "ActivateTenantResponse",
                ActivateTenantRequest { tenant_id: tenant }
            )
        }
        TenantCommand::Suspend { tenant, reason, effective_at, change } => {
            let question = format!("suspend `{tenant}` {}, for `{}`?", when(effective_at.as_ref()), shown(&reason));
            send!(
                planes,
                console,
                change,
                question,
                suspend_tenant,
                "SuspendTenantResponse",
                SuspendTenantRequest { tenant_id: tenant, reason: reason, effective_at: effective_at }
            )
        }
        TenantCommand::Resume { tenant, reason, change } => {
            let question = format!("resume `{tenant}`?");
            send!(
                planes,
                console,
                change,
                question,
                resume_tenant,
                "ResumeTenantResponse",
                ResumeTenantRequest { tenant_id: tenant, reasons: reason }
            )
        }
        TenantCommand::Delete { tenant, change } => {
            let question = format!("delete `{tenant}` for ever? its id can never be used again;");
            send!(
                planes,
                console,
                change,
                question,
                delete_tenant,
                "DeleteTenantResponse",
                DeleteTenantRequest { tenant_id: tenant }
            )
        }
    }
}

/// Which version of a plan or add-on that is, in a question.
fn choice_in_words(id: &str, version: i32) -> String {
    if version == 0 { format!("`{id}` (its latest version)") } else { format!("`{id}@{version}`") }
}

/// When something takes effect, in a question: what is past is now.
fn when(at: Option<&Timestamp>) -> String {
    let Some(at) = at else { return "now".to_owned() };
    let shown = values::show_time(Some(at));
    let now = to_timestamp(SystemClock.now());
    if (at.seconds, at.nanos) < (now.seconds, now.nanos) { format!("now ({shown} is past)") } else { format!("at {shown}") }
}

fn target(subject: OverrideSubject) -> v1::OverrideTarget {
    v1::OverrideTarget {
        service: subject.service.unwrap_or_default(),
        feature: subject.feature.unwrap_or_default(),
        limit: subject.limit.unwrap_or_default(),
    }
}
