//! The feed: the table `change`, written by the appends themselves; one partition, the database's id is the topic's.
//!
//! A row says that a stream moved; readers are given the stream's state of now, which is as new or newer, and each stream once
//! in a batch. Commits wake readers within the process.
//!
//! **Positions.** Heartbeats are not stored: they pass from publisher to readers in memory, numbered so that each reader gets
//! each once. A position is therefore the row's number times 65,536, plus the number of the last heartbeat seen (1 to 65,535,
//! round and round; 0: none). Ends are told without the latter, so that whoever has read the rows has reached them.
//!
//! **Order.** A heartbeat speaks of everything committed before it. So it is noted first, the rows are read after that, and it
//! is handed on only behind the last of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_core::stream::Epoch;
use tessera_ports::change_feed::{
    Change, ChangeFeed, ChangePublisher, FeedBatch, FeedError, FeedMessage, Heartbeat, Position, Topic,
};
use tessera_ports::event_store::ReadError;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::error::Trouble;
use crate::open::Sqlite;
use crate::readers::Reading;
use crate::row::{StreamRow, Told, change_of, restored, stored, stream_columns};
use crate::writer::{Done, Failure, Feed, Work, feed_rows};

const BEATS: Position = 1 << 16;
/// Bytes of states in one batch, beyond which it ends early.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

fn position(row: i64, beat: u16) -> Result<Position, Trouble> {
    Ok(restored(row)?.saturating_mul(BEATS).saturating_add(Position::from(beat)))
}

/// Row and heartbeat of a position.
fn parts(position: Position) -> (i64, u16) {
    (stored(position / BEATS), u16::try_from(position % BEATS).unwrap_or(0))
}

/// Where the feed stands now; whoever waits for it is woken when it moves.
#[derive(Debug, Clone)]
pub(crate) struct Tip(Arc<watch::Sender<Stand>>);

#[derive(Debug, Clone)]
struct Stand {
    rows: Feed,
    beat: u16,
    heartbeat: Option<Heartbeat>,
}

impl Tip {
    pub(crate) fn at(rows: Feed) -> Self {
        Self(Arc::new(watch::Sender::new(Stand { rows, beat: 0, heartbeat: None })))
    }

    /// Known to the writing thread alone before everybody else: nobody but it moves them.
    pub(crate) fn rows(&self) -> Feed {
        self.0.borrow().rows
    }

    pub(crate) fn committed(&self, rows: Feed) {
        self.0.send_modify(|stand| stand.rows = rows);
    }

    fn beat(&self, heartbeat: &Heartbeat) {
        self.0.send_modify(|stand| {
            stand.beat = stand.beat.checked_add(1).unwrap_or(1);
            stand.heartbeat = Some(heartbeat.clone());
        });
    }
}

impl Stand {
    /// Whether a reader at this row, who has seen this heartbeat, may find something new.
    fn has_news(&self, row: i64, beat: u16) -> bool {
        self.rows.last != row || (self.beat != beat && self.heartbeat.is_some())
    }
}

#[async_trait]
impl ChangeFeed for Sqlite {
    async fn topic(&self) -> Result<Topic, FeedError> {
        Ok(Topic { id: self.0.identity.store.clone(), partitions: 1 })
    }

    async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        let end = position(self.0.tip.rows().last, 0).map_err(|_| FeedError::Unavailable("no end".to_owned()))?;
        Ok(vec![end])
    }

    async fn read(
        &self,
        topic: &str,
        partition: u32,
        from: Position,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedBatch, FeedError> {
        let out_of_range = || FeedError::OutOfRange { partition, position: from };
        if topic != self.0.identity.store || partition != 0 {
            return Err(out_of_range());
        }
        let (row, beat) = parts(from);
        let until = Instant::now().checked_add(wait);
        let mut tip = self.0.tip.0.subscribe();
        loop {
            // The heartbeat is noted here, before the rows are read.
            let stand = tip.borrow_and_update().clone();
            if !(stand.rows.first.saturating_sub(1)..=stand.rows.last).contains(&row) {
                return Err(out_of_range());
            }
            if stand.has_news(row, beat) {
                let batch = self.batch(&stand, row, beat, limit.max(1)).await?.ok_or_else(out_of_range)?;
                if !batch.messages.is_empty() {
                    return Ok(batch);
                }
            }
            let moved = async { tip.changed().await.is_ok() };
            let in_time = match until {
                Some(until) => timeout_at(until, moved).await.unwrap_or(false),
                None => moved.await,
            };
            if !in_time {
                return Ok(FeedBatch { messages: Vec::new(), next: from });
            }
        }
    }
}

