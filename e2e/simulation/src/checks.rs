//! The properties: of every answer when it comes, and of everything when the faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tessera_core::aggregate::References;
use tessera_core::catalog::Catalog;
use tessera_core::decision::{LimitQuery, Query};
use tessera_core::ids::{PlanId, TenantId};
use tessera_core::plan::PlanState;
use tessera_core::reference;
use tessera_core::revision::{Named, Revision, of_write};
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_core::tenant::TenantState;
use tessera_core::time::Timestamp;
use tessera_core::value::Amount;
use tessera_ports::event_store::CellHash;
use tessera_proto::convert::decision::to_response;
use tessera_proto::storage::{self, EventLink, Stored};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tokio::time::Instant;
use tonic::{Code, Request};

use crate::cluster::{Cluster, PROCESSES, ServerProcess};
use crate::command::{FEATURES, LIMIT, PLANS, SERVICE, TENANTS};
use crate::journal::Journal;

/// How soon a server answers that has all that the store has, by the simulated clock: it may be serving a snapshot which is as new,
/// and reach the store a little later.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// What somebody who needs an answer pauses for.
const ASKED_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How new an answer is demanded.
#[derive(Debug, Clone)]
pub enum Demand {
    /// As it comes.
    Nothing,
    /// At least this revision.
    AtLeast(Vec<u8>),
    /// As the store is now.
    Everything,
}

/// A check to ask for.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which tenant.
    pub tenant: &'static str,
    /// Which feature of the service.
    pub feature: &'static str,
    /// How much of the limit.
    pub amount: i64,
    /// How new.
    pub demand: Demand,
}

/// Every stream there can be.
pub fn stream_ids() -> Vec<StreamId> {
    let plans = PLANS.into_iter().map(|id| StreamId::Plan(PlanId::parse(id).expect("a good id")));
    let tenants = TENANTS.into_iter().map(|id| StreamId::Tenant(TenantId::parse(id).expect("a good id")));
    std::iter::once(StreamId::Catalog).chain(plans).chain(tenants).collect()
}

/// Asks the server in that place, and checks what it answers; whether it did.
pub async fn ask(cluster: &Cluster, journal: &Journal, place: usize, question: &Question) -> bool {
    let server = cluster.server(place);
    let floors = journal.floors(server.process.generation);
    let acknowledged = newest_acknowledged(cluster, journal);
    if !cluster.runs(place, server.process.generation) {
        return false;
    }
    let Some(response) = call(&server, question, journal).await else { return false };
    if !cluster.runs(place, server.process.generation) {
        return false;
    }
    if server.handle.serves_snapshot() && !server.has_young_snapshot {
        journal.violated(format!("s2: a snapshot is answered from that is older than allowed; answered {response:?}"));
    }
    if cluster.may_be_of_another_store(&server) {
        return true;
    }
    if let Err(text) = check_answer(cluster, question, &floors, &acknowledged, &response) {
        journal.violated(format!("{text}; asked {question:?}, answered {response:?}"));
    }
    if let Ok(revision) = Revision::parse(&response.revision) {
        journal.answered(server.process.generation, &revision);
    }
    true
}

/// Asks the server in that place about every tenant.
pub async fn ask_of_all(cluster: &Cluster, journal: &Journal, place: usize) {
    for tenant in TENANTS {
        for feature in FEATURES {
            let question = Question { tenant, feature, amount: 1, demand: Demand::Nothing };
            ask(cluster, journal, place, &question).await;
        }
    }
}

/// Insists that the server in that place, with nothing in its way any more, answers about every tenant, however new that has to be.
pub async fn insist_on_answers(cluster: &Cluster, journal: &Journal, place: usize) {
    for tenant in TENANTS {
        let mut demands = vec![Demand::Nothing, Demand::Everything];
        demands.extend(last_acknowledged(cluster, journal, tenant).map(Demand::AtLeast));
        for demand in demands {
            let question = Question { tenant, feature: FEATURES[0], amount: 1, demand };
            let until = Instant::now() + ANSWERED_WITHIN;
            while !ask(cluster, journal, place, &question).await {
                if Instant::now() >= until {
                    return journal.violated(format!("server {place} does not answer when faults are over; asked {question:?}"));
                }
                tokio::time::sleep(ASKED_AGAIN_AFTER).await;
            }
        }
    }
}

