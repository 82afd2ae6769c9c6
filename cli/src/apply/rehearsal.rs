//! What of the documents will be refused, decided in advance by the rules of the loader: nothing is begun that has to stop half-way,
//! and a dry run finds what is not there.
//!
//! Nothing counts as archived here. Who may name that still depends on who names it already, which the loader knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use tessera_core::aggregate::{ACTOR_LOCAL, Actor, Aggregate, Context, Recorded, References, World};
use tessera_core::catalog;
use tessera_core::ids::RequestId;
use tessera_core::plan::{self, Plan, PlanState, PublishedVersion};
use tessera_core::rejection::Rejection;
use tessera_core::stream::StreamId;
use tessera_core::tenant::{self, StateMode, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::Offer;
use tessera_ports::IdSource as _;
use tessera_proto::status::Failure;
use tessera_runtime::clock::SystemIds;

use super::{Action, Registered, Step};
use crate::connection::Planes;
use crate::document::{Document, Located, wire};
use crate::failure;
use crate::offers::{self, OfferKind};

/// How many plans are asked for at a time.
const AT_ONCE: usize = 16;

/// The other streams as they will be when a document's turn comes.
struct Rehearsal {
    world: World,
    now: Timestamp,
    actor: Actor,
    request_id: RequestId,
}

/// A line for each document that will be refused: of `steps` that change something, and of the tenants in `more`.
pub async fn refused(
    planes: &Planes,
    registered: &Registered,
    steps: &[Step],
    more: &[Located],
    now: Timestamp,
) -> anyhow::Result<Vec<String>> {
    let (world, actor) = (World::default(), Actor::parse("actor", ACTOR_LOCAL)?);
    let mut rehearsal = Rehearsal { world, now, actor, request_id: SystemIds.request_id() };
    rehearsal.begin(registered)?;
    let changing = || steps.iter().filter(|step| step.changes()).map(|step| (&step.located, &step.action));
    let all = || changing().chain(more.iter().map(|located| (located, &Action::Nothing)));
    let commands = all().filter_map(|(located, _)| command(&located.document));
    let named: BTreeSet<StreamId> = commands.flat_map(|command| TenantState::default().references(&command)).collect();
    let mut offers = futures::stream::iter(named).map(|stream| find(planes, stream, now)).buffer_unordered(AT_ONCE);
    while let Some((stream, offer)) = offers.try_next().await? {
        rehearsal.set(stream, offer);
    }
    let mut refused = Vec::new();
    for (Located { source, line, document }, action) in all() {
        if let Err(rejection) = rehearsal.perform(document, action) {
            let said = failure::explain(&Failure::from(rejection).into());
            refused.push(format!("{source}:{line}: {document}: {said}"));
        }
    }
    Ok(refused)
}

/// What states that tenant.
fn command(document: &Document) -> Option<tenant::Command> {
    let Document::Tenant(id, document) = document else { return None };
    let action = tenant::Action::State { document: document.clone(), suspended: BTreeSet::new(), mode: StateMode::Upsert };
    Some(tenant::Command { tenant: id.clone(), action })
}

/// A plan or add-on as it is; `None` if there is none.
async fn find(planes: &Planes, stream: StreamId, now: Timestamp) -> anyhow::Result<(StreamId, Option<Plan>)> {
    let found = match &stream {
        StreamId::Plan(id) => offers::get(planes, OfferKind::Plan, id.as_str()).await?,
        StreamId::AddOn(id) => offers::get(planes, OfferKind::AddOn, id.as_str()).await?,
        StreamId::Catalog | StreamId::Tenant(_) => None,
    };
    Ok((stream, found.map(|(offer, _)| published(&offer.draft, offer.latest, now))))
}

/// With so many versions; what they say does not matter to those who name them.
fn published(document: &plan::Document, latest: i32, now: Timestamp) -> Plan {
    let version = PublishedVersion { document: Arc::new(document.clone()), published_at: now };
    Plan {
        draft: document.clone(),
        versions: vec![version; usize::try_from(latest).unwrap_or(0)],
        archived: false,
        created_at: now,
        updated_at: now,
        references: References::default(),
    }
}

impl Rehearsal {
    /// Registers what is registered.
    fn begin(&mut self, Registered { services, limits }: &Registered) -> anyhow::Result<()> {
        for service in services {
            self.register(&catalog::Command::UpsertService(wire::service_document(service)?))?;
        }
        for limit in limits {
            self.register(&catalog::Command::UpsertLimit(wire::limit_document(limit)?))?;
        }
        Ok(())
    }

    fn perform(&mut self, document: &Document, action: &Action) -> Result<(), Rejection> {
        match document {
            Document::Service(service) => self.register(&catalog::Command::UpsertService(service.clone())),
            Document::Limit(limit) => self.register(&catalog::Command::UpsertLimit(limit.clone())),
            Document::Plan(id, document) => self.publish(&Offer::Plan(id.clone()), StreamId::Plan(id.clone()), document, action),
            Document::AddOn(id, document) => {
                self.publish(&Offer::AddOn(id.clone()), StreamId::AddOn(id.clone()), document, action)
            }
            Document::Tenant(..) => match command(document) {
                Some(command) => self.decide(&TenantState::default(), &command).map(drop),
                None => Ok(()),
            },
        }
    }

    fn register(&mut self, command: &catalog::Command) -> Result<(), Rejection> {
        for event in self.decide(&*self.world.catalog.1, command)? {
            let recorded = Recorded { seq: 0, at: self.now, references: References::default(), event };
            let catalog = std::mem::take(&mut self.world.catalog.1);
            self.world.catalog.1 = Arc::new(Arc::unwrap_or_clone(catalog).evolve(&recorded));
        }
        Ok(())
    }

    fn publish(&mut self, offer: &Offer, stream: StreamId, document: &plan::Document, action: &Action) -> Result<(), Rejection> {
        let version = if let Action::Publish { version, .. } = action { *version } else { 1 };
        // Who names it is not at fault if it is refused.
        self.set(stream, Some(published(document, version, self.now)));
        let action = plan::Action::Create(document.clone());
        self.decide(&PlanState::default(), &plan::Command { offer: offer.clone(), action }).map(drop)
    }

    fn set(&mut self, stream: StreamId, offer: Option<Plan>) {
        let offer = (0, offer.map(Arc::new));
        match stream {
            StreamId::Plan(id) => drop(self.world.plans.insert(id, offer)),
            StreamId::AddOn(id) => drop(self.world.add_ons.insert(id, offer)),
            StreamId::Catalog | StreamId::Tenant(_) => {}
        }
    }

    fn decide<A: Aggregate>(&self, state: &A, command: &A::Command) -> Result<Vec<A::Event>, Rejection> {
        let Self { world, now, actor, request_id } = self;
        state.decide(command, &Context { now: *now, actor, request_id, world })
    }
}
