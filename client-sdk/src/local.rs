//! Local mode: answers out of memory, for the tenants that this process serves.
//!
//! One watch keeps the documents of these tenants; a check is a look-up, which takes no lock that a writer holds for long, makes no
//! system call but the clock's, and allocates nothing. Whatever memory cannot answer goes over the wire, and what neither can
//! is decided by a policy that was stated before. Every [`Answer`] says which of the three it was ([`Source`]), and how old.
//!
//! - A tenant is subscribed when it is first asked about, or named before ([`LocalBuilder::preload`]). Those that nobody asks
//!   about are given up after a time, and the least recently asked ones when there are too many.
//! - An answer counts no longer than its document's `valid_until`, and no longer than [`LocalBuilder::max_staleness`] after the
//!   last proof that nothing newer was published: a document, or a heartbeat of the stream that it came on, less what the server
//!   said it lags behind. How long bytes were on their way is not in it; time for which the machine was suspended is, from a second
//!   on, and is noticed within a second after it.
//! - Documents never go back: a new stream goes on from the revisions that are held. Nor does what goes over the wire: it demands
//!   the revision that is held, unless the check makes a demand itself. A server that lags behind that revision has no answer, after
//!   waiting a little for it; one that was restored since asks its store.
//! - A check that demands a revision goes over the wire, unless that very revision is held; one that demands to be fully
//!   consistent or explained always does.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use tessera_client::Tessera;
//!
//! let tessera = Tessera::builder().endpoint("http://127.0.0.1:7400").connect().await?;
//! let local = tessera
//!     .local()
//!     .max_staleness(Duration::from_secs(15))
//!     .fail_open("reporting", "charts")
//!     .last_known("reporting", "exports")
//!     .start()?;
//! if local.check("acme", "reporting", "exports").await?.is_entitled() {
//!     println!("acme may export");
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod builder;
mod check;
mod clock;
mod document;
#[cfg(test)]
mod equality;
mod follower;
mod freshness;
mod keeper;
mod names;
mod policy;
mod settings;
mod tenants;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use answer::{Answer, Source};
pub use builder::LocalBuilder;
pub use check::{Answering, LocalAsk, LocalCheck};
use clock::Clock;
use follower::Progress;
pub use policy::FailPolicy;
use settings::Settings;
use tenants::{Standing, Tenants};

use crate::client::Tessera;
use crate::error::Error;

/// A local mode: cheap to clone, one watch behind all clones, which ends with the last of them and of their questions. See
/// [`Tessera::local`].
#[derive(Clone)]
pub struct Local {
    shared: Arc<Shared>,
}

struct Shared {
    client: Tessera,
    settings: Settings,
    tenants: Arc<Tenants>,
    clock: Arc<Clock>,
    /// Tenants to subscribe.
    wanted: mpsc::Sender<String>,
    progress: Arc<Progress>,
    /// Ends with this.
    _follower: JoinSet<()>,
}

/// What a local mode holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalStatus {
    /// Tenants that are held, on their way, or known not to be served.
    pub tenants: usize,
    /// Whether there is a stream.
    pub connected: bool,
}

impl Local {
    /// Waits until every preloaded tenant has its document, or is known not to be served. Bound it with a timeout: it waits while no
    /// server can be reached, and while none has room for all of them; [`Local::trouble`] tells.
    pub async fn loaded(&self) {
        let progress = self.shared.progress.wait_until(|| self.shared.settings.preloaded.iter().all(|tenant| self.knows(tenant)));
        progress.await;
    }

    /// Whether the document of a tenant is held, however old.
    pub fn holds(&self, tenant: &str) -> bool {
        self.shared.tenants.held(tenant).is_some()
    }

    /// What is held.
    pub fn status(&self) -> LocalStatus {
        let progress = &self.shared.progress;
        LocalStatus { tenants: progress.tenants.load(Ordering::Relaxed), connected: progress.connected.load(Ordering::Relaxed) }
    }

    /// Why there is no stream, as the last attempt to have one told; `None` while there is one. It is tried again for ever, but what
    /// [`Error::is_transient`] denies nobody here can mend: [`Error::Unauthenticated`] and [`Error::NotAllowed`] want another token or
    /// certificate. Meanwhile what is held grows old, and then the wire and the policies answer.
    ///
    /// While there is a stream, [`Error::Overloaded`] when for some time the server has had no room for a tenant: it takes fewer
    /// tenants of one watch than are asked about here (see [`LocalBuilder::tenants_max`]), or documents are asked for too fast. Such
    /// tenants are left to the wire, and subscribed again with pauses of up to a minute.
    pub fn trouble(&self) -> Option<Error> {
        self.shared.progress.trouble()
    }

    fn knows(&self, tenant: &str) -> bool {
        self.shared.tenants.standing(tenant).is_some_and(|standing| !matches!(standing, Standing::Expected))
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("settings", &self.shared.settings).field("status", &self.status()).finish_non_exhaustive()
    }
}
