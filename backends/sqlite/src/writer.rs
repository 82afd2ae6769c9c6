//! The one thread that writes. What waits in its queue goes into one transaction, up to a bound; everybody is answered after
//! the commit is on the disk.
//!
//! A full disk is no end: what did not fit is refused, reads go on, and every later write tries again. Any other I/O error is
//! the end: see [`crate::fatal`].

mod group;
mod statements;

pub(crate) use group::Feed;
pub(crate) use statements::feed_rows;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;
use tessera_core::stream::StreamId;
use tessera_ports::event_store::{Append, CellHash};
use tessera_ports::hint_store::Hint;
use tokio::sync::{mpsc, oneshot};

use crate::data_dir::DataDir;
use crate::fatal::Stop;
use crate::feed::Tip;
use crate::verdict::Verdict;

/// Writes that wait for the thread; whoever comes when it is full waits to get in.
const QUEUE_MAX: usize = 1024;

/// Which conditions of an append hold; both, unless a test takes one away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparisons {
    pub(crate) head: bool,
    pub(crate) hash: bool,
}

#[derive(Debug)]
pub(crate) enum Work {
    Append(Appending),
    /// Puts the streams into the feed once more.
    Publish(Vec<(StreamId, u64)>),
    PutHint(Hint),
    EraseHint(Hint),
}

/// An append, and what is worked out about it before it gets to the one thread.
#[derive(Debug)]
pub(crate) struct Appending {
    pub(crate) append: Arc<Append>,
    pub(crate) comparisons: Comparisons,
    /// Of the last event in it.
    last_hash: CellHash,
}

impl Appending {
    pub(crate) fn new(append: Arc<Append>, comparisons: Comparisons) -> Self {
        let last_hash = append.head_after().hash;
        Self { append, comparisons, last_hash }
    }
}

impl Work {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(Appending { append, .. }) => {
                append.cells.iter().map(bytes::Bytes::len).sum::<usize>() + append.state.len()
            }
            _ => 0,
        }
    }
}

/// What came of a write whose transaction was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    Written,
    Conflict,
    Refused(String),
}

/// Why a write has no outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It may be on the disk or not.
    Unknown(String),
    /// It is not, and there was no room for it.
    DiskFull,
    /// It is not.
    NotAttempted(String),
}

/// What came of each work of a job, in their order.
type Outcomes = Vec<Result<Done, Failure>>;

/// Works that are handed in and answered together. They share nothing else: each has its own outcome.
#[derive(Debug)]
struct Job {
    works: Vec<Work>,
    reply: oneshot::Sender<Outcomes>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.works.iter().map(Work::bytes).sum()
    }
}

/// The writing end of the queue. When it is dropped the thread writes what waits, and closes the database.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    stop: Stop,
    verdict: Verdict,
}

impl Writer {
    /// Takes the connection and the directory: both live as long as the thread.
    pub(crate) fn start(
        mut connection: Connection,
        data_dir: DataDir,
        tip: Tip,
        change_rows_max: u64,
        stop: Stop,
        verdict: Verdict,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writing = Writing {
            log: Log::watch(&mut connection).map_err(std::io::Error::other)?,
            connection,
            _data_dir: data_dir,
            tip,
            change_rows_max: crate::row::stored(change_rows_max),
            stop: stop.clone(),
            verdict: verdict.clone(),
            disk_full: false,
        };
        let thread = std::thread::Builder::new().name("sqlite-writer".to_owned()).spawn(move || writing.run(jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), stop, verdict })
    }

    /// Hands in a write and waits for its outcome. Whoever stops waiting does not stop it.
    pub(crate) async fn write(&self, work: Work) -> Result<Done, Failure> {
        let unanswered = || Err(Failure::Unknown("the writing thread gave no answer".to_owned()));
        self.write_many(vec![work]).await.pop().unwrap_or_else(unanswered)
    }

    /// As [`Self::write`] of each, at once: they go into one transaction. The outcomes come in the order of `works`.
    pub(crate) async fn write_many(&self, works: Vec<Work>) -> Outcomes {
        let count = works.len();
        match self.hand_in(works).await {
            Ok(outcomes) => outcomes,
            Err(failure) => vec![Err(failure); count],
        }
    }

    async fn hand_in(&self, works: Vec<Work>) -> Result<Outcomes, Failure> {
        let stopped = || {
            let reason = self.stop.reason();
            Failure::NotAttempted(format!("the database is closed: {}", reason.as_deref().unwrap_or("the process is ending")))
        };
        self.verdict.wait().await.map_err(|damage| Failure::NotAttempted(damage.to_string()))?;
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        let (reply, outcome) = oneshot::channel();
        queue.send(Job { works, reply }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| Failure::Unknown("the writing thread ended".to_owned()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writing thread of the database panicked");
        }
    }
}

/// What the thread has.
struct Writing {
    // In this order they are dropped: the lock on the directory goes last.
    connection: Connection,
    log: Log,
    tip: Tip,
    change_rows_max: i64,
    stop: Stop,
    verdict: Verdict,
    /// Whether the log was told so last.
    disk_full: bool,
    _data_dir: DataDir,
}

/// How long the write-ahead log is, in pages.
struct Log {
    pages: Arc<AtomicI64>,
    /// The next checkpoint is due at this length.
    due: i64,
}

impl Log {
    /// Pages between two checkpoints: 16 MiB. A page that many transactions write goes into the database once per checkpoint,
    /// and each costs two waits for the disk.
    const CHECKPOINT_PAGES: i64 = 4_000;
    /// Beyond this length, 64 MiB, a checkpoint waits a moment for the readers so that the log can begin anew.
    const RESTART_PAGES: i64 = 16_000;

    /// Whether a checkpoint is due now, and of which kind.
    fn due(&mut self) -> Option<CheckpointMode> {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < Self::CHECKPOINT_PAGES {
            self.due = Self::CHECKPOINT_PAGES;
        }
        if pages < self.due {
            return None;
        }
        self.due = pages.saturating_add(Self::CHECKPOINT_PAGES);
        Some(if pages < Self::RESTART_PAGES { CheckpointMode::PASSIVE } else { CheckpointMode::RESTART })
    }

    fn watch(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI64::new(0));
        let seen = Arc::clone(&pages);
        let hook = move |_: &mut Wal, length: std::ffi::c_int| {
            seen.store(i64::from(length), Ordering::Relaxed);
            Ok(())
        };
        connection.wal_hook(Some(hook))?;
        Ok(Self { pages, due: Self::CHECKPOINT_PAGES })
    }
}
