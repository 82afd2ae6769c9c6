//! The writing side of a matrix: the one place that decides what is applied.
//!
//! A change is applied iff its seq is greater than the applied one, so duplicates, reordering and replays need no care anywhere
//! else. A change whose references are not there yet is parked, one that cannot be used is noted; the last good state goes on
//! answering in both cases. Tables are changed in private and installed before the first row that may need them, at the latest
//! by [`Writer::finish`].

mod age;
mod image;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tessera_core::aggregate::References;
use tessera_core::catalog::Catalog;
use tessera_core::digest::StateDigest;
use tessera_core::evaluator::{Missing, Tables, TablesError, TenantRow, Unresolved};
use tessera_core::ids::{AddOnId, TenantId};
use tessera_core::plan::PlanState;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_core::tenant::{Tenant, TenantState};
use tessera_core::time::Timestamp;
use tessera_core::value::VersionChoice;
use tessera_ports::Change;
use tessera_ports::hooks::{self, Guard};
use tessera_proto::storage::{self, StorageError};
use tracing::{error, warn};

use super::early::{Early, tenant_state};
use super::key::TenantKey;
use super::parking::{NO_LAG, Parked, Parking};
use super::{Entry, EntryState, HeldBack, Installed, Matrix};
use crate::metric_definitions::{Metrics, Source};

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It answers now, or will once tables are installed.
    Installed,
    /// It waits for that stream.
    Parked(StreamId),
    /// Not newer than what is applied or parked, or of an older epoch.
    Behind,
    /// It cannot be used.
    Bad,
    /// It belongs to another matrix.
    NewerEpoch,
}

/// How a change stands to what is known of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Not newer, or refused before.
    Behind,
    /// Read from the store, and what is known.
    Same,
    /// Read from the store, and another state of the seq that is known.
    Differs,
    /// Newer.
    New,
}

/// The one writer of a matrix.
#[derive(Debug)]
pub(crate) struct Writer {
    matrix: Arc<Matrix>,
    /// The tables with everything applied, installed or not.
    tables: Tables,
    /// Seq and checksum of every stream that is in the tables.
    in_tables: HashMap<StreamId, (Seq, u64)>,
    /// And its stored state, for the snapshot.
    states: HashMap<StreamId, Bytes>,
    /// Streams whose changes are in `tables` and not installed yet.
    fresh: Vec<(StreamKind, u64)>,
    /// Whether one of them took the place of another state with the same seq.
    replaced: bool,
    parking: Parking,
    /// What parked changes have begun to wait for since it was asked for last; some of it more than once.
    newly_missing: Vec<StreamId>,
    /// Changes that cannot be used: seq and checksum, so that each is told once.
    bad: HashMap<StreamId, (Seq, u64)>,
    /// Up to when everything that answers was last known to be the newest.
    newest_until: Option<Timestamp>,
    digest: StateDigest,
    metrics: Metrics,
}

/// Why a change is not installed.
#[derive(Debug)]
enum Refused {
    /// What it was decided against has not come.
    Missing(StreamId, Seq),
    /// All that has come, and yet a name in it means nothing; another state of that stream may bring the name.
    Unresolved(StreamId, Seq),
    ReaderTooOld(String),
    Unusable(String),
}

impl Writer {
    pub(crate) fn new(matrix: Arc<Matrix>, metrics: Metrics) -> Self {
        Self {
            matrix,
            tables: Tables::empty(),
            in_tables: HashMap::new(),
            states: HashMap::new(),
            fresh: Vec::new(),
            replaced: false,
            parking: Parking::default(),
            newly_missing: Vec::new(),
            bad: HashMap::new(),
            newest_until: None,
            digest: StateDigest::default(),
            metrics,
        }
    }

    pub(crate) fn matrix(&self) -> &Arc<Matrix> {
        &self.matrix
    }

    /// How many streams are parked.
    pub(crate) fn parked(&self) -> usize {
        self.parking.len()
    }

    /// Of how many streams the newest state cannot be used.
    pub(crate) fn bad(&self) -> usize {
        self.bad.len()
    }

    pub(crate) fn is_waited_for(&self, stream: &StreamId) -> bool {
        self.parking.is_waited_for(stream)
    }

