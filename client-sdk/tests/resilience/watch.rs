//! Watches: they mend themselves, say when nothing is known, and never go back.

use std::time::Duration;

use tessera_client::fake::{Fake, FakeError};
use tessera_client::{Entitlements, Error, Watch, WatchEvent};
use tessera_proto::status::RETRY_AFTER;
use tokio::time::timeout;

use crate::relay::Relay;
use crate::server::{PATIENCE, Server, client};

async fn next(watch: &mut Watch) -> WatchEvent {
    timeout(PATIENCE, watch.next()).await.expect("an event").expect("a watch does not end")
}

/// The next document; whatever else comes is passed over.
async fn document(watch: &mut Watch) -> Entitlements {
    loop {
        if let WatchEvent::Document(document) = next(watch).await {
            return *document;
        }
    }
}

#[tokio::test]
async fn documents_come_at_first_and_whenever_they_change() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    assert!(matches!(next(&mut watch).await, WatchEvent::Connected { resumed: false, .. }));
    assert!(document(&mut watch).await.is_entitled("reporting", "exports"));
    server.fake.tenant("acme").deny("reporting", "exports");
    assert!(!document(&mut watch).await.is_entitled("reporting", "exports"));
    server.fake.tenant("globex").plan("silver", 2);
    let subscriptions = watch.subscriptions();
    subscriptions.subscribe("globex").unwrap();
    assert_eq!(document(&mut watch).await.tenant, "globex");
    assert!(subscriptions.unsubscribe("acme") && !subscriptions.unsubscribe("acme"));
    assert_eq!(subscriptions.len(), 1);
    server.fake.tenant("acme").plan("bronze", 1);
    server.fake.tenant("globex").plan("gold", 1);
    assert_eq!(document(&mut watch).await.tenant, "globex");
    assert!(matches!(watch.subscribe("no tenant"), Err(Error::Invalid(_))));
}

#[tokio::test(start_paused = true)]
async fn the_document_of_a_tenant_that_is_subscribed_again_at_once_follows() {
    let fake = Fake::new();
    fake.tenant("acme").grant("reporting", "exports");
    let mut watch = fake.client().watch();
    watch.subscribe("acme").unwrap();
    let first = document(&mut watch).await;
    assert!(watch.unsubscribe("acme"));
    watch.subscribe("acme").unwrap();
    let second = timeout(PATIENCE, document(&mut watch)).await.expect("a document");
    assert_eq!(second.tag, first.tag);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_told_when_to_come_again_comes_no_sooner() {
    let fake = Fake::new();
    let mut watch = fake.client().watch();
    assert!(matches!(next(&mut watch).await, WatchEvent::Connected { .. }));
    fake.fail_next(FakeError::Overloaded);
    fake.break_streams();
    for reason in ["DRAINING", "OVERLOADED"] {
        let WatchEvent::Disconnected { error, retry_in } = next(&mut watch).await else { panic!("it is not said") };
        assert_eq!(error.reason(), reason);
        assert!(retry_in >= RETRY_AFTER, "{reason}: {retry_in:?}");
    }
    assert!(matches!(next(&mut watch).await, WatchEvent::Connected { .. }));
}

#[tokio::test]
async fn an_unknown_tenant_is_told_and_its_subscription_ends() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("nobody").unwrap();
    watch.subscribe("acme").unwrap();
    let (mut refused, mut known) = (false, false);
    while !(refused && known) {
        match next(&mut watch).await {
            WatchEvent::Refused { tenant, error, retry_in: None } => {
                assert_eq!((tenant.as_str(), error.reason()), ("nobody", "TENANT_NOT_FOUND"));
                refused = true;
            }
            WatchEvent::Document(document) => known = document.tenant == "acme",
            WatchEvent::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watch.subscriptions().len(), 1);
}

#[tokio::test]
async fn a_watch_whose_server_vanishes_says_so_and_goes_on_elsewhere() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let (first, second) = (Relay::before(one.address).await, Relay::before(two.address).await);
    let tessera = client(&[first.endpoint(), second.endpoint()]).connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    for _ in 0..5 {
        let plan = document(&mut watch).await.plan.id;
        let relay = if plan == "one" { &first } else { &second };
        relay.cut();
        let WatchEvent::Disconnected { error, .. } = next(&mut watch).await else { panic!("it is not said") };
        assert!(error.is_transient() && error.to_string().contains(&relay.endpoint()), "{error}");
        assert!(matches!(next(&mut watch).await, WatchEvent::Connected { resumed: true, .. }));
    }
}

#[tokio::test]
async fn a_watch_never_goes_back_to_what_is_older() {
    let (new, old) = (Server::start("new").await, Server::start("old").await);
    for version in 2..10 {
        new.fake.tenant("acme").plan("new", version);
    }
    let relay = Relay::before(new.address).await;
    let tessera = client(&[relay.endpoint(), old.endpoint()]).connect().await.unwrap();
    old.fake.fail_always(FakeError::NotReady);
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    let seen = document(&mut watch).await;
    assert_eq!(seen.plan.id, "new");
    // Now only the one that lags behind is there.
    old.fake.recover();
    new.fake.fail_always(FakeError::NotReady);
    relay.cut();
    loop {
        match next(&mut watch).await {
            WatchEvent::Refused { tenant, error, retry_in: Some(_) } => {
                assert_eq!((tenant.as_str(), error.reason()), ("acme", "REVISION_NOT_REACHED"));
                break;
            }
            WatchEvent::Document(document) => panic!("older than what was seen: {document:?}"),
            _ => {}
        }
    }
    // It catches up.
    for version in 2..20 {
        old.fake.tenant("acme").plan("caught-up", version);
    }
    assert_eq!(document(&mut watch).await.plan.id, "caught-up");
}

#[tokio::test]
async fn a_newer_revision_for_what_is_watched_takes_a_new_stream() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    let seen = document(&mut watch).await;
    watch.subscribe_from("acme", &seen.revision).unwrap();
    assert!(matches!(next(&mut watch).await, WatchEvent::Connected { resumed: true, .. }));
    assert_eq!(document(&mut watch).await.tag, seen.tag);
}

#[tokio::test]
async fn a_watch_that_hears_nothing_connects_again() {
    let server = Server::start("gold").await;
    let relay = Relay::before(server.address).await;
    let builder = client(&[relay.endpoint()]).keepalive(None).watch_silence_max(Duration::from_millis(300));
    let tessera = builder.connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    document(&mut watch).await;
    relay.silence();
    let WatchEvent::Disconnected { error, .. } = next(&mut watch).await else { panic!("it is not said") };
    assert!(error.to_string().contains("not even a heartbeat within 300ms"), "{error}");
    assert!(error.is_transient(), "{error:?}");
    assert!(document(&mut watch).await.is_entitled("reporting", "exports"));
}

#[tokio::test]
async fn an_orderly_end_is_resumed_too() {
    let server = Server::start("gold").await;
    let tessera = client(&[server.endpoint()]).connect().await.unwrap();
    let mut watch = tessera.watch();
    watch.subscribe("acme").unwrap();
    for _ in 0..3 {
        document(&mut watch).await;
        server.fake.break_streams();
        let WatchEvent::Disconnected { error, .. } = next(&mut watch).await else { panic!("it is not said") };
        assert_eq!(error.reason(), "DRAINING");
    }
}
