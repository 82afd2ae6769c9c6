//! Putting the data plane together: from ports and settings to services, background work and a handle.

use std::sync::{Arc, OnceLock};

use futures::FutureExt as _;
use serde_json::Value;
use tessera_core::decision::{Query, Reason};
use tessera_ports::{ChangeFeed, Clock, EventStore};
use tessera_proto::status::Failure;
use tessera_runtime::http::named;
use tessera_runtime::lifecycle::{Shutdown, Tasks};
use tessera_runtime::listener::{HEALTH_REQUEST_LEN_MAX, REFLECTION_REQUEST_LEN_MAX};
use tokio::sync::mpsc;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::{self, Config};
use crate::consistency::Consistency;
use crate::decide::{Check, Moment, Wants, decide};
use crate::decision_log::{self, DecisionLog};
use crate::ext_authz;
use crate::ext_authz::rules::Rules;
use crate::follower::Follower;
use crate::service::Entitlements;
use crate::service::ext_authz::{self as authorization, ExtAuthzServer};
use crate::service::server::{EntitlementServer, NAME};
use crate::service::services::Services;
use crate::shared::Shared;
use crate::snapshot::folder::SnapshotFolder;

/// Streams that readers may wish for at a time; more wait for the feed.
const WISHES_MAX: usize = 1_024;