    /// What parked streams wait for.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &StreamId> {
        self.parking.missing()
    }

    /// What has been missing since this was called last, also to changes that had waited for something else before.
    pub(crate) fn take_newly_missing(&mut self) -> Vec<StreamId> {
        std::mem::take(&mut self.newly_missing)
    }

    pub(crate) fn digest(&self) -> StateDigest {
        self.digest
    }

    /// Applies a change, or says why not. Call [`Self::finish`] after the last one of a batch.
    pub(crate) fn apply(&mut self, change: &Change, early: Early, source: Source) -> Applied {
        if hooks::holds(Guard::EpochInEverything) && change.epoch != self.matrix.epoch {
            return if change.epoch > self.matrix.epoch { Applied::NewerEpoch } else { Applied::Behind };
        }
        if !hooks::holds(Guard::CatalogBeforeRows) {
            // Without the guard tables are installed one change late: after the rows that they set free.
            self.install_tables();
        }
        let gate = self.gate(change, early.checksum, source);
        if matches!(gate, Gate::Behind | Gate::Same) {
            if gate == Gate::Same {
                self.healed(change);
            }
            self.metrics.behind(source);
            return Applied::Behind;
        }
        let applied = self.take(change, early, source);
        // If it cannot be used, that is told, and it takes no place.
        if gate == Gate::Differs && applied != Applied::Bad {
            error!(stream = %change.stream, seq = change.seq, "the state differed from the store's at the same seq: replaced");
            self.metrics.checksum_alarms.increment(1);
        }
        applied
    }

    /// Installs what [`Self::apply`] left to be installed, and lets readers see the counts.
    pub(crate) fn finish(&mut self) {
        if hooks::holds(Guard::CatalogBeforeRows) {
            self.install_tables();
        }
        *self.matrix.digest.lock().unwrap_or_else(PoisonError::into_inner) = self.digest;
    }

    /// The seq gate. What was read from the store is compared by checksum where the seq is the same.
    fn gate(&self, change: &Change, checksum: u64, source: Source) -> Gate {
        if change.seq == 0 {
            return Gate::Behind;
        }
        if !hooks::holds(Guard::SeqGate) {
            return Gate::New;
        }
        let applied = self.applied(&change.stream);
        let parked = self.parking.get(&change.stream).map(|parked| (parked.change.seq, parked.checksum));
        let parked = parked.filter(|_| hooks::holds(Guard::ParkedNewestWins));
        if self.bad.get(&change.stream) == Some(&(change.seq, checksum)) {
            // It was refused before, and said so; every lap of the scan brings it again.
            return Gate::Behind;
        }
        // Of the same seq the parked one, which came later.
        let (seq, known) = applied.into_iter().chain(parked).max_by_key(|(seq, _)| *seq).unwrap_or((0, 0));
        if change.seq == seq && source != Source::Feed {
            return if checksum == known { Gate::Same } else { Gate::Differs };
        }
        if change.seq > seq { Gate::New } else { Gate::Behind }
    }

    /// The store has what is known of a stream. If it had another state of that seq before, which could not be used, that one is
    /// gone.
    fn healed(&mut self, change: &Change) {
        if self.bad.get(&change.stream).is_none_or(|(seq, _)| *seq != change.seq) {
            return;
        }
        self.bad.remove(&change.stream);
        if self.parking.get(&change.stream).is_some() {
            self.hold_back(&change.stream, HeldBack::Parked(change.seq));
        } else if let StreamId::Tenant(id) = &change.stream {
            self.let_go(&TenantKey::new(id.as_str()));
        }
    }

    /// Seq and checksum of what answers.
    fn applied(&self, stream: &StreamId) -> Option<(Seq, u64)> {
        match stream {
            StreamId::Tenant(id) => self.matrix.tenants.with(id.as_str().as_bytes(), |entry| (entry.seq(), entry.checksum)),
            _ => self.in_tables.get(stream).copied(),
        }
    }

    /// Installs, parks or refuses a change that passed the gate, and then whatever waited for it.
    fn take(&mut self, change: &Change, early: Early, source: Source) -> Applied {
        let repairs = self.in_tables.get(&change.stream).is_some_and(|(seq, _)| *seq == change.seq);
        let applied = self.take_one(change, early, source);
        if applied != Applied::Installed {
            return applied;
        }
        // Whoever waits for the state after a wrong one may have waited for this one.
        let mut arrived = vec![(change.stream.clone(), change.seq.saturating_add(u64::from(repairs)))];
        while let Some((stream, seq)) = arrived.pop() {
            if stream.kind() == StreamKind::Tenant {
                continue;
            }
            for waiter in self.parking.arrived(&stream, seq) {
                let early = Early { checksum: waiter.checksum, tenant: None };
                if self.take_one(&waiter.change, early, source) == Applied::Installed {
                    arrived.push((waiter.change.stream, waiter.change.seq));
                }
            }
        }
        Applied::Installed
    }

    fn take_one(&mut self, change: &Change, early: Early, source: Source) -> Applied {
        let checksum = early.checksum;
        let taken = match &change.stream {
            StreamId::Tenant(id) => self.take_tenant(id, change, early),
            _ => self.take_into_tables(change, checksum),
        };
        let kind = change.stream.kind();
        match taken {
            Ok(()) => {
                self.parking.remove(&change.stream);
                if self.bad.get(&change.stream).is_some_and(|(seq, _)| *seq <= change.seq) {
                    self.bad.remove(&change.stream);
                }
                self.metrics.applied(source, kind);
                Applied::Installed
            }
            Err(Refused::Missing(stream, seq)) => self.park(change, checksum, (stream, seq), self.lag_of(&change.stream)),
            // Nothing of it is late: whoever wrote it is at fault, and no answer to others is older for that.
            Err(Refused::Unresolved(stream, seq)) => self.park(change, checksum, (stream, seq), NO_LAG),
            Err(Refused::ReaderTooOld(problem)) => {
                self.metrics.bad_reader_too_old.increment(1);
                self.refuse(change, checksum, &problem)
            }
            Err(Refused::Unusable(problem)) => {
                self.metrics.bad_malformed.increment(1);
                self.refuse(change, checksum, &problem)
            }
        }
    }

    fn park(&mut self, change: &Change, checksum: u64, missing: (StreamId, Seq), newest_until: Option<Timestamp>) -> Applied {
        self.hold_back(&change.stream, HeldBack::Parked(change.seq));
        self.metrics.parked(change.stream.kind());
        self.newly_missing.push(missing.0.clone());
        let applied = Applied::Parked(missing.0.clone());
        self.parking.park(Parked { change: change.clone(), checksum, missing, newest_until });
        applied
    }

    fn refuse(&mut self, change: &Change, checksum: u64, problem: &str) -> Applied {
        warn!(stream = %change.stream, seq = change.seq, problem, "a state cannot be used; the last good one answers");
        self.bad.insert(change.stream.clone(), (change.seq, checksum));
        self.hold_back(&change.stream, HeldBack::Bad(change.seq));
        Applied::Bad
    }
}

