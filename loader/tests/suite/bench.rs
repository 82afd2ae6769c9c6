//! A store, a feed, a clock, and any number of loaders on them, with short words for what tests ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tessera_core::aggregate::{ACTOR_LOCAL, Actor};
use tessera_core::catalog::{self, FeatureDocument, LimitDocument, ServiceDocument};
use tessera_core::ids::{FeatureId, LimitId, PlanId, RequestId, ServiceId, TenantId};
use tessera_core::plan::{self, Document, ServiceGrant};
use tessera_core::stream::StreamId;
use tessera_core::tenant::{self, Action, PlanChoice, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, Description, LimitValue, Offer, Period, Reason, Title, VersionChoice};
use tessera_loader::handler::{Caller, Done, Request};
use tessera_loader::refusal::Refusal;
use tessera_loader::{Config, Dependencies, Handle, Loader, build, digest};
use tessera_ports::clock::ManualClock;
use tessera_ports::memory::{MemoryEvents, MemoryFeed, MemoryStore};
use tessera_ports::{EventPublisher, IdSource};
use tessera_proto::storage;
use tessera_runtime::lifecycle::Tasks;
use tokio::time::Instant;

use crate::recording::RecordingStore;

/// Ids that count.
#[derive(Debug, Default)]
pub(crate) struct CountingIds(AtomicU64);

impl IdSource for CountingIds {
    fn request_id(&self) -> RequestId {
        RequestId::parse(&self.unique()).unwrap()
    }

