//! A data plane under test: its store, its feed, its clock, and a client that calls it without a connection between.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_ports::change_feed::{Change, ChangePublisher as _, Heartbeat};
use tessera_ports::clock::ManualClock;
use tessera_ports::memory::{MemoryFeed, MemoryStore};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_runtime::lifecycle::Tasks;
use tessera_server::{Config, Dependencies, Handle, Server, Services, build};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::universe::{self, Universe, latest, start};

/// Everything round one data plane.
pub(crate) struct Bench {
    pub(crate) universe: Universe,
    pub(crate) store: MemoryStore,
    pub(crate) feed: MemoryFeed,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) tasks: Tasks,
    pub(crate) handle: Handle,
    pub(crate) services: Services,
    pub(crate) client: EntitlementServiceClient<Services>,
}

/// No scan, so that other ways have to do.
pub(crate) fn without_scan() -> Config {
    Config { repair_scan: false, ..Config::default() }
}

impl Bench {
    /// With the usual universe stored, and loaded.
    pub(crate) async fn usual() -> Self {
        Self::with(Config::default()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        let bench = Self::not_loaded(config);
        bench.handle.loaded().await;
        bench
    }

    /// With the usual universe stored, just started.
    pub(crate) fn not_loaded(config: Config) -> Self {
        Self::started(config, 0, |own| own)
    }

    /// With the usual universe and so many tenants `t0`, `t1`… on gold stored, just started; through `ports`, made of its own.
    pub(crate) fn started(config: Config, tenants: usize, ports: impl FnOnce(Dependencies) -> Dependencies) -> Self {
        let (mut universe, mut changes) = Universe::usual();
        changes.extend((0..tenants).map(|n| universe.create(&format!("t{n}"), latest("gold"))));
        let (store, feed) = (MemoryStore::new("first"), MemoryFeed::new("topic", 2));
        for change in &changes {
            universe::store(&store, change);
        }
        Self::through(ports, config, universe, store, feed, Arc::new(ManualClock::new(start())), |server| server)
    }

    pub(crate) fn over(config: Config, universe: Universe, store: MemoryStore, feed: MemoryFeed) -> Self {
        Self::over_with(config, universe, store, feed, Arc::new(ManualClock::new(start())), |server| server)
    }

    /// By that clock, and with whatever else the server is to have.
    pub(crate) fn over_with(
        config: Config,
        universe: Universe,
        store: MemoryStore,
        feed: MemoryFeed,
        clock: Arc<ManualClock>,
        complete: impl FnOnce(Server) -> Server,
    ) -> Self {
        Self::through(|own| own, config, universe, store, feed, clock, complete)
    }

    /// Through `ports`, made of those to that store, that feed and that clock.
    pub(crate) fn through(
        ports: impl FnOnce(Dependencies) -> Dependencies,
        config: Config,
        universe: Universe,
        store: MemoryStore,
        feed: MemoryFeed,
        clock: Arc<ManualClock>,
        complete: impl FnOnce(Server) -> Server,
    ) -> Self {
        let tasks = Tasks::new();
        let own = Dependencies {
            store: Arc::new(store.clone()),
            feed: Arc::new(feed.clone()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let server = complete(build(config, ports(own), &tasks).unwrap());
        let services = server.services();
        let client = EntitlementServiceClient::new(services.clone());
        let handle = server.start(&tasks);
        Self { universe, store, feed, clock, tasks, handle, services, client }
    }

    /// Stores a change and publishes it.
    pub(crate) async fn commit(&self, change: &Change) {
        universe::store(&self.store, change);
        self.feed.publish(std::slice::from_ref(change)).await.unwrap();
    }

    /// Stores a change; the feed loses it.
    pub(crate) fn lose(&self, change: &Change) {
        universe::store(&self.store, change);
    }

    pub(crate) async fn beat(&self) {
        self.beat_for(self.feed.partitions().await.unwrap()).await;
    }

    /// A heartbeat to every partition, from a publisher that knows the feed with so many.
    pub(crate) async fn beat_for(&self, partitions: u32) {
        self.beat_at(self.clock.now(), partitions).await;
    }

    /// A heartbeat to every partition from a publisher that knows the feed with so many and began to sweep then.
    pub(crate) async fn beat_at(&self, at: Timestamp, partitions: u32) {
        let heartbeat = Heartbeat { epoch: self.universe.epoch, store: "first".to_owned(), at, partitions };
        self.feed.beat(&[0, 1, 2, 3], &heartbeat).await.unwrap();
    }

    pub(crate) async fn ask(&self, request: v1::CheckEntitlementRequest) -> Result<v1::CheckEntitlementResponse, Status> {
        self.client.clone().check_entitlement(request).await.map(tonic::Response::into_inner)
    }

    /// Why reports/`feature` is granted or not.
    pub(crate) async fn reason(&self, tenant: &str, feature: &str) -> v1::Reason {
        self.ask(check(tenant, "reports", feature)).await.unwrap().reason()
    }

    /// Waits until the matrix equals the store.
    pub(crate) async fn settled(&self) {
        let expected = self.stored_digest().await;
        wait_for("the matrix to equal the store", || self.handle.digest() == expected).await;
    }

    /// The digest of the store.
    pub(crate) async fn stored_digest(&self) -> serde_json::Value {
        tessera_runtime::digest::of_store(&self.store).await.unwrap()
    }
}

pub(crate) fn check(tenant: &str, service: &str, feature: &str) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: service.to_owned(),
        feature: feature.to_owned(),
        ..v1::CheckEntitlementRequest::default()
    }
}

/// A check of reports/view at least as new as that.
pub(crate) fn check_at_least(tenant: &str, revision: Vec<u8>) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest { consistency: Some(at_least(revision)), ..check(tenant, "reports", "view") }
}

pub(crate) fn at_least(revision: Vec<u8>) -> v1::Consistency {
    let at_least = v1::AtLeast { revision: revision.into() };
    v1::Consistency { requirement: Some(v1::consistency::Requirement::AtLeast(at_least)) }
}

pub(crate) fn fully_consistent() -> v1::Consistency {
    v1::Consistency { requirement: Some(v1::consistency::Requirement::FullyConsistent(v1::FullyConsistent {})) }
}

/// The revision that the write of this change returned.
pub(crate) fn revision(change: &Change) -> Vec<u8> {
    tessera_core::revision::of_write(change.epoch, &change.stream, change.seq)
}

/// A revision that names streams of epoch 1.
pub(crate) fn revision_of(streams: &[(&StreamId, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let names = streams.iter().map(|(stream, seq)| tessera_core::revision::Named::new(stream, *seq));
    tessera_core::revision::write(&mut out, 1, names);
    out
}

/// Code and reason of an error.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    let reason = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}")).reason;
    if status.code() == Code::Unavailable {
        assert!(status.get_details_retry_info().is_some(), "no RetryInfo in {status:?}");
    }
    (status.code(), reason)
}

/// Code, reason and fields at fault of the error of an item.
#[track_caller]
pub(crate) fn item_refused(status: &tonic_types::pb::Status) -> (Code, String, Vec<String>) {
    let status = Status::with_details(Code::from_i32(status.code), &status.message, status.encode_to_vec().into());
    let details: ErrorDetails = status.get_error_details();
    let reason = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}")).reason.clone();
    let fields = details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect());
    (status.code(), reason, fields.unwrap_or_default())
}

/// Waits for something that happens in the background.
pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        while !condition() {
            ticks.tick().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_hours(1), waiting).await;
    in_time.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
