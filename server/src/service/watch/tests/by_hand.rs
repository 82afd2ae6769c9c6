//! Watches, and lists, of a matrix that the test itself writes, by a clock that knows who looks at it.

use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt as _;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_ports::event_store::StoreIdentity;
use tokio::sync::mpsc;
use tonic::service::Routes;

use tessera_core::tenant::Event as TenantEvent;

use super::super::LOOKS_AT_ONCE;
use super::*;
use crate::consistency::Consistency;
use crate::decision_log::DecisionLog;
use crate::matrix::early::Early;
use crate::matrix::writer::Writer;
use crate::metric_definitions::Source;
use crate::service::Entitlements;
use crate::service::server::EntitlementServer;
use crate::shared::Shared;

/// A clock that stands, counts who looks at it, and lets something happen at one of those moments.
#[derive(Default)]
struct Observed(Mutex<Looks>);

#[derive(Default)]
struct Looks {
    count: usize,
    /// After so many more.
    planned: Option<(usize, Box<dyn FnOnce() + Send>)>,
}

impl Observed {
    fn looks(&self) -> usize {
        self.0.lock().unwrap().count
    }

    fn plan(&self, looks: usize, happens: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().planned = Some((looks, Box::new(happens)));
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observed")
    }
}

impl Clock for Observed {
    fn now(&self) -> Timestamp {
        let mut looks = self.0.lock().unwrap();
        looks.count += 1;
        let planned = match looks.planned.take() {
            Some((left, happens)) if left > 0 => {
                looks.planned = Some((left - 1, happens));
                None
            }
            planned => planned,
        };
        drop(looks);
        if let Some((_, happens)) = planned {
            happens();
        }
        start()
    }
}

/// A served matrix that nobody writes but the test.
struct ByHand {
    clock: Arc<Observed>,
    universe: Universe,
    shared: Arc<Shared>,
    writer: Writer,
    services: Services,
    _tasks: Tasks,
}

impl ByHand {
    /// With these tenants on gold, and heartbeats up to ten seconds ago.
    fn with<'a>(config: Config, tenants: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut universe, mut changes) = Universe::usual();
        changes.extend(tenants.into_iter().map(|tenant| universe.create(tenant, latest("gold"))));
        let (clock, tasks, config) = (Arc::new(Observed::default()), Tasks::new(), Arc::new(config));
        let (wishes, _) = mpsc::channel(1);
        let decision_log = DecisionLog::start(&config, start(), &tasks).unwrap();
        let shared = Arc::new(Shared::new(Arc::clone(&clock) as Arc<dyn Clock>, wishes, decision_log));
        let identity = StoreIdentity { epoch: universe.epoch, store: "first".to_owned() };
        let mut writer = Writer::new(shared.new_matrix(&identity, 0), shared.metrics.clone());
        write(&mut writer, &changes);
        shared.set_heartbeat(Some(start().saturating_sub(Duration::from_secs(10))));
        shared.serve(writer.matrix());
        let consistency = Consistency::new(Arc::clone(&shared), Arc::new(MemoryStore::new("first")), Arc::clone(&config));
        let service = Entitlements::new(Arc::clone(&shared), consistency, config, tasks.shutdown());
        let services = Services::new(EntitlementServer::new(service), None, Routes::default());
        Self { clock, universe, shared, writer, services, _tasks: tasks }
    }

    /// `acme`, which is deleted, with a heartbeat of now behind it, at one of the moments at which somebody looks at the clock.
    fn deleted_after(looks: usize) -> (Services, Tasks) {
        let Self { clock, mut universe, shared, mut writer, services, _tasks: tasks } = Self::with(Config::default(), ["acme"]);
        let deleted = universe.tenant_event("acme", TenantEvent::Deleted);
        clock.plan(looks, move || {
            write(&mut writer, &[deleted]);
            shared.set_heartbeat(Some(start()));
        });
        (services, tasks)
    }
}

fn write(writer: &mut Writer, changes: &[Change]) {
    for change in changes {
        writer.apply(change, Early::only_checksum(change), Source::Feed);
    }
    writer.finish();
}

/// Whether it is deleted. If it is not, it says that it is ten seconds old.
#[track_caller]
fn is_deleted(document: &v1::TenantEntitlements, looks: usize) -> bool {
    let deleted = document.status() == v1::TenantStatus::Deleted;
    assert!(deleted || document.staleness_ms == Some(10_000), "after {looks} looks: {document:?}");
    deleted
}

#[tokio::test(start_paused = true)]
async fn a_list_is_not_older_than_it_says_whenever_the_matrix_changes() {
    for looks in 0..4 {
        let (services, _tasks) = ByHand::deleted_after(looks);
        let request = v1::ListEntitlementsRequest { tenant_id: "acme".to_owned(), ..v1::ListEntitlementsRequest::default() };
        let answer = EntitlementServiceClient::new(services).list_entitlements(request).await.unwrap().into_inner();
        is_deleted(&answer.document.unwrap(), looks);
    }
}

#[tokio::test(start_paused = true)]
async fn nor_is_a_document_of_a_watch() {
    for looks in 0..10 {
        let (services, _tasks) = ByHand::deleted_after(looks);
        let mut watched = open(&services, "token:one", &["acme"]).await.unwrap();
        loop {
            if let Event::Document(document) = next(&mut watched).await
                && is_deleted(&document, looks)
            {
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_have_the_thread_while_a_watch_looks_at_all_of_its_tenants() {
    let names: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
    let tenants: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = Config { watch_documents_per_second_max: 1_000_000, ..Config::default() };
    let mut by_hand = ByHand::with(config, tenants.iter().copied());
    let mut watched = open(&by_hand.services, "token:one", &tenants).await.unwrap();
    for _ in &tenants {
        while !matches!(next(&mut watched).await, Event::Document(_)) {}
    }
    assert!(watched.message().now_or_never().is_none(), "there is nothing left to say");

    // The pace of the last document is over.
    tokio::time::advance(Duration::from_millis(1)).await;
    // Of no concern to any of them, as each look finds.
    let published = by_hand.universe.publish("silver", &[("reports", &["export"])], &[]);
    write(&mut by_hand.writer, &[published]);
    let before = by_hand.clock.looks();
    assert!(watched.message().now_or_never().is_none());
    let at_once = by_hand.clock.looks() - before;
    assert!(at_once < LOOKS_AT_ONCE + 10, "{at_once} looks");
    assert!(matches!(next(&mut watched).await, Event::Heartbeat(_)));
    assert!(by_hand.clock.looks() - before >= tenants.len(), "some were not looked at");
}
