//! Requests of a watch that contradict themselves: twice, never, nothing, nobody.

use tessera_core::tenant::Event;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event as Said;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Streaming};

use super::rpc::{Refusal, bench};
use crate::bench::Bench;

struct Watch {
    requests: mpsc::UnboundedSender<v1::WatchEntitlementsRequest>,
    answers: Streaming<v1::WatchEntitlementsResponse>,
}

impl Watch {
    async fn open(bench: &Bench) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let answers = bench.client.clone().watch_entitlements(UnboundedReceiverStream::new(receiver)).await.unwrap();
        Self { requests, answers: answers.into_inner() }
    }

    fn send(&self, action: Option<Action>) {
        self.requests.send(v1::WatchEntitlementsRequest { action }).unwrap();
    }

    fn subscribe(&self, tenant: &str) {
        self.send(Some(Action::Subscribe(v1::Subscribe { tenant_id: tenant.to_owned(), ..Default::default() })));
    }

    fn unsubscribe(&self, tenant: &str) {
        self.send(Some(Action::Unsubscribe(v1::Unsubscribe { tenant_id: tenant.to_owned() })));
    }

    async fn next(&mut self) -> Said {
        self.answers.message().await.unwrap().unwrap().event.unwrap()
    }

    async fn document(&mut self) -> v1::TenantEntitlements {
        match self.next().await {
            Said::Document(document) => document,
            other => panic!("expected a document, found {other:?}"),
        }
    }

    async fn error(&mut self) -> (String, Refusal) {
        match self.next().await {
            Said::Error(error) => (error.tenant_id, Refusal::of_item(&error.status.unwrap())),
            other => panic!("expected an error, found {other:?}"),
        }
    }

    async fn quiet(&mut self) {
        let next = self.next().await;
        assert!(matches!(next, Said::Heartbeat(_)), "expected nothing but a heartbeat, found {next:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn subscribing_twice_is_one_subscription_whose_document_is_sent_anew() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    // Both before anything was sent: one document.
    watch.subscribe("acme");
    watch.subscribe("acme");
    let first = watch.document().await;
    watch.quiet().await;
    // Once it was sent: again, since who asks again wants to know again.
    watch.subscribe("acme");
    assert_eq!(watch.document().await.document_tag, first.document_tag);
    watch.quiet().await;
    // A change is sent once, and one unsubscribe is enough.
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&deleted).await;
    assert_eq!(watch.document().await.status(), v1::TenantStatus::Deleted);
    watch.unsubscribe("acme");
    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.commit(&published).await;
    bench.settled().await;
    watch.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_what_is_not_subscribed_says_nothing() {
    let bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    watch.unsubscribe("acme");
    watch.unsubscribe("nobody");
    watch.quiet().await;
    watch.subscribe("acme");
    watch.unsubscribe("acme");
    watch.unsubscribe("acme");
    watch.quiet().await;
    watch.subscribe("other");
    assert_eq!(watch.document().await.tenant_id, "other");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_action_is_an_error_item_and_the_watch_goes_on() {
    let bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    watch.send(None);
    let expected = Refusal::invalid("INVALID_FIELD", "action", "it is not set; allowed are subscribe and unsubscribe");
    assert_eq!(watch.error().await, (String::new(), expected));
    watch.subscribe("acme");
    assert_eq!(watch.document().await.tenant_id, "acme");
}

#[tokio::test(start_paused = true)]
async fn an_error_item_names_its_tenant_harmlessly() {
    let bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    for (sent, named) in [
        ("nobody", "nobody"),
        ("", ""),
        ("\u{202e}emca", "\\u{202e}emca"),
        ("ac\u{1b}[31mme", "ac\\u{1b}[31mme"),
        (&"x".repeat(1 << 20), &format!("{}…", "x".repeat(64))),
    ] {
        watch.subscribe(sent);
        assert_eq!(watch.error().await.0, named);
        if sent != "nobody" {
            watch.unsubscribe(sent);
            assert_eq!(watch.error().await.0, named);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_comes_into_being_is_not_watched_unless_asked_for_again() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    watch.subscribe("new");
    let (tenant, refusal) = watch.error().await;
    assert_eq!((tenant.as_str(), refusal.code, refusal.reason.as_str()), ("new", Code::NotFound, "TENANT_NOT_FOUND"));
    let created = bench.universe.create("new", crate::universe::latest("gold"));
    bench.commit(&created).await;
    bench.settled().await;
    watch.quiet().await;
    watch.subscribe("new");
    assert_eq!(watch.document().await.tenant_id, "new");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_newest_and_nothing_piles_up() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await;
    watch.subscribe("acme");
    watch.subscribe("other");
    watch.document().await;
    watch.document().await;
    // Meanwhile nothing is read.
    for version in 0..200 {
        let features: &[&str] = if version % 2 == 0 { &["export"] } else { &["view"] };
        let published = bench.universe.publish("gold", &[("reports", features)], &[]);
        bench.commit(&published).await;
        let renewed = bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
        bench.commit(&renewed).await;
    }
    bench.settled().await;
    let mut newest = [watch.document().await, watch.document().await].map(|document| (document.tenant_id, document.plan_version));
    newest.sort();
    assert_eq!(newest, [("acme".to_owned(), 201), ("other".to_owned(), 201)]);
    watch.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_nothing_more_to_ask_listens_on() {
    let mut bench = bench().await;
    let Watch { requests, answers } = Watch::open(&bench).await;
    let subscribe = v1::Subscribe { tenant_id: "acme".to_owned(), ..Default::default() };
    requests.send(v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) }).unwrap();
    drop(requests);
    let mut watch = Watch { requests: mpsc::unbounded_channel().0, answers };
    watch.document().await;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&deleted).await;
    assert_eq!(watch.document().await.status(), v1::TenantStatus::Deleted);
}
