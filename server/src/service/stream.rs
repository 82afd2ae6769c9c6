//! `StreamCheckEntitlement`: one answer per frame, in order. A combinator over the input: a frame is answered in the poll that
//! brings it, without a task or a channel between, so that answers to frames that came together leave together.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tessera_proto::status::Failure;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use super::Entitlements;
use super::batch::AtOnce;
use super::server::input_error;
use crate::consistency::Caller;
use crate::wire::codec::Encoded;

/// The answers of one call.
pub(crate) struct Checks {
    service: Entitlements,
    caller: Caller,
    input: Streaming<Encoded>,
    /// The frame that waits for a revision; the ones behind it wait, too.
    waiting: Option<BoxFuture<'static, Result<Encoded, Failure>>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checks")
    }
}

impl Entitlements {
    pub(super) fn stream(&self, input: Streaming<Encoded>, caller: Caller) -> Checks {
        Checks {
            service: self.clone(),
            caller,
            input,
            waiting: None,
            closing: Box::pin(self.0.shutdown.closing.clone().cancelled_owned()),
            ended: false,
        }
    }
}

impl Checks {
    /// The last thing that is said.
    fn end(&mut self, status: Status) -> Poll<Option<Result<Encoded, Status>>> {
        self.ended = true;
        Poll::Ready(Some(Err(status)))
    }
}

impl Stream for Checks {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(waiting) = &mut self.waiting {
                let Poll::Ready(answer) = waiting.poll_unpin(context) else { return Poll::Pending };
                self.waiting = None;
                return match answer {
                    Ok(answer) => Poll::Ready(Some(Ok(answer))),
                    Err(failure) => self.end(failure.into()),
                };
            }
            if self.service.0.shutdown.is_closing() {
                return self.end(Failure::draining().into());
            }
            match self.input.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(frame))) => match self.service.frame_at_once(&frame, &self.caller) {
                    Ok(AtOnce::Answered(answer)) => return Poll::Ready(Some(Ok(answer))),
                    Err(failure) => return self.end(failure.into()),
                    Ok(AtOnce::Waits(began)) => {
                        self.waiting = Some(self.service.clone().frame_later(frame, began, self.caller.clone()).boxed());
                    }
                },
                Poll::Ready(Some(Err(status))) => return self.end(input_error(status)),
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if self.closing.poll_unpin(context).is_ready() {
                        return self.end(Failure::draining().into());
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
