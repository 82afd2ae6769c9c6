//! The handle that a service keeps: cheap to clone, one set of connections behind all clones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use crate::builder::Builder;
use crate::credentials::bearer::{Bearer, Follower};
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::random::Random;
use crate::retry::Budget;
use crate::settings::Settings;

/// A client of Tessera's data plane.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tessera_client::Tessera;
///
/// let tessera = Tessera::builder().endpoint("http://127.0.0.1:7400").connect().await?;
/// let decision = tessera.check("acme", "reporting", "exports").await?;
/// if decision.is_entitled() {
///     println!("acme may export");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tessera(Arc<Inner>);

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) pool: Arc<Pool>,
    pub(crate) settings: Settings,
    pub(crate) random: Arc<Random>,
    pub(crate) metrics: Arc<dyn Metrics>,
    budget: Mutex<Budget>,
    /// Ends with this.
    _follower: Option<Follower>,
}

impl Tessera {
    /// Begins a client.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn of(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Inner {
    /// Must be called inside a runtime where the pool's token is in a file.
    pub(crate) fn new(pool: Pool, settings: Settings, random: Arc<Random>, metrics: Arc<dyn Metrics>) -> Self {
        let budget = Mutex::new(Budget::new(&settings.retry, Instant::now()));
        let follower = pool.bearer().map(Bearer::follow);
        Self { pool: Arc::new(pool), settings, random, metrics, budget, _follower: follower }
    }

    /// Which token is shown to servers now; they are counted.
    pub(crate) fn token_number(&self) -> u64 {
        self.pool.bearer().map_or(0, Bearer::number)
    }

    /// Whether what failed, having shown the token `shown`, may be answered when it is sent again because there is another token
    /// by now. Reads its file where there is one, until `until` at most.
    pub(crate) async fn has_newer_token(&self, failure: &Failure, shown: u64, until: Instant) -> bool {
        match self.pool.bearer() {
            Some(bearer) if failure.is_unauthenticated() => timeout_at(until, bearer.has_newer(shown)).await.unwrap_or(false),
            _ => false,
        }
    }

    /// What is left for retries of calls; those of frames have a budget with their checker.
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        // A number: sound after any panic.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