/// What the data plane is given.
#[derive(Debug, Clone)]
pub struct Dependencies {
    /// The store of all streams; only read.
    pub store: Arc<dyn EventStore>,
    /// The feed of changes.
    pub feed: Arc<dyn ChangeFeed>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Why no data plane can be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Settings are refused.
    #[error("settings of the server")]
    Config(#[from] config::Refused),
    /// Decisions cannot be logged.
    #[error("settings of the server")]
    DecisionLog(#[from] decision_log::Refused),
    /// The descriptors that reflection serves cannot be read.
    #[error("descriptors for reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A data plane, put together and not yet at work.
#[derive(Debug)]
pub struct Server {
    handle: Handle,
    follower: Follower,
    health: Health,
    services: Services,
}

/// What health says of the services that there are.
#[derive(Debug, Clone)]
struct Health {
    reporter: HealthReporter,
    for_envoys: bool,
}

/// A way to the data plane for the rest of the process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    store: Arc<dyn EventStore>,
    feed: Arc<dyn ChangeFeed>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

/// Puts a data plane together. Metrics are counted by the recorder that is installed by now.
pub fn build(config: Config, dependencies: Dependencies, tasks: &Tasks) -> Result<Server, BuildError> {
    config.validate()?;
    let rules = config.ext_authz.as_ref().map(ext_authz::settings::Settings::rules).transpose().map_err(config::Refused::from)?;
    let (config, shutdown) = (Arc::new(config), tasks.shutdown());
    let Dependencies { store, feed, clock } = dependencies;
    let (wishes, granting) = mpsc::channel(WISHES_MAX);
    let decision_log = DecisionLog::start(&config, clock.now(), tasks)?;
    let shared = Arc::new(Shared::new(clock, wishes, decision_log));
    let consistency = Consistency::new(Arc::clone(&shared), Arc::clone(&store), Arc::clone(&config));
    let service = Entitlements::new(Arc::clone(&shared), consistency, Arc::clone(&config), shutdown.clone());
    let handle = Handle { store: Arc::clone(&store), feed: Arc::clone(&feed), shared: Arc::clone(&shared), shutdown };
    let follower = Follower::new(store, feed, config, Arc::clone(&shared), tasks.clone(), granting);
    let (health, services) = services(service, rules)?;
    Ok(Server { handle, follower, health, services })
}

fn services(service: Entitlements, rules: Option<Rules>) -> Result<(Health, Services), BuildError> {
    let (reporter, health_server) = tonic_health::server::health_reporter();
    let health = Health { reporter, for_envoys: rules.is_some() };
    // Before anything listens: the reporter begins with "serving". Nobody else holds its lock yet.
    health.report(ServingStatus::NotServing).now_or_never();
    let health_server = health_server.max_decoding_message_size(HEALTH_REQUEST_LEN_MAX);
    let others = reflection(health.for_envoys)?.add_service(health_server);
    let authorization = rules.map(|rules| ExtAuthzServer::new(service.clone(), rules));
    Ok((health, Services::new(EntitlementServer::new(service), authorization, others)))
}

/// Reflection of what is served, made once for servers with and once for those without Envoys: reading the descriptors takes longer
/// than everything else here, and simulations start servers by the thousand.
fn reflection(for_envoys: bool) -> Result<Routes, BuildError> {
    static MADE: [OnceLock<Routes>; 2] = [OnceLock::new(), OnceLock::new()];
    let [without, with] = &MADE;
    let place = if for_envoys { with } else { without };
    if let Some(made) = place.get() {
        return Ok(made.clone());
    }
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(tessera_proto::public_file_descriptor_set())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(NAME)
            .with_service_name("grpc.health.v1.Health");
        if !for_envoys {
            return builder;
        }
        builder
            .register_encoded_file_descriptor_set(tessera_proto::ENVOY_FILE_DESCRIPTOR_SET)
            .with_service_name(authorization::NAME)
    };
    let newer = builder().build_v1()?.max_decoding_message_size(REFLECTION_REQUEST_LEN_MAX);
    let older = builder().build_v1alpha()?.max_decoding_message_size(REFLECTION_REQUEST_LEN_MAX);
    let made = Routes::new(newer).add_service(older);
    Ok(place.get_or_init(|| made).clone())
}

// === impl Health ===

impl Health {
    async fn report(&self, status: ServingStatus) {
        for service in ["", NAME].into_iter().chain(self.for_envoys.then_some(authorization::NAME)) {
            self.reporter.set_service_status(service, status).await;
        }
    }
}

// === impl Server ===

impl Server {
    /// What is to be served.
    pub fn services(&self) -> Services {
        self.services.clone()
    }

    /// From now on it starts from the newest snapshot in that folder that can be used, and writes snapshots there.
    #[must_use]
    pub fn with_snapshots(mut self, folder: Arc<dyn SnapshotFolder>) -> Self {
        self.follower.keep_snapshots(folder);
        self
    }

    /// A way to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Begins to follow the store, which goes on until everything else in the process has ended.
    pub fn start(self, tasks: &Tasks) -> Handle {
        let Self { handle, follower, health, .. } = self;
        tasks.spawn_behind("server.follower", follower.run());
        let observer = handle.clone();
        tasks.spawn("server.health", async move {
            observer.report_health(&health).await;
            Ok(())
        });
        handle
    }
}

// === impl Handle ===

impl Handle {
    /// Whether requests should be sent here, and what is wrong with what the data comes from, which answers nothing differently;
    /// else what is missing.
    pub fn ready(&self) -> Result<Vec<String>, Vec<String>> {
        if self.shutdown.is_draining() {
            return Err(vec!["the server is draining".to_owned()]);
        }
        let mut wrong: Vec<String> = named("the store", self.store.problems()).collect();
        wrong.extend(named("the feed", self.feed.problems()));
        if self.shared.is_ready() {
            return Ok(wrong);
        }
        wrong.insert(0, "the data is still being loaded".to_owned());
        Err(wrong)
    }

    /// Whether the data was loaded once.
    pub fn started(&self) -> bool {
        self.shared.is_ready()
    }

    /// Whether what is answered from is a snapshot whose store has not been caught up with since the process started.
    pub fn serves_snapshot(&self) -> bool {
        self.shared.is_unproven()
    }

    /// Waits until the data is loaded.
    pub async fn loaded(&self) {
        // The sender lives as long as `shared`.
        drop(self.shared.readiness().wait_for(|ready| *ready).await);
    }

    /// One decision in this process, as `CheckEntitlement` makes it, without a wire. It allocates nothing, and reads only what is
    /// in memory; UNAVAILABLE before the data is loaded.
    pub fn decide(&self, tenant_id: &str, query: Query<'_>) -> Result<Reason, Failure> {
        if !self.shared.is_ready() {
            return Err(Failure::not_ready());
        }
        let check = Check { tenant: tenant_id, query, wants: Wants::default(), unchecked: None, hidden: false, log: None };
        let decided = decide(&self.shared.matrix(), &check, &Moment::of(&self.shared), &mut Vec::new(), |_| ());
        decided.map(|(reason, ())| reason)
    }

    /// Epoch, counts by kind and digest of everything applied; names nothing. Equal to the store's when nothing is under way.
    pub fn digest(&self) -> Value {
        let matrix = self.shared.matrix();
        tessera_runtime::digest::shown(matrix.epoch(), &matrix.digest())
    }

    /// Says "serving" once the data is loaded, and "not serving" from the first moment of draining.
    async fn report_health(&self, health: &Health) {
        tokio::select! {
            biased;
            () = self.shutdown.soft.cancelled() => {}
            () = self.loaded() => {
                health.report(ServingStatus::Serving).await;
                self.shutdown.soft.cancelled().await;
            }
        }
        health.report(ServingStatus::NotServing).await;
    }
}

#[cfg(test)]
mod tests {
    use tessera_ports::clock::ManualClock;
    use tessera_ports::memory::{MemoryFeed, MemoryStore};
    use tonic::Code;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    use super::*;
    use crate::universe::start;

    fn services_of_a_server() -> Services {
        let dependencies = Dependencies {
            store: Arc::new(MemoryStore::new("first")),
            feed: Arc::new(MemoryFeed::new("topic", 1)),
            clock: Arc::new(ManualClock::new(start())),
        };
        build(Config::default(), dependencies, &Tasks::new()).unwrap().services()
    }

    #[tokio::test]
    async fn health_takes_the_name_of_a_service_and_nothing_longer() {
        let mut health = HealthClient::new(services_of_a_server());
        // The tag and the length of the name are three bytes.
        for (len, code) in [(HEALTH_REQUEST_LEN_MAX - 3, Code::NotFound), (HEALTH_REQUEST_LEN_MAX - 2, Code::OutOfRange)] {
            let request = HealthCheckRequest { service: "x".repeat(len) };
            assert_eq!(health.check(request.clone()).await.unwrap_err().code(), code, "{len}");
            assert_eq!(health.watch(request).await.unwrap_err().code(), code, "{len}");
        }
    }

    #[tokio::test]
    async fn reflection_takes_a_name_and_nothing_longer() {
        let mut reflection = ServerReflectionClient::new(services_of_a_server());
        // The tag and the length of the text are four bytes.
        for (len, answered) in [(REFLECTION_REQUEST_LEN_MAX - 4, true), (REFLECTION_REQUEST_LEN_MAX - 3, false)] {
            let message_request = Some(MessageRequest::ListServices("x".repeat(len)));
            let request = ServerReflectionRequest { host: String::new(), message_request };
            let answers = reflection.server_reflection_info(tokio_stream::iter([request])).await;
            // What is too long ends the stream without an answer.
            let answer = answers.unwrap().into_inner().message().await.unwrap();
            assert_eq!(answer.is_some(), answered, "{len}");
        }
    }
}
