//! `WatchEntitlements`: the newest document on every change, also by time.

use std::time::Duration;

use tessera_core::revision::Revision;
use tessera_core::stream::StreamKind;
use tessera_core::tenant::{Event, ScheduledChange};
use tessera_ports::change_feed::{ChangePublisher as _, Heartbeat};
use tessera_ports::memory::Operation;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_request::Action;
use tessera_proto::v1::watch_entitlements_response::Event as Said;
use tessera_server::Config;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::bench::{Bench, item_refused, refused, revision, revision_of, without_scan};
use crate::universe::{Universe, latest, start, tenant_stream};

/// One watch, from the caller's side.
pub(crate) struct Watch {
    requests: mpsc::UnboundedSender<v1::WatchEntitlementsRequest>,
    answers: Streaming<v1::WatchEntitlementsResponse>,
}

impl Watch {
    pub(crate) async fn open(bench: &Bench) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let answers = bench.client.clone().watch_entitlements(UnboundedReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, answers })
    }

    pub(crate) fn subscribe(&self, tenant: &str, last_revision: Vec<u8>) {
        let subscribe = v1::Subscribe { tenant_id: tenant.to_owned(), last_revision: last_revision.into() };
        self.requests.send(v1::WatchEntitlementsRequest { action: Some(Action::Subscribe(subscribe)) }).unwrap();
    }

    fn unsubscribe(&self, tenant: &str) {
        let unsubscribe = v1::Unsubscribe { tenant_id: tenant.to_owned() };
        self.requests.send(v1::WatchEntitlementsRequest { action: Some(Action::Unsubscribe(unsubscribe)) }).unwrap();
    }

    async fn next(&mut self) -> Said {
        self.answers.message().await.unwrap().unwrap().event.unwrap()
    }

    /// The next document; heartbeats pass, but not for ever.
    pub(crate) async fn document(&mut self) -> v1::TenantEntitlements {
        for _ in 0..1_000 {
            match self.next().await {
                Said::Document(document) => return document,
                Said::Heartbeat(_) => {}
                Said::Error(error) => panic!("expected a document, found {error:?}"),
            }
        }
        panic!("no document comes");
    }

    /// What the next heartbeat, before any document, says of the lag.
    async fn heartbeat(&mut self) -> Option<i64> {
        match self.next().await {
            Said::Heartbeat(heartbeat) => heartbeat.staleness_ms,
            other => panic!("expected a heartbeat, found {other:?}"),
        }
    }

    async fn error(&mut self) -> (String, Code, String) {
        match self.next().await {
            Said::Error(error) => {
                let (code, reason, _) = item_refused(error.status.as_ref().unwrap());
                (error.tenant_id, code, reason)
            }
            other => panic!("expected an error, found {other:?}"),
        }
    }

    /// Nothing but a heartbeat comes for a while.
    async fn quiet(&mut self) {
        for _ in 0..3 {
            assert!(matches!(self.next().await, Said::Heartbeat(_)));
        }
    }
}

pub(crate) fn entitled(document: &v1::TenantEntitlements, feature: &str) -> bool {
    document.services[0].features.iter().find(|known| known.feature == feature).unwrap().entitled
}

