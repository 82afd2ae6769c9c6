//! A Kafka that listens twice: at the usual address, and at a second one where something is otherwise. Whoever comes to the second
//! one is told of no other.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Context as _;
use tessera_engines::Options;

/// Ports for it, which nobody has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TwoListeners {
    usual: u16,
    controller: u16,
    second: u16,
}

impl TwoListeners {
    /// Chooses them.
    pub(crate) fn choose() -> anyhow::Result<Self> {
        // Held until all are there.
        let held = [listener()?, listener()?, listener()?];
        let [usual, controller, second] = held.map(|listener| listener.local_addr().map(|address| address.port()));
        Ok(Self { usual: usual?, controller: controller?, second: second? })
    }

    /// Where the second one is.
    pub(crate) fn second(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.second))
    }

    /// How to start the Kafka. The second listener speaks `protocol`, and says that it is at `told`.
    pub(crate) fn options(self, protocol: &str, told: SocketAddr) -> Options {
        let Self { usual, controller, second } = self;
        let first = format!("PLAINTEXT://127.0.0.1:{usual}");
        let settings = [
            ("controller.quorum.voters", format!("1@127.0.0.1:{controller}")),
            ("listeners", format!("{first},CONTROLLER://127.0.0.1:{controller},SECOND://127.0.0.1:{second}")),
            ("advertised.listeners", format!("{first},SECOND://{told}")),
            ("listener.security.protocol.map", format!("PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECOND:{protocol}")),
        ];
        Options { port: Some(usual), settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec() }
    }
}

/// On a port below those that the kernel hands out by itself: nobody gets it by chance while the broker is down.
fn listener() -> anyhow::Result<TcpListener> {
    const FIRST: u64 = 12_000;
    const COUNT: u64 = 20_000;
    let mut attempts = (0..100).map(|_| FIRST + RandomState::new().hash_one("port") % COUNT);
    let found = attempts.find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, u16::try_from(port).ok()?)).ok());
    found.context("no free port for a Kafka")
}