/// (g) Once a server is ready, everything is in that was published before it noted the ends that it had to reach.
pub async fn check_readiness(cluster: &Cluster, journal: &Journal, server: &ServerProcess) {
    let before = server.process.line.published_at_ends();
    for tenant in TENANTS {
        let question = Question { tenant, feature: "f0", amount: 0, demand: Demand::Nothing };
        let Some(response) = call(server, &question, journal).await else { continue };
        let (epoch, seqs) = match Revision::parse(&response.revision) {
            Ok(revision) => (revision.epoch, named_seqs(&revision)),
            Err(_) => continue,
        };
        let id = StreamId::Tenant(TenantId::parse(tenant).expect("a good id"));
        // A stream that holds nothing but a settled command is of a tenant that never existed; no answer names it.
        let exists = |state: &[u8]| storage::decode_state::<TenantState>(state).is_ok_and(|(state, _)| state.0.is_some());
        let published = before.iter().filter(|change| change.epoch == epoch && change.stream == id);
        let published = published.filter(|change| exists(&change.state));
        let published = published.map(|change| change.seq).max().unwrap_or(0);
        let has = seqs.get(&(StreamKind::Tenant as u8, id.hash())).copied().unwrap_or(0);
        if has < published && cluster.store.current(&id).is_some() {
            let generation = server.process.generation;
            journal.violated(format!(
                "g: process {generation} is ready in epoch {epoch} without {id}@{published}, has {has}; the store has {:?}",
                cluster.store.current(&id).map(|(head, _)| head.seq)
            ));
        }
    }
}

async fn call(server: &ServerProcess, question: &Question, journal: &Journal) -> Option<v1::CheckEntitlementResponse> {
    use v1::consistency::Requirement;
    let requirement = match &question.demand {
        Demand::Nothing => Requirement::MinimizeLatency(v1::MinimizeLatency {}),
        Demand::AtLeast(revision) => Requirement::AtLeast(v1::AtLeast { revision: revision.clone().into() }),
        Demand::Everything => Requirement::FullyConsistent(v1::FullyConsistent {}),
    };
    let limit_check = v1::LimitCheck { name: LIMIT.to_owned(), amount: question.amount, used: None };
    let mut request = Request::new(v1::CheckEntitlementRequest {
        tenant_id: question.tenant.to_owned(),
        service: SERVICE.to_owned(),
        feature: question.feature.to_owned(),
        limit_check: Some(limit_check),
        consistency: Some(v1::Consistency { requirement: Some(requirement) }),
        explain: false,
    });
    request.set_timeout(Duration::from_secs(2));
    let mut client = EntitlementServiceClient::new(server.process.services.clone());
    match tokio::time::timeout(Duration::from_secs(2), client.check_entitlement(request)).await {
        Ok(Ok(response)) => Some(response.into_inner()),
        Ok(Err(status)) => {
            let expected = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded);
            // A revision of another tenant is refused as invalid, which is right.
            let other = matches!(question.demand, Demand::AtLeast(_)) && status.code() == Code::InvalidArgument;
            if !expected && !other {
                journal.violated(format!("a server failed: {status:?}; asked {question:?}"));
            }
            None
        }
        Err(_) => None,
    }
}

type Seqs = BTreeMap<(u8, u64), Seq>;

fn named_seqs(revision: &Revision) -> Seqs {
    revision.streams.iter().map(|named: &Named| ((named.kind as u8, named.hash), named.seq)).collect()
}

/// The newest seq of every stream that somebody was told of, in the life of now; and its epoch.
fn newest_acknowledged(cluster: &Cluster, journal: &Journal) -> (Epoch, Seqs) {
    let (epoch, life) = (cluster.epoch(), cluster.life());
    let mut seqs = Seqs::new();
    for acknowledged in journal.acknowledged.borrow().values().filter(|one| one.life == life) {
        let seq = seqs.entry((acknowledged.stream.kind() as u8, acknowledged.stream.hash())).or_default();
        *seq = (*seq).max(acknowledged.seq);
    }
    (epoch, seqs)
}

/// The revision of the last write of this tenant that somebody was told of, if there was one in the life of now.
fn last_acknowledged(cluster: &Cluster, journal: &Journal, tenant: &str) -> Option<Vec<u8>> {
    let stream = StreamId::Tenant(TenantId::parse(tenant).expect("a good id"));
    let (epoch, seqs) = newest_acknowledged(cluster, journal);
    let seq = seqs.get(&(stream.kind() as u8, stream.hash()))?;
    Some(of_write(epoch, &stream, *seq))
}