impl Sqlite {
    /// What a reader at this row, who has seen this heartbeat, is given; `None` if its next row is no longer there.
    async fn batch(&self, stand: &Stand, row: i64, beat: u16, limit: usize) -> Result<Option<FeedBatch>, FeedError> {
        let (epoch, told) = (self.0.identity.epoch, self.0.told.clone());
        let rows = self.0.readers.read(move |reading| read_rows(reading, epoch, row, limit, &told)).await;
        let rows = rows.map_err(|error| match error {
            ReadError::Unavailable(why) | ReadError::Damaged(why) => FeedError::Unavailable(why),
        })?;
        let Some(rows) = rows else { return Ok(None) };
        let mut messages = rows.messages;
        let mut seen = beat;
        if rows.all && stand.beat != beat && messages.len() < limit {
            messages.extend(stand.heartbeat.clone().map(FeedMessage::Heartbeat));
            seen = stand.beat;
        }
        let next = position(rows.last, seen).map_err(|_| FeedError::Unavailable("no position".to_owned()))?;
        Ok(Some(FeedBatch { messages, next }))
    }
}

struct Rows {
    messages: Vec<FeedMessage>,
    /// The last row read.
    last: i64,
    /// Whether there are no more.
    all: bool,
}

fn read_rows(reading: &Reading<'_>, epoch: Epoch, after: i64, limit: usize, told: &Told) -> Result<Option<Rows>, Trouble> {
    if feed_rows(reading)?.first.saturating_sub(1) > after {
        return Ok(None);
    }
    let mut select = reading.prepare_cached(concat!(
        "SELECT c.position, ",
        stream_columns!(),
        " FROM change c JOIN stream s ON s.number = c.stream WHERE c.position > ?1 ORDER BY c.position"
    ))?;
    let mut rows = select.query([after])?;
    let mut read = Rows { messages: Vec::new(), last: after, all: true };
    let (mut given, mut bytes) = (HashSet::new(), 0);
    while let Some(row) = rows.next()? {
        // Its state of now has been given already, whatever number of times it has moved.
        let number: i64 = row.get(1)?;
        let is_new = !given.contains(&number);
        if is_new && (read.messages.len() >= limit || bytes >= BATCH_BYTES_MAX) {
            read.all = false;
            break;
        }
        if is_new {
            given.insert(number);
            let change = change_of(reading.with_end_alone(StreamRow::read_alone(row, 1)?)?, epoch, told);
            bytes += change.as_ref().map_or(0, |change| change.state.len());
            read.messages.push(change.map_or_else(FeedMessage::Bad, FeedMessage::Change));
        }
        read.last = row.get(0)?;
    }
    Ok(Some(read))
}

#[async_trait]
impl ChangePublisher for Sqlite {
    /// Appends have published already; this puts the streams into the feed once more.
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Some(change) = changes.iter().find(|change| change.epoch != self.0.identity.epoch) {
            let (theirs, ours) = (change.epoch, self.0.identity.epoch);
            return Err(FeedError::Unavailable(format!("a change of epoch {theirs} in a store of epoch {ours}")));
        }
        let streams = changes.iter().map(|change| (change.stream.clone(), change.seq)).collect();
        match self.0.writer.write(Work::Publish(streams)).await {
            Ok(Done::Written | Done::Conflict) => Ok(()),
            Ok(Done::Refused(why)) | Err(Failure::Unknown(why) | Failure::NotAttempted(why)) => Err(FeedError::Unavailable(why)),
            Err(Failure::DiskFull) => Err(FeedError::Unavailable("the disk is full".to_owned())),
        }
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        Ok(1)
    }

    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError> {
        if let Some(reason) = self.fatal().reason() {
            return Err(FeedError::Unavailable(reason.to_string()));
        }
        if partitions.contains(&0) {
            self.0.tip.beat(heartbeat);
        }
        Ok(())
    }
}
