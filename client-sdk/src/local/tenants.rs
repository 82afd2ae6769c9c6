//! The tenants that are held, and the answer out of them: what every check runs through.
//!
//! One task writes ([`super::keeper`]); checks read. A check takes one shard of the map for reading, copies out a reference to the
//! tenant's document and lets go; tenants are compared by their whole id. It writes at most when it last used the tenant, once
//! a millisecond. Nothing here allocates to answer, waits, or reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use tessera_proto::convert::decision::Asked;

use super::document::{Document, Verdict};
use super::freshness::{Connection, Moment, Proof};

/// How exactly the last use of a tenant is known, in nanoseconds: writing it costs other cores their copy of the line.
const USE_PRECISION_NS: u64 = 1_000_000;

/// Who is held.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    seats: DashMap<Box<str>, Seat, RandomState>,
}

#[derive(Debug)]
struct Seat {
    last_used_ns: AtomicU64,
    standing: Standing,
}

/// What is known of a tenant that somebody asked about.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Its document is on the way.
    Expected,
    /// Its document.
    Held(Arc<Held>),
    /// The server did not serve it; until then only the wire tells.
    Refused {
        /// In nanoseconds of [`Moment::steady_ns`].
        until_ns: u64,
    },
}

/// A document, and what is known of its age.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) document: Document,
    /// What was proved when it came.
    pub(crate) proof: Proof,
    /// What goes on proving it while it stands.
    pub(crate) connection: Arc<Connection>,
}

/// One check, as far as memory can answer it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) asked: Asked<'a>,
    pub(crate) demand: Demand<'a>,
}

/// How new the answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand<'a> {
    /// As it is.
    None,
    /// Not older than this revision. Only the very revision that is held is known to be new enough.
    AtLeast(&'a [u8]),
    /// What only the server can meet.
    Server,
}

/// An answer out of memory.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) held: Arc<Held>,
    pub(crate) verdict: Verdict,
    /// How old it is; `None`: nobody knows.
    pub(crate) age: Option<Duration>,
}

/// Why memory has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Elsewhere {
    /// The tenant is not held, and should be.
    Wanted,
    /// Nothing is to be done about it.
    NotHeld,
    /// Its document's time has passed, or is about to be proved again: it should be asked for anew.
    Outdated(Told),
    /// The document is not new enough, or does not say it.
    Undecided,
}

impl Held {
    /// The latest proof of it.
    pub(crate) fn proof(&self) -> Proof {
        self.proof.max(self.connection.proof())
    }

    pub(crate) fn has_expired(&self, now: Moment) -> bool {
        self.document.valid_until().is_some_and(|until| until <= now.wall)
    }
}

impl Tenants {
    /// The answer to `question` if it is no older than `max_staleness`, or why there is none.
    pub(crate) fn tell(&self, question: &Question<'_>, now: Moment, max_staleness: Duration) -> Result<Told, Elsewhere> {
        let Some(seat) = self.seats.get(question.asked.tenant_id) else { return Err(Elsewhere::Wanted) };
        seat.used(now);
        let held = match &seat.standing {
            Standing::Held(held) => held,
            Standing::Refused { until_ns } if *until_ns <= now.steady_ns => return Err(Elsewhere::Wanted),
            Standing::Expected | Standing::Refused { .. } => return Err(Elsewhere::NotHeld),
        };
        let is_new_enough = match question.demand {
            Demand::None => true,
            Demand::AtLeast(revision) => held.document.revision().as_bytes() == revision,
            Demand::Server => false,
        };
        let Some(verdict) = held.document.verdict(&question.asked).filter(|_| is_new_enough) else {
            return Err(Elsewhere::Undecided);
        };
        let age = held.proof().age(now);
        let told = Told { held: Arc::clone(held), verdict, age };
        if told.held.has_expired(now) || age.is_none_or(|age| age > max_staleness) {
            return Err(Elsewhere::Outdated(told));
        }
        Ok(told)
    }

    // === for the one who writes ===

    pub(crate) fn put(&self, tenant: &str, standing: Standing, now: Moment) {
        if let Some(mut seat) = self.seats.get_mut(tenant) {
            seat.standing = standing;
            return;
        }
        let last_used_ns = AtomicU64::new(now.steady_ns);
        self.seats.insert(tenant.into(), Seat { last_used_ns, standing });
    }

    pub(crate) fn remove(&self, tenant: &str) {
        self.seats.remove(tenant);
    }

    pub(crate) fn held(&self, tenant: &str) -> Option<Arc<Held>> {
        match self.standing(tenant)? {
            Standing::Held(held) => Some(held),
            Standing::Expected | Standing::Refused { .. } => None,
        }
    }

    pub(crate) fn standing(&self, tenant: &str) -> Option<Standing> {
        Some(self.seats.get(tenant)?.standing.clone())
    }

    /// When a tenant was asked about last, to a millisecond.
    pub(crate) fn last_used_ns(&self, tenant: &str) -> Option<u64> {
        Some(self.seats.get(tenant)?.last_used_ns.load(Ordering::Relaxed))
    }
}

impl Seat {
    fn used(&self, now: Moment) {
        if now.steady_ns.saturating_sub(self.last_used_ns.load(Ordering::Relaxed)) >= USE_PRECISION_NS {
            self.last_used_ns.store(now.steady_ns, Ordering::Relaxed);
        }
    }
}
