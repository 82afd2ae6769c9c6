//! Strong reads of what commands are decided against: the catalog, plans and add-ons.
//!
//! Callers that want the same stream at the same time share one read: a read that **began after a caller asked** is as
//! strong for that caller as one of its own. So an import of a million rows reads its plan as often as a read takes, not a
//! million times. What was read stays for as long as somebody wants the stream: what is kept beyond that is the cache's business.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use tessera_core::aggregate::{References, World};
use tessera_core::catalog::Catalog;
use tessera_core::plan::{Plan, PlanState};
use tessera_core::stream::{Epoch, StreamId};
use tessera_ports::event_store::Head;
use tokio::sync::Mutex as AsyncMutex;

use crate::aggregate::Handled;
use crate::refusal::Refusal;
use crate::streams::Streams;

/// Plans and add-ons that are read at a time for one batch or group.
const OFFERS_AT_ONCE: usize = 64;

/// Reads worlds.
#[derive(Debug)]
pub struct WorldReader {
    catalog: SharedReads<Catalog, Arc<Catalog>>,
    offers: SharedReads<PlanState, Option<Arc<Plan>>>,
}

/// The world one command was decided against.
#[derive(Debug, Clone, Default)]
pub struct ReadWorld {
    /// What was read.
    pub world: World,
    /// The seqs at which it was read.
    pub references: References,
}

/// What a strong read found.
#[derive(Debug, Clone)]
pub struct Found<V> {
    /// The life of the store.
    pub epoch: Epoch,
    /// The head of the stream.
    pub head: Head,
    /// The state there.
    pub value: V,
}

impl WorldReader {
    /// Reads catalogs and offers from these streams.
    pub fn new(catalog: Arc<Streams<Catalog>>, offers: Arc<Streams<PlanState>>) -> Self {
        Self {
            catalog: SharedReads::new(catalog, Arc::clone),
            offers: SharedReads::new(offers, |state| state.0.clone().map(Arc::new)),
        }
    }

    /// The catalog, read strongly.
    pub async fn catalog(&self) -> Result<Found<Arc<Catalog>>, Refusal> {
        self.catalog.read(&StreamId::Catalog).await
    }

    /// A plan or add-on, read strongly.
    pub async fn offer(&self, stream: &StreamId) -> Result<FoundOffer, Refusal> {
        self.offers.read(stream).await
    }

    /// The catalog (if it is needed) and those plans and add-ons, each read strongly once for all who asked before.
    pub async fn read_for_many(&self, needs_catalog: bool, references: BTreeSet<StreamId>) -> SharedWorld {
        let catalog = if needs_catalog { Some(self.catalog().await) } else { None };
        let offers = futures::stream::iter(references).map(async |stream| {
            let offer = self.offer(&stream).await;
            (stream, offer)
        });
        let offers = offers.buffer_unordered(OFFERS_AT_ONCE).collect().await;
        SharedWorld { catalog, offers, worlds: Mutex::default() }
    }
}

impl ReadWorld {
    /// `false`: it is of another life of the store.
    fn add_catalog(&mut self, epoch: Epoch, catalog: Found<Arc<Catalog>>) -> bool {
        self.references.catalog = catalog.head.seq;
        self.world.catalog = (catalog.head.seq, catalog.value);
        catalog.epoch == epoch
    }

    /// `false`: it is of another life of the store.
    fn add_offer(&mut self, epoch: Epoch, stream: &StreamId, offer: FoundOffer) -> bool {
        let seq = offer.head.seq;
        match stream {
            StreamId::Plan(id) => {
                self.references.plans.insert(id.clone(), seq);
                self.world.plans.insert(id.clone(), (seq, offer.value));
            }
            StreamId::AddOn(id) => {
                self.references.add_ons.insert(id.clone(), seq);
                self.world.add_ons.insert(id.clone(), (seq, offer.value));
            }
            StreamId::Catalog | StreamId::Tenant(_) => {}
        }
        offer.epoch == epoch
    }
}

type FoundOffer = Found<Option<Arc<Plan>>>;
type WorldsByNames = BTreeMap<(Epoch, BTreeSet<StreamId>), Option<Arc<ReadWorld>>>;