/// Without the scan, with tenants `acme` and `other` on gold.
async fn bench() -> Bench {
    let mut bench = Bench::with(without_scan()).await;
    for tenant in ["acme", "other"] {
        let created = bench.universe.create(tenant, latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    bench
}

#[tokio::test(start_paused = true)]
async fn changes_of_tenants_and_plans_are_sent() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    watch.subscribe("other", vec![]);
    let mut first = [watch.document().await.tenant_id, watch.document().await.tenant_id];
    first.sort();
    assert_eq!(first, ["acme", "other"]);

    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.commit(&deleted).await;
    let document = watch.document().await;
    assert_eq!((document.tenant_id.as_str(), document.status()), ("acme", v1::TenantStatus::Deleted));

    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.commit(&published).await;
    let mut changed = [watch.document().await, watch.document().await];
    changed.sort_by(|one, other| one.tenant_id.cmp(&other.tenant_id));
    assert_eq!((changed[0].plan_version, changed[1].plan_version), (2, 2));
    assert!(entitled(&changed[1], "export") && !entitled(&changed[1], "view"));

    watch.unsubscribe("acme");
    watch.unsubscribe("other");
    let again = bench.universe.publish("gold", &[], &[]);
    bench.commit(&again).await;
    bench.settled().await;
    watch.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_counts_what_is_yet_to_be_sent() {
    let config = Config { watch_documents_per_second_max: 1, watch_heartbeat_ms: 10, ..without_scan() };
    let mut bench = Bench::with(config).await;
    for tenant in ["acme", "other"] {
        let created = bench.universe.create(tenant, latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    bench.beat().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    watch.subscribe("other", vec![]);
    watch.document().await;
    watch.document().await;
    // All that was published until the clock was set on is sent.
    while watch.heartbeat().await != Some(0) {}
    bench.clock.advance(Duration::from_secs(5));
    while watch.heartbeat().await != Some(5_000) {}

    let published = bench.universe.publish("gold", &[("reports", &["export"])], &[]);
    bench.commit(&published).await;
    bench.settled().await;
    // The matrix has it, and one of the two documents.
    watch.document().await;
    bench.clock.advance(Duration::from_secs(1));
    bench.beat().await;
    while bench.ask(crate::bench::check("acme", "reports", "view")).await.unwrap().staleness_ms != Some(0) {
        // The clock is paused: it goes on only while nobody has anything to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..20 {
        assert!(watch.heartbeat().await.unwrap() >= 1_000, "the other document is not sent yet");
    }
    watch.document().await;
    while watch.heartbeat().await != Some(0) {}
}

#[tokio::test(start_paused = true)]
async fn states_in_between_coalesce_and_equal_documents_are_not_sent() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    let first = watch.document().await;
    for _ in 0..10 {
        let change = bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
        bench.commit(&change).await;
    }
    bench.settled().await;
    watch.quiet().await;
    for features in [&["export"][..], &["view"][..], &[][..]] {
        let change = bench.universe.publish("gold", &[("reports", features)], &[]);
        bench.commit(&change).await;
    }
    bench.settled().await;
    let newest = watch.document().await;
    assert_eq!(newest.plan_version, 4);
    assert_ne!(newest.document_tag, first.document_tag);
    watch.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn time_alone_changes_documents_too() {
    let mut bench = bench().await;
    let silver = bench.universe.publish("silver", &[("reports", &["export"])], &[]);
    bench.commit(&silver).await;
    let at = start().saturating_add(Duration::from_hours(1));
    let change = ScheduledChange { id: 1, at, choice: latest("silver") };
    let scheduled = bench.universe.tenant_event("acme", Event::PlanChangeScheduled(change));
    bench.commit(&scheduled).await;
    bench.settled().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    let first = watch.document().await;
    assert_eq!((first.plan_id.as_str(), first.next_plan_id.as_str()), ("gold", "silver"));
    assert_eq!(first.valid_until.unwrap().seconds, at.seconds());
    bench.clock.set(at.saturating_sub(Duration::from_nanos(1)));
    watch.quiet().await;
    bench.clock.set(at);
    let second = watch.document().await;
    assert_eq!((second.plan_id.as_str(), second.next_plan_id.as_str(), second.valid_until), ("silver", "", None));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_never_older_than_its_revision() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.lose(&deleted);
    watch.subscribe("acme", revision(&deleted));
    assert_eq!(watch.document().await.status(), v1::TenantStatus::Deleted);
    watch.subscribe("other", revision_of(&[(&tenant_stream("other"), 99)]));
    assert_eq!(watch.error().await, ("other".to_owned(), Code::Unavailable, "REVISION_NOT_REACHED".to_owned()));
    watch.subscribe("other", vec![7]);
    assert_eq!(watch.error().await, ("other".to_owned(), Code::InvalidArgument, "INVALID_REVISION".to_owned()));
    watch.subscribe("other", revision_of(&[(&tenant_stream("acme"), 1)]));
    assert_eq!(watch.error().await, ("other".to_owned(), Code::InvalidArgument, "INVALID_REVISION".to_owned()));
    watch.subscribe("other", vec![]);
    assert_eq!(watch.document().await.tenant_id, "other");
}

#[tokio::test(start_paused = true)]
async fn to_be_subscribed_before_is_no_way_round_a_revision() {
    let mut bench = bench().await;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    let created = bench.universe.create("new", latest("gold"));
    let mut watch = Watch::open(&bench).await.unwrap();
    for (change, status) in [(deleted, v1::TenantStatus::Deleted), (created, v1::TenantStatus::Active)] {
        bench.lose(&change);
        let tenant = change.stream.key();
        watch.subscribe(tenant, vec![]);
        watch.subscribe(tenant, revision(&change));
        let document = watch.document().await;
        assert_eq!((document.tenant_id.as_str(), document.status()), (tenant, status));
    }
}

/// Only the scan replaces a state by another with the same seq, and no revision tells of it.
#[tokio::test(start_paused = true)]
async fn what_is_repaired_at_the_same_seq_is_sent_too() {
    let mut bench = Bench::usual().await;
    for tenant in ["acme", "other"] {
        let created = bench.universe.create(tenant, latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    watch.subscribe("other", vec![]);
    for _ in 0..2 {
        assert!(entitled(&watch.document().await, "view"));
    }
    // As after bit rot in memory here: the store's truth is another one under the same seq.
    let mut differs = Universe::new();
    differs.service("reports", &["view", "export"]);
    differs.limit("seats");
    let gold = differs.publish("gold", &[("reports", &["export"])], &[]);
    assert_eq!(bench.universe.seq(&gold.stream), gold.seq);
    assert!(bench.store.faults().overwrite_state(&gold.stream, gold.state));
    for _ in 0..2 {
        assert!(entitled(&watch.document().await, "export"));
    }
    let deleted = bench.universe.clone().tenant_event("acme", Event::Deleted);
    assert!(bench.store.faults().overwrite_state(&deleted.stream, deleted.state));
    let document = watch.document().await;
    assert_eq!((document.tenant_id.as_str(), document.status()), ("acme", v1::TenantStatus::Deleted));
    watch.quiet().await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_tell_the_staleness() {
    let bench = bench().await;
    bench.beat().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    bench.clock.advance(Duration::from_secs(2));
    let begun = tokio::time::Instant::now();
    let Said::Heartbeat(heartbeat) = watch.next().await else { panic!("expected a heartbeat") };
    assert_eq!(heartbeat.staleness_ms, Some(2_000));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn watches_and_subscriptions_are_bounded() {
    let config = Config { watch_streams_max: 2, watch_subscriptions_max: 2, ..without_scan() };
    let mut bench = Bench::with(config).await;
    for tenant in ["a", "b", "c"] {
        let created = bench.universe.create(tenant, latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    let mut first = Watch::open(&bench).await.unwrap();
    let second = Watch::open(&bench).await.unwrap();
    let overloaded = (Code::ResourceExhausted, "OVERLOADED".to_owned());
    assert_eq!(refused(Watch::open(&bench).await.map(|_| ())), overloaded);
    drop(second);
    let third = Watch::open(&bench).await;
    assert!(third.is_ok(), "the place of a watch that ended is free");

    for tenant in ["a", "b", "c"] {
        first.subscribe(tenant, vec![]);
    }
    assert_eq!(first.error().await, ("c".to_owned(), Code::ResourceExhausted, "RATE_LIMITED".to_owned()));
    let tenants = [first.document().await.tenant_id, first.document().await.tenant_id];
    assert_eq!(tenants, ["a", "b"]);
    first.unsubscribe("a");
    first.subscribe("c", vec![]);
    assert_eq!(first.document().await.tenant_id, "c");
}

#[tokio::test(start_paused = true)]
async fn fan_out_is_paced() {
    let mut bench = Bench::with(Config { watch_documents_per_second_max: 10, ..without_scan() }).await;
    for n in 0..30 {
        let created = bench.universe.create(&format!("t{n}"), latest("gold"));
        bench.commit(&created).await;
    }
    bench.settled().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    for n in 0..30 {
        watch.subscribe(&format!("t{n}"), vec![]);
    }
    let begun = tokio::time::Instant::now();
    for _ in 0..30 {
        watch.document().await;
    }
    let took = begun.elapsed();
    assert!((Duration::from_millis(2_800)..Duration::from_millis(3_300)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn watches_go_on_over_a_restore() {
    let mut bench = bench().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    watch.document().await;
    let backup = bench.store.back_up(&StreamKind::ALL);
    bench.store.restore(&backup, "second");
    bench.universe.epoch = 2;
    let deleted = bench.universe.tenant_event("acme", Event::Deleted);
    bench.lose(&deleted);
    bench.feed.publish(std::slice::from_ref(&deleted)).await.unwrap();
    assert_eq!(watch.document().await.status(), v1::TenantStatus::Deleted);
}

/// Whoever goes on from a revision of the epoch before costs a strong read.
#[tokio::test(start_paused = true)]
async fn after_a_restore_documents_are_sent_with_revisions_of_the_new_epoch_though_nothing_changed() {
    let bench = bench().await;
    let mut watch = Watch::open(&bench).await.unwrap();
    watch.subscribe("acme", vec![]);
    let before = watch.document().await;
    let backup = bench.store.back_up(&StreamKind::ALL);
    bench.store.restore(&backup, "second");
    let heartbeat = Heartbeat { epoch: 2, store: "second".to_owned(), at: start(), partitions: 2 };
    bench.feed.beat(&[0, 1], &heartbeat).await.unwrap();
    let restored = watch.document().await;
    assert_eq!(restored.document_tag, before.document_tag);
    assert_eq!([before, restored.clone()].map(|of| Revision::parse(&of.revision).unwrap().epoch), [1, 2]);
    watch.quiet().await;

    bench.store.faults().fail_next(Operation::Read, 1_000);
    let mut again = Watch::open(&bench).await.unwrap();
    again.subscribe("acme", restored.revision.to_vec());
    assert_eq!(again.document().await.document_tag, restored.document_tag);
}