fn check_answer(
    cluster: &Cluster,
    question: &Question,
    floors: &BTreeMap<(u8, u64), (Epoch, Seq)>,
    acknowledged: &(Epoch, Seqs),
    response: &v1::CheckEntitlementResponse,
) -> Result<(), String> {
    // The catalog is there before the first question.
    let revision = Revision::parse(&response.revision).map_err(|error| format!("g: an answer that rests on nothing: {error}"))?;
    let seqs = named_seqs(&revision);
    let tenant_id = TenantId::parse(question.tenant).expect("a good id");
    let tenant_key = (StreamKind::Tenant as u8, StreamId::Tenant(tenant_id.clone()).hash());
    // A stream that the answer does not name must not be asked of, but the tenant itself always must.
    let is_met = |key: &(u8, u64), seq: Seq| seqs.get(key).map_or(*key != tenant_key, |has| *has >= seq);
    match &question.demand {
        Demand::AtLeast(bytes) => {
            let demanded = Revision::parse(bytes).map_err(|error| error.to_string())?;
            if revision.epoch < demanded.epoch {
                return Err("b: an answer of an older epoch than demanded".to_owned());
            }
            if revision.epoch == demanded.epoch {
                for named in &demanded.streams {
                    if !is_met(&(named.kind as u8, named.hash), named.seq) {
                        return Err(format!("b: at least {named:?} was demanded, answered from {seqs:?}"));
                    }
                }
            }
        }
        Demand::Everything if revision.epoch == acknowledged.0 => {
            for (key, seq) in &acknowledged.1 {
                let concerns = key.0 != StreamKind::Tenant as u8 || *key == tenant_key;
                if concerns && !is_met(key, *seq) {
                    return Err(format!(
                        "b: fully consistent, yet {key:?}@{seq} was acknowledged before, answered from {seqs:?}"
                    ));
                }
            }
        }
        Demand::Nothing | Demand::Everything => {}
    }
    for (key, (epoch, seq)) in floors {
        let concerns = *key == tenant_key || seqs.contains_key(key);
        if concerns && *epoch == revision.epoch && !is_met(key, *seq) {
            return Err(format!("c: went back from {key:?}@{seq} to {seqs:?}"));
        }
        if *epoch > revision.epoch {
            return Err(format!("c: went back from epoch {epoch} to {}", revision.epoch));
        }
    }
    if revision.epoch == cluster.epoch() {
        is_as_new_as_it_says(cluster, &tenant_id, &seqs, response)?;
        is_whole(cluster, &tenant_id, &seqs)?;
        check_against_store(cluster, question, &tenant_id, &seqs, response)?;
    }
    Ok(())
}

/// (i) Whatever was committed longer ago than an answer may be old is in it. A feed that loses changes makes heartbeats lie.
fn is_as_new_as_it_says(
    cluster: &Cluster,
    tenant: &TenantId,
    seqs: &Seqs,
    response: &v1::CheckEntitlementResponse,
) -> Result<(), String> {
    let (Some(staleness), true) = (response.staleness_ms, cluster.loses_nothing()) else { return Ok(()) };
    // Told in whole milliseconds.
    let lag = Duration::from_millis(u64::try_from(staleness).unwrap_or(0).saturating_add(1));
    let before = cluster.clock.instant(evaluated_at(response)?).checked_sub(lag).ok_or("i: older than the run")?;
    for stream in stream_ids() {
        let committed = cluster.store.committed_before(&stream, before);
        let has = seqs.get(&(stream.kind() as u8, stream.hash())).copied();
        let lacks = match &stream {
            StreamId::Tenant(id) if id == tenant => {
                has.unwrap_or(0) < committed && stored::<TenantState>(cluster, &stream, committed)?.0.is_some()
            }
            StreamId::Tenant(_) => false,
            _ => has.is_some_and(|has| has < committed),
        };
        if lacks {
            return Err(format!("i: {stream}@{committed} was committed more than {lag:?} before, answered from {has:?}"));
        }
    }
    Ok(())
}

