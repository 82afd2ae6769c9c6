//! Generators of what surrounds a decision: the other streams, references, settled outcomes.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use super::catalog::full_catalog;
use super::plan::plan;
use super::value::{self, ADD_ONS, Names, PLANS};
use crate::aggregate::{Recorded, References, Settled, World};
use crate::ids::{AddOnId, PlanId};
use crate::plan::{Kind, Plan};
use crate::rejection::{Rejection, RejectionKind, Violation};
use crate::stream::Seq;

/// A world with the whole pool: its catalog registers every name, and every plan and add-on has been read; most exist, of
/// those most are published.
pub fn world() -> BoxedStrategy<World> {
    (catalog_part(), vec(offer_part(Kind::Plan), PLANS.len()), vec(offer_part(Kind::AddOn), ADD_ONS.len()))
        .prop_map(|(catalog, plans, add_ons)| World {
            catalog,
            plans: PLANS.iter().filter_map(|id| PlanId::parse(id).ok()).zip(plans).collect(),
            add_ons: ADD_ONS.iter().filter_map(|id| AddOnId::parse(id).ok()).zip(add_ons).collect(),
        })
        .boxed()
}

fn catalog_part() -> BoxedStrategy<(Seq, Arc<crate::catalog::Catalog>)> {
    (1_u64..20, full_catalog().prop_map(Arc::new)).boxed()
}

fn offer_part(kind: Kind) -> BoxedStrategy<(Seq, Option<Arc<Plan>>)> {
    let exists = prop_oneof![
        8 => plan(Names::Pool, kind, 1).prop_map(|plan| Some(Arc::new(plan))),
        1 => plan(Names::Pool, kind, 0).prop_map(|plan| Some(Arc::new(plan))),
        1 => Just(None),
    ];
    (1_u64..20, exists).boxed()
}

/// Seqs of some streams.
pub fn references() -> BoxedStrategy<References> {
    let seq = prop_oneof![8 => 1_u64..20, 1 => Just(Seq::MAX)];
    (
        prop_oneof![Just(0), seq.clone()],
        btree_map(value::plan_id(Names::Any), seq.clone(), 0..3),
        btree_map(value::add_on_id(Names::Any), seq, 0..3),
    )
        .prop_map(|(catalog, plans, add_ons)| References { catalog, plans, add_ons })
        .boxed()
}

/// A rejection, of a reason that exists or one that may come.
pub fn rejection() -> BoxedStrategy<Rejection> {
    let kind = select(
        &[
            RejectionKind::InvalidArgument,
            RejectionKind::NotFound,
            RejectionKind::AlreadyExists,
            RejectionKind::FailedPrecondition,
            RejectionKind::Aborted,
        ][..],
    );
    let reason = select(&["INVALID_FIELD", "PLAN_NOT_FOUND", "TENANT_EXISTS", "A_LATER_ONE"][..]).prop_map(Cow::Borrowed);
    let words = select(&["", "plan `gold` does not exist", "ä \u{1f389} \"\\"][..]).prop_map(str::to_owned);
    let violation = (words.clone(), words.clone()).prop_map(|(field, description)| Violation { field, description });
    (kind, reason, words, vec(violation, 0..3))
        .prop_map(|(kind, reason, message, violations)| Rejection { kind, reason, message, violations })
        .boxed()
}

/// The outcome of a command that changed nothing.
pub fn settled() -> BoxedStrategy<Settled> {
    prop_oneof![rejection().prop_map(Settled::Rejected), Just(Settled::NoChange)].boxed()
}

/// An event of that kind as it may stand in a stream.
pub fn recorded<E: Debug + 'static>(event: impl Strategy<Value = E> + 'static) -> BoxedStrategy<Recorded<E>> {
    (1..u64::MAX, value::timestamp(), references(), event)
        .prop_map(|(seq, at, references, event)| Recorded { seq, at, references, event })
        .boxed()
}
