//! A command that was done before: its first result again, at any loader, for ever.

use std::sync::Arc;

use tessera_core::aggregate::Settled;
use tessera_ports::event_store::RequestRow;
use tessera_ports::hooks::{self, Guard};

use super::pending::Pending;
use super::{Desk, Done};
use crate::aggregate::{Handled, Snapshot};
use crate::refusal::Refusal;
use crate::streams::Until;

/// The first result of the command behind `row`: the state at its last seq, or the rejection that was settled.
pub(super) async fn first_result<A: Handled>(
    desk: &Desk<A>,
    member: &Pending<A>,
    row: &RequestRow,
    now: &Snapshot<A>,
) -> Result<Done<A>, Refusal> {
    let request = &member.request;
    if row.digest != request.digest && hooks::holds(Guard::RequestDigest) {
        return Err(Refusal::RequestIdReused(row.id.clone()));
    }
    let current = row.seq == now.head.seq || !hooks::holds(Guard::ReplayFoldsToFirstResult);
    let (seq, state, last) = if current {
        (now.head.seq, Arc::clone(&now.state), Some(desk.streams.event(&request.stream, row.seq).await?))
    } else {
        let folded = desk.streams.fold(&request.stream, Until::Seq(row.seq)).await?;
        if folded.seq != row.seq {
            return Err(Refusal::StoreUnavailable(format!("event {} of `{}` is not there yet", row.seq, request.stream)));
        }
        (folded.seq, Arc::new(folded.state), folded.last)
    };
    let settled = last.as_ref().and_then(|last| A::settled(&last.recorded.event));
    if let Some(Settled::Rejected(rejection)) = settled {
        return Err(rejection.clone().into());
    }
    // Found because this very call wrote it, and was not told so: then it is no replay.
    Ok(Done { epoch: now.epoch, seq, state, replay: !member.wrote(row), changed: settled.is_none() })
}