// === tenants ===

impl Writer {
    fn take_tenant(&mut self, id: &TenantId, change: &Change, early: Early) -> Result<(), Refused> {
        let checksum = early.checksum;
        let TenantState(tenant) = early.tenant.unwrap_or_else(|| tenant_state(change))?;
        let state = match &tenant {
            Some(tenant) => {
                self.references_are_there(tenant)?;
                let row = TenantRow::compile(&self.tables, change.seq, tenant);
                EntryState::Row(row.map_err(|missing| self.what_is_missing(&missing))?)
            }
            None => EntryState::Never(change.seq),
        };
        if hooks::holds(Guard::CatalogBeforeRows) {
            self.install_tables();
        }
        let key = TenantKey::new(id.as_str());
        let deleted = tenant.is_some_and(|tenant| tenant.deleted_at.is_some());
        let before = if deleted && !hooks::holds(Guard::Tombstones) {
            self.matrix.tenants.remove(key.bytes())
        } else {
            self.digest.add(StreamKind::Tenant, key.bytes(), change.seq, checksum);
            self.matrix.tenants.insert(key.clone(), Entry { state, checksum })
        };
        if let Some(before) = before {
            self.digest.remove(StreamKind::Tenant, key.bytes(), before.seq(), before.checksum);
        }
        // After the row is in: see `Matrix::tenant`.
        self.let_go(&key);
        self.matrix.waiters.applied(StreamKind::Tenant, || change.stream.hash());
        if let Some(watches) = self.matrix.watches() {
            watches.tenant_changed(key.bytes());
        }
        Ok(())
    }

    /// Whether every stream that the tenant names is applied to the seq it was decided against.
    fn references_are_there(&self, tenant: &Tenant) -> Result<(), Refused> {
        if !hooks::holds(Guard::Parking) {
            return Ok(());
        }
        let missing = if hooks::holds(Guard::ParkingLatestAndScheduled) {
            self.tables.has(&tenant.references)
        } else {
            self.tables.has(&pinned_references(tenant))
        };
        match missing {
            Ok(()) => Ok(()),
            Err(missing) => {
                let first = missing.into_iter().next();
                Err(first.map_or_else(
                    || Refused::Unusable("it names nothing that could arrive".to_owned()),
                    |(stream, seq)| Refused::Missing(stream, seq),
                ))
            }
        }
    }

