//! Tenants for people.

use tessera_proto::v1;

use crate::console::{facts, table};
use crate::values;

/// A list of tenants.
pub(super) fn list(tenants: &[v1::Tenant]) -> String {
    let rows = tenants.iter().map(|tenant| {
        let plan = tenant.subscription.as_ref().map(plan).unwrap_or_default();
        let labels: Vec<String> = tenant.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        [tenant.tenant_id.clone(), values::show_status(tenant.status), plan, labels.join(" "), tenant.title.clone()]
    });
    table(["TENANT", "STATUS", "PLAN", "LABELS", "TITLE"], rows)
}

fn plan(subscription: &v1::Subscription) -> String {
    let effective = match (subscription.pinned_version, subscription.effective_version) {
        (0, version) if version > 0 => format!(" (version {version})"),
        _ => String::new(),
    };
    format!("{}{effective}", values::show_choice(&subscription.plan_id, subscription.pinned_version))
}

/// One tenant.
pub(super) fn tenant(tenant: Option<&v1::Tenant>) -> String {
    let Some(tenant) = tenant else { return String::new() };
    let subscription = tenant.subscription.clone().unwrap_or_default();
    let join = |items: Vec<String>| items.join(", ");
    let until = |time: Option<&prost_types::Timestamp>, word: &str| {
        let shown = values::show_time(time);
        if shown.is_empty() { shown } else { format!(" {word} {shown}") }
    };
    let scheduled = subscription.scheduled.iter().map(|change| {
        let at = values::show_time(change.at.as_ref());
        format!("{} at {at} (number {})", values::show_choice(&change.plan_id, change.version), change.id)
    });
    let add_ons = tenant
        .add_ons
        .iter()
        .map(|attached| format!("{} × {}", attached.quantity, values::show_choice(&attached.add_on_id, attached.pinned_version)));
    let suspensions = tenant
        .suspensions
        .iter()
        .map(|suspension| format!("{}{}", suspension.reason, until(suspension.effective_at.as_ref(), "from")));
    let familiarity = tenant.familiarity_basis_points.iter();
    let mut text = facts(&[
        ("tenant", tenant.tenant_id.clone()),
        ("title", tenant.title.clone()),
        ("status", values::show_status(tenant.status)),
        ("labels", join(tenant.labels.iter().map(|(key, value)| format!("{key}={value}")).collect())),
        ("plan", plan(&subscription)),
        ("starts", values::show_time(subscription.starts.as_ref())),
        ("trial until", values::show_time(subscription.trial_until.as_ref())),
        ("cancelled at", values::show_time(subscription.cancel_at.as_ref())),
        ("scheduled", join(scheduled.collect())),
        ("add-ons", join(add_ons.collect())),
        ("suspended", join(suspensions.collect())),
        ("familiarity", join(familiarity.map(|(s, own)| format!("{s}: {}", values::show_familiarity(*own))).collect())),
        ("trials had", join(tenant.trials_used.clone())),
        ("created", values::show_time(tenant.create_time.as_ref())),
        ("updated", values::show_time(tenant.update_time.as_ref())),
        ("deleted", values::show_time(tenant.delete_time.as_ref())),
    ]);
    if !tenant.overrides.is_empty() {
        let rows = tenant.overrides.iter().map(|set| {
            let target = set.target.clone().unwrap_or_default();
            let subject = [target.service, target.feature, target.limit].into_iter().filter(|part| !part.is_empty());
            let subject = subject.collect::<Vec<_>>().join("/");
            let effect = match v1::OverrideEffect::try_from(set.effect) {
                Ok(v1::OverrideEffect::Grant) => "grant".to_owned(),
                Ok(v1::OverrideEffect::Deny) => "deny".to_owned(),
                _ => set.value.as_ref().map(values::show_limit).unwrap_or_default(),
            };
            [subject, effect, values::show_time(set.until.as_ref()), set.reason.clone()]
        });
        text.push('\n');
        text.push_str(&table(["OVERRIDE", "EFFECT", "UNTIL", "REASON"], rows));
    }
    text
}
