//! Threads that read, each with a connection of its own, beside the one that writes. SQLite blocks; it never blocks the threads
//! of the async runtime. Their queue is bounded: whoever comes when it is full waits, in order, without taking a thread.

use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tessera_ports::event_store::ReadError;
use tokio::sync::{Semaphore, oneshot};

use crate::error::Trouble;
use crate::fatal::Stop;
use crate::row::{DamagedRow, RowRead, StreamRow};
use crate::verdict::Verdict;
use crate::{connection, integrity};

/// Reads that wait for a thread or run.
const QUEUE_MAX: usize = 1024;

type Task = Box<dyn FnOnce(&Connection) + Send>;

#[derive(Debug)]
pub(crate) struct Readers {
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Task>>,
    places: Arc<Semaphore>,
    threads: Vec<JoinHandle<()>>,
    stop: Stop,
    verdict: Verdict,
}

/// What a read is done with: a connection, and whether what it finds has been checked.
pub(crate) struct Reading<'a> {
    connection: &'a Connection,
    all_checked: bool,
}

impl Deref for Reading<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Reading<'_> {
    /// The row, if the end of its stream is as it was written, too.
    pub(crate) fn with_end(&self, stream: StreamRow) -> Result<StreamRow, Trouble> {
        if !self.all_checked {
            integrity::check_end(self.connection, &stream)?;
        }
        Ok(stream)
    }

    /// As [`Self::with_end`], of a row whose damage is its own alone.
    pub(crate) fn with_end_alone(&self, read: RowRead) -> Result<RowRead, Trouble> {
        match read {
            Ok(stream) if !self.all_checked => match integrity::check_end(self.connection, &stream) {
                Err(Trouble::Damaged(why)) => Ok(Err(DamagedRow::of_stream(stream, why))),
                checked => checked.map(|()| Ok(stream)),
            },
            read => Ok(read),
        }
    }
}

impl Readers {
    pub(crate) fn start(path: &Path, count: usize, stop: Stop, verdict: Verdict) -> Result<Self, Trouble> {
        let (queue, waiting) = mpsc::channel::<Task>();
        let waiting = Arc::new(Mutex::new(waiting));
        let mut threads = Vec::with_capacity(count);
        for number in 0..count {
            let (connection, waiting) = (connection::reader(path)?, Arc::clone(&waiting));
            let thread = std::thread::Builder::new().name(format!("sqlite-reader-{number}"));
            let thread = thread.spawn(move || run(&connection, &waiting));
            threads.push(thread.map_err(|error| Trouble::Io(error.to_string()))?);
        }
        Ok(Self { queue: Some(queue), places: Arc::new(Semaphore::new(QUEUE_MAX)), threads, stop, verdict })
    }

    /// Runs `work` on one of the threads, inside one read transaction: all it reads is of one moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reading<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, ReadError> {
        let ended = || ReadError::Unavailable("the database is closed".to_owned());
        if let Some(reason) = self.stop.reason() {
            return Err(ReadError::Unavailable(format!("the database is closed: {reason}")));
        }
        let all_checked = self.verdict.is_out().map_err(|damage| ReadError::Unavailable(damage.to_string()))?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| ended())?;
        let (reply, answer) = oneshot::channel();
        let task = move |connection: &Connection| {
            if !reply.is_closed() {
                // Whoever does not wait any more does not want it.
                let _ = reply.send(at_one_moment(connection, |connection| work(&Reading { connection, all_checked })));
            }
            drop(place);
        };
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Box::new(task)).map_err(|_| ended())?;
        let answer = answer.await.map_err(|_| ReadError::Unavailable("the reading thread ended".to_owned()))?;
        answer.map_err(|trouble| self.error(trouble))
    }

    /// What a caller is told of it; an I/O error ends everything.
    pub(crate) fn error(&self, trouble: Trouble) -> ReadError {
        match trouble {
            Trouble::Damaged(damage) => {
                tracing::error!(damage, "damage found in the database");
                ReadError::Damaged(damage)
            }
            Trouble::Io(why) => {
                self.stop.stop(&format!("reading failed: {why}"));
                ReadError::Unavailable(why)
            }
            Trouble::Busy(why) | Trouble::Refused(why) => ReadError::Unavailable(why),
            Trouble::DiskFull => ReadError::Unavailable("the disk is full".to_owned()),
        }
    }
}

fn at_one_moment<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T, Trouble>) -> Result<T, Trouble> {
    let transaction = connection.unchecked_transaction()?;
    let answer = work(&transaction)?;
    transaction.commit()?;
    Ok(answer)
}

fn run(connection: &Connection, waiting: &Mutex<mpsc::Receiver<Task>>) {
    loop {
        // One idle thread waits for the next task, the others for the lock; it is not held while a task runs.
        let task = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        task(connection);
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reading thread of the database panicked");
            }
        }
    }
}