    /// The stream whose next state may bring the first missing name.
    fn what_is_missing(&self, missing: &Missing) -> Refused {
        let Some(name) = missing.names.first() else { return Refused::Unusable(missing.to_string()) };
        let stream = match name {
            Unresolved::Service(_) | Unresolved::Feature(..) | Unresolved::Limit(_) => StreamId::Catalog,
            Unresolved::Version(offer, _) => StreamId::from(offer.clone()),
        };
        let seq = self.in_tables.get(&stream).map_or(0, |(seq, _)| *seq).saturating_add(1);
        Refused::Unresolved(stream, seq)
    }

    fn hold_back(&self, stream: &StreamId, why: HeldBack) {
        if let StreamId::Tenant(id) = stream
            && self.matrix.held_back.insert(TenantKey::new(id.as_str()), why).is_none()
        {
            self.matrix.held_back_count.fetch_add(1, Ordering::Release);
        }
    }

    fn let_go(&self, tenant: &TenantKey) {
        if self.matrix.held_back_count.load(Ordering::Relaxed) > 0 && self.matrix.held_back.remove(tenant.bytes()).is_some() {
            self.matrix.held_back_count.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Without the guard: only what is pinned now is waited for.
fn pinned_references(tenant: &Tenant) -> References {
    let mut references = tenant.references.clone();
    let choice = &tenant.subscription.choice;
    references.plans.retain(|id, _| *id == choice.plan && choice.version != VersionChoice::Latest);
    let pinned = |id: &AddOnId| tenant.add_ons.get(id).is_some_and(|attached| attached.version != VersionChoice::Latest);
    references.add_ons.retain(|id, _| pinned(id));
    references
}

// === tables ===

impl Writer {
    fn take_into_tables(&mut self, change: &Change, checksum: u64) -> Result<(), Refused> {
        match &change.stream {
            StreamId::Catalog => {
                let (catalog, _) = storage::decode_state::<Catalog>(&change.state)?;
                let set = self.tables.set_catalog(change.seq, &catalog);
                set.map_err(|error| self.what_is_wrong(error))?;
            }
            StreamId::Plan(id) => {
                let PlanState(plan) = self.decode_offer(change)?;
                let set = self.tables.set_plan(id, change.seq, plan.as_ref());
                set.map_err(|error| self.what_is_wrong(error))?;
            }
            StreamId::AddOn(id) => {
                let PlanState(add_on) = self.decode_offer(change)?;
                let set = self.tables.set_add_on(id, change.seq, add_on.as_ref());
                set.map_err(|error| self.what_is_wrong(error))?;
            }
            StreamId::Tenant(_) => return Err(Refused::Unusable("a tenant is no table".to_owned())),
        }
        let (kind, key) = (change.stream.kind(), change.stream.key().as_bytes());
        self.digest.add(kind, key, change.seq, checksum);
        if let Some((seq, before)) = self.in_tables.insert(change.stream.clone(), (change.seq, checksum)) {
            self.digest.remove(kind, key, seq, before);
            self.replaced |= seq == change.seq;
        }
        self.fresh.push((kind, change.stream.hash()));
        self.keep_state(change);
        Ok(())
    }

    /// A plan or add-on whose catalog is there.
    fn decode_offer(&self, change: &Change) -> Result<PlanState, Refused> {
        let (state, _) = storage::decode_state::<PlanState>(&change.state)?;
        let needs = state.0.as_ref().map_or(0, |plan| plan.references.catalog);
        if self.tables.catalog_seq() < needs && hooks::holds(Guard::Parking) {
            return Err(Refused::Missing(StreamId::Catalog, needs));
        }
        Ok(state)
    }

    fn what_is_wrong(&self, error: TablesError) -> Refused {
        match error {
            TablesError::Missing(missing) => self.what_is_missing(&missing),
            other => Refused::Unusable(other.to_string()),
        }
    }

    /// Readers see the tables from now on; who waits for what is new in them is woken.
    fn install_tables(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let generation = self.matrix.tables().generation.saturating_add(1);
        self.matrix.tables.store(Arc::new(Installed { tables: self.tables.clone(), generation }));
        self.matrix.generation.store(generation, Ordering::Release);
        for (kind, hash) in self.fresh.drain(..) {
            self.matrix.waiters.applied(kind, || hash);
        }
        let replaced = std::mem::take(&mut self.replaced);
        match self.matrix.watches() {
            Some(watches) if replaced => watches.everything_replaced(),
            Some(watches) => watches.everything_changed(),
            None => {}
        }
    }
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::ReaderTooOld { .. } => Self::ReaderTooOld(error.to_string()),
            other => Self::Unusable(other.to_string()),
        }
    }
}
