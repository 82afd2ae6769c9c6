//! A small world for tests: a catalog, plans, add-ons and tenants that change event by event, each change with the state as it
//! would be stored. Unit tests of the crate use this file, too.
#![expect(dead_code, unreachable_pub, reason = "each of the two test targets uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tessera_core::aggregate::{Aggregate, Recorded, References, Settled};
use tessera_core::catalog::{self, Catalog, FeatureDocument, LimitDocument, ServiceDocument};
use tessera_core::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId, TenantId};
use tessera_core::plan::{self, Document, PlanState, ServiceGrant};
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_core::tenant::{self, AttachedAddOn, PlanChoice, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, Description, LimitValue, Quantity, Target, Title, Version, VersionChoice};
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{Append, Appended};
use tessera_ports::memory::MemoryStore;
use tessera_proto::storage;

/// The time of every event: 2027-01-15.
pub fn start() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000).unwrap()
}

pub fn plan_id(id: &str) -> PlanId {
    PlanId::parse(id).unwrap()
}

pub fn add_on_id(id: &str) -> AddOnId {
    AddOnId::parse(id).unwrap()
}

pub fn plan_stream(id: &str) -> StreamId {
    StreamId::Plan(plan_id(id))
}

pub fn tenant_stream(id: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(id).unwrap())
}

pub fn latest(plan: &str) -> PlanChoice {
    PlanChoice { plan: plan_id(plan), version: VersionChoice::Latest }
}

pub fn pinned(plan: &str, version: u32) -> PlanChoice {
    PlanChoice { plan: plan_id(plan), version: VersionChoice::Pinned(Version::new(version).unwrap()) }
}

pub fn target(service: &str, feature: &str) -> Target {
    let feature = (!feature.is_empty()).then(|| FeatureId::parse(feature).unwrap());
    Target { service: ServiceId::parse(service).unwrap(), feature }
}

/// Everything as it stands.
#[derive(Debug, Clone)]
pub struct Universe {
    pub epoch: Epoch,
    seqs: BTreeMap<StreamId, Seq>,
    catalog: Catalog,
    offers: BTreeMap<StreamId, PlanState>,
    tenants: BTreeMap<TenantId, TenantState>,
}

impl Universe {
    pub fn new() -> Self {
        Self { epoch: 1, seqs: BTreeMap::new(), catalog: Catalog::default(), offers: BTreeMap::new(), tenants: BTreeMap::new() }
    }

    /// A universe with service `reports` (features `view`, `export`), limit `seats`, plan `gold` version 1 (reports/view, 10
    /// seats); and the changes that made it, oldest first.
    pub fn usual() -> (Self, Vec<Change>) {
        let mut universe = Self::new();
        let changes = vec![
            universe.service("reports", &["view", "export"]),
            universe.limit("seats"),
            universe.publish("gold", &[("reports", &["view"])], &[("seats", 10)]),
        ];
        (universe, changes)
    }

    pub fn seq(&self, stream: &StreamId) -> Seq {
        self.seqs.get(stream).copied().unwrap_or(0)
    }

    pub fn service(&mut self, id: &str, features: &[&str]) -> Change {
        let feature = |id: &&str| FeatureDocument {
            id: FeatureId::parse(id).unwrap(),
            title: Title::default(),
            description: Description::default(),
        };
        self.catalog_event(catalog::Event::ServiceUpserted(ServiceDocument {
            id: ServiceId::parse(id).unwrap(),
            title: Title::default(),
            description: Description::default(),
            features: features.iter().map(feature).collect(),
        }))
    }

    pub fn limit(&mut self, id: &str) -> Change {
        self.catalog_event(catalog::Event::LimitUpserted(LimitDocument {
            id: LimitId::parse(id).unwrap(),
            title: Title::default(),
            description: Description::default(),
            unit: Title::default(),
            period: tessera_core::value::Period::Never,
        }))
    }

    pub fn catalog_event(&mut self, event: catalog::Event) -> Change {
        let recorded = self.record(&StreamId::Catalog, References::default(), event);
        self.catalog = std::mem::take(&mut self.catalog).evolve(&recorded);
        self.change(&StreamId::Catalog)
    }

    /// The next version of a plan grants exactly this.
    pub fn publish(&mut self, id: &str, grants: &[(&str, &[&str])], limits: &[(&str, i64)]) -> Change {
        self.publish_offer(&plan_stream(id), grants, limits)
    }

    /// The next version of an add-on grants exactly this.
    pub fn publish_add_on(&mut self, id: &str, grants: &[(&str, &[&str])], limits: &[(&str, i64)]) -> Change {
        self.publish_offer(&StreamId::AddOn(add_on_id(id)), grants, limits)
    }