/// (g) Whoever answers from a life of the store has all that this life began with.
fn is_whole(cluster: &Cluster, tenant: &TenantId, seqs: &Seqs) -> Result<(), String> {
    let stream = StreamId::Tenant(tenant.clone());
    let began_with = cluster.began_with(&stream);
    let has = seqs.get(&(stream.kind() as u8, stream.hash())).copied().unwrap_or(0);
    // A stream of a tenant that never existed is named by no answer.
    if has < began_with && stored::<TenantState>(cluster, &stream, began_with)?.0.is_some() {
        return Err(format!("g: epoch {} began with {stream}@{began_with}, answered with {has}", cluster.epoch()));
    }
    Ok(())
}

/// (f), (p1) The answer is what the reference evaluator says of the stored states that the revision names.
fn check_against_store(
    cluster: &Cluster,
    question: &Question,
    tenant_id: &TenantId,
    seqs: &Seqs,
    response: &v1::CheckEntitlementResponse,
) -> Result<(), String> {
    let at = |stream: &StreamId| seqs.get(&(stream.kind() as u8, stream.hash())).copied().unwrap_or(0);
    let catalog = stored::<Catalog>(cluster, &StreamId::Catalog, at(&StreamId::Catalog))?;
    let mut plans = BTreeMap::new();
    for id in PLANS {
        let id = PlanId::parse(id).expect("a good id");
        let stream = StreamId::Plan(id.clone());
        if let Some(plan) = stored::<PlanState>(cluster, &stream, at(&stream))?.0 {
            needs(&plan.references, seqs, &stream)?;
            plans.insert(id, plan);
        }
    }
    let stream = StreamId::Tenant(tenant_id.clone());
    let tenant = stored::<TenantState>(cluster, &stream, at(&stream))?.0;
    if let Some(tenant) = &tenant {
        // Only what the answer names is in its revision; a plan to come is not.
        let named = References {
            catalog: tenant.references.catalog,
            plans: tenant
                .references
                .plans
                .iter()
                .filter(|(id, _)| plans.contains_key(*id))
                .map(|(id, seq)| (id.clone(), *seq))
                .collect(),
            add_ons: BTreeMap::new(),
        };
        needs(&named, seqs, &stream)?;
    }
    let now = evaluated_at(response)?;
    let limit =
        LimitQuery { name: LIMIT, amount: Amount::new(question.amount).map_err(|error| error.to_string())?, used: Amount::ZERO };
    let query = Query { service: SERVICE, feature: question.feature, limit: Some(limit) };
    let add_ons = BTreeMap::new();
    let world = reference::World { catalog: &catalog, plans: &plans, add_ons: &add_ons };
    let expected = to_response(&reference::check(&world, tenant.as_ref(), &query, now));
    let says = |response: &v1::CheckEntitlementResponse| {
        let limit = response.limit.clone();
        let plan = (response.plan_id.clone(), response.plan_version);
        (response.entitled, response.reason, plan, response.familiarity_basis_points, limit, response.grace_until)
    };
    if says(&expected) != says(response) {
        return Err(format!("p1: the store says {:?} at {seqs:?}", says(&expected)));
    }
    Ok(())
}

fn evaluated_at(response: &v1::CheckEntitlementResponse) -> Result<Timestamp, String> {
    let at = response.evaluated_at.as_ref().ok_or("p1: no evaluation time")?;
    Timestamp::new(at.seconds, i64::from(at.nanos)).map_err(|error| error.to_string())
}

/// (f) Whatever a state rests on is in the answer at that seq or later.
fn needs(references: &References, seqs: &Seqs, of: &StreamId) -> Result<(), String> {
    let plans = references.plans.iter().map(|(id, seq)| (StreamId::Plan(id.clone()), *seq));
    for (stream, seq) in std::iter::once((StreamId::Catalog, references.catalog)).chain(plans) {
        let has = seqs.get(&(stream.kind() as u8, stream.hash())).copied().unwrap_or(0);
        if has < seq {
            return Err(format!("f: {of} rests on {stream}@{seq}, answered with {has}"));
        }
    }
    Ok(())
}

pub(crate) fn stored<A: Stored>(cluster: &Cluster, stream: &StreamId, seq: Seq) -> Result<A, String> {
    if seq == 0 {
        return Ok(A::default());
    }
    let bytes = cluster.store.state_at(stream, seq).ok_or_else(|| format!("p1: the store never had {stream}@{seq}"))?;
    storage::decode_state::<A>(&bytes).map(|(state, _)| state).map_err(|error| format!("a3: {stream}@{seq}: {error}"))
}

