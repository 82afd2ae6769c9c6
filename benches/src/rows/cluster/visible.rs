//! How soon a write is answered by every server after its caller has the acknowledgement: a real loader, three real servers, each
//! with one watch, and in the same run as many bare consumers of the feed, whose deliveries count from the same instant. What is
//! there before the acknowledgement counts as zero.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use tessera_backends::Config;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::child::Running;
use crate::cluster::engines::Engines;
use crate::cluster::fill::fill;
use crate::cluster::place::{Place, Role};
use crate::cluster::replay::assigned;
use crate::cluster::turns::percentile;
use crate::report::{Goal, Row};
use crate::scenario::{self, Tenant};
use crate::stores::Workshop;

/// Tenants in the store.
const TENANTS: u64 = 10_000;
/// As many as there are bare consumers: who waits for the last of three waits longer than for any one.
const SERVERS: usize = 3;
/// Writes of a round, each to another tenant, one after the other.
const WRITES: u64 = 300;
/// Rounds, after one that warms up.
const ROUNDS: usize = 5;
/// A write that somebody has not seen after so long is an error.
const SEEN_MAX: Duration = Duration::from_secs(10);
/// How long the first documents of all watched tenants may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// Where a record of a change has its seq: behind format, kind, sum and epoch.
const SEQ_AT: std::ops::Range<usize> = 18..26;

/// Something that was seen, and when.
#[derive(Debug)]
enum Note {
    Document { server: usize, at: Instant, document: Box<v1::TenantEntitlements> },
    Record { consumer: usize, key: String, seq: u64, at: Instant },
    Failed(anyhow::Error),
}

/// In ms after the acknowledgement, of one round.
#[derive(Debug, Default)]
struct Round {
    visible: Waits,
    delivered: Waits,
}

/// Of one kind, in order of length.
#[derive(Debug, Default)]
struct Waits {
    /// Until the last of all.
    of_all: Vec<f64>,
    /// Until each by itself.
    of_one: Vec<f64>,
}

impl Waits {
    fn note(&mut self, waits: [f64; SERVERS]) {
        self.of_all.push(waits.into_iter().fold(0.0, f64::max));
        self.of_one.extend(waits);
    }

    fn sort(&mut self) {
        self.of_all.sort_by(f64::total_cmp);
        self.of_one.sort_by(f64::total_cmp);
    }
}

