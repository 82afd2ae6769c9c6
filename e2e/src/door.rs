//! An address that stays while the process behind it is started again on other ports.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections to its address go on to whatever stands behind it; dropping it closes them.
#[derive(Debug)]
pub struct Door {
    /// The address that stays.
    pub address: SocketAddr,
    behind: watch::Sender<SocketAddr>,
    _connections: JoinSet<()>,
}

impl Door {
    /// A door to that address.
    pub async fn to(behind: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr()?;
        let (behind, to) = watch::channel(behind);
        let mut connections = JoinSet::new();
        connections.spawn(pass_on(listener, to));
        Ok(Self { address, behind, _connections: connections })
    }

    /// Connections that are made from now on go there.
    pub fn leads_to(&self, behind: SocketAddr) {
        self.behind.send_replace(behind);
    }
}

async fn pass_on(listener: TcpListener, to: watch::Receiver<SocketAddr>) {
    let mut connections = JoinSet::new();
    while let Ok((mut caller, _)) = listener.accept().await {
        let behind = *to.borrow();
        connections.spawn(async move {
            if let Ok(mut process) = TcpStream::connect(behind).await {
                // However it ends: both sides are closed then.
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut process).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
