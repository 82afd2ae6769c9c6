//! What every aggregate is: a state, commands that are decided against it, events that make the next state.
//!
//! `decide` says what would happen, `evolve` makes it so; both are pure. Appending, retrying and publishing are the
//! loader's, bytes are proto's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::ids::{AddOnId, PlanId, RequestId};
use crate::plan::Plan;
use crate::rejection::Rejection;
use crate::stream::{Seq, StreamId};
use crate::time::Timestamp;
use crate::value::Text;

/// Who asked for a command: a name, never a secret.
pub type Actor = Text<1, 200>;

/// The actor of what Tessera does by itself, such as recording due changes.
pub const ACTOR_SYSTEM: &str = "system";
/// The actor of everybody until identity exists.
pub const ACTOR_LOCAL: &str = "local";

/// The other streams a command may be decided against, each with the seq at which it was read.
///
/// It holds the catalog always, and those plans and add-ons that [`Aggregate::references`] asked for and that exist
/// (`None` inside: the stream was read and holds no plan, because it was never created or was deleted).
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The catalog and its seq.
    pub catalog: (Seq, Arc<Catalog>),
    /// Plans by id.
    pub plans: BTreeMap<PlanId, (Seq, Option<Arc<Plan>>)>,
    /// Add-ons by id.
    pub add_ons: BTreeMap<AddOnId, (Seq, Option<Arc<Plan>>)>,
}

/// Everything a decision may depend on besides state and command.
#[derive(Debug, Clone)]
pub struct Context<'a> {
    /// The event time. Never before the time of the stream's last event.
    pub now: Timestamp,
    /// Who asks.
    pub actor: &'a Actor,
    /// The command's name.
    pub request_id: &'a RequestId,
    /// What else was read.
    pub world: &'a World,
}

/// The seqs of other streams that a state rests on: which it was decided against and names. Without all of them a matrix must
/// not answer from the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// Seq of the catalog; 0 when nothing of it is named.
    pub catalog: Seq,
    /// Seqs of plans.
    pub plans: BTreeMap<PlanId, Seq>,
    /// Seqs of add-ons.
    pub add_ons: BTreeMap<AddOnId, Seq>,
}

/// An event as it stands in its stream, with what `evolve` may use of its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded<E> {
    /// Its number.
    pub seq: Seq,
    /// When it happened; never earlier than the event before it.
    pub at: Timestamp,
    /// The seqs of the streams it was decided against.
    pub references: References,
    /// What happened.
    pub event: E,
}

/// The outcome of a retried command that changed nothing, written down so that earlier attempts in flight die and every later
/// replay hears the same. Part of every aggregate's event type; it never changes the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was refused, like this.
    Rejected(Rejection),
    /// There was nothing to do.
    NoChange,
}

/// An aggregate: the consistency boundary, one stream each.
pub trait Aggregate: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// What can be asked for.
    type Command: Debug + Clone + Send + Sync + 'static;
    /// What can have happened.
    type Event: Debug + Clone + PartialEq + Send + Sync + 'static;

    /// The plans and add-ons `decide` will look up in the [`World`] for `command` on this state (the catalog is always there).
    fn references(&self, command: &Self::Command) -> BTreeSet<StreamId>;

    /// What `command` makes happen: nothing (an empty list), some events, or a refusal.
    fn decide(&self, command: &Self::Command, context: &Context<'_>) -> Result<Vec<Self::Event>, Rejection>;

    /// The state after `recorded`. Total: an event that cannot follow this state leaves it as it is.
    #[must_use]
    fn evolve(self, recorded: &Recorded<Self::Event>) -> Self;

    /// The event that records `settled`.
    fn settle(settled: Settled) -> Self::Event;

    /// What the event settled, if that is what it does.
    fn settled(event: &Self::Event) -> Option<&Settled>;
}