/// All rows of this kind.
pub(super) fn measure(workshop: &Workshop, engines: &Engines, runtime: &Runtime) -> anyhow::Result<Vec<Row>> {
    let place = Place::unique(engines);
    runtime.block_on(fill(&place, &workshop.store(TENANTS)?))?;
    let mut loader = place.process(workshop, Role::Loader, "cluster-loader")?;
    loader.ready()?;
    let mut servers = Vec::new();
    for number in 0..SERVERS {
        servers.push(place.process(workshop, Role::Server, &format!("cluster-server-{number}"))?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    let rounds = runtime.block_on(follow(&place, &loader, &servers))?;
    for process in servers.into_iter().chain([loader]) {
        process.stop()?;
    }
    runtime.block_on(place.drop_keyspace())?;
    Ok(rows(&rounds))
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let row = |name: &str, unit, values: &[f64]| Row::measured(name, TENANTS, unit, values);
    let of = |which: fn(&Round) -> &Vec<f64>, per_mille| {
        rounds.iter().map(|round| percentile(which(round), per_mille)).collect::<Vec<_>>()
    };
    let visible = |per_mille| of(|round| &round.visible.of_all, per_mille);
    let on_a_server = of(|round| &round.visible.of_one, 500);
    let delivered = |per_mille| of(|round| &round.delivered.of_all, per_mille);
    let to_a_consumer = of(|round| &round.delivered.of_one, 500);
    let over = |values: &[f64], twins: &[f64]| values.iter().zip(twins).map(|(value, twin)| value / twin).collect::<Vec<_>>();
    let (name, twin) = ("write acknowledged → visible on every server", "write acknowledged → delivered to every bare consumer");
    vec![
        row(&format!("{name}, p50"), "ms", &visible(500)),
        row(&format!("{name}, p99"), "ms", &visible(990)),
        row("write acknowledged → visible on a server, p50", "ms", &on_a_server),
        row(&format!("{twin}, p50"), "ms", &delivered(500)),
        row(&format!("{twin}, p99"), "ms", &delivered(990)),
        row("write acknowledged → delivered to a bare consumer, p50", "ms", &to_a_consumer),
        row(&format!("{name}, p50 over every bare consumer's"), "×", &over(&visible(500), &delivered(500)))
            .goal(Goal::AtMost(1.2)),
        row("write acknowledged → visible on a server, p50 over a bare consumer's", "×", &over(&on_a_server, &to_a_consumer)),
        row(&format!("{name}, p50 over a bare consumer's"), "×", &over(&visible(500), &to_a_consumer)),
    ]
}

async fn follow(place: &Place, loader: &Running, servers: &[Running]) -> anyhow::Result<Vec<Round>> {
    let (sender, mut notes) = unbounded_channel();
    let mut watches = JoinSet::new();
    for (number, server) in servers.iter().enumerate() {
        let (address, sender) = (server.address("data")?, sender.clone());
        watches.spawn(async move {
            if let Err(error) = watch(address, number, &sender).await {
                // Nobody listens any more once everything is measured.
                let _ = sender.send(Note::Failed(error));
            }
        });
    }
    let Config::Cluster(config) = place.config() else { bail!("this place is no cluster") };
    // The feed is new: it holds nothing but heartbeats.
    let partitions = i32::try_from(config.kafka.partitions)?;
    let ends = Arc::new(AtomicBool::new(false));
    let mut deliveries = Vec::new();
    for number in 0..SERVERS {
        let consumer = assigned(&config, (0..partitions).map(|partition| (partition, 0)))?;
        let (ends, sender) = (Arc::clone(&ends), sender.clone());
        deliveries.push(std::thread::spawn(move || deliver(&consumer, number, &ends, &sender)));
    }
    drop(sender);
    let measured = write_and_look(&mut notes, loader).await;
    ends.store(true, Ordering::Release);
    watches.shutdown().await;
    for delivery in deliveries {
        delivery.join().map_err(|_| anyhow::anyhow!("the thread of a bare consumer panicked"))?;
    }
    measured
}

async fn write_and_look(notes: &mut UnboundedReceiver<Note>, loader: &Running) -> anyhow::Result<Vec<Round>> {
    let channel = Channel::from_shared(format!("http://{}", loader.address("control")?))?.connect().await?;
    let mut tenants = TenantServiceClient::new(channel);
    let mut first = 0;
    while first < SERVERS * usize::try_from(WRITES)? {
        match tokio::time::timeout(PATIENCE, notes.recv()).await.context("the first documents did not come")? {
            Some(Note::Document { .. }) => first += 1,
            Some(Note::Record { .. }) => {}
            Some(Note::Failed(error)) => return Err(error),
            None => bail!("nobody watches"),
        }
    }
    let (mut rounds, mut seqs) = (Vec::new(), HashMap::new());
    for number in 0..=ROUNDS {
        let mut round = Round::default();
        for tenant in (0..WRITES).map(Tenant) {
            let turned = !tenant.may_use(number);
            tenants.set_override(turn_round(tenant, number, turned)).await.with_context(|| format!("override of {tenant:?}"))?;
            let acknowledged = Instant::now();
            let seen = tokio::time::timeout(SEEN_MAX, look(notes, tenant, number, turned, &mut seqs)).await;
            let (visible, delivered) = seen.with_context(|| format!("the override of {tenant:?} was not seen"))??;
            let after = |at: Instant| at.saturating_duration_since(acknowledged).as_secs_f64() * 1e3;
            round.visible.note(visible.map(after));
            round.delivered.note(delivered.map(after));
        }
        round.visible.sort();
        round.delivered.sort();
        if number > 0 {
            rounds.push(round);
        }
    }
    Ok(rounds)
}

/// An override that turns the answer for a feature round.
fn turn_round(tenant: Tenant, feature: usize, turned: bool) -> v1::SetOverrideRequest {
    let (service, feature) = scenario::names(feature);
    let effect = if turned { v1::OverrideEffect::Grant } else { v1::OverrideEffect::Deny };
    let change = v1::Override {
        target: Some(v1::OverrideTarget { service, feature, limit: String::new() }),
        effect: effect.into(),
        reason: "turned round".to_owned(),
        ..Default::default()
    };
    v1::SetOverrideRequest { tenant_id: tenant.id(), r#override: Some(change), ..Default::default() }
}

/// When each server has answered as turned, and when each bare consumer had the record.
async fn look(
    notes: &mut UnboundedReceiver<Note>,
    tenant: Tenant,
    feature: usize,
    turned: bool,
    seqs: &mut HashMap<(usize, String), u64>,
) -> anyhow::Result<([Instant; SERVERS], [Instant; SERVERS])> {
    let (id, name) = (tenant.id(), scenario::names(feature));
    let (mut seen, mut delivered) = ([None; SERVERS], [None; SERVERS]);
    loop {
        if let (Some(seen), Some(delivered)) = (all(seen), all(delivered)) {
            return Ok((seen, delivered));
        }
        match notes.recv().await.context("nobody watches")? {
            Note::Document { server, at, document } => {
                if document.tenant_id == id && says(&document, &name) == Some(turned) {
                    seen[server].get_or_insert(at);
                }
            }
            Note::Record { consumer, key, seq, at } => {
                let is_ours = key.strip_prefix("tenant/") == Some(&id);
                let newest = seqs.entry((consumer, key)).or_default();
                if seq > *newest {
                    *newest = seq;
                    if is_ours {
                        delivered[consumer].get_or_insert(at);
                    }
                }
            }
            Note::Failed(error) => return Err(error),
        }
    }
}

fn all([first, second, third]: [Option<Instant>; SERVERS]) -> Option<[Instant; SERVERS]> {
    Some([first?, second?, third?])
}

/// What the document says of a feature.
fn says(document: &v1::TenantEntitlements, (service, feature): &(String, String)) -> Option<bool> {
    let service = document.services.iter().find(|found| found.service == *service)?;
    Some(service.features.iter().find(|found| found.feature == *feature)?.entitled)
}

/// Notes every document of the tenants that are written to.
async fn watch(server: SocketAddr, number: usize, notes: &UnboundedSender<Note>) -> anyhow::Result<()> {
    let channel = Channel::from_shared(format!("http://{server}"))?.connect().await?;
    let subscriptions = (0..WRITES).map(|tenant| {
        let subscribe = v1::Subscribe { tenant_id: Tenant(tenant).id(), ..Default::default() };
        v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) }
    });
    // A watch ends with its requests.
    let requests = futures::stream::iter(subscriptions.collect::<Vec<_>>()).chain(futures::stream::pending());
    let mut answers = EntitlementServiceClient::new(channel).watch_entitlements(requests).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let at = Instant::now();
        match answer.event {
            Some(Event::Document(document)) => notes.send(Note::Document { server: number, at, document: Box::new(document) })?,
            Some(Event::Heartbeat(_)) => {}
            other => bail!("server {number} says {other:?}"),
        }
    }
    bail!("the watch of server {number} has ended")
}

/// Notes every record of a change until it is told to end.
fn deliver(consumer: &BaseConsumer, number: usize, ends: &AtomicBool, notes: &UnboundedSender<Note>) {
    while !ends.load(Ordering::Acquire) {
        let polled = consumer.poll(Duration::from_millis(100));
        let at = Instant::now();
        let note = match polled {
            None => continue,
            Some(Err(error)) => Note::Failed(anyhow::Error::new(error).context("a bare consumer")),
            Some(Ok(record)) => {
                // Heartbeats have no key.
                let Some(key) = record.key() else { continue };
                let seq = record.payload().and_then(|value| <[u8; 8]>::try_from(value.get(SEQ_AT)?).ok());
                let key = String::from_utf8_lossy(key).into_owned();
                Note::Record { consumer: number, key, seq: seq.map_or(0, u64::from_be_bytes), at }
            }
        };
        if notes.send(note).is_err() {
            return;
        }
    }
}
