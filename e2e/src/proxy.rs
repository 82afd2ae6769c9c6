//! An address that stays while what stands behind it is started again on other ports, and a network that can be made worse:
//! connections that are reset, held up, late, closed in one way only, or closed in the middle of what is said.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Read at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// What becomes of bytes on one way of all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They arrive.
    Open,
    /// They arrive that much later.
    Late(Duration),
    /// They wait, as in a network that is cut: nobody is told, and they arrive once the way is open.
    Held,
    /// The receiver hears that no more are coming, while the other way goes on. Of connections that are there now, for ever.
    HalfClosed,
    /// So many bytes of each connection arrive; then it is closed, as if whoever sent them had been killed.
    Until(usize),
}

/// Connections to its address go on to whatever stands behind it; dropping it closes them.
#[derive(Debug)]
pub struct Proxy {
    /// The address that stays.
    pub address: SocketAddr,
    network: watch::Sender<Network>,
    _connections: JoinSet<()>,
}

#[derive(Debug, Clone)]
struct Network {
    behind: SocketAddr,
    /// From the callers to whoever is behind.
    there: Way,
    /// From whoever is behind to the callers.
    back: Way,
    /// Grows when connections are cut.
    cuts: u64,
}

impl Proxy {
    /// A way to that address.
    pub async fn to(behind: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr()?;
        let network = Network { behind, there: Way::Open, back: Way::Open, cuts: 0 };
        let (network, state) = watch::channel(network);
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, state));
        Ok(Self { address, network, _connections: connections })
    }

    /// Connections that are made from now on go there.
    pub fn leads_to(&self, behind: SocketAddr) {
        self.network.send_modify(|network| network.behind = behind);
    }

    /// From now on bytes fare so on the way from the callers, and on the way back to them.
    pub fn set(&self, there: Way, back: Way) {
        self.network.send_modify(|network| (network.there, network.back) = (there, back));
    }

    /// Resets every connection there is, with whatever was on its way.
    pub fn cut(&self) {
        self.network.send_modify(|network| network.cuts += 1);
    }
}

async fn accept(listener: TcpListener, network: watch::Receiver<Network>) {
    let mut connections = JoinSet::new();
    while let Ok((caller, _)) = listener.accept().await {
        connections.spawn(connection(caller, network.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(mut caller: TcpStream, mut network: watch::Receiver<Network>) {
    let Network { behind, cuts, .. } = network.borrow().clone();
    // Nobody there: the caller's connection is closed, as if nobody had listened here.
    let Ok(mut process) = TcpStream::connect(behind).await else { return };
    // Borrowed halves, which do not end their way when they are dropped: that would come before a reset.
    let (from_caller, to_caller) = caller.split();
    let (from_process, to_process) = process.split();
    let there = pass(from_caller, to_process, network.clone(), |network| network.there);
    let back = pass(from_process, to_caller, network.clone(), |network| network.back);
    let is_cut = tokio::select! {
        _ = async { tokio::try_join!(there, back) } => false,
        _ = network.wait_for(|network| network.cuts != cuts) => true,
    };
    if is_cut {
        for end in [&caller, &process] {
            // A close without lingering resets; one that is closed already has nothing to reset.
            let _ = rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO));
        }
    }
}

/// The whole connection is over.
struct Closed;

/// Passes bytes on in one way until its source ends or its target is gone.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut network: watch::Receiver<Network>,
    way: fn(&Network) -> Way,
) -> Result<(), Closed> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut passed = 0;
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = network.wait_for(|network| way(network) == Way::HalfClosed) => 0,
        };
        // How the way is when the bytes come, not when they were waited for.
        let Ok(now) = network.wait_for(|network| way(network) != Way::Held).await.map(|network| way(&network)) else {
            return Ok(());
        };
        if read == 0 || now == Way::HalfClosed {
            // It may have gone already.
            let _ = to.shutdown().await;
            return Ok(());
        }
        if let Way::Late(late) = now {
            let _ = tokio::time::timeout(late, std::future::pending::<()>()).await;
        }
        let left = if let Way::Until(bytes) = now { bytes.saturating_sub(passed) } else { read };
        let len = read.min(left);
        if to.write_all(buffer.get(..len).unwrap_or_default()).await.is_err() {
            return Ok(());
        }
        if len == left && matches!(now, Way::Until(_)) {
            return Err(Closed);
        }
        passed += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Both ends of a connection through a proxy.
    async fn through(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let caller = TcpStream::connect(proxy.address).await.unwrap();
        (caller, listener.accept().await.unwrap().0)
    }

    async fn place() -> (Proxy, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        (Proxy::to(listener.local_addr().unwrap()).await.unwrap(), listener)
    }

    async fn four(stream: &mut TcpStream) -> [u8; 4] {
        let mut bytes = [0; 4];
        tokio::time::timeout(SOON, stream.read_exact(&mut bytes)).await.expect("in time").expect("four bytes");
        bytes
    }

    #[tokio::test]
    async fn one_way_can_be_held_while_the_other_is_open() {
        let (proxy, listener) = place().await;
        let (mut caller, mut process) = through(&proxy, &listener).await;
        proxy.set(Way::Open, Way::Held);
        caller.write_all(b"ping").await.unwrap();
        process.write_all(b"pong").await.unwrap();
        assert_eq!(&four(&mut process).await, b"ping");
        let held = tokio::time::timeout(Duration::from_millis(50), caller.readable()).await;
        assert!(held.is_err(), "the answer came through");
        proxy.set(Way::Late(Duration::from_millis(1)), Way::Late(Duration::from_millis(1)));
        assert_eq!(&four(&mut caller).await, b"pong");
    }

    #[tokio::test]
    async fn a_half_closed_connection_goes_on_in_the_other_way() {
        let (proxy, listener) = place().await;
        let (mut caller, mut process) = through(&proxy, &listener).await;
        proxy.set(Way::HalfClosed, Way::Open);
        assert_eq!(tokio::time::timeout(SOON, process.read(&mut [0; 4])).await.unwrap().unwrap(), 0);
        process.write_all(b"pong").await.unwrap();
        assert_eq!(&four(&mut caller).await, b"pong");
    }

    #[tokio::test]
    async fn a_connection_can_be_closed_in_the_middle_of_what_is_said() {
        let (proxy, listener) = place().await;
        for len in 0..4 {
            proxy.set(Way::Open, Way::Until(len));
            let (mut caller, mut process) = through(&proxy, &listener).await;
            process.write_all(b"p").await.unwrap();
            // It may be closed by now.
            let _ = process.write_all(b"ong").await;
            let mut heard = Vec::new();
            tokio::time::timeout(SOON, caller.read_to_end(&mut heard)).await.expect("in time").unwrap();
            assert_eq!(heard, b"pong"[..len]);
            assert_eq!(tokio::time::timeout(SOON, process.read(&mut [0; 4])).await.expect("in time").unwrap_or(0), 0);
        }
    }

    #[tokio::test]
    async fn a_cut_ends_connections_and_the_next_ones_go_where_it_leads() {
        let (proxy, listener) = place().await;
        let (mut caller, mut process) = through(&proxy, &listener).await;
        proxy.cut();
        for end in [&mut caller, &mut process] {
            let read = tokio::time::timeout(SOON, end.read(&mut [0; 4])).await.expect("in time");
            assert_eq!(read.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        }
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        proxy.leads_to(other.local_addr().unwrap());
        let (mut caller, mut process) = through(&proxy, &other).await;
        caller.write_all(b"ping").await.unwrap();
        assert_eq!(&four(&mut process).await, b"ping");
    }
}
