//! A relay between client and server: it passes bytes on, falls silent, or cuts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of the connections that are there now; new ones are passed on in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    PassedOn,
    /// Both ends stay open and hear nothing: the peer vanished without a word.
    Silent,
    Cut,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    /// A number for each change: connections made before it share its fate.
    fate: watch::Sender<(u64, Fate)>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fate = watch::Sender::new((0, Fate::PassedOn));
        let (fates, connections) = (fate.clone(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::Relaxed);
                open.spawn(pass_on(client, server, fates.subscribe()));
            }
        });
        Self { address, fate, connections, _tasks: tasks }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many connections there were so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The connections that are there fall silent.
    pub(crate) fn silence(&self) {
        self.fate.send_modify(|(number, fate)| (*number, *fate) = (*number + 1, Fate::Silent));
    }

    /// The connections that are there break.
    pub(crate) fn cut(&self) {
        self.fate.send_modify(|(number, fate)| (*number, *fate) = (*number + 1, Fate::Cut));
    }
}

async fn pass_on(client: TcpStream, server: SocketAddr, mut fates: watch::Receiver<(u64, Fate)>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let born = fates.borrow_and_update().0;
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut both: JoinSet<()> = JoinSet::new();
    let ways = [(client_in, server_out), (server_in, client_out)];
    let (back, mut ended) = tokio::sync::mpsc::channel(2);
    for (mut from, mut to) in ways {
        let (mut fates, back) = (fates.clone(), back.clone());
        both.spawn(Box::pin(async move {
            let mut buffer = vec![0; 64 << 10];
            loop {
                let read = tokio::select! {
                    biased;
                    _ = fates.changed() => break,
                    read = from.read(&mut buffer) => read,
                };
                let Ok(len @ 1..) = read else { break };
                if to.write_all(&buffer[..len]).await.is_err() {
                    break;
                }
            }
            // Kept open by whoever gets it.
            let _ = back.send((from, to)).await;
        }));
    }
    drop(back);
    let first = ended.recv().await;
    let changed = fates.borrow().0 != born;
    if changed && fates.borrow().1 == Fate::Silent {
        let second = ended.recv().await;
        // Both ends, open, until the relay ends or they are cut.
        while fates.changed().await.is_ok() && fates.borrow().1 != Fate::Cut {}
        drop(second);
    }
    drop(first);
}