/// (a), (a2), (a3), (t) of the store as it is at the end.
pub fn check_store(cluster: &Cluster, journal: &Journal) -> Result<(), String> {
    let life = cluster.life();
    // By request id: the stream, the seqs of its events, and whether any of them did more than settle it.
    let mut found: BTreeMap<String, Vec<(StreamId, Vec<Seq>, bool)>> = BTreeMap::new();
    for stream in stream_ids() {
        let runs = match stream.kind() {
            StreamKind::Catalog => check_stream::<Catalog>(cluster, &stream)?,
            StreamKind::Plan | StreamKind::AddOn => check_stream::<PlanState>(cluster, &stream)?,
            StreamKind::Tenant => check_stream::<TenantState>(cluster, &stream)?,
        };
        for (id, seqs, does) in runs {
            found.entry(id).or_default().push((stream.clone(), seqs, does));
        }
    }
    for (id, runs) in &found {
        if runs.len() > 1 {
            return Err(format!("a: {id} was done {} times: {runs:?}", runs.len()));
        }
        if journal.strange.borrow().contains(id) {
            return Err(format!("t: {id} was for a tenant that is not its caller's, and was done: {runs:?}"));
        }
    }
    for (id, acknowledged) in journal.acknowledged.borrow().iter().filter(|(_, one)| one.life == life) {
        let run = found.get(id).and_then(|runs| runs.first());
        match run {
            Some((stream, seqs, true)) if *stream == acknowledged.stream && seqs.last() == Some(&acknowledged.seq) => {}
            None | Some((_, _, false)) if acknowledged.unchanged => {}
            other => return Err(format!("a: {id} was acknowledged as {acknowledged:?}, the store has {other:?}")),
        }
    }
    for (id, refused) in journal.refused.borrow().iter().filter(|(_, one)| one.life == life) {
        if let Some((_, seqs, true)) = found.get(id).and_then(|runs| runs.first()) {
            return Err(format!("a2: {id} was refused ({}), yet it is at {seqs:?} of {}", refused.reason, refused.stream));
        }
    }
    Ok(())
}

/// (a3) Links whole, seqs dense, state the fold of the events. Returns the runs of events by request id, in order.
fn check_stream<A: Stored>(cluster: &Cluster, stream: &StreamId) -> Result<Vec<(String, Vec<Seq>, bool)>, String> {
    let mut runs: Vec<(String, Vec<Seq>, bool)> = Vec::new();
    let (mut hash, mut state) = (CellHash::default(), A::default());
    for (expected, cell) in (1..).zip(cluster.store.cells(stream)) {
        let link = EventLink::decode(&cell).map_err(|error| format!("a3: {stream}@{expected}: {error}"))?;
        if link.seq != expected || link.previous_hash != hash.0 {
            return Err(format!("a3: the chain of {stream} is broken at {expected}"));
        }
        let event = storage::decode_event::<A>(&cell).map_err(|error| format!("a3: {stream}@{expected}: {error}"))?;
        let does = A::settled(&event.recorded.event).is_none();
        state = state.evolve(&event.recorded);
        hash = CellHash::of(&cell);
        match runs.last_mut() {
            Some((id, seqs, did)) if id == link.request_id.as_str() => {
                seqs.push(expected);
                *did |= does;
            }
            _ => runs.push((link.request_id.as_str().to_owned(), vec![expected], does)),
        }
    }
    if let Some((head, bytes)) = cluster.store.current(stream) {
        let (kept, _) = storage::decode_state::<A>(&bytes).map_err(|error| format!("a3: {stream}: {error}"))?;
        if kept != state || head.hash != hash {
            return Err(format!("a3: the state of {stream}@{} is not the fold of its events", head.seq));
        }
    }
    Ok(runs)
}

/// (d) Whether every server's matrix is what the store has.
pub async fn all_equal(cluster: &Cluster) -> Result<(), String> {
    let store = tessera_runtime::digest::of_store(&cluster.store).await.map_err(|error| error.to_string())?;
    let mut different = BTreeSet::new();
    for place in 0..PROCESSES {
        let server = cluster.server(place).handle;
        let matrix = server.digest();
        if server.ready().is_err() || matrix != store {
            different.insert(format!("server {place} has {matrix}, the store {store}"));
        }
    }
    if different.is_empty() { Ok(()) } else { Err(format!("d: {different:?}")) }
}
