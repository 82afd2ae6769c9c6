//! One group of writes: one transaction, one wait for the disk, then everybody's answer.

use rusqlite::TransactionBehavior;
use rusqlite::wal::CheckpointMode;
use tessera_ports::hooks;
use tokio::sync::mpsc;

use super::statements::{self, Statements};
use super::{Done, Failure, Job, Outcomes, Work, Writing};
use crate::connection;
use crate::error::Trouble;
use crate::fatal::Stop;

/// Writes in one transaction, or one job's more. They share two costs: the wait for the disk, and every page that more than one
/// of them is on; names come in any order, so that only many at once meet on a page of their index. As many take some 15 ms,
/// which is what a write waits at most that comes while others are imported.
const GROUP_MAX: usize = 1_024;
/// Bytes in one transaction, so that nobody waits long behind others' big states; one write may be bigger alone.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Old rows of the feed that one transaction removes at most; more than it can add.
const TRIM_MAX: i64 = 2_048;

/// Why a transaction came to nothing.
enum Broken {
    /// Before its commit: nothing of it is written.
    Before(Trouble),
    /// By its commit.
    AtCommit(Trouble),
}

/// The rows of the feed; of an empty one `first` is one beyond `last`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed {
    /// Position of the oldest row.
    pub(crate) first: i64,
    /// Position of the newest row.
    pub(crate) last: i64,
}

/// A panic of the thread leaves nobody to write: the process has to end.
struct StopOnPanic(Stop);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop("the thread that writes the database panicked");
        }
    }
}

impl Writing {
    /// Writes until the queue is closed or the disk cannot be relied on any more.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        let _stop_on_panic = StopOnPanic(self.stop.clone());
        while let Some(first) = waiting.blocking_recv() {
            let group = gather(first, &mut waiting);
            if self.stop.reason().is_none() {
                self.commit(group);
            } else {
                refuse(group);
            }
            if self.stop.reason().is_some() {
                break;
            }
            if let Some(mode) = self.log.due() {
                self.checkpoint(mode);
            }
        }
        if self.stop.reason().is_some() {
            waiting.close();
            while let Some(job) = waiting.blocking_recv() {
                refuse(vec![job]);
            }
            // Closing would write to a disk that has just failed, from pages that may no longer be what was meant; and the
            // directory stays locked until the process has ended.
            std::mem::forget(self);
        } else if self.verdict.is_out() == Ok(true) {
            // Of a database that may be damaged closing it leaves everything as it is.
            if let Err(error) = connection::tidy_up_on_close(&self.connection) {
                tracing::warn!(%error, "the log stays beside the database");
            }
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let works: Vec<&Work> = group.iter().flat_map(|job| &job.works).collect();
        let mut outcomes = self.write(&works).into_iter();
        for Job { works, reply } in group {
            let own = outcomes.by_ref().take(works.len()).collect();
            // Whoever handed them in has them too, and more time to take them apart.
            drop(works);
            // Whoever does not wait any more will find it out by a read.
            let _ = reply.send(own);
        }
    }

    /// Writes all of them in one transaction, if that can be done.
    fn write(&mut self, works: &[&Work]) -> Outcomes {
        let all = |failure: Failure| vec![Err(failure); works.len()];
        let outcomes = match self.transaction(works) {
            Ok(done) => done.into_iter().map(Ok).collect(),
            Err(Broken::Before(Trouble::DiskFull) | Broken::AtCommit(Trouble::DiskFull)) => {
                self.tell_disk_full(true);
                // What is in the log already may fit into the database, and leave its room to the next write.
                self.checkpoint(CheckpointMode::PASSIVE);
                all(Failure::DiskFull)
            }
            Err(Broken::Before(Trouble::Busy(why)) | Broken::AtCommit(Trouble::Busy(why))) => {
                all(Failure::NotAttempted(format!("another program holds the database: {why}")))
            }
            // One of them is to blame: each for itself.
            Err(Broken::Before(Trouble::Refused(_))) if works.len() > 1 => {
                works.iter().flat_map(|work| self.alone(work)).collect()
            }
            Err(Broken::Before(Trouble::Refused(why))) => {
                tracing::error!(why, "the database refused a write");
                all(Failure::NotAttempted(format!("the database refused it: {why}")))
            }
            Err(
                Broken::Before(Trouble::Io(why) | Trouble::Damaged(why))
                | Broken::AtCommit(Trouble::Io(why) | Trouble::Damaged(why) | Trouble::Refused(why)),
            ) => {
                self.stop.stop(&format!("writing failed: {why}"));
                all(Failure::Unknown(why))
            }
        };
        if !self.connection.is_autocommit() {
            self.stop.stop("a transaction could not be rolled back");
        }
        outcomes
    }

