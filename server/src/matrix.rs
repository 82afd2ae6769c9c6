//! The matrix: every tenant, plan and add-on and the catalog, compiled, in memory. What decisions are made from.
//!
//! *Writer*: one task, the follower, through [`writer::Writer`]. It installs tables before the rows that need them. *Readers*:
//! any thread, through [`Matrix::tenant`] and [`Matrix::tables`]; they copy a tenant's row first and load the tables after, so
//! that the tables are never older than the row needs. No guard of any map leaves this module.
//!
//! A matrix belongs to one epoch for ever.

pub(crate) mod early;
mod image;
pub(crate) mod key;
mod parking;
mod table;
pub(crate) mod waiters;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tessera_core::digest::StateDigest;
use tessera_core::evaluator::{Tables, TenantRow};
use tessera_core::revision::Named;
use tessera_core::stream::{Epoch, Seq, StreamKind};
use tessera_ports::hooks::{self, Guard};

use crate::hub::Hub;
use key::TenantKey;
use table::TenantTable;
use waiters::Waiters;

/// All data of one epoch.
#[derive(Debug)]
pub(crate) struct Matrix {
    epoch: Epoch,
    store: String,
    /// Whether that is the store that is read. It is not known of a snapshot's before the store says who it is.
    is_of_store_read: AtomicBool,
    tenants: TenantTable,
    tables: ArcSwap<Installed>,
    /// Of the newest tables: written after them and before any row that needs them.
    generation: AtomicU64,
    /// Tenants whose newest change waits or cannot be used. Readers look here only for tenants without a row.
    held_back: DashMap<TenantKey, HeldBack>,
    held_back_count: AtomicUsize,
    waiters: Waiters,
    hub: Arc<Hub>,
    /// Whether requests are answered from it.
    served: AtomicBool,
    digest: Mutex<StateDigest>,
}

/// What the table holds of a tenant.
#[derive(Debug)]
struct Entry {
    state: EntryState,
    /// Of the stored state it was made from.
    checksum: u64,
}

#[derive(Debug)]
enum EntryState {
    Row(TenantRow),
    /// Its stream has events, but the tenant was never created.
    Never(Seq),
}

// Key, entry and control byte are 73 bytes; at the fill of the table that is about 92 bytes per tenant.
const _: () = assert!(size_of::<Entry>() <= 40);

impl Entry {
    fn seq(&self) -> Seq {
        match &self.state {
            EntryState::Row(row) => row.seq(),
            EntryState::Never(seq) => *seq,
        }
    }
}

/// Tables as readers load them.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) tables: Tables,
    /// Counts up with every installation.
    pub(crate) generation: u64,
}

/// Why the newest change of a tenant is not what answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeldBack {
    Parked(Seq),
    Bad(Seq),
}

/// What the matrix has of a tenant.
#[derive(Debug)]
pub(crate) enum Found {
    /// A row; tables that were loaded after it are new enough for it.
    Row(TenantRow),
    /// There is no such tenant.
    Unknown,
    /// There is, but what it names has not arrived.
    CatalogBehind,
    /// There is, but this software cannot read its state.
    Unreadable,
}

impl Matrix {
    /// An empty matrix with room for that many tenants.
    pub(crate) fn new(epoch: Epoch, store: &str, tenants: u64, hub: Arc<Hub>) -> Self {
        Self {
            epoch,
            store: store.to_owned(),
            is_of_store_read: AtomicBool::new(true),
            tenants: TenantTable::for_tenants(tenants),
            tables: ArcSwap::from_pointee(Installed { tables: Tables::empty(), generation: 0 }),
            generation: AtomicU64::new(0),
            held_back: DashMap::with_shard_amount(4),
            held_back_count: AtomicUsize::new(0),
            waiters: Waiters::default(),
            hub,
            served: AtomicBool::new(false),
            digest: Mutex::default(),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn store(&self) -> &str {
        &self.store
    }

    /// Whether what the store says can be held against what is here: seqs of two stores have nothing to do with each other.
    pub(crate) fn is_of_store_read(&self) -> bool {
        self.is_of_store_read.load(Ordering::Acquire)
    }

    pub(crate) fn set_of_store_read(&self, is_it: bool) {
        self.is_of_store_read.store(is_it, Ordering::Release);
    }

    /// A copy of the tenant's row. Load the tables after it, never before.
    pub(crate) fn tenant(&self, id: &str) -> Found {
        let id = id.as_bytes();
        let copy = |entry: &Entry| match &entry.state {
            EntryState::Row(row) => Some(row.clone()),
            EntryState::Never(_) => None,
        };
        if let Some(Some(row)) = self.tenants.with(id, copy) {
            return Found::Row(row);
        }
        if self.held_back_count.load(Ordering::Acquire) > 0
            && let Some(why) = self.held_back.get(id).map(|why| *why)
        {
            return match why {
                HeldBack::Parked(_) => Found::CatalogBehind,
                HeldBack::Bad(_) => Found::Unreadable,
            };
        }
        // Installed between the two looks: a row is put in before its note is taken away.
        self.tenants.with(id, copy).flatten().map_or(Found::Unknown, Found::Row)
    }

    /// The newest tables.
    pub(crate) fn tables(&self) -> arc_swap::Guard<Arc<Installed>> {
        self.tables.load()
    }

    /// The newest tables, to keep for a batch. See [`Self::is_newest`].
    pub(crate) fn tables_to_keep(&self) -> Arc<Installed> {
        self.tables.load_full()
    }

    /// Whether tables that were loaded earlier are still the newest, and so new enough for a row that was copied before asking.
    /// Cheaper than loading them again.
    pub(crate) fn is_newest(&self, installed: &Installed) -> bool {
        self.generation.load(Ordering::Acquire) == installed.generation
    }

    /// The seq of the tenant that answers; 0 when none does.
    pub(crate) fn tenant_seq(&self, id: &str) -> Seq {
        let applied = self.tenants.with(id.as_bytes(), Entry::seq).unwrap_or(0);
        if hooks::holds(Guard::ParkedDoesNotCount) {
            return applied;
        }
        match self.held_back.get(id.as_bytes()).map(|why| *why) {
            Some(HeldBack::Parked(seq)) => applied.max(seq),
            _ => applied,
        }
    }

    /// Whether the stream is applied, and not parked, at that seq or later. `tenant` is whose stream a name of kind tenant means.
    pub(crate) fn has(&self, tenant: &str, named: &Named) -> bool {
        match named.kind {
            StreamKind::Tenant => self.tenant_seq(tenant) >= named.seq,
            kind => self.tables().tables.seq_by_hash(kind, named.hash).unwrap_or(0) >= named.seq,
        }
    }

    pub(crate) fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Requests are answered from it from now on.
    pub(crate) fn begin_serving(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Where watches are told what is written. As long as nobody answers from this matrix they have nothing to look at; that it
    /// is served they are told then. Only the writer asks, which is also who begins to serve it.
    fn watches(&self) -> Option<&Hub> {
        self.served.load(Ordering::Relaxed).then_some(&*self.hub)
    }

    /// Counts and digest of everything applied.
    pub(crate) fn digest(&self) -> StateDigest {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
