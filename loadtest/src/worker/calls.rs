//! Messages as calls of their own: unary checks and batches.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use h2::client::ResponseFuture;
use tokio::time::Instant;

use super::Offered;
use super::desk::{Desk, Times};
use super::line::{Line, SILENCE};
use crate::account::Hold;
use crate::failure::Failed;
use crate::question::Question;
use crate::wire;

/// Connections that take calls in turn.
pub(super) struct Calls {
    lines: Vec<Rc<Line>>,
    next: Cell<usize>,
}

struct Call {
    desk: Rc<Desk>,
    line: Rc<Line>,
    times: Times,
    questions: Vec<Question>,
}

impl Calls {
    pub(super) fn over(lines: Vec<Rc<Line>>) -> Self {
        Self { lines, next: Cell::new(0) }
    }

    pub(super) fn all_up(&self) -> bool {
        self.lines.iter().all(|line| line.is_up())
    }

    /// Sends a message on the next connection that is up.
    pub(super) fn offer(&self, desk: &Rc<Desk>, times: Times, size: usize) -> anyhow::Result<Offered> {
        for _ in 0..self.lines.len() {
            let turn = self.next.get();
            self.next.set((turn + 1) % self.lines.len());
            let Some(line) = self.lines.get(turn) else { continue };
            let Some((answer, mut body)) = line.begin() else { continue };
            let (questions, bytes) = desk.draw(0, size)?;
            // Before the connection has its turn, so that headers and message are written together.
            let sent = body.send_data(bytes, true);
            let call = Call { desk: Rc::clone(desk), line: Rc::clone(line), times, questions };
            tokio::task::spawn_local(call.run(sent, answer));
            return Ok(Offered::Sent);
        }
        Ok(Offered::Held(Hold::NoConnection))
    }
}

impl Call {
    async fn run(self, sent: Result<(), h2::Error>, answer: ResponseFuture) {
        let Self { desk, line, times, questions } = self;
        if let Err(error) = sent {
            return desk.failed(times, Failed::lost(&error));
        }
        let mut answer = pin!(wire::only_message(answer));
        let in_time = tokio::time::timeout_at(times.due + desk.deadline, &mut answer).await;
        let now = Instant::now();
        match in_time {
            Ok(Ok(message)) => {
                line.hear(now);
                desk.answered(times, now, &questions, &message);
            }
            Ok(Err(failed)) => {
                line.hear(now);
                desk.failed(times, failed);
            }
            Err(_) => {
                line.unanswered(&desk);
                desk.failed(times, Failed::too_late());
                // The server ends the call itself. Cancelling each would look like an attack, and cost the connection.
                if tokio::time::timeout(SILENCE, answer).await.is_ok() {
                    line.hear(Instant::now());
                }
            }
        }
    }
}