/// What the commands of a batch or group are decided against: read after all of them were asked for, so that it is as strong for each as
/// a read of its own.
#[derive(Debug)]
pub struct SharedWorld {
    catalog: Option<Result<Found<Arc<Catalog>>, Refusal>>,
    offers: BTreeMap<StreamId, Result<FoundOffer, Refusal>>,
    /// Made once for all commands that name the same streams.
    worlds: Mutex<WorldsByNames>,
}

impl SharedWorld {
    /// The part of it that one command names; `None` if it is not of `epoch`, or was not read.
    pub fn of(&self, epoch: Epoch, references: BTreeSet<StreamId>) -> Result<Option<Arc<ReadWorld>>, Refusal> {
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (epoch, references);
        if let Some(world) = worlds.get(&key) {
            return Ok(world.clone());
        }
        let world = self.make(epoch, &key.1)?.map(Arc::new);
        worlds.insert(key, world.clone());
        Ok(world)
    }

    fn make(&self, epoch: Epoch, references: &BTreeSet<StreamId>) -> Result<Option<ReadWorld>, Refusal> {
        let mut read = ReadWorld::default();
        if let Some(catalog) = &self.catalog
            && !read.add_catalog(epoch, catalog.clone()?)
        {
            return Ok(None);
        }
        for stream in references {
            let Some(offer) = self.offers.get(stream) else { return Ok(None) };
            if !read.add_offer(epoch, stream, offer.clone()?) {
                return Ok(None);
            }
        }
        Ok(Some(read))
    }
}

/// Reads of many streams, each shared by those who wait for it.
#[derive(Debug)]
struct SharedReads<A, V> {
    streams: Arc<Streams<A>>,
    /// What callers want of a state; made once per head for those who come in turn.
    value_of: fn(&Arc<A>) -> V,
    /// With how many callers are there: a stream has an entry for as long as somebody has a [`Place`] at it.
    reads: Mutex<ReadsByStream<V>>,
}

type ReadsByStream<V> = HashMap<StreamId, (Arc<SharedRead<V>>, usize)>;

/// One caller's way to a shared read. Whoever leaves last takes along what was read.
#[derive(Debug)]
struct Place<'a, V> {
    reads: &'a Mutex<ReadsByStream<V>>,
    stream: &'a StreamId,
    shared: Arc<SharedRead<V>>,
}

#[derive(Debug)]
struct SharedRead<V> {
    /// How many callers have asked so far; each takes the number before its own as its ticket.
    asked: AtomicU64,
    last: AsyncMutex<LastRead<V>>,
}

#[derive(Debug)]
struct LastRead<V> {
    /// Callers with a ticket below this had asked before the read began.
    covers: u64,
    result: Option<Result<Found<V>, Refusal>>,
}

impl<A: Handled, V: Clone> SharedReads<A, V> {
    fn new(streams: Arc<Streams<A>>, value_of: fn(&Arc<A>) -> V) -> Self {
        Self { streams, value_of, reads: Mutex::new(HashMap::new()) }
    }

    async fn read(&self, stream: &StreamId) -> Result<Found<V>, Refusal> {
        let place = self.place(stream);
        let shared = &place.shared;
        let ticket = shared.asked.fetch_add(1, Ordering::SeqCst);
        let mut last = shared.last.lock().await;
        if let Some(result) = &last.result
            && last.covers > ticket
        {
            return result.clone();
        }
        let covers = shared.asked.load(Ordering::SeqCst);
        let result = self.streams.read(stream, &[]).await.map(|(now, _)| {
            let value = match &last.result {
                Some(Ok(before)) if before.epoch == now.epoch && before.head == now.head => before.value.clone(),
                _ => (self.value_of)(&now.state),
            };
            Found { epoch: now.epoch, head: now.head, value }
        });
        *last = LastRead { covers, result: Some(result.clone()) };
        result
    }

    fn place<'a>(&'a self, stream: &'a StreamId) -> Place<'a, V> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let (shared, callers) = reads.entry(stream.clone()).or_insert_with(|| {
            let last = AsyncMutex::new(LastRead { covers: 0, result: None });
            (Arc::new(SharedRead { asked: AtomicU64::new(0), last }), 0)
        });
        *callers = callers.saturating_add(1);
        Place { reads: &self.reads, stream, shared: Arc::clone(shared) }
    }
}

impl<V> Drop for Place<'_, V> {
    fn drop(&mut self) {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, callers)) = reads.get_mut(self.stream) {
            *callers = callers.saturating_sub(1);
            if *callers == 0 {
                reads.remove(self.stream);
            }
        }
    }
}
