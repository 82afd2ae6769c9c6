//! How a process exposes its services: where it listens, encrypted how, to whom. Settings of listeners and of identity are
//! checked together here, since neither is safe by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tessera_ports::Clock;
use tokio::net::TcpListener;

use crate::identity::authenticator::Authenticator;
use crate::identity::guard::{Guarded, Rules};
use crate::identity::settings::{IdentityConfig, permit};
use crate::lifecycle::Tasks;
use crate::listener::{self, ListenerConfig, Sockets};
use crate::overload::Policy;
use crate::overload::memory::Memory;
use crate::tls::Tls;

/// Listeners, certificates and callers as the settings have them, and whom to refuse when too much is asked.
#[derive(Debug, Clone)]
pub struct Exposure {
    listener: ListenerConfig,
    tls: Option<Tls>,
    authenticator: Option<Arc<Authenticator>>,
    policy: Policy,
    memory: Memory,
}

impl Exposure {
    /// Checks the settings against each other and against the addresses (each with the flag that names it), and reads the files
    /// that they name. Once metrics are installed.
    pub fn open(
        listener: ListenerConfig,
        identity: Option<IdentityConfig>,
        addresses: &[(&'static str, SocketAddr)],
        policy: Policy,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        listener.validate().context("settings of the listener")?;
        let client_certificates = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        if let Some(identity) = &identity {
            identity.validate(client_certificates).context("settings")?;
        }
        for (flag, address) in addresses {
            permit(*address, identity.as_ref(), listener.tls.is_some()).context(*flag)?;
        }
        let tls =
            listener.tls.as_ref().map(|tls| Tls::load(tls, Arc::clone(clock))).transpose().context("settings of the listener")?;
        let authenticator = identity.map(|identity| Authenticator::new(identity, Arc::clone(clock))).transpose()?;
        Ok(Self { listener, tls, authenticator: authenticator.map(Arc::new), policy, memory: Memory::default() })
    }

    /// Begins to follow the files and issuers that callers are known by, the certificates, and the memory in use.
    pub fn start(&self, tasks: &Tasks) {
        if let Some(authenticator) = &self.authenticator {
            authenticator.start(tasks);
        }
        if let Some(tls) = &self.tls {
            tasks.spawn_behind("tls.files", tls.keep_fresh());
        }
        self.memory.start(tasks);
    }

    /// How listeners behave.
    pub fn listener(&self) -> &ListenerConfig {
        &self.listener
    }

    /// `service` with a guard before it that goes by `rules`; as it is where nobody is asked who they are.
    pub fn guard<S>(&self, service: S, rules: fn(Arc<Authenticator>) -> Rules) -> Guarded<S> {
        Guarded::new(service, self.authenticator.clone().map(rules))
    }

    /// What is listened on for the address: with TLS if there is any.
    pub fn sockets(&self, address: TcpListener) -> Sockets {
        Sockets::from(address).with_tls(self.tls.clone()).with_refusals(self.policy.clone(), self.memory.clone())
    }

    /// As [`Self::sockets`], with the Unix socket besides, if there is one: for one plane of the process, the data plane if it
    /// has both.
    pub fn sockets_with_unix(&self, address: TcpListener) -> anyhow::Result<Sockets> {
        let mode = self.listener.unix_socket_mode()?;
        let unix = self.listener.unix_socket.as_deref().map(|path| listener::bind_unix(path, mode)).transpose()?;
        Ok(self.sockets(address).with_unix(unix))
    }
}
