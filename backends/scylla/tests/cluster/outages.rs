//! The database is killed, or stands still, while appends are under way: each was told as it is.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use tessera_core::stream::StreamId;
use tessera_engines::{Cassandra, Options};
use tessera_ports::event_store::{AppendError, Appended, EventStore as _};
use tessera_scylla::{Config, Moves, Scylla};
use tokio::sync::Notify;

use crate::place::{Place, WallClock};
use crate::writing::{append_of, names, tenant};

/// What writers were told of their appends, by the name of each, which is used once.
#[derive(Debug, Default)]
struct Told {
    committed: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeSet<String>>,
    committed_count: AtomicUsize,
    unknown_count: AtomicUsize,
    /// Appends that are under way.
    appending: AtomicUsize,
    done: AtomicBool,
    /// Something was told.
    news: Notify,
}

impl Told {
    fn committed(&self) -> usize {
        self.committed_count.load(Ordering::Relaxed)
    }

    fn unknown(&self) -> usize {
        self.unknown_count.load(Ordering::Relaxed)
    }

    /// Appends to one stream until all is done, every time with another name.
    async fn write(&self, store: &Scylla, stream: &StreamId, writer: usize) {
        for n in 0.. {
            if self.done.load(Ordering::Relaxed) {
                return;
            }
            let read = store.read(stream, &[], None).await;
            self.news.notify_waiters();
            let Ok(read) = read else { continue };
            let name = format!("{writer}-{n}");
            self.appending.fetch_add(1, Ordering::Relaxed);
            let appended = store.append(append_of(&read, stream, &name)).await;
            self.appending.fetch_sub(1, Ordering::Relaxed);
            match appended {
                Ok(Appended::Committed) => {
                    self.committed.lock().expect("not poisoned").insert(name);
                    self.committed_count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Appended::Conflict) | Err(AppendError::NotAttempted(_)) => {
                    self.refused.lock().expect("not poisoned").insert(name);
                }
                Err(AppendError::Unknown(_)) => {
                    self.unknown_count.fetch_add(1, Ordering::Relaxed);
                }
                Err(AppendError::DiskFull) => panic!("this disk is somebody else's"),
            }
            self.news.notify_waiters();
        }
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let news = self.news.notified();
            if condition() {
                return;
            }
            news.await;
        }
    }
}

/// What is in the streams, against what was told.
async fn check(store: &Scylla, streams: &[StreamId], told: &Told) {
    let mut found = BTreeSet::new();
    for stream in streams {
        for name in names(store, stream).await {
            assert!(found.insert(name.clone()), "{name} is there twice");
        }
    }
    let (committed, refused) = (told.committed.lock().expect("whole"), told.refused.lock().expect("whole"));
    let lost: Vec<_> = committed.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    let denied: Vec<_> = refused.intersection(&found).collect();
    assert!(denied.is_empty(), "told as not written and there: {denied:?}");
}

/// Runs writers on streams of their own and on one that they share, and `harm` beside them.
async fn harmed(
    place: &Place,
    store: &Scylla,
    told: &Told,
    harm: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let streams: Vec<StreamId> = (0..5).map(|n| tenant(&format!("stream-{n}"))).collect();
    let writers = (0..8).map(|writer| told.write(store, &streams[writer % 5], writer));
    let harming = async {
        let harmed = harm().await;
        told.done.store(true, Ordering::Relaxed);
        harmed
    };
    let (_, harmed) = futures::join!(join_all(writers), harming);
    harmed?;
    check(&place.open(Moves::No).await?, &streams, told).await;
    Ok(())
}

/// Its own, since it is harmed. It keeps what it acknowledged because it syncs its log in batches, which docs/OPERATING.md asks for.
async fn engine() -> anyhow::Result<Option<Cassandra>> {
    if !tessera_engines::available()? {
        return Ok(None);
    }
    Ok(Some(tokio::task::spawn_blocking(|| Cassandra::throwaway(&Options::default())).await??))
}

/// With time limits that end while the database is away.
async fn impatient(place: &Place) -> anyhow::Result<Scylla> {
    let config = Config { append_timeout_ms: 2_000, read_timeout_ms: 1_000, ..place.config.clone() };
    Ok(Scylla::open(&config, std::sync::Arc::new(WallClock), Moves::No).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_append_is_lost_when_the_database_is_killed() -> anyhow::Result<()> {
    let Some(mut engine) = engine().await? else { return Ok(()) };
    let place = Place::at(engine.contact_point()).await?;
    let (store, told) = (impatient(&place).await?, Told::default());
    let engine = &mut engine;
    let harm = async || {
        told.until(|| told.committed() >= 300).await;
        engine.kill()?;
        told.until(|| !store.problems().is_empty()).await;
        engine.restart_without_waiting()?;
        let before = told.committed();
        told.until(|| told.committed() >= before + 100).await;
        told.until(|| store.problems().is_empty()).await;
        Ok(())
    };
    harmed(&place, &store, &told, harm).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_to_a_database_that_stands_still_are_unknown() -> anyhow::Result<()> {
    let Some(mut engine) = engine().await? else { return Ok(()) };
    let place = Place::at(engine.contact_point()).await?;
    let (store, told) = (impatient(&place).await?, Told::default());
    let engine = &mut engine;
    let harm = async || {
        let mut caught = 0;
        while caught < 2 {
            let before = told.committed();
            told.until(|| told.committed() >= before + 100).await;
            let unknown = told.unknown();
            engine.suspend()?;
            // It may stand still at a moment at which nothing is under way but reads: then nobody ever appends, and that is no test.
            let is_seen = || told.unknown() > unknown || told.appending.load(Ordering::Relaxed) == 0;
            told.until(|| is_seen() && !store.problems().is_empty()).await;
            caught += u32::from(told.unknown() > unknown);
            engine.resume()?;
            let before = told.committed();
            told.until(|| told.committed() >= before + 50).await;
        }
        Ok(())
    };
    harmed(&place, &store, &told, harm).await
}
