//! Building a client: endpoints, credentials and settings, checked before anything is connected.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tessera_proto::v1;
use tokio::time::timeout;

use crate::client::{Inner, Tessera};
use crate::credentials::Credentials;
use crate::endpoint::Address;
use crate::error::Error;
use crate::failure::Failure;
use crate::metrics::{Metrics, NoMetrics};
use crate::pool::Pool;
use crate::random::Random;
use crate::retry::RetryPolicy;
use crate::settings::{Keepalive, Settings};
use crate::wire;

/// Most endpoints of a client: each has a connection.
const ENDPOINTS_MAX: usize = 1_000;

/// What a client is built from; see [`Tessera::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    endpoints: Vec<String>,
    credentials: Credentials,
    settings: Settings,
    metrics: Arc<dyn Metrics>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            credentials: Credentials::default(),
            settings: Settings::default(),
            metrics: Arc::new(NoMetrics),
        }
    }
}

impl Builder {
    /// One more server to ask, as `https://host:port` or, without TLS, `http://host:port`. There must be at least one.
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// More servers to ask. Requests spread over all that are healthy.
    pub fn endpoints<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// A token (an API token or a JSON Web Token) that every call shows. White space round it means nothing; of this and
    /// [`Builder::token_file`] counts what was said last. To an `http://` endpoint it goes in the open.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use tessera_client::Tessera;
    ///
    /// let tessera = Tessera::builder()
    ///     .endpoint("https://tessera.internal:7400")
    ///     .certificate_authority(std::fs::read("/etc/tessera/ca.pem")?)
    ///     .token(std::env::var("TESSERA_TOKEN")?)
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credentials.token(token.into());
        self
    }

    /// A file with such a token, for tokens that are rotated or mounted. It is read when the client is built, every 5 s from then
    /// on, and at once when a server answers UNAUTHENTICATED: what was refused so is sent once more if the file has another
    /// token by then. While the file is of no use, the token before is shown.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials.token_file(path.into());
        self
    }

    /// Certificates (PEM, any number) of the authorities that `https://` servers are known by, instead of those of the system.
    pub fn certificate_authority(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.credentials.authority(pem.into());
        self
    }

    /// A certificate that is shown to `https://` servers (PEM, with what leads to its root behind it), and its key (PEM).
    pub fn client_certificate(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.credentials.client(certificate_pem.into(), key_pem.into());
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
    /// [`Error::Endpoint`], [`Error::Credentials`] and [`Error::Setting`] name what is wrong; [`Error::NoRuntime`] outside of a
    /// tokio runtime.
    pub fn connect_lazy(self) -> Result<Tessera, Error> {
        self.settings.validate()?;
        let none =
            Error::Endpoint { endpoint: String::new(), problem: "there is none", allowed: "needed is `https://host:port`" };
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
        let mut ways = Vec::new();
        for address in &addresses {
            ways.push((address.to_string(), wire::endpoint(address, &self.settings, &self.credentials)?));
        }
        let bearer = self.credentials.bearer()?;
        tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let random = Arc::new(Random::of_this_process());
        let pool = Pool::new(ways, bearer, Arc::clone(&random), Arc::clone(&self.metrics));
        Ok(Tessera::of(Inner::new(pool, self.settings, random, self.metrics)))
    }

    /// A client of which at least one endpoint has answered; the others connect when they are first used.
    ///
    /// # Errors
    /// As [`Builder::connect_lazy`]; [`Error::Unauthenticated`] and [`Error::NotAllowed`] where no endpoint lets this client
    /// in; [`Error::Connect`] says of every endpoint why it cannot be asked, or that it did not answer within the connect
    /// timeout.
    pub async fn connect(self) -> Result<Tessera, Error> {
        let allowed = self.settings.connect_timeout;
        let client = self.connect_lazy()?;
        client.inner().reach_one(allowed).await?;
        Ok(client)
    }

    #[cfg(feature = "fake")]
    pub(crate) fn in_process(self, wire: crate::wire::Wire) -> Tessera {
        let random = Arc::new(Random::of_this_process());
        let pool = Pool::in_process(wire, Arc::clone(&random), Arc::clone(&self.metrics));
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
                    Ok(Err(failure)) if failure.is_refusal() => Err(Missed::Refused(failure.at(shown, "", 1))),
                    Ok(Err(failure)) => Err(Missed::Failed(format!("`{shown}`: {failure}"))),
                    Err(_) => Err(Missed::Failed(format!("`{shown}`: no answer within {allowed:?}"))),
                }
            })
            .collect();
        let (mut failed, mut refused) = (Vec::new(), None);
        while let Some(attempt) = attempts.next().await {
            match attempt {
                Ok(()) => return Ok(()),
                Err(Missed::Refused(failure)) => refused = Some(failure),
                Err(Missed::Failed(why)) => failed.push(why),
            }
        }
        // Trouble may pass, this does not.
        Err(refused.map_or(Error::Connect { attempts: failed }, Error::from))
    }
}

/// Why an endpoint is not the first one that answers.
enum Missed {
    Refused(Failure),
    Failed(String),
}
