//! Threads that serve connections, each with a runtime of its own. Which connections there are is decided elsewhere.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use tessera_ports::memory::SplitMix64;
use tokio::sync::{mpsc, oneshot};

use super::connection::Rules;
use super::incoming::Accepted;
use super::{Calls, ListenerConfig};
use crate::lifecycle::Shutdown;

/// After so many steps a thread looks which sockets have something: a step is a call or a handful of them, so that whoever asks
/// little is seen soon beside those who ask much. Tokio's own measure is 61.
const LOOK_AROUND: u32 = 4;

/// All threads.
#[derive(Debug)]
pub(super) struct Cores {
    cores: Vec<Core>,
    running: FuturesUnordered<oneshot::Receiver<anyhow::Result<()>>>,
}

/// One thread, from outside.
#[derive(Debug)]
struct Core {
    /// Never longer than connections are allowed: each holds its permit.
    sockets: mpsc::UnboundedSender<(Accepted, Load)>,
    connections: Arc<AtomicUsize>,
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
pub(super) struct Load(Arc<AtomicUsize>);

impl Load {
    fn on(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cores {
    /// Starts `threads` threads, which serve until `shutdown`, or until this is dropped.
    pub(super) fn start<S: Calls>(
        threads: NonZeroUsize,
        service: &S,
        config: &ListenerConfig,
        rules: &Arc<Rules>,
        draws: &mut SplitMix64,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let (mut cores, running) = (Vec::with_capacity(threads.get()), FuturesUnordered::new());
        for number in 0..threads.get() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(LOOK_AROUND).build();
            let runtime = runtime.context("a runtime for connections")?;
            let (sockets, accepted) = mpsc::unbounded_channel();
            let (ended, end) = oneshot::channel();
            let (service, config, shutdown) = (service.clone(), config.clone(), shutdown.clone());
            let (rules, draws) = (Arc::clone(rules), SplitMix64::new(draws.next_u64()));
            let serve = move || {
                let sockets = by_threads(accepted);
                let served = runtime.block_on(super::serve_sockets(sockets, service, &config, rules, draws, shutdown));
                // What it leaves behind has hold of the service, and goes before anybody is told that the thread has ended.
                runtime.shutdown_background();
                // Nobody waits any more when the process was told to stop at once.
                drop(ended.send(served));
            };
            let name = format!("calls-{number}");
            std::thread::Builder::new().name(name).spawn(serve).context("a thread for connections")?;
            cores.push(Core { sockets, connections: Arc::default() });
            running.push(end);
        }
        Ok(Self { cores, running })
    }

    /// Hands a socket to the thread with the fewest connections.
    pub(super) fn give(&self, socket: Accepted) {
        let least = self.cores.iter().min_by_key(|core| core.connections.load(Ordering::Relaxed));
        if let Some(core) = least {
            // A thread that has ended is noticed by whoever waits for it; the socket is closed.
            drop(core.sockets.send((socket, Load::on(&core.connections))));
        }
    }

    /// Completes when any thread has ended, which it should not before it is told to.
    pub(super) async fn first_ended(&mut self) -> anyhow::Result<()> {
        match self.running.next().await {
            Some(ended) => ended.context("a thread that served connections panicked")?,
            None => Ok(()),
        }
    }

    /// Waits until every thread has ended. They get no sockets any more.
    pub(super) async fn all_ended(mut self) -> anyhow::Result<()> {
        self.cores.clear();
        let mut all = Ok(());
        while let Some(ended) = self.running.next().await {
            let ended = ended.context("a thread that served connections panicked").flatten();
            all = all.and(ended);
        }
        all
    }
}

/// The sockets that a thread is handed.
fn by_threads(mut sockets: mpsc::UnboundedReceiver<(Accepted, Load)>) -> impl Stream<Item = (Accepted, Option<Load>)> {
    let sockets = futures::stream::poll_fn(move |context| sockets.poll_recv(context));
    sockets.map(|(socket, load)| (socket, Some(load)))
}