    fn publish_offer(&mut self, stream: &StreamId, grants: &[(&str, &[&str])], limits: &[(&str, i64)]) -> Change {
        let grant = |features: &[&str]| ServiceGrant {
            features: features.iter().map(|id| FeatureId::parse(id).unwrap()).collect(),
            familiarity: None,
        };
        let document = Document {
            services: grants.iter().map(|(id, features)| (ServiceId::parse(id).unwrap(), grant(features).into())).collect(),
            limits: limits
                .iter()
                .map(|(id, max)| (LimitId::parse(id).unwrap(), LimitValue::Maximum(Amount::new(*max).unwrap())))
                .collect(),
            ..Document::default()
        };
        let state = self.offers.get(stream).cloned().unwrap_or_default();
        let drafted = match &state.0 {
            None => plan::Event::Created(document),
            Some(_) => plan::Event::DraftUpdated(document),
        };
        let next = state.0.as_ref().map_or(0, |plan| plan.versions.len()) + 1;
        let version = Version::new(u32::try_from(next).unwrap()).unwrap();
        self.offer_event(stream, drafted);
        self.offer_event(stream, plan::Event::Published { version })
    }

    pub fn offer_event(&mut self, stream: &StreamId, event: plan::Event) -> Change {
        let references = References { catalog: self.seq(&StreamId::Catalog), ..References::default() };
        let recorded = self.record(stream, references, event);
        let state = self.offers.remove(stream).unwrap_or_default().evolve(&recorded);
        self.offers.insert(stream.clone(), state);
        self.change(stream)
    }

    pub fn create(&mut self, id: &str, choice: PlanChoice) -> Change {
        self.tenant_event(
            id,
            tenant::Event::Created {
                title: Title::default(),
                labels: BTreeMap::new(),
                choice,
                starts: None,
                trial_until: None,
                pending: false,
            },
        )
    }

    pub fn tenant_event(&mut self, id: &str, event: tenant::Event) -> Change {
        let stream = tenant_stream(id);
        let references = self.references(&event);
        let recorded = self.record(&stream, references, event);
        let id = TenantId::parse(id).unwrap();
        let state = self.tenants.remove(&id).unwrap_or_default().evolve(&recorded);
        self.tenants.insert(id, state);
        self.change(&stream)
    }

    pub fn attach(&mut self, id: &str, add_on: &str) -> Change {
        let attached = AttachedAddOn { quantity: Quantity::ONE, version: VersionChoice::Latest };
        self.tenant_event(id, tenant::Event::AddOnAttached { add_on: add_on_id(add_on), attached })
    }

    /// A tenant stream with an event, but without a tenant.
    pub fn settle_nothing(&mut self, id: &str) -> Change {
        self.tenant_event(id, tenant::Event::CommandSettled(Settled::NoChange))
    }

    /// The newest change of a stream, again.
    pub fn change(&self, stream: &StreamId) -> Change {
        let state = match stream {
            StreamId::Catalog => storage::encode_state(&self.catalog, start()),
            StreamId::Plan(_) | StreamId::AddOn(_) => storage::encode_state(&self.offers[stream], start()),
            StreamId::Tenant(id) => storage::encode_state(&self.tenants[id], start()),
        };
        Change { epoch: self.epoch, stream: stream.clone(), seq: self.seq(stream), state: Bytes::from(state) }
    }

    /// Every stream as it stands.
    pub fn changes(&self) -> Vec<Change> {
        self.seqs.keys().map(|stream| self.change(stream)).collect()
    }

    /// What an event was decided against: the catalog, and whatever it names.
    fn references(&self, event: &tenant::Event) -> References {
        let mut named = BTreeSet::new();
        match event {
            tenant::Event::Created { choice, .. } | tenant::Event::PlanChanged(choice) => {
                named.insert(StreamId::Plan(choice.plan.clone()));
            }
            tenant::Event::PlanChangeScheduled(change) => {
                named.insert(StreamId::Plan(change.choice.plan.clone()));
            }
            tenant::Event::AddOnAttached { add_on, .. } => {
                named.insert(StreamId::AddOn(add_on.clone()));
            }
            _ => {}
        }
        let mut references = References { catalog: self.seq(&StreamId::Catalog), ..References::default() };
        for stream in named {
            let seq = self.seq(&stream);
            match stream {
                StreamId::Plan(id) => drop(references.plans.insert(id, seq)),
                StreamId::AddOn(id) => drop(references.add_ons.insert(id, seq)),
                StreamId::Catalog | StreamId::Tenant(_) => {}
            }
        }
        references
    }

    fn record<E>(&mut self, stream: &StreamId, references: References, event: E) -> Recorded<E> {
        let seq = self.seqs.entry(stream.clone()).or_default();
        *seq += 1;
        Recorded { seq: *seq, at: start(), references, event }
    }
}

/// Stores a change as if its events had been appended one by one.
pub fn store(store: &MemoryStore, change: &Change) {
    let expected = store.current(&change.stream).map(|(head, _)| head).unwrap_or_default();
    let events = change.seq.checked_sub(expected.seq).filter(|events| *events > 0).expect("the change is newer");
    let cells = (0..events).map(|n| Bytes::from(format!("{}/{n}/{}", change.stream, change.seq))).collect();
    let append = Append {
        epoch: change.epoch,
        stream: change.stream.clone(),
        expected,
        cells,
        state: change.state.clone(),
        requests: Vec::new(),
    };
    assert_eq!(store.append_now(&append), Appended::Committed);
}
