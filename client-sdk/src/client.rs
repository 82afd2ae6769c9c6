//! The handle that a service keeps: cheap to clone, one set of connections behind all clones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::builder::Builder;
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
    pub(crate) fn new(pool: Pool, settings: Settings, random: Arc<Random>, metrics: Arc<dyn Metrics>) -> Self {
        let budget = Mutex::new(Budget::new(&settings.retry, Instant::now()));
        Self { pool: Arc::new(pool), settings, random, metrics, budget }
    }

    /// What is left for retries, of calls and streams alike.
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        // A number: sound after any panic.
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
