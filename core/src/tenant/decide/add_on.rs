//! Add-ons of one tenant.

use super::offers::{self, Standing};
use crate::aggregate::Context;
use crate::ids::AddOnId;
use crate::rejection::Rejection;
use crate::tenant::{ADD_ONS_MAX, AttachedAddOn, Event, Tenant};

pub(super) fn attach(
    tenant: &Tenant,
    add_on: &AddOnId,
    attached: &AttachedAddOn,
    context: &Context<'_>,
) -> Result<Vec<Event>, Rejection> {
    let known = tenant.add_ons.get(add_on);
    if known == Some(attached) {
        return Ok(Vec::new());
    }
    offers::check_add_on(add_on, attached.version, Standing::of_add_on(Some(tenant), add_on), "add_on.add_on_id", context)?;
    let count = tenant.add_ons.len();
    if known.is_none() && count >= ADD_ONS_MAX {
        return Err(Rejection::precondition(
            "TOO_MANY_ADD_ONS",
            format!("the tenant has {count} add-ons; allowed are at most {ADD_ONS_MAX}"),
        ));
    }
    Ok(vec![Event::AddOnAttached { add_on: add_on.clone(), attached: attached.clone() }])
}

pub(super) fn detach(tenant: &Tenant, add_on: &AddOnId) -> Result<Vec<Event>, Rejection> {
    if !tenant.add_ons.contains_key(add_on) {
        return Err(Rejection::precondition("ADD_ON_NOT_ATTACHED", format!("add-on `{add_on}` is not attached to the tenant")));
    }
    Ok(vec![Event::AddOnDetached(add_on.clone())])
}
