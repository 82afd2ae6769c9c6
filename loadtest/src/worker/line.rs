//! A connection that is made again when it breaks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::desk::Desk;
use crate::credentials::Way;
use crate::failure::Failed;
use crate::question::Mode;
use crate::wire::{self, Begun, Head};

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// First pause before connecting again; doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connection on which nothing came back for so much longer than the deadline is taken for dead: a server that is only slow
/// answers something.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// One connection to one server.
pub(super) struct Line {
    head: Head,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Somebody saw that nothing comes through.
    dead: Notify,
    up: Notify,
    /// When something last came back, or when it was made.
    heard: Cell<Instant>,
}

impl Line {
    /// Connects in a task of its own, now and whenever the connection breaks.
    pub(super) fn open(way: &Way, mode: Mode, desk: &Rc<Desk>) -> anyhow::Result<Rc<Self>> {
        let head = Head::new(way, mode, desk.deadline)?;
        let line = Rc::new(Self {
            head,
            sender: RefCell::new(None),
            dead: Notify::new(),
            up: Notify::new(),
            heard: Cell::new(Instant::now()),
        });
        tokio::task::spawn_local(Rc::clone(&line).keep(way.clone(), Rc::clone(desk)));
        Ok(line)
    }

    /// A connection that is there already, and is not made again.
    #[cfg(test)]
    pub(super) fn over(sender: SendRequest<Bytes>, head: Head) -> Rc<Self> {
        Rc::new(Self {
            head,
            sender: RefCell::new(Some(sender)),
            dead: Notify::new(),
            up: Notify::new(),
            heard: Cell::new(Instant::now()),
        })
    }

    /// Whether calls can be begun.
    pub(super) fn is_up(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Waits until calls can be begun. Any number of tasks may wait.
    pub(super) async fn wait(&self) {
        loop {
            let up = self.up.notified();
            if self.is_up() {
                return;
            }
            up.await;
        }
    }

    /// Begins a call; `None` while there is no connection. A connection that takes no calls any more (its server drains) is let go.
    pub(super) fn begin(&self) -> Option<Begun> {
        // A copy of its own: a sender whose last call waits for the server's leave takes no second one.
        let mut sender = self.sender.borrow().clone()?;
        let begun = self.head.begin(&mut sender).ok();
        if begun.is_none() {
            // What was wrong the connection's own end says.
            self.sender.replace(None);
        }
        begun
    }

    /// Something on it had no answer before its deadline. Where nothing at all comes back any more, it is made anew.
    pub(super) fn unanswered(&self, desk: &Desk) {
        if self.is_up() && self.heard.get().elapsed() > desk.deadline + SILENCE {
            self.dead.notify_one();
        }
    }

    /// Something came back on it.
    pub(super) fn hear(&self, now: Instant) {
        self.heard.set(now);
    }

    async fn keep(self: Rc<Self>, way: Way, desk: Rc<Desk>) {
        let mut pause = PAUSE;
        loop {
            match wire::connect(&way, PATIENCE).await {
                Ok((sender, connection)) => {
                    self.heard.set(Instant::now());
                    self.sender.replace(Some(sender));
                    self.up.notify_waiters();
                    desk.change();
                    let failed = tokio::select! {
                        ended = connection => match ended {
                            Ok(()) => Failed::client("CONNECTION_CLOSED", "the other side closed the connection"),
                            Err(error) => Failed::lost(&error),
                        },
                        () = self.dead.notified() => {
                            Failed::client("CONNECTION_SILENT", "nothing came back on the connection before the deadline")
                        }
                    };
                    self.sender.replace(None);
                    // It was up for a while, or at least once.
                    pause = PAUSE;
                    desk.broke(failed);
                }
                Err(failed) => desk.broke(failed),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
