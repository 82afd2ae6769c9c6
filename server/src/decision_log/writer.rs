//! The thread that writes. It takes what waits, makes lines of it and writes them at once, so that a busy log costs few writes and
//! a quiet one no wait. It belongs to a task: with that dropped it writes the rest, for a bounded time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use metrics::{Counter, counter};
use tracing::{info, warn};

use super::record::Record;
use super::sink::Sink;
use crate::metric_definitions::{DECISION_LOG_DROPPED, DECISION_LOG_LINES};

/// From so many bytes on lines are written, whatever else waits.
const WRITE_BYTES: usize = 64 << 10;
/// How often an idle thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the rest to be written: a disk may hang.
const END_MAX: Duration = Duration::from_secs(2);

/// Owns the thread.
#[derive(Debug)]
pub(super) struct Writer {
    ending: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl Writer {
    pub(super) fn start(records: Receiver<Record>, sink: Sink) -> io::Result<Self> {
        let (alive, ended) = channel();
        let ending = Arc::new(AtomicBool::new(false));
        let writing = Writing {
            records,
            sink,
            ending: Arc::clone(&ending),
            _alive: alive,
            fails: false,
            written: counter!(DECISION_LOG_LINES),
            failed: counter!(DECISION_LOG_DROPPED, "cause" => "write"),
            too_many: counter!(DECISION_LOG_DROPPED, "cause" => "rate"),
        };
        thread::Builder::new().name("decision-log".to_owned()).spawn(move || writing.run())?;
        Ok(Self { ending, ended })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        if self.ended.recv_timeout(END_MAX) == Err(RecvTimeoutError::Timeout) {
            warn!(seconds = END_MAX.as_secs(), "the decision log takes too long to be written; the rest is lost");
        }
    }
}

struct Writing {
    records: Receiver<Record>,
    sink: Sink,
    ending: Arc<AtomicBool>,
    _alive: Sender<()>,
    /// Whether the last write failed.
    fails: bool,
    written: Counter,
    failed: Counter,
    too_many: Counter,
}

impl Writing {
    fn run(mut self) {
        loop {
            // Looked at before the queue is: what was handed over before the end is in it.
            let ending = self.ending.load(Ordering::Acquire);
            match self.records.recv_timeout(if ending { Duration::ZERO } else { LOOK }) {
                Ok(first) => self.write_from(&first),
                Err(RecvTimeoutError::Timeout) if !ending => {}
                Err(_) => return,
            }
        }
    }

    /// Writes this one, and what waits behind it.
    fn write_from(&mut self, first: &Record) {
        let (mut lines, mut count) = (String::new(), 0);
        self.add(first, &mut lines, &mut count);
        while lines.len() < WRITE_BYTES
            && let Ok(next) = self.records.try_recv()
        {
            self.add(&next, &mut lines, &mut count);
        }
        match self.sink.write(&lines) {
            Ok(()) => {
                self.written.increment(count);
                if std::mem::take(&mut self.fails) {
                    info!("the decision log is written again");
                }
            }
            Err(error) => {
                self.failed.increment(count);
                if !std::mem::replace(&mut self.fails, true) {
                    warn!(%error, "the decision log cannot be written; its lines are dropped");
                }
            }
        }
    }

    fn add(&mut self, record: &Record, lines: &mut String, count: &mut u64) {
        if self.sink.takes(record.at.seconds()) {
            lines.push_str(&record.line());
            lines.push('\n');
            *count += 1;
        } else {
            self.too_many.increment(1);
        }
    }
}
