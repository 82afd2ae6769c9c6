//! (h) A rejection was true at some moment during the call: in some state that the stream, and the streams it was decided against,
//! had between the call's begin and its answer, the shipped `decide` refuses the command with that reason.
//!
//! A call is all that a caller does under one request id: what a retry is told may have been settled by an earlier attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_core::aggregate::{ACTOR_LOCAL, Actor, Aggregate, Context, World};
use tessera_core::catalog::Catalog;
use tessera_core::ids::RequestId;
use tessera_core::plan::{Plan, PlanState};
use tessera_core::stream::{Seq, StreamId};
use tessera_core::tenant::TenantState;
use tessera_core::time::Timestamp;
use tessera_proto::storage::{self, EventLink, Stored};

use crate::checks::{stored, stream_ids};
use crate::cluster::{Cluster, Life};
use crate::command::{Asked, Command};

/// A request id that names another command of the same stream.
const REUSED: &str = "REQUEST_ID_REUSED";

/// Where everything stood when a call began.
#[derive(Debug)]
pub struct Window {
    life: Life,
    at: Timestamp,
    heads: BTreeMap<StreamId, Seq>,
}

impl Window {
    /// Begins now.
    pub fn open(cluster: &Cluster) -> Self {
        let head = |stream: StreamId| {
            let seq = cluster.store.current(&stream).map_or(0, |(head, _)| head.seq);
            (stream, seq)
        };
        Self { life: cluster.life(), at: cluster.now(), heads: stream_ids().into_iter().map(head).collect() }
    }

    /// The life of the store in which it began.
    pub fn life(&self) -> Life {
        self.life
    }

    fn began_at(&self, stream: &StreamId) -> Seq {
        self.heads.get(stream).copied().unwrap_or(0)
    }
}

/// Whether the command `asked` under that request id can have been refused for that reason since the window began.
pub fn check(cluster: &Cluster, window: &Window, (command, id): (&Command, &str), reason: &str) -> Result<(), String> {
    if cluster.life() != window.life {
        // What was true in a life that is over cannot be looked up any more.
        return Ok(());
    }
    let stream = command.stream();
    if reason == REUSED {
        return is_known(cluster, &stream, id);
    }
    let times = [cluster.now(), window.at];
    let mut refused_for = Vec::new();
    for now in times {
        let true_once = match command.asked(id) {
            Err(failure) => return Err(format!("h: {id} {command:?} cannot even be read: {failure:?}")),
            Ok(Asked::Catalog(asked)) => {
                search::<Catalog>(cluster, window, (&stream, &asked, id), (now, reason), &mut refused_for)
            }
            Ok(Asked::Plan(asked)) => {
                search::<PlanState>(cluster, window, (&stream, &asked, id), (now, reason), &mut refused_for)
            }
            Ok(Asked::Tenant(asked)) => {
                search::<TenantState>(cluster, window, (&stream, &asked, id), (now, reason), &mut refused_for)
            }
        };
        if true_once? {
            return Ok(());
        }
    }
    refused_for.sort_unstable();
    refused_for.dedup();
    let since = window.began_at(&stream);
    Err(format!("h: {id} {command:?} was refused as {reason}, which was never true since {stream}@{since}, but {refused_for:?}"))
}

/// Whether the stream has an event of that request id.
fn is_known(cluster: &Cluster, stream: &StreamId, id: &str) -> Result<(), String> {
    let links = cluster.store.cells(stream);
    let known = links.iter().any(|cell| EventLink::decode(cell).is_ok_and(|link| link.request_id.as_str() == id));
    if known { Ok(()) } else { Err(format!("h: {id} was refused as used before, and {stream} has nothing of it")) }
}

/// Whether some combination of states of the window refuses `asked` for that reason; notes what the others say.
fn search<A: Stored>(
    cluster: &Cluster,
    window: &Window,
    (stream, asked, id): (&StreamId, &A::Command, &str),
    (now, reason): (Timestamp, &str),
    others: &mut Vec<String>,
) -> Result<bool, String> {
    let actor = Actor::parse("an actor", ACTOR_LOCAL).map_err(|error| format!("h: {error}"))?;
    let request_id = RequestId::parse(id).map_err(|error| format!("h: {error}"))?;
    for (last, state) in states::<A>(cluster, window, stream)? {
        for world in worlds(cluster, window, &state, asked)? {
            let context = Context { now: now.max(last), actor: &actor, request_id: &request_id, world: &world };
            match state.decide(asked, &context) {
                Err(rejection) if rejection.reason == reason => return Ok(true),
                Err(rejection) => others.push(rejection.reason.to_string()),
                Ok(_) => others.push("accepted".to_owned()),
            }
        }
    }
    Ok(false)
}

/// Every state that a command can have met since the window began, the newest first, each with the time of its last event.
fn states<A: Stored>(cluster: &Cluster, window: &Window, stream: &StreamId) -> Result<Vec<(Timestamp, A)>, String> {
    let began_at = window.began_at(stream);
    let head = cluster.store.current(stream).map_or(0, |(head, _)| head.seq);
    let mut state: A = stored(cluster, stream, began_at)?;
    let mut last = cluster
        .store
        .state_at(stream, began_at)
        .and_then(|bytes| storage::decode_state::<A>(&bytes).ok())
        .map_or(Timestamp::MIN, |(_, last)| last);
    let mut met = Vec::new();
    let mut before: Option<RequestId> = None;
    for cell in cluster.store.cells_between(stream, began_at, head) {
        let event = storage::decode_event::<A>(&cell).map_err(|error| format!("h: {stream}: {error}"))?;
        // Commands of one append meet what those before them leave, but nothing meets one that is half done.
        if before.as_ref() != Some(&event.request_id) {
            met.push((last, state.clone()));
        }
        state = state.evolve(&event.recorded);
        last = event.recorded.at;
        before = Some(event.request_id);
    }
    met.push((last, state));
    met.reverse();
    Ok(met)
}

/// Every combination of a catalog and of the plans that `state` would be decided against, since the window began.
fn worlds<A: Aggregate>(cluster: &Cluster, window: &Window, state: &A, asked: &A::Command) -> Result<Vec<World>, String> {
    let catalogs = states::<Catalog>(cluster, window, &StreamId::Catalog)?;
    let catalogs = catalogs.into_iter().map(|(_, catalog)| World { catalog: (0, Arc::new(catalog)), ..World::default() });
    let mut worlds: Vec<World> = catalogs.collect();
    for stream in state.references(asked) {
        let StreamId::Plan(id) = &stream else { continue };
        let plans = states::<PlanState>(cluster, window, &stream)?;
        let plans: Vec<Option<Arc<Plan>>> = plans.into_iter().map(|(_, PlanState(plan))| plan.map(Arc::new)).collect();
        let with = |world: &World, plan: &Option<Arc<Plan>>| {
            let mut world = world.clone();
            world.plans.insert(id.clone(), (0, plan.clone()));
            world
        };
        worlds = worlds.iter().flat_map(|world| plans.iter().map(move |plan| with(world, plan))).collect();
    }
    Ok(worlds)
}
