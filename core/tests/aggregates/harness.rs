//! given/when/then. A decision sees of the world exactly what `references` asked for, as in the loader, so a lookup that is
//! missing there fails the test; and whatever a decision yields must follow the state.

use std::fmt::Debug;

use tessera_core::aggregate::{ACTOR_LOCAL, Actor, Aggregate, Context, References, World};
use tessera_core::ids::RequestId;
use tessera_core::rejection::Rejection;
use tessera_core::stream::StreamId;
use tessera_core::testing::Fold;
use tessera_core::time::Timestamp;

use crate::words::day;

/// A stream in a world, at a time.
#[derive(Debug, Clone)]
pub(crate) struct Given<A: Aggregate> {
    fold: Fold<A>,
    now: Timestamp,
    world: World,
}

/// What a decision said.
pub(crate) type Decided<A> = Result<Vec<<A as Aggregate>::Event>, Rejection>;

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Outcome<A: Aggregate> {
    given: Given<A>,
    seen: World,
    result: Decided<A>,
}

/// A stream with those events, all of them at day 0, in that world.
#[track_caller]
pub(crate) fn given<A: Aggregate>(world: &World, events: impl IntoIterator<Item = A::Event>) -> Given<A> {
    Given { fold: Fold::default(), now: day(0), world: world.clone() }.and(events)
}

impl<A: Aggregate> Given<A> {
    /// A stream in that state.
    pub(crate) fn state(world: &World, state: A, now: Timestamp) -> Self {
        Self { fold: Fold { state, seq: 1 }, now, world: world.clone() }
    }

    /// It is that time now.
    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        self.now = now;
        self
    }

    /// Those events happen now, each decided against the whole world.
    #[track_caller]
    pub(crate) fn and(mut self, events: impl IntoIterator<Item = A::Event>) -> Self {
        let references = references_of(&self.world);
        for event in events {
            // At a time that nothing had yet, so that a mere record shows, too.
            let after = self.fold.clone().then(Timestamp::MAX, &references, event.clone());
            let changes = A::settled(&event).is_none();
            assert_eq!(after.state != self.fold.state, changes, "{event:?} cannot follow {:?}", self.fold.state);
            self.fold = self.fold.then(self.now, &references, event);
        }
        self
    }

    pub(crate) fn in_world(mut self, world: &World) -> Self {
        self.world = world.clone();
        self
    }

    pub(crate) fn get(&self) -> &A {
        &self.fold.state
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    pub(crate) fn when(&self, command: impl Into<A::Command>) -> Outcome<A> {
        let command = command.into();
        let seen = restricted(&self.world, self.fold.state.references(&command));
        let actor = Actor::parse("actor", ACTOR_LOCAL).unwrap();
        let request_id = RequestId::parse("request").unwrap();
        let context = Context { now: self.now, actor: &actor, request_id: &request_id, world: &seen };
        let result = self.fold.state.decide(&command, &context);
        Outcome { given: self.clone(), seen, result }
    }
}

impl<A: Aggregate> Outcome<A>
where
    A::Event: Debug,
{
    /// It made exactly this happen; goes on from there.
    #[track_caller]
    pub(crate) fn then(self, events: impl IntoIterator<Item = A::Event>) -> Given<A> {
        let events: Vec<_> = events.into_iter().collect();
        assert_eq!(self.result.as_ref(), Ok(&events));
        assert!(!events.is_empty(), "say then_nothing");
        self.given.and(events)
    }

    /// It changed nothing.
    #[track_caller]
    pub(crate) fn then_nothing(self) -> Given<A> {
        assert_eq!(self.result, Ok(Vec::new()));
        self.given
    }

    /// It was refused for that reason; what more the refusal says.
    #[track_caller]
    pub(crate) fn then_rejected(self, reason: &str) -> Rejection {
        match self.result {
            Err(rejection) => {
                assert_eq!(rejection.reason, reason, "{rejection}");
                assert!(!rejection.message.is_empty());
                rejection
            }
            Ok(events) => panic!("expected {reason}, but this happened: {events:?}"),
        }
    }

    /// Whatever it was: its events, with the stream after them, referring to what the decision saw.
    pub(crate) fn carry_on(self) -> (Decided<A>, Given<A>) {
        let mut given = self.given;
        let references = references_of(&self.seen);
        for event in self.result.iter().flatten() {
            given.fold = given.fold.then(given.now, &references, event.clone());
        }
        (self.result, given)
    }
}

/// The fields that a refusal names.
pub(crate) fn fields(rejection: &Rejection) -> Vec<&str> {
    rejection.violations.iter().map(|violation| violation.field.as_str()).collect()
}

/// What of `world` a decision sees that asked for `wanted`.
fn restricted(world: &World, wanted: impl IntoIterator<Item = StreamId>) -> World {
    let mut seen = World { catalog: world.catalog.clone(), ..World::default() };
    for stream in wanted {
        match stream {
            StreamId::Plan(id) => seen.plans.extend(world.plans.get(&id).map(|plan| (id, plan.clone()))),
            StreamId::AddOn(id) => seen.add_ons.extend(world.add_ons.get(&id).map(|add_on| (id, add_on.clone()))),
            StreamId::Catalog | StreamId::Tenant(_) => panic!("{stream} cannot be asked for"),
        }
    }
    seen
}

/// The seqs of everything in `world`.
pub(crate) fn references_of(world: &World) -> References {
    References {
        catalog: world.catalog.0,
        plans: world.plans.iter().map(|(id, (seq, _))| (id.clone(), *seq)).collect(),
        add_ons: world.add_ons.iter().map(|(id, (seq, _))| (id.clone(), *seq)).collect(),
    }
}
