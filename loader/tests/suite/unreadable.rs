//! Streams that cannot be read: they are told to the log, and hide nothing behind them.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tessera_core::ids::{AddOnId, PlanId};
use tessera_core::stream::StreamId;
use tessera_proto::v1;
use tonic::Code;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::bench::stream;
use crate::rig::{Rig, refused};

/// What was logged at that level on this thread, which is that of the whole loader.
#[derive(Clone)]
pub(crate) struct Logged {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.lines.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Logged {
    pub(crate) fn at(level: Level) -> Self {
        Self { level, lines: Arc::default() }
    }

    /// How many lines name that stream.
    fn of(&self, stream: &StreamId) -> usize {
        self.with(&format!("`{stream}`")).len()
    }

    /// The lines with that text.
    pub(crate) fn with(&self, text: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }
}

/// Puts other bytes in the place of a stored state.
fn overwrite(rig: &Rig, stream: &StreamId, state: impl Into<Bytes>) {
    assert!(rig.bench.store.inner.faults().overwrite_state(stream, state.into()));
}

/// Every tenant that is listed, page by page, and the version it follows; and how many were left out.
async fn tenants(rig: &mut Rig) -> (BTreeSet<(String, i32)>, i32) {
    let (mut found, mut unreadable, mut token) = (BTreeSet::new(), 0, String::new());
    loop {
        let asked = v1::ListTenantsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = rig.tenants.list_tenants(asked).await.unwrap().into_inner();
        found.extend(page.tenants.into_iter().map(|tenant| (tenant.tenant_id, tenant.subscription.unwrap().effective_version)));
        unreadable += page.unreadable_count;
        token = page.next_page_token;
        if token.is_empty() {
            return (found, unreadable);
        }
    }
}

fn version_of_each(tenants: &[&str], version: i32) -> BTreeSet<(String, i32)> {
    tenants.iter().map(|tenant| ((*tenant).to_owned(), version)).collect()
}

#[tokio::test]
async fn listings_leave_out_what_cannot_be_read_and_go_on_behind_it() {
    let logged = Logged::at(Level::ERROR);
    let _logging = tracing::subscriber::set_default(logged.clone());
    let mut rig = Rig::furnished().await;
    for tenant in ["left-1", "left-2", "left-3", "left-4", "left-5"] {
        rig.create(tenant).await;
    }
    let (damaged, newer) = (stream("left-2"), stream("left-4"));
    overwrite(&rig, &damaged, Bytes::new());
    let (_, state) = rig.bench.store.inner.current(&newer).unwrap();
    // The last value of a field counts: it needs a reader of version 99.
    overwrite(&rig, &newer, [&state[..], &[1 << 3, 99]].concat());
    for _ in 0..2 {
        assert_eq!(tenants(&mut rig).await, (version_of_each(&["left-1", "left-3", "left-5"], 1), 2));
    }
    assert_eq!((logged.of(&damaged), logged.of(&newer)), (1, 1), "{:?}", logged.lines);

    let (gold, seats) = (StreamId::Plan(PlanId::parse("gold").unwrap()), StreamId::AddOn(AddOnId::parse("seats").unwrap()));
    overwrite(&rig, &gold, Bytes::new());
    overwrite(&rig, &seats, Bytes::new());
    let plans = rig.plans.list_plans(v1::ListPlansRequest::default()).await.unwrap().into_inner();
    assert_eq!(plans.plans.iter().map(|plan| plan.plan_id.as_str()).collect::<Vec<_>>(), ["silver"]);
    assert_eq!(plans.unreadable_count, 1);
    let add_ons = rig.add_ons.list_add_ons(v1::ListAddOnsRequest::default()).await.unwrap().into_inner();
    assert_eq!((add_ons.add_ons, add_ons.next_page_token, add_ons.unreadable_count), (vec![], String::new(), 1));
    assert_eq!((logged.of(&gold), logged.of(&seats)), (1, 1), "{:?}", logged.lines);
    // Which version of it they follow, nobody can say then.
    rig.bench.store.inner.faults().damage(gold);
    assert_eq!(tenants(&mut rig).await, (version_of_each(&["left-1", "left-3", "left-5"], 0), 2));
}

#[tokio::test]
async fn a_listing_of_all_events_goes_on_behind_those_that_cannot_be_read() {
    let logged = Logged::at(Level::ERROR);
    let _logging = tracing::subscriber::set_default(logged.clone());
    let mut rig = Rig::furnished().await;
    for tenant in ["told-1", "told-2", "told-3", "told-4"] {
        rig.create(tenant).await;
    }
    let (damaged, altered) = (stream("told-1"), stream("told-3"));
    rig.bench.store.inner.faults().damage(damaged.clone());
    rig.bench.store.altered.lock().unwrap().insert((altered.clone(), 1), Bytes::from_static(b"no event"));
    let of_kind = |kind: v1::StreamKind| v1::ListAuditEventsRequest {
        stream: Some(v1::Stream { kind: kind as i32, id: String::new() }),
        ..Default::default()
    };
    for list in [of_kind(v1::StreamKind::Tenant), of_kind(v1::StreamKind::Unspecified)] {
        let page = rig.audit.list_audit_events(list).await.unwrap().into_inner();
        assert_eq!(page.unreadable_count, 2);
        let listed = page.events.into_iter().map(|event| event.stream.unwrap().id);
        assert_eq!(listed.filter(|id| id.starts_with("told-")).collect::<Vec<_>>(), ["told-2", "told-4"]);
        assert_eq!(page.next_page_token, "");
    }
    assert_eq!((logged.of(&damaged), logged.of(&altered)), (1, 1), "{:?}", logged.lines);

    // Who asks for that one alone is told.
    for id in ["told-1", "told-3"] {
        let stream = Some(v1::Stream { kind: v1::StreamKind::Tenant as i32, id: id.to_owned() });
        let status = rig.audit.list_audit_events(v1::ListAuditEventsRequest { stream, ..Default::default() }).await.unwrap_err();
        assert!(status.message().contains(&format!("`tenant/{id}`")), "{status:?}");
        assert_eq!(refused(Err::<(), _>(status)).0, Code::Internal);
    }
}

#[tokio::test]
async fn what_a_caller_hears_of_in_general_the_log_names() {
    let logged = Logged::at(Level::ERROR);
    let _logging = tracing::subscriber::set_default(logged.clone());
    let mut rig = Rig::furnished().await;
    rig.create("garbled").await;
    let garbled = stream("garbled");
    overwrite(&rig, &garbled, Bytes::from_static(b"no state"));
    // One that has not read it before.
    let mut rig = Rig::over(rig.bench).await;
    for _ in 0..2 {
        let get = v1::GetTenantRequest { tenant_id: "garbled".to_owned(), show_deleted: false };
        let status = rig.tenants.get_tenant(get).await.unwrap_err();
        assert!(!status.message().contains("garbled"), "{status:?}");
        assert_eq!(refused(Err::<(), _>(status)).0, Code::Internal);
    }
    assert_eq!(logged.of(&garbled), 1, "{:?}", logged.lines);
}
