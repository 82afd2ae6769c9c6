//! Putting the loader together: from ports and settings to services, background work and a handle.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use futures::FutureExt as _;
use serde_json::Value;
use tessera_core::catalog::Catalog;
use tessera_core::plan::PlanState;
use tessera_core::tenant::TenantState;
use tessera_ports::event_store::ReadError;
use tessera_ports::{ChangePublisher, Clock, EventPublisher, EventStore, HintStore, IdSource, LeaseStore};
use tessera_proto::v1::add_on_service_server::AddOnServiceServer;
use tessera_proto::v1::audit_service_server::AuditServiceServer;
use tessera_proto::v1::catalog_service_server::CatalogServiceServer;
use tessera_proto::v1::plan_service_server::PlanServiceServer;
use tessera_proto::v1::tenant_service_server::TenantServiceServer;
use tessera_runtime::http::named;
use tessera_runtime::lifecycle::{Shutdown, Tasks};
use tessera_runtime::listener::{HEALTH_REQUEST_LEN_MAX, REFLECTION_REQUEST_LEN_MAX};
use tokio::sync::{Semaphore, oneshot};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::aggregate::Handled;
use crate::announcer::Announcer;
use crate::config::{Config, ConfigError};
use crate::due::{DueTimer, DueTimes};
use crate::grpc::add_on_svc::AddOnSvc;
use crate::grpc::audit_svc::AuditSvc;
use crate::grpc::catalog_svc::CatalogSvc;
use crate::grpc::gate::{Gate, HISTORIES_AT_ONCE};
use crate::grpc::offers::Offers;
use crate::grpc::plan_svc::PlanSvc;
use crate::grpc::tenant_svc::TenantSvc;
use crate::grpc::undecoded::{REQUEST_LEN_MAX, Undecoded};
use crate::handler::{Desk, Handler, REPLAYS_AT_ONCE};
use crate::heartbeat::Pulse;
use crate::metric_definitions;
use crate::publisher::{Outgoing, Publisher};
use crate::share::Share;
use crate::streams::Streams;
use crate::sweeper::Sweeper;
use crate::world::WorldReader;

/// Longest answer.
const ANSWER_LEN_MAX: usize = 4 * 1024 * 1024;
/// The services that are served here, by their full names.
const SERVICES: [&str; 5] = [
    "tessera.v1.PlanService",
    "tessera.v1.AddOnService",
    "tessera.v1.CatalogService",
    "tessera.v1.TenantService",
    "tessera.v1.AuditService",
];

/// What the loader is given.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The store of all streams.
    pub store: Arc<dyn EventStore>,
    /// Where changes and heartbeats are published.
    pub publisher: Arc<dyn ChangePublisher>,
    /// Where others are told of events; without it nobody is. Rests where the store feeds itself.
    pub events: Option<Arc<dyn EventPublisher>>,
    /// Where hints are kept; rests where the store feeds itself.
    pub hints: Arc<dyn HintStore>,
    /// Which loaders are at work; rests where the store feeds itself.
    pub leases: Arc<dyn LeaseStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdSource>,
}

/// Why no loader can be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Settings are out of their bounds.
    #[error("settings of the loader: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Config(Vec<ConfigError>),
    /// The descriptors that reflection serves cannot be read.
    #[error("descriptors for reflection: {0}")]
    Reflection(String),
}

/// A loader, put together and not yet at work.
#[derive(Debug)]
pub struct Loader {
    handle: Handle,
    background: Background,
    routes: Routes,
}

/// What goes on beside the calls.
#[derive(Debug)]
struct Background {
    publisher: Option<Publisher>,
    announcer: Option<Announcer>,
    pulse: Pulse,
    due: DueTimer,
    health: HealthReporter,
}

/// A way to the loader for the rest of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    store: Arc<dyn EventStore>,
    feed: Arc<dyn ChangePublisher>,
    events: Option<Arc<dyn EventPublisher>>,
    reached: Arc<AtomicBool>,
    shutdown: Shutdown,
    catalog: Handler<Catalog>,
    offers: Handler<PlanState>,
    tenants: Handler<TenantState>,
}

