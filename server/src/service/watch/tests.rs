//! What one caller may have of watches: so many of them, and no more subscriptions than its checks pay for.

mod by_hand;

use std::sync::Arc;

use bytes::Bytes;
use tessera_core::access::Scopes;
use tessera_core::aggregate::Actor;
use tessera_ports::change_feed::Change;
use tessera_ports::clock::ManualClock;
use tessera_ports::event_store::{Append, Appended, Head};
use tessera_ports::memory::{MemoryFeed, MemoryStore};
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event;
use tessera_runtime::identity::{Grant, Principal};
use tessera_runtime::lifecycle::Tasks;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::universe::{Universe, latest, start};
use crate::{Config, Dependencies, Services, build};

type Watched = Streaming<v1::WatchEntitlementsResponse>;

/// A data plane that has loaded two features and the tenants `acme` and `other`. Its work ends with the tasks.
async fn served(config: Config) -> (Services, Tasks) {
    let (mut universe, _) = Universe::usual();
    let store = MemoryStore::new("first");
    for tenant in ["acme", "other"] {
        universe.create(tenant, latest("gold"));
    }
    for Change { epoch, stream, seq, state } in universe.changes() {
        let cells = (0..seq).map(|n| Bytes::from(n.to_string())).collect();
        let append = Append { epoch, stream, expected: Head::default(), cells, state, requests: Vec::new() };
        assert_eq!(store.append_now(&append), Appended::Committed);
    }
    let dependencies = Dependencies {
        store: Arc::new(store),
        feed: Arc::new(MemoryFeed::new("topic", 1)),
        clock: Arc::new(ManualClock::new(start())),
    };
    let tasks = Tasks::new();
    let server = build(Config { repair_scan: false, ..config }, dependencies, &tasks).unwrap();
    let services = server.services();
    server.start(&tasks).loaded().await;
    (services, tasks)
}

/// A watch of these tenants by the caller of that name.
async fn open(services: &Services, caller: &str, tenants: &[&str]) -> Result<Watched, Status> {
    let subscribe = |tenant: &&str| {
        let subscribe = v1::Subscribe { tenant_id: (*tenant).to_owned(), ..v1::Subscribe::default() };
        v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) }
    };
    let wanted: Vec<_> = tenants.iter().map(subscribe).collect();
    let mut request = Request::new(tokio_stream::iter(wanted).chain(tokio_stream::pending()));
    let actor = Actor::parse("an actor", caller).unwrap();
    request.extensions_mut().insert(Principal::new(Grant { actor, scopes: Scopes::all(), tenants: None }));
    EntitlementServiceClient::new(services.clone()).watch_entitlements(request).await.map(Response::into_inner)
}

async fn next(watched: &mut Watched) -> Event {
    watched.message().await.unwrap().unwrap().event.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_caller_cannot_take_every_watch() {
    let config = Config { watch_streams_max: 3, watch_streams_per_caller_max: 2, ..Config::default() };
    let (services, _tasks) = served(config).await;
    let refused = async |caller: &'static str| {
        let status = open(&services, caller, &[]).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        status.message().to_owned()
    };
    let first = open(&services, "token:one", &[]).await.unwrap();
    let second = open(&services, "token:one", &[]).await.unwrap();
    assert_eq!(refused("token:one").await, "`2` watches of this caller are open; allowed are 2");
    let others = open(&services, "token:other", &[]).await.unwrap();
    assert_eq!(refused("token:other").await, "`3` watches are open; allowed are 3");
    assert_eq!(refused("token:one").await, "`2` watches of this caller are open; allowed are 2");
    drop(first);
    let third = open(&services, "token:one", &[]).await.unwrap();
    assert_eq!(refused("token:one").await, "`2` watches of this caller are open; allowed are 2");
    drop((second, third, others));
    assert!(open(&services, "token:one", &[]).await.is_ok(), "the place of a watch that ended is free");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_costs_what_a_list_does() {
    // A document of two features is two checks: there is enough for one.
    let of_caller = Config { caller_checks_per_second: 1, caller_checks_burst: 3, ..Config::default() };
    let of_tenant = Config { tenant_checks_per_second: 1, tenant_checks_burst: 3, ..Config::default() };
    for (config, refused, whose) in [(of_caller, "other", "this caller"), (of_tenant, "acme", "this tenant")] {
        let (services, _tasks) = served(config).await;
        let mut watched = open(&services, "token:one", &["acme", refused]).await.unwrap();
        let Event::Error(error) = next(&mut watched).await else { panic!("expected an error of `{refused}`") };
        let status = error.status.unwrap();
        assert_eq!((error.tenant_id.as_str(), status.code), (refused, Code::ResourceExhausted as i32));
        assert_eq!(status.message, format!("allowed of {whose} are `1` checks a second and `3` at once"));
        let Event::Document(document) = next(&mut watched).await else { panic!("expected the document of `acme`") };
        assert_eq!(document.tenant_id, "acme", "the subscription that was paid for stays");
    }
}
