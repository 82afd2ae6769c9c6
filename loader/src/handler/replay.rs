//! A command that was done before: its first result again, at any loader, for ever.
//!
//! The events up to a seq never change, so that nothing of the stream waits for a state that has to be made of them: what follows
//! in the stream goes on, and the replay is answered by a task of its own.

use std::sync::Arc;

use tessera_core::aggregate::Settled;
use tessera_core::stream::Epoch;
use tessera_ports::event_store::RequestRow;
use tessera_ports::hooks::{self, Guard};
use tessera_proto::storage::StoredEvent;

use super::pending::Pending;
use super::queue::until;
use super::{Desk, Done};
use crate::aggregate::{Handled, Snapshot};
use crate::refusal::Refusal;
use crate::streams::{Folded, Until};

/// Replays of one kind of stream that read history at once: each has up to 8 MiB of events in memory. They take turns read by
/// read, so that a short history does not wait for a long one.
pub(crate) const REPLAYS_AT_ONCE: usize = 16;

/// The first result of a command, if it was not rejected.
pub(super) enum FirstResult<A> {
    /// At hand.
    Known(Done<A>),
    /// A state that the stream once had.
    InHistory(Replay),
}

/// A command whose first result is to be read.
pub(super) struct Replay {
    epoch: Epoch,
    row: RequestRow,
    changed: bool,
}

/// The first result of the command behind `row`: the rejection that was settled, or the state at its `last` event.
pub(super) fn first_result<A: Handled>(
    member: &Pending<A>,
    row: &RequestRow,
    last: Result<StoredEvent<A::Event>, Refusal>,
    now: &Snapshot<A>,
) -> Result<FirstResult<A>, Refusal> {
    if row.digest != member.request.digest && hooks::holds(Guard::RequestDigest) {
        return Err(Refusal::RequestIdReused(row.id.clone()));
    }
    let last = last?;
    let settled = A::settled(&last.recorded.event);
    if let Some(Settled::Rejected(rejection)) = settled {
        return Err(rejection.clone().into());
    }
    let changed = settled.is_none();
    if row.seq != now.head.seq && hooks::holds(Guard::ReplayFoldsToFirstResult) {
        return Ok(FirstResult::InHistory(Replay { epoch: now.epoch, row: row.clone(), changed }));
    }
    // Found because this very call wrote it, and was not told so: then it is no replay.
    let replay = !member.wrote(row);
    let state = Arc::clone(&now.state);
    Ok(FirstResult::Known(Done { epoch: now.epoch, seq: now.head.seq, state, replay, changed }))
}

impl Replay {
    /// Has it read and answered. At the deadline the caller is told to ask again.
    pub(super) fn start<A: Handled>(self, desk: &Arc<Desk<A>>, member: Pending<A>) {
        let at_desk = Arc::clone(desk);
        let reading = async move {
            if let Some(result) = until(Some(member.cutoff()), self.read(&at_desk, &member)).await {
                member.answer(result);
            }
        };
        drop(desk.tasks.run("loader.replay", reading));
    }

    async fn read<A: Handled>(&self, desk: &Desk<A>, member: &Pending<A>) -> Result<Done<A>, Refusal> {
        let Self { epoch, row, changed } = self;
        let mut pauses = 0;
        loop {
            match self.fold(desk, member).await {
                Ok(folded) if self.is_of(&folded) => {
                    let replay = !member.wrote(row);
                    return Ok(Done { epoch: *epoch, seq: row.seq, state: Arc::new(folded.state), replay, changed: *changed });
                }
                // Not there yet, or not any more: whoever set the store back took it along.
                Ok(_) | Err(Refusal::StoreUnavailable(_)) => {}
                Err(refusal) => return Err(refusal),
            }
            tokio::time::sleep(desk.config.backoff(pauses, row.seq)).await;
            pauses = pauses.saturating_add(1);
        }
    }

    async fn fold<A: Handled>(&self, desk: &Desk<A>, member: &Pending<A>) -> Result<Folded<A>, Refusal> {
        desk.streams.fold(&desk.replays, &member.request.stream, Until::Seq(self.row.seq)).await
    }

    /// Whether that is the stream as the command left it.
    fn is_of<A: Handled>(&self, folded: &Folded<A>) -> bool {
        folded.seq == self.row.seq && folded.last.as_ref().is_some_and(|last| last.request_id == self.row.id)
    }
}