/// Puts a loader together. Commands run on `tasks`.
pub fn build(config: Config, dependencies: Dependencies, tasks: &Tasks) -> Result<Loader, BuildError> {
    let problems = config.validate();
    if !problems.is_empty() {
        return Err(BuildError::Config(problems));
    }
    metric_definitions::describe();
    let config = Arc::new(config);
    let Dependencies { store, publisher: feed, events, hints, leases, clock, ids } = dependencies;
    let events = events.filter(|_| !store.feeds_itself());
    let announcing = events
        .as_ref()
        .map(|events| Announcer::new(Arc::clone(&store), Arc::clone(&hints), Arc::clone(events), config.publish_queue_max));
    let (announcements, announcer) = announcing.unzip();
    let (outgoing, publisher, sweeping) = if store.feeds_itself() {
        (Outgoing::resting(), None, None)
    } else {
        let (outgoing, publisher) =
            Publisher::new(Arc::clone(&feed), Arc::clone(&hints), announcements.clone(), config.publish_queue_max);
        let sweeper = Sweeper::new(
            Arc::clone(&store),
            Arc::clone(&hints),
            Arc::clone(&feed),
            announcements,
            config.sweep_page,
            config.hint_age(),
        );
        let share = Share::new(leases, ids.unique(), config.lease(), tasks.shutdown());
        (outgoing, Some(publisher), Some((share, sweeper)))
    };

    let catalog_streams = Arc::new(Streams::new(Arc::clone(&store), config.state_cache_bytes));
    let offer_streams = Arc::new(Streams::new(Arc::clone(&store), config.state_cache_bytes));
    let tenant_streams = Arc::new(Streams::new(Arc::clone(&store), config.state_cache_bytes));
    let world = Arc::new(WorldReader::new(Arc::clone(&catalog_streams), Arc::clone(&offer_streams)));
    let due_times = Arc::new(DueTimes::new(Arc::clone(&clock), config.due_lap() * 2));
    let parts = Parts { world, hints, outgoing, due: due_times, clock, tasks: tasks.clone(), config };

    let catalog = Handler::new(parts.desk(catalog_streams));
    let offers = Handler::new(parts.desk(offer_streams));
    let tenants = Handler::new(parts.desk(tenant_streams));
    let Parts { world, due, clock, config, .. } = parts;
    let shutdown = tasks.shutdown();
    let gate = Gate {
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        config: Arc::clone(&config),
        shutdown: shutdown.clone(),
        history: Arc::new(Semaphore::new(HISTORIES_AT_ONCE)),
    };
    let reached = Arc::new(AtomicBool::new(false));
    let handle =
        Handle { store: Arc::clone(&store), feed: Arc::clone(&feed), events, reached, shutdown, catalog, offers, tenants };
    let (health, routes) = routes(&gate, &handle, &world)?;
    let due = DueTimer::new(handle.tenants.clone(), due, Arc::clone(&store), Arc::clone(&clock), ids, Arc::clone(&config));
    let pulse = Pulse::new(store, feed, clock, sweeping, config);
    Ok(Loader { handle, background: Background { publisher, announcer, pulse, due, health }, routes })
}

/// What all handlers share.
struct Parts {
    world: Arc<WorldReader>,
    hints: Arc<dyn HintStore>,
    outgoing: Outgoing,
    due: Arc<DueTimes>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
    config: Arc<Config>,
}

impl Parts {
    fn desk<A: Handled>(&self, streams: Arc<Streams<A>>) -> Desk<A> {
        Desk {
            streams,
            world: Arc::clone(&self.world),
            hints: Arc::clone(&self.hints),
            outgoing: self.outgoing.clone(),
            due: Arc::clone(&self.due),
            clock: Arc::clone(&self.clock),
            tasks: self.tasks.clone(),
            replays: Semaphore::new(REPLAYS_AT_ONCE),
            config: Arc::clone(&self.config),
        }
    }
}

fn routes(gate: &Gate, handle: &Handle, world: &Arc<WorldReader>) -> Result<(HealthReporter, Routes), BuildError> {
    let offers = || Offers { gate: gate.clone(), handler: handle.offers.clone() };
    let catalog = CatalogSvc { gate: gate.clone(), handler: handle.catalog.clone() };
    let tenants = TenantSvc { gate: gate.clone(), handler: handle.tenants.clone(), world: Arc::clone(world) };
    let audit = AuditSvc::new(gate.clone(), handle.catalog.clone(), handle.offers.clone(), handle.tenants.clone());
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            Undecoded($server::new($service).max_decoding_message_size(REQUEST_LEN_MAX).max_encoding_message_size(ANSWER_LEN_MAX))
        };
    }
    let (health, health_server) = tonic_health::server::health_reporter();
    // Before anything listens: the reporter begins with "serving". Nobody else holds its lock yet.
    report(&health, ServingStatus::NotServing).now_or_never();
    let routes = reflection()?
        .add_service(limited!(PlanServiceServer, PlanSvc(offers())))
        .add_service(limited!(AddOnServiceServer, AddOnSvc(offers())))
        .add_service(limited!(CatalogServiceServer, catalog))
        .add_service(limited!(TenantServiceServer, tenants))
        .add_service(limited!(AuditServiceServer, audit))
        .add_service(health_server.max_decoding_message_size(HEALTH_REQUEST_LEN_MAX));
    Ok((health, routes))
}

