//! Building a client: endpoints and settings, checked before anything is connected.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tessera_proto::v1;
use tokio::time::timeout;

use crate::client::{Inner, Tessera};
use crate::endpoint::Address;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::{Metrics, NoMetrics};
use crate::pool::Pool;
use crate::random::Random;
use crate::retry::RetryPolicy;
use crate::settings::{Keepalive, Settings};

/// Most endpoints of a client: each has a connection.
const ENDPOINTS_MAX: usize = 1_000;

/// What a client is built from; see [`Tessera::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoints: Vec<String>,
    settings: Settings,
    metrics: Arc<dyn Metrics>,
}

impl Default for Builder {
    fn default() -> Self {
        Self { endpoints: Vec::new(), settings: Settings::default(), metrics: Arc::new(NoMetrics) }
    }
}

impl Builder {
    /// One more server to ask, as `http://host:port`. There must be at least one.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// More servers to ask. Requests spread over all that are healthy.
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long making a connection may take: 1 ms to 24 h; default 500 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long a call may take in all, with every attempt: 1 ms to 24 h; default 1 s. A call can have its own.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How calls are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// How silent connections are found to be dead; `None` leaves it to deadlines.
    pub fn keepalive(mut self, keepalive: impl Into<Option<Keepalive>>) -> Self {
        self.settings.keepalive = keepalive.into();
        self
    }

    /// A watch that hears nothing for so long, not even a heartbeat, connects again: 10 ms to 24 h; default 20 s. Must be
    /// longer than the pace of the servers' heartbeats, 5 s unless they are told otherwise.
    pub fn watch_silence_max(mut self, silence: Duration) -> Self {
        self.settings.watch_silence_max = silence;
        self
    }

    /// Who is told of calls, attempts and endpoints.
    pub fn metrics(mut self, metrics: impl Metrics) -> Self {
        self.metrics = Arc::new(metrics);
        self
    }

    /// A client that connects when it is first used.
    ///
    /// # Errors
    /// [`Error::Endpoint`] and [`Error::Setting`] name what is wrong; [`Error::NoRuntime`] outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Tessera, Error> {
        self.settings.validate()?;
        let none = Error::Endpoint { endpoint: String::new(), problem: "there is none", allowed: "needed is `http://host:port`" };
        if self.endpoints.is_empty() {
            return Err(none);
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            let given = self.endpoints.len().to_string();
            return Err(Error::Setting { setting: "endpoints", given, allowed: "allowed are 1 to 1,000" });
        }
        let mut addresses: Vec<Address> = Vec::new();
        for endpoint in &self.endpoints {
            let address = Address::parse(endpoint)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let random = Arc::new(Random::of_this_process());
        let pool = Pool::new(addresses, self.settings, Arc::clone(&random), Arc::clone(&self.metrics));
        Ok(Tessera::of(Inner::new(pool, self.settings, random, self.metrics)))
    }

    /// A client of which at least one endpoint has answered; the others connect when they are first used.
    ///
    /// # Errors
    /// As [`Builder::connect_lazy`]; [`Error::Connect`] says of every endpoint why it cannot be asked, or that it did not
    /// answer within the connect timeout.
    pub async fn connect(self) -> Result<Tessera, Error> {
        let allowed = self.settings.connect_timeout;
        let client = self.connect_lazy()?;
        client.inner().reach_one(allowed).await?;
        Ok(client)
    }

    #[cfg(feature = "fake")]
    pub(crate) fn in_process(self, wire: crate::wire::Wire) -> Tessera {
        let random = Arc::new(Random::of_this_process());
        let pool = Pool::in_process(wire, self.settings, Arc::clone(&random), Arc::clone(&self.metrics));
        Tessera::of(Inner::new(pool, self.settings, random, self.metrics))
    }
}

impl Inner {
    /// An empty batch has an empty answer, of a Tessera server that is ready.
    async fn ask_nothing(&self, index: usize) -> Result<(), Failure> {
        let mut client = self.pool.client_of(index).ok_or_else(|| Failure::broken("there is no such endpoint"))?;
        let answer = client.batch_check_entitlement(v1::BatchCheckEntitlementRequest::default()).await;
        answer.map(drop).map_err(|status| Failure::of_status(&status))
    }

    /// Waits for the first endpoint that answers.
    async fn reach_one(&self, allowed: Duration) -> Result<(), Error> {
        let mut attempts: FuturesUnordered<_> = self
            .pool
            .shown()
            .enumerate()
            .map(|(index, shown)| async move {
                match timeout(allowed, self.ask_nothing(index)).await {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(failure)) => Err(format!("`{shown}`: {failure}")),
                    Err(_) => Err(format!("`{shown}`: no answer within {allowed:?}")),
                }
            })
            .collect();
        let mut failed = Vec::new();
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(()) => return Ok(()),
                Err(why) => failed.push(why),
            }
        }
        Err(Error::Connect { attempts: failed })
    }
}
