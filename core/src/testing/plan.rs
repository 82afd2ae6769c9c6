//! Generators of plans and add-ons, and of what is asked of them and happens to them.

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::value::{self, Names};
use super::world::{references, settled};
use crate::plan::{Action, Command, Document, Event, Kind, Plan, PublishedVersion, ServiceGrant};

/// A document; only a plan's has a trial length.
pub fn document(names: Names, kind: Kind) -> BoxedStrategy<Document> {
    let grant = (btree_set(value::feature_id(names), 0..4), proptest::option::of(value::familiarity()))
        .prop_map(|(features, familiarity)| Arc::new(ServiceGrant { features, familiarity }));
    let trial = match kind {
        Kind::Plan => proptest::option::of(value::trial_length()).boxed(),
        Kind::AddOn => Just(None).boxed(),
    };
    (
        value::title(),
        value::description(),
        btree_map(value::service_id(names), grant, 0..3),
        btree_map(value::limit_id(names), value::limit_value(), 0..3),
        trial,
    )
        .prop_map(|(title, description, services, limits, trial)| Document { title, description, services, limits, trial })
        .boxed()
}

/// A plan or add-on with that many published versions at least.
pub fn plan(names: Names, kind: Kind, versions_min: usize) -> BoxedStrategy<Plan> {
    let version = (document(names, kind), value::grid_time())
        .prop_map(|(document, published_at)| PublishedVersion { document: Arc::new(document), published_at });
    let versions = vec(version, versions_min..versions_min + 3);
    let times = (value::timestamp(), value::timestamp());
    (document(names, kind), versions, proptest::bool::weighted(0.1), times, references())
        .prop_map(|(draft, versions, archived, (a, b), mut references)| {
            references.plans.clear();
            references.add_ons.clear();
            Plan { draft, versions, archived, created_at: a.min(b), updated_at: a.max(b), references }
        })
        .boxed()
}

/// Something asked of a plan or add-on.
pub fn plan_action(names: Names) -> BoxedStrategy<Action> {
    let any_document = prop_oneof![9 => document(names, Kind::AddOn), 1 => document(names, Kind::Plan)];
    prop_oneof![
        2 => any_document.clone().prop_map(Action::Create),
        4 => any_document.prop_map(Action::Update),
        3 => Just(Action::Publish),
        1 => Just(Action::Archive),
        1 => Just(Action::Delete),
    ]
    .boxed()
}

/// Something asked of some plan or add-on.
pub fn plan_command(names: Names) -> BoxedStrategy<Command> {
    (value::offer(names), plan_action(names)).prop_map(|(offer, action)| Command { offer, action }).boxed()
}

/// Something that may have happened to some plan or add-on.
pub fn plan_event(names: Names) -> BoxedStrategy<Event> {
    prop_oneof![
        2 => document(names, Kind::Plan).prop_map(Event::Created),
        4 => document(names, Kind::Plan).prop_map(Event::DraftUpdated),
        3 => value::version().prop_map(|version| Event::Published { version }),
        1 => Just(Event::Archived),
        1 => Just(Event::Deleted),
        1 => settled().prop_map(Event::CommandSettled),
    ]
    .boxed()
}
