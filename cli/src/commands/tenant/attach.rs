//! `tenant add-on attach`: of an add-on that is attached, what is not said stays as it is.

use tessera_proto::v1;

use super::{choice_in_words, show};
use crate::commands::Change;
use crate::connection::{CommandId, Plane, Planes};
use crate::console::Console;
use crate::json;
use crate::values::AddOnChoice;

/// What is asked for.
pub(super) struct Asked {
    pub(super) tenant: String,
    pub(super) add_on: AddOnChoice,
    pub(super) quantity: Option<i64>,
}

pub(super) async fn run(planes: &Planes, console: &Console, asked: Asked, change: &Change) -> anyhow::Result<()> {
    let Asked { tenant, add_on, quantity } = asked;
    let mut client = planes.tenants();
    let (mut attached, mut etag) = (v1::AttachedAddOn { quantity: 1, ..Default::default() }, String::new());
    if quantity.is_none() || add_on.version.is_none() {
        // Made of what is there now, it would be another command the next time.
        anyhow::ensure!(
            change.request_id.is_none(),
            "with --request-id the whole is to be said: `{0}@2` or `{0}@latest`, and --quantity",
            add_on.id
        );
        let request = v1::GetTenantRequest { tenant_id: tenant.clone(), ..Default::default() };
        let answer = planes.read(Plane::Control, request, async |request| client.get_tenant(request).await).await?;
        let there = answer.tenant.unwrap_or_default();
        attached = there.add_ons.into_iter().find(|attached| attached.add_on_id == add_on.id).unwrap_or(attached);
        etag = there.etag;
    }
    let quantity = quantity.unwrap_or(attached.quantity);
    let pinned_version = add_on.version.unwrap_or(attached.pinned_version);
    let choice = choice_in_words(&add_on.id, pinned_version);
    console.confirm(change.yes, &format!("give `{tenant}` the add-on {choice}, {quantity} of it?"))?;
    let command = if etag.is_empty() { change.command_id(planes) } else { CommandId::OneOfMany(planes.request_id()) };
    let request = v1::AttachAddOnRequest {
        tenant_id: tenant,
        add_on: Some(v1::AttachedAddOn { add_on_id: add_on.id, quantity, pinned_version }),
        request_id: command.as_str().to_owned(),
        etag,
    };
    let answer = planes.change(&command, request, async |request| client.attach_add_on(request).await).await?;
    console.answer(&json::of("AttachAddOnResponse", &answer)?, || show::tenant(answer.tenant.as_ref()))
}
