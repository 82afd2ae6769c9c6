//! How events make the next plan or add-on. Total: an event that cannot follow leaves the state as it is.

use std::sync::Arc;

use super::{Document, Event, Plan, PlanState, PublishedVersion, apply, diff};
use crate::aggregate::{Recorded, References};
use crate::stream::Seq;
use crate::time::Timestamp;
use crate::value::Version;

pub(super) fn evolve(state: PlanState, recorded: &Recorded<Event>) -> PlanState {
    let catalog_seq = recorded.references.catalog;
    match (state.0, &recorded.event) {
        (None, Event::Created(draft)) => PlanState(Some(created(draft, recorded.at, catalog_seq))),
        (Some(plan), Event::Deleted) if plan.versions.is_empty() => PlanState(None),
        (Some(plan), event) => PlanState(Some(change(plan, event, recorded.at, catalog_seq))),
        (None, _) => PlanState(None),
    }
}

fn created(draft: &Document, at: Timestamp, catalog_seq: Seq) -> Plan {
    let plan = Plan {
        draft: draft.clone(),
        versions: Vec::new(),
        archived: false,
        created_at: at,
        updated_at: at,
        references: References::default(),
    };
    touched(plan, at, catalog_seq)
}

fn change(mut plan: Plan, event: &Event, at: Timestamp, catalog_seq: Seq) -> Plan {
    match event {
        Event::DraftUpdated(draft) => plan.draft = draft.clone(),
        Event::Published { version } if follows(&plan, *version) => {
            let document = Arc::new(next_version(&plan));
            plan.versions.push(PublishedVersion { document, published_at: at });
        }
        Event::Archived => plan.archived = true,
        Event::Created(_) | Event::Published { .. } | Event::Deleted | Event::CommandSettled(_) => return plan,
    }
    touched(plan, at, catalog_seq)
}

/// The draft, sharing with the version before what did not change.
fn next_version(plan: &Plan) -> Document {
    let before = plan.versions.last();
    before.map_or_else(|| plan.draft.clone(), |before| apply(&before.document, &diff(&before.document, &plan.draft)))
}

fn follows(plan: &Plan, version: Version) -> bool {
    plan.latest().map_or(Some(Version::MIN), |latest| latest.checked_add(1)) == Some(version)
}

/// `plan` after a change at `at` that was decided against the catalog at `catalog_seq`.
fn touched(mut plan: Plan, at: Timestamp, catalog_seq: Seq) -> Plan {
    plan.updated_at = plan.updated_at.max(at);
    let names_anything = plan.draft.names_anything() || plan.versions.iter().any(|v| v.document.names_anything());
    plan.references.catalog = if names_anything { plan.references.catalog.max(catalog_seq) } else { 0 };
    plan
}
