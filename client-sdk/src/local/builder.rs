//! Building a local mode: settings, checked before anything is subscribed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clock::Clock;
use super::follower::{self, Progress};
use super::keeper::Keeper;
use super::policy::FailPolicy;
use super::settings::Settings;
use super::tenants::Tenants;
use super::{Local, Shared};
use crate::client::Tessera;
use crate::error::Error;
use crate::tenant;

/// Tenants that wait to be subscribed. Beyond it a tenant is noted at its next check.
const WANTED_WAITING: usize = 1_024;

/// What a local mode is built from; see [`Tessera::local`].
#[derive(Debug, Clone)]
#[must_use = "nothing is held until this is started"]
pub struct LocalBuilder {
    client: Tessera,
    settings: Settings,
}

impl Tessera {
    /// Begins a local mode: see [`crate::local`].
    pub fn local(&self) -> LocalBuilder {
        LocalBuilder { client: self.clone(), settings: Settings::default() }
    }
}

impl LocalBuilder {
    /// How old an answer out of memory may be: 1 ms to 24 h; default 30 s. Less than the pace of the servers' heartbeats, 5 s
    /// unless they are told otherwise, plus what they lag behind sends checks over the wire between two heartbeats.
    pub fn max_staleness(mut self, age: Duration) -> Self {
        self.settings.max_staleness = age;
        self
    }

    /// When a tenant that nobody asks about is given up: 1 s to 24 h; default 10 min.
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.settings.idle_after = time;
        self
    }

    /// Most tenants that are held: 1 to 10,000 (one watch has no more); default 10,000. Beyond it the least recently asked ones
    /// are given up, some at a time. Servers that allow a watch fewer (their `watch_subscriptions_max`) should be asked for no more:
    /// what they refuse is left to the wire ([`Local::trouble`]), and gets no place of another one before that is given up.
    pub fn tenants_max(mut self, tenants: usize) -> Self {
        self.settings.tenants_max = tenants;
        self
    }

    /// For how long a tenant that does not exist is left to the wire before it is subscribed again: 1 s to 24 h; default 10 s.
    pub fn unknown_for(mut self, time: Duration) -> Self {
        self.settings.unknown_for = time;
        self
    }

    /// Tenants that are subscribed at once and never given up. [`Local::loaded`] waits for them.
    pub fn preload<T: Into<String>>(mut self, tenants: impl IntoIterator<Item = T>) -> Self {
        self.settings.preloaded.extend(tenants.into_iter().map(Into::into));
        self
    }

    /// When neither memory nor a server has an answer about a feature (an empty one: the service itself), it is denied. So is
    /// everything of which nothing is stated.
    pub fn fail_closed(self, service: &str, feature: &str) -> Self {
        self.fail(service, feature, FailPolicy::Closed)
    }

    /// When neither memory nor a server has an answer about a feature (an empty one: the service itself), it is entitled.
    pub fn fail_open(self, service: &str, feature: &str) -> Self {
        self.fail(service, feature, FailPolicy::Open)
    }

    /// When neither memory nor a server has an answer about a feature (an empty one: the service itself), what the last document
    /// said counts, however old; denied when there is none.
    pub fn last_known(self, service: &str, feature: &str) -> Self {
        self.fail(service, feature, FailPolicy::LastKnown)
    }

    /// What counts for every feature of which nothing is stated; unless said, [`FailPolicy::Closed`].
    pub fn otherwise(mut self, policy: FailPolicy) -> Self {
        self.settings.policies.otherwise(policy);
        self
    }

    fn fail(mut self, service: &str, feature: &str, policy: FailPolicy) -> Self {
        self.settings.policies.state(service, feature, policy);
        self
    }

    /// Opens the watch and subscribes what is to be preloaded. Does not wait: until documents arrive, checks go over the wire.
    /// Must be called inside the runtime.
    ///
    /// # Errors
    /// [`Error::Setting`] and [`Error::Invalid`] name what is wrong; [`Error::NoRuntime`] outside of a tokio runtime.
    pub fn start(self) -> Result<Local, Error> {
        self.settings.check()?;
        for preloaded in &self.settings.preloaded {
            tenant::check("preload", preloaded)?;
        }
        tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let (tenants, clock, progress) = (Arc::new(Tenants::default()), Arc::new(Clock::new()), Arc::new(Progress::default()));
        let (wanted, inbox) = mpsc::channel(WANTED_WAITING);
        let (keeper, first) = Keeper::new(Arc::clone(&tenants), self.settings.clone(), clock.now());
        let mut follower = JoinSet::new();
        let parts = follower::Parts {
            watch: self.client.watch(),
            keeper,
            inbox,
            clock: Arc::clone(&clock),
            progress: Arc::clone(&progress),
        };
        follower.spawn(follower::follow(parts, first));
        let Self { client, settings } = self;
        Ok(Local { shared: Arc::new(Shared { client, settings, tenants, clock, wanted, progress, _follower: follower }) })
    }
}