    /// One of those that could not be written together.
    fn alone(&mut self, work: &Work) -> Outcomes {
        if self.stop.reason().is_some() { vec![Err(closed())] } else { self.write(&[work]) }
    }

    fn transaction(&mut self, works: &[&Work]) -> Result<Vec<Done>, Broken> {
        let before = |error: rusqlite::Error| Broken::Before(Trouble::from(error));
        let mut feed = self.tip.rows();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(before)?;
        let mut statements = Statements::prepare(&transaction).map_err(before)?;
        let mut outcomes = Vec::with_capacity(works.len());
        for work in works {
            outcomes.push(perform(&mut statements, work, &mut feed).map_err(Broken::Before)?);
        }
        drop(statements);
        let wrote = outcomes.contains(&Done::Written);
        if wrote {
            statements::trim(&transaction, &mut feed, self.change_rows_max, TRIM_MAX).map_err(Broken::Before)?;
            hooks::fail_point("sqlite.commit.before");
        }
        transaction.commit().map_err(|error| Broken::AtCommit(Trouble::from(error)))?;
        if wrote {
            hooks::fail_point("sqlite.commit.after");
            self.tell_disk_full(false);
            self.tip.committed(feed);
        }
        Ok(outcomes)
    }

    /// Brings the log into the database. Only an error that puts the disk in doubt matters: the log holds everything.
    fn checkpoint(&mut self, mode: CheckpointMode) {
        let checked = connection::hurried(&self.connection, || self.connection.wal_checkpoint_v2(None::<&str>, mode).map(drop));
        let Err(error) = checked else { return };
        match Trouble::from(&error) {
            Trouble::DiskFull => self.tell_disk_full(true),
            Trouble::Busy(_) => {}
            Trouble::Io(why) | Trouble::Damaged(why) | Trouble::Refused(why) => {
                self.stop.stop(&format!("a checkpoint failed: {why}"));
            }
        }
    }

    fn tell_disk_full(&mut self, full: bool) {
        let was_full = std::mem::replace(&mut self.disk_full, full);
        match (was_full, full) {
            (false, true) => tracing::error!("the disk is full: writes are refused until there is space again, reads go on"),
            (true, false) => tracing::info!("there is space on the disk again: writes go on"),
            _ => {}
        }
    }
}

fn gather(first: Job, waiting: &mut mpsc::Receiver<Job>) -> Vec<Job> {
    let (mut count, mut bytes) = (first.works.len(), first.bytes());
    let mut group = vec![first];
    while count < GROUP_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(job) = waiting.try_recv() else { break };
        count = count.saturating_add(job.works.len());
        bytes = bytes.saturating_add(job.bytes());
        group.push(job);
    }
    group
}

fn perform(statements: &mut Statements<'_>, work: &Work, feed: &mut Feed) -> Result<Done, Trouble> {
    match work {
        Work::Append(appending) => statements.append(appending, feed),
        Work::Publish(streams) => statements.publish(streams, feed),
        Work::PutHint(hint) => statements.put_hint(hint),
        Work::EraseHint(hint) => statements.erase_hint(hint),
    }
}

fn closed() -> Failure {
    Failure::NotAttempted("the database was closed after an I/O error".to_owned())
}

fn refuse(group: Vec<Job>) {
    for Job { works, reply } in group {
        // Whoever does not wait any more will find it out by a read.
        let _ = reply.send(vec![Err(closed()); works.len()]);
    }
}