async fn report(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES.into_iter().chain([""]) {
        health.set_service_status(service, status).await;
    }
}

/// Reflection of what is served, made once: reading the descriptors takes longer than everything else here, and simulations
/// start loaders by the thousand.
fn reflection() -> Result<Routes, BuildError> {
    static MADE: OnceLock<Routes> = OnceLock::new();
    if let Some(made) = MADE.get() {
        return Ok(made.clone());
    }
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(tessera_proto::public_file_descriptor_set())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        SERVICES.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let failed = |error: tonic_reflection::server::Error| BuildError::Reflection(error.to_string());
    let now = builder().build_v1().map_err(failed)?.max_decoding_message_size(REFLECTION_REQUEST_LEN_MAX);
    let before = builder().build_v1alpha().map_err(failed)?.max_decoding_message_size(REFLECTION_REQUEST_LEN_MAX);
    let made = Routes::new(now).add_service(before);
    Ok(MADE.get_or_init(|| made).clone())
}

impl Loader {
    /// The services, to be served.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// A way to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Begins everything that goes on beside the calls.
    pub fn start(self, tasks: &Tasks) -> Handle {
        let Background { publisher, announcer, pulse, due, health } = self.background;
        // Closed when everything is published that ever will be.
        let (publishing, published) = oneshot::channel::<Infallible>();
        if let Some(publisher) = publisher {
            tasks.spawn_outlet("loader.publisher", |work_done| async move {
                let _publishing = publishing;
                publisher.run(work_done).await;
                Ok(())
            });
        }
        if let Some(announcer) = announcer {
            tasks.spawn_outlet("loader.announcer", |_work_done| async move {
                announcer.run(published.map(drop)).await;
                Ok(())
            });
        }
        if let Some(leaving) = pulse.leaving() {
            let soft = tasks.shutdown().soft;
            tasks.spawn("loader.lease", async move {
                soft.cancelled().await;
                leaving.leave().await;
                Ok(())
            });
        }
        tasks.spawn_behind("loader.heartbeat", async move {
            pulse.run().await;
            Ok(())
        });
        let soft = tasks.shutdown().soft;
        tasks.spawn("loader.due", async move {
            tokio::select! {
                () = due.run() => {}
                () = soft.cancelled() => {}
            }
            Ok(())
        });
        let handle = self.handle.clone();
        tasks.spawn("loader.health", async move {
            handle.report_health(&health).await;
            Ok(())
        });
        self.handle
    }
}

impl Handle {
    /// Whether commands should be sent here, and what is wrong with the feed or with events for others, which delays
    /// publishing and no command; else what
    /// is missing.
    pub fn ready(&self) -> Result<Vec<String>, Vec<String>> {
        if self.shutdown.is_draining() {
            return Err(vec!["the loader is draining".to_owned()]);
        }
        let mut feed = if self.store.feeds_itself() { Vec::new() } else { named("the feed", self.feed.problems()).collect() };
        feed.extend(self.events.iter().flat_map(|events| named("events for others", events.problems())));
        let mut missing: Vec<String> = named("the store", self.store.problems()).collect();
        if missing.is_empty() && self.started() {
            return Ok(feed);
        }
        if missing.is_empty() {
            missing.push("the store has not answered yet".to_owned());
        }
        missing.extend(feed);
        Err(missing)
    }

    /// Whether the store has answered once.
    pub fn started(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Handles commands of the catalog.
    pub fn catalog(&self) -> &Handler<Catalog> {
        &self.catalog
    }

    /// Handles commands of plans and add-ons.
    pub fn offers(&self) -> &Handler<PlanState> {
        &self.offers
    }

    /// Handles commands of tenants.
    pub fn tenants(&self) -> &Handler<TenantState> {
        &self.tenants
    }

    /// The digest of the store: epoch, counts by kind, digest of all current states.
    pub async fn digest(&self) -> Result<Value, ReadError> {
        tessera_runtime::digest::of_store(&*self.store).await
    }

    /// Says "serving" once the store has answered, and "not serving" from the first moment of draining.
    async fn report_health(&self, health: &HealthReporter) {
        let set = async |status| report(health, status).await;
        let reached = async {
            while self.store.identity().await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            () = reached => {
                self.reached.store(true, Ordering::Relaxed);
                set(ServingStatus::Serving).await;
                self.shutdown.soft.cancelled().await;
            }
            () = self.shutdown.soft.cancelled() => {}
        }
        set(ServingStatus::NotServing).await;
    }
}
