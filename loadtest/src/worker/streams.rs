//! Messages as frames of streams that last. Answers come in the order of the frames.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Offered;
use super::desk::{Desk, Times};
use super::line::{Line, SILENCE};
use crate::account::Hold;
use crate::answer;
use crate::failure::Failed;
use crate::question::Question;
use crate::wire::{self, Begun, Messages};

/// Before a stream that broke is opened again.
const PAUSE: Duration = Duration::from_millis(50);

/// Streams that take frames in turn.
pub(super) struct Streams {
    lanes: Vec<Rc<Lane>>,
    next: Cell<usize>,
}

/// One stream, opened again when it breaks.
struct Lane {
    body: RefCell<Option<SendStream<Bytes>>>,
    waiting: RefCell<VecDeque<Frame>>,
    /// So many of them, the oldest, have failed: their answers do not count when they come.
    late: Cell<usize>,
    next_id: Cell<u64>,
    sent: Notify,
}

/// A frame that waits for its answer.
struct Frame {
    id: u64,
    times: Times,
    questions: Vec<Question>,
}

impl Streams {
    /// So many on each connection.
    pub(super) fn over(lines: &[Rc<Line>], streams: u32, desk: &Rc<Desk>) -> Self {
        let all = lines.iter().flat_map(|line| {
            (0..streams).map(|_| {
                let lane = Rc::new(Lane {
                    body: RefCell::new(None),
                    waiting: RefCell::new(VecDeque::new()),
                    late: Cell::new(0),
                    next_id: Cell::new(1),
                    sent: Notify::new(),
                });
                tokio::task::spawn_local(Rc::clone(&lane).keep(Rc::clone(line), Rc::clone(desk)));
                lane
            })
        });
        Self { lanes: all.collect(), next: Cell::new(0) }
    }

    pub(super) fn all_up(&self) -> bool {
        self.lanes.iter().all(|lane| lane.body.borrow().is_some())
    }

    /// Sends a frame on the next stream that is open.
    pub(super) fn offer(&self, desk: &Rc<Desk>, times: Times, size: usize) -> anyhow::Result<Offered> {
        for _ in 0..self.lanes.len() {
            let turn = self.next.get();
            self.next.set((turn + 1) % self.lanes.len());
            if let Some(lane) = self.lanes.get(turn)
                && lane.send(desk, times, size)?
            {
                return Ok(Offered::Sent);
            }
        }
        Ok(Offered::Held(Hold::NoConnection))
    }
}

impl Lane {
    /// Whether the frame went out.
    fn send(&self, desk: &Desk, times: Times, size: usize) -> anyhow::Result<bool> {
        let mut slot = self.body.borrow_mut();
        let Some(body) = slot.as_mut() else { return Ok(false) };
        let id = self.next_id.get();
        let (questions, bytes) = desk.draw(id, size)?;
        if body.send_data(bytes, false).is_err() {
            // What was wrong the reading side is told.
            *slot = None;
            return Ok(false);
        }
        self.next_id.set(id + 1);
        self.waiting.borrow_mut().push_back(Frame { id, times, questions });
        self.sent.notify_one();
        Ok(true)
    }

    async fn keep(self: Rc<Self>, line: Rc<Line>, desk: Rc<Desk>) {
        loop {
            line.wait().await;
            if let Some(begun) = line.begin() {
                let failed = self.run(begun, &line, &desk).await;
                self.body.replace(None);
                // Each frame that waits fails with the stream, unless it has failed already.
                let late = self.late.take();
                for frame in self.waiting.take().into_iter().skip(late) {
                    desk.failed(frame.times, failed.clone());
                }
                desk.broke(failed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The life of one stream; returns why it ended.
    async fn run(&self, (response, body): Begun, line: &Line, desk: &Desk) -> Failed {
        self.body.replace(Some(body));
        desk.change();
        let answers = tokio::select! {
            answer = response => answer.map_err(|error| Failed::lost(&error)).and_then(wire::accept),
            () = self.given_up(line, desk) => return Failed::too_late(),
        };
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(failed) => return failed,
        };
        let mut messages = Messages::default();
        loop {
            // What is here already needs no timer.
            let message = match messages.here() {
                Ok(Some(message)) => Ok(Some(message)),
                Ok(None) => tokio::select! {
                    biased;
                    message = messages.next(&mut answers) => message,
                    () = self.given_up(line, desk) => return Failed::too_late(),
                },
                Err(failed) => Err(failed),
            };
            match message {
                Ok(Some(message)) => {
                    line.hear(Instant::now());
                    if let Err(failed) = self.answered(desk, &message) {
                        return failed;
                    }
                }
                Ok(None) => return end(&mut answers).await,
                Err(failed) => return failed,
            }
        }
    }

    /// Fails each frame at its deadline; returns when the oldest is so late that the stream is of no use.
    async fn given_up(&self, line: &Line, desk: &Desk) {
        loop {
            let now = Instant::now();
            let wake = {
                let mut waiting = self.waiting.borrow_mut();
                let mut late = self.late.get();
                while let Some(frame) = waiting.get_mut(late).filter(|frame| frame.times.due + desk.deadline <= now) {
                    frame.questions = Vec::new();
                    let times = frame.times;
                    late += 1;
                    line.unanswered(desk);
                    desk.failed(times, Failed::too_late());
                }
                self.late.set(late);
                let oldest = waiting.front().filter(|_| late > 0).map(|frame| frame.times.due + desk.deadline + SILENCE);
                let next = waiting.get(late).map(|frame| frame.times.due + desk.deadline);
                oldest.into_iter().chain(next).min()
            };
            match wake {
                None => self.sent.notified().await,
                Some(wake) if wake <= now => return,
                // A frame that is sent meanwhile is due later than all before it.
                Some(wake) => tokio::time::sleep_until(wake).await,
            }
        }
    }

    fn answered(&self, desk: &Desk, message: &[u8]) -> Result<(), Failed> {
        let id = answer::frame(message).map_err(|error| Failed::malformed(error.to_string()))?.id;
        let frame = self.waiting.borrow_mut().pop_front();
        let Some(frame) = frame else { return Err(Failed::malformed(format!("frame {id} was answered, and none was waiting"))) };
        let late = self.late.get();
        self.late.set(late.saturating_sub(1));
        if frame.id != id {
            let failed = Failed::malformed(format!("frame {id} was answered when {} was next", frame.id));
            if late == 0 {
                desk.failed(frame.times, failed.clone());
            }
            return Err(failed);
        }
        if late > 0 {
            // It has failed already.
            return Ok(());
        }
        desk.answered(frame.times, Instant::now(), &frame.questions, message);
        Ok(())
    }
}

/// How a stream that is over ended. Servers end streams when they drain.
async fn end(answers: &mut RecvStream) -> Failed {
    let trailers = match answers.trailers().await {
        Ok(trailers) => trailers.unwrap_or_default(),
        Err(error) => return Failed::lost(&error),
    };
    Failed::of_end(&trailers).unwrap_or_else(|| Failed::client("STREAM_ENDED", "the server ended the stream"))
}