    fn unique(&self) -> String {
        format!("id-{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

pub(crate) struct Bench {
    pub(crate) store: RecordingStore,
    pub(crate) feed: MemoryFeed,
    /// Where others are told of events, if they are.
    pub(crate) events: Option<MemoryEvents>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ids: Arc<CountingIds>,
    pub(crate) tasks: Tasks,
    pub(crate) config: Config,
}

/// 2026-01-01T00:00:00Z.
pub(crate) fn new_year() -> Timestamp {
    Timestamp::from_seconds(1_767_225_600).unwrap()
}

impl Bench {
    /// A store without a feed of its own, so that everything of the loader is at work.
    pub(crate) fn new() -> Self {
        let feed = MemoryFeed::new("changes", 2);
        Self::over(MemoryStore::new("test"), feed)
    }

    /// As [`Self::new`], and others are told of events.
    pub(crate) fn telling() -> (Self, MemoryEvents) {
        let events = MemoryEvents::new();
        (Self { events: Some(events.clone()), ..Self::new() }, events)
    }

    /// A store that feeds itself.
    pub(crate) fn feeding() -> Self {
        let feed = MemoryFeed::new("changes", 2);
        Self::over(MemoryStore::feeding("test", feed.clone()), feed)
    }

    fn over(store: MemoryStore, feed: MemoryFeed) -> Self {
        Self {
            store: RecordingStore::new(store),
            feed,
            events: None,
            clock: Arc::new(ManualClock::new(new_year())),
            ids: Arc::default(),
            tasks: Tasks::new(),
            config: Config::default(),
        }
    }

    /// Another loader on the same store. Nothing of it runs in the background.
    pub(crate) fn loader(&self) -> Loader {
        let dependencies = Dependencies {
            store: Arc::new(self.store.clone()),
            publisher: Arc::new(self.feed.clone()),
            events: self.events.clone().map(|events| Arc::new(events) as Arc<dyn EventPublisher>),
            hints: Arc::new(self.store.inner.clone()),
            leases: Arc::new(self.store.inner.clone()),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        };
        build(self.config.clone(), dependencies, &self.tasks).unwrap()
    }

    /// A loader with everything at work, on a store with a registered service and the published plans `gold` and `silver`.
    pub(crate) async fn furnished(&self) -> Handle {
        let handle = self.loader().start(&self.tasks);
        furnish(&handle).await;
        self.store.attempts.lock().unwrap().clear();
        handle
    }

    /// What the store has of a tenant, folded from its events, and how many there are.
    pub(crate) fn stored(&self, tenant: &str) -> (TenantState, usize) {
        let cells = self.store.inner.cells(&stream(tenant));
        let mut state = TenantState::default();
        for cell in &cells {
            let event = storage::decode_event::<TenantState>(cell).unwrap();
            state = tessera_core::aggregate::Aggregate::evolve(state, &event.recorded);
        }
        if let Some((_, bytes)) = self.store.inner.current(&stream(tenant)) {
            assert_eq!(storage::decode_state::<TenantState>(&bytes).unwrap().0, state, "the state is not the fold of its events");
        }
        (state, cells.len())
    }
}

/// Registers and publishes what tests name.
pub(crate) async fn furnish(handle: &Handle) {
    let service = ServiceDocument {
        id: ServiceId::parse("reporting").unwrap(),
        title: Title::default(),
        description: Description::default(),
        features: ["exports", "charts"]
            .map(|id| FeatureDocument {
                id: FeatureId::parse(id).unwrap(),
                title: Title::default(),
                description: Description::default(),
            })
            .to_vec(),
    };
    let limit = LimitDocument {
        id: LimitId::parse("max_users").unwrap(),
        title: Title::default(),
        description: Description::default(),
        unit: Title::parse("a unit", "users").unwrap(),
        period: Period::Never,
    };
    for command in [catalog::Command::UpsertService(service), catalog::Command::UpsertLimit(limit)] {
        let id = format!("furnish-{}", digest::name(&[format!("{command:?}").as_bytes()]));
        handle.catalog().handle(request(StreamId::Catalog, command, &id[..40])).await.unwrap();
    }
    for (name, users) in [("gold", 1_000), ("silver", 100)] {
        let plan = Offer::Plan(PlanId::parse(name).unwrap());
        for action in [plan::Action::Create(document(users)), plan::Action::Publish] {
            let id = format!("furnish-{name}-{}", matches!(action, plan::Action::Publish));
            let command = plan::Command { offer: plan.clone(), action };
            handle.offers().handle(request(StreamId::from(plan.clone()), command, &id)).await.unwrap();
        }
    }
}

/// A plan document with the service and that many users.
pub(crate) fn document(users: i64) -> Document {
    let grant = ServiceGrant { features: [FeatureId::parse("exports").unwrap()].into(), familiarity: None };
    Document {
        services: BTreeMap::from([(ServiceId::parse("reporting").unwrap(), grant.into())]),
        limits: BTreeMap::from([(LimitId::parse("max_users").unwrap(), LimitValue::Maximum(Amount::new(users).unwrap()))]),
        ..Document::default()
    }
}

/// Archives a plan.
pub(crate) fn archive(plan: &str) -> Request<plan::Command> {
    let offer = Offer::Plan(PlanId::parse(plan).unwrap());
    let command = plan::Command { offer: offer.clone(), action: plan::Action::Archive };
    request(StreamId::from(offer), command, &format!("archive-{plan}"))
}

pub(crate) fn stream(tenant: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(tenant).unwrap())
}

pub(crate) fn choice(plan: &str) -> PlanChoice {
    PlanChoice { plan: PlanId::parse(plan).unwrap(), version: VersionChoice::Latest }
}

/// Any command, with a deadline in 10 s.
pub(crate) fn request<C: std::fmt::Debug>(stream: StreamId, command: C, id: &str) -> Request<C> {
    let caller = Caller {
        request_id: RequestId::parse(id).unwrap(),
        actor: Actor::parse("an actor", ACTOR_LOCAL).unwrap(),
        retry: false,
        deadline: Instant::now() + Duration::from_secs(10),
    };
    let digest = digest::of_command("Test", format!("{command:?}").as_bytes());
    Request { caller, stream, command, digest, etag: None, len: 100, rejection_stands: true }
}

pub(crate) fn ask(tenant: &str, action: Action, id: &str) -> Request<tenant::Command> {
    let command = tenant::Command { tenant: TenantId::parse(tenant).unwrap(), action };
    request(stream(tenant), command, id)
}

pub(crate) fn create(tenant: &str, id: &str) -> Request<tenant::Command> {
    let action = Action::Create {
        title: Title::default(),
        labels: BTreeMap::new(),
        choice: choice("gold"),
        starts: None,
        trial: None,
        pending: false,
    };
    ask(tenant, action, id)
}

pub(crate) fn rename(tenant: &str, title: &str, id: &str) -> Request<tenant::Command> {
    let title = Some(Title::parse("a title", title).unwrap());
    ask(tenant, Action::Update { title, labels: None }, id)
}

pub(crate) fn suspend(tenant: &str, reason: &str, id: &str) -> Request<tenant::Command> {
    ask(tenant, Action::Suspend { reason: Reason::parse("a reason", reason).unwrap(), effective_at: None }, id)
}

/// The same command, said to be a retry.
pub(crate) fn again<C>(mut request: Request<C>) -> Request<C> {
    request.caller.retry = true;
    request.caller.deadline = Instant::now() + Duration::from_secs(10);
    request
}

pub(crate) fn title(done: &Done<TenantState>) -> &str {
    done.state.0.as_ref().unwrap().title.as_str()
}

/// The reason of a rejection.
#[track_caller]
pub(crate) fn reason<T: std::fmt::Debug>(result: Result<T, Refusal>) -> String {
    match result {
        Err(Refusal::Rejected(rejection)) => rejection.reason.into_owned(),
        other => panic!("expected a rejection, found {other:?}"),
    }
}

/// Waits for something that happens in the background.
pub(crate) async fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
