//! A stand-in for servers, for tests of services: the real client over a service in this process, without network and clock.
//!
//! What tenants have is set by the test; a plan, catalog or subscription is not played. Whoever wants the real thing runs
//! `tessera dev`. A [`Fake`] is also a service of `tonic`, for tests that want a network between.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use tessera_client::fake::{Fake, FakeError};
//!
//! let fake = Fake::new();
//! fake.tenant("acme").plan("gold", 3).grant("reporting", "exports").limit("max_users", 100);
//! let tessera = fake.client();
//!
//! assert!(tessera.check("acme", "reporting", "exports").await?.is_entitled());
//! assert!(!tessera.check("acme", "reporting", "dashboards").await?.is_entitled());
//! assert!(!tessera.check("nobody", "reporting", "exports").await?.is_entitled());
//!
//! fake.fail_always(FakeError::NotReady);
//! assert!(tessera.check("acme", "reporting", "exports").await.is_err());
//! # Ok(())
//! # }
//! ```

mod error;
mod service;
mod tenants;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::builder::Builder;
use crate::check::Check;
use crate::client::Tessera;
use crate::wire::Wire;
pub use error::FakeError;
pub(crate) use service::InProcess;
use tenants::{State, Tenant};

/// A server that does what a test says. Clones are the same server.
#[derive(Debug, Clone, Default)]
pub struct Fake(Arc<Shared>);

/// A tenant of a [`Fake`]; every method changes it at once, and watches are told.
#[derive(Debug, Clone)]
pub struct FakeTenant {
    fake: Fake,
    id: String,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes, so that watches look again.
    changes: watch::Sender<u64>,
    /// Counts how often all streams were ended.
    breaks: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: Mutex::default(), changes: watch::Sender::new(0), breaks: watch::Sender::new(0) }
    }
}

impl Fake {
    /// A server that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of it, with defaults.
    pub fn client(&self) -> Tessera {
        self.client_with(Tessera::builder())
    }

    /// A client of it with the settings of a builder, whose endpoints and credentials mean nothing here.
    pub fn client_with(&self, builder: Builder) -> Tessera {
        builder.in_process(Wire::in_process(InProcess::of(self.clone())))
    }

    /// A tenant, to be changed; it exists from now on.
    pub fn tenant(&self, id: impl Into<String>) -> FakeTenant {
        let tenant = FakeTenant { fake: self.clone(), id: id.into() };
        tenant.change(|_| {});
        tenant
    }

    /// The tenant is unknown from now on.
    pub fn remove_tenant(&self, id: &str) {
        self.change(|state| state.remove(id));
    }

    /// The next call, or frame of a stream, fails so. May be said several times: each counts for one.
    pub fn fail_next(&self, error: FakeError) {
        self.lock().script.push_back(error);
    }

    /// Everything fails so until [`Fake::recover`].
    pub fn fail_always(&self, error: FakeError) {
        self.lock().outage = Some(error);
    }

    /// Nothing fails any more.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.outage = None;
        state.script.clear();
    }

    /// Ends every stream, as a server that shuts down does.
    pub fn break_streams(&self) {
        self.0.breaks.send_modify(|count| *count += 1);
    }

    /// Answers, errors too, come after so long; at once unless said.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// How many calls and frames of streams came, the failed ones too.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// What answers say of their staleness; zero unless said, `None` is unknown.
    pub fn set_staleness(&self, staleness: Option<Duration>) {
        self.lock().staleness = staleness;
    }

    /// What answers say of the time they were made for; nothing unless said. There is no clock here.
    pub fn set_time(&self, now: SystemTime) {
        self.lock().now = Some(now);
    }

    /// The checks that were answered, of whatever kind of call: the last 10,000.
    pub fn checks(&self) -> Vec<Check> {
        self.lock().asked.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.changes.send_modify(|count| *count += 1);
    }
}

impl FakeTenant {
    /// Which plan and version answers name; `fake` and 1 unless said.
    pub fn plan(&self, id: &str, version: i32) -> &Self {
        self.change(|tenant| tenant.plan = (id.to_owned(), version))
    }

    /// Entitles to a feature; an empty one to the service itself.
    pub fn grant(&self, service: &str, feature: &str) -> &Self {
        self.change(|tenant| tenant.grant(service, feature))
    }

    /// Entitles to a feature no more.
    pub fn deny(&self, service: &str, feature: &str) -> &Self {
        self.change(|tenant| tenant.deny(service, feature))
    }

    /// Gives so much of a limit; `None` is unlimited.
    pub fn limit(&self, name: &str, maximum: impl Into<Option<i64>>) -> &Self {
        let maximum = maximum.into();
        self.change(|tenant| {
            tenant.limits.insert(name.to_owned(), maximum);
        })
    }

    /// Shows so much of a service's UI, in basis points; 5,000 unless said.
    pub fn familiarity(&self, service: &str, basis_points: i32) -> &Self {
        self.change(|tenant| {
            tenant.familiarity.insert(service.to_owned(), basis_points);
        })
    }

    /// Suspends the tenant, or ends its suspension.
    pub fn suspended(&self, suspended: bool) -> &Self {
        self.change(|tenant| tenant.suspended = suspended)
    }

    /// Until when its answers hold; for ever unless said.
    pub fn valid_until(&self, until: SystemTime) -> &Self {
        self.change(|tenant| tenant.valid_until = Some(until))
    }

    fn change(&self, change: impl FnOnce(&mut Tenant)) -> &Self {
        self.fake.change(|state| state.change_tenant(&self.id, change));
        self
    }
}
