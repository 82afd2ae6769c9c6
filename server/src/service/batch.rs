//! Many checks in one message: `BatchCheckEntitlement`, and the frames of a stream.
//!
//! All are decided at one time, in order; a bad one fails alone. Waits for revisions happen together, before the first
//! decision. An answer stays below [`super::ANSWER_LEN_MAX`]: ten thousand plain answers do by far; what errors, details and
//! revisions may add beyond [`FULL_BYTES`] is refused item by item, briefly.

use std::sync::Arc;

use futures::future::join_all;
use tessera_core::decision::Query;
use tessera_core::revision::Revision;
use tessera_proto::convert::decision as convert;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::consistency::Requirement;
use tokio::time::Instant;
use tonic_types::pb;

use super::{Entitlements, Parts};
use crate::consistency::{Caller, Demand};
use crate::decide::{Check, Held, Moment, Wants};
use crate::matrix::{Found, Matrix};
use crate::metric_definitions::{CheckCounters, CheckTally};
use crate::wire::codec::Encoded;
use crate::wire::{decode, encode};

/// Most checks of a batch.
const BATCH_MAX: usize = 10_000;
/// Most checks of a batch whose answers have revisions or details.
const DETAILED_MAX: usize = 1_000;
/// Most checks of a message in which one asks to be explained.
const EXPLAINED_MAX: usize = 100;
/// Most checks of a frame.
const FRAME_MAX: usize = 1_000;
/// From so many bytes on, items are refused: what is left of the answer's limit is enough to refuse ten thousand.
const FULL_BYTES: usize = 3 << 20;
/// Full errors with all their details take no more than this of an answer, in bytes.
const ERRORS_BYTES: usize = 1 << 20;

/// So many rows are copied one right after the other, before the first is looked at: what memory takes to bring one, the
/// processor then waits for together with the others.
const LOOK_UPS_AT_ONCE: usize = 32;

/// What the items of a message wait for, once they have it: per item a matrix, or why not.
type Met = Vec<Result<Arc<Matrix>, Failure>>;

/// The checks of a message and what they share.
struct Frame<'a> {
    checks: &'a [decode::Check<'a>],
    consistency: Option<&'a v1::Consistency>,
    wants: Wants,
    counters: &'a CheckCounters,
}

/// What comes of a frame in the poll that brings it.
pub(super) enum AtOnce {
    Answered(Encoded),
    /// It came then.
    Waits(Instant),
}

impl Entitlements {
    pub(super) async fn batch(&self, message: Encoded, caller: Caller) -> Result<Encoded, Failure> {
        let counters = &self.0.shared.metrics.batch;
        let began = counters.request();
        let answer = self.0.batched(&message, caller).await;
        counters.answered(began);
        answer.inspect_err(|failure| counters.error(failure.reason()))
    }

    /// Answers a frame at once, or says that it has to wait. What is no frame ends the stream.
    pub(super) fn frame_at_once(&self, message: &Encoded, caller: &Caller) -> Result<AtOnce, Failure> {
        let parts = &*self.0;
        let request = decode::Frame::read(message, FRAME_MAX)?;
        let counters = &parts.shared.metrics.stream;
        let began = counters.request();
        // A frame that is refused for its size has been read all the same.
        let paid = parts.limits.charge_caller(caller, request.checks.count);
        if let Err(failure) = paid.and_then(|()| frame_size(&request)) {
            counters.error(failure.reason());
            return Ok(AtOnce::Answered(frame_error(request.id, &failure)));
        }
        let frame = Frame::of_stream(parts, &request);
        if frame.waits() {
            return Ok(AtOnce::Waits(began));
        }
        let answer = parts.answer_frame(request.id, &frame, caller, None);
        counters.answered(began);
        Ok(AtOnce::Answered(answer))
    }

    /// Answers a frame that has to wait, and came at `began`.
    pub(super) async fn frame_later(self, message: Encoded, began: Instant, caller: Caller) -> Result<Encoded, Failure> {
        let parts = &*self.0;
        let request = decode::Frame::read(&message, FRAME_MAX)?;
        let frame = Frame::of_stream(parts, &request);
        let met = parts.meet(&frame, &caller).await;
        let answer = parts.answer_frame(request.id, &frame, &caller, Some(&met));
        parts.shared.metrics.stream.answered(began);
        Ok(answer)
    }
}

impl Parts {
    async fn batched(&self, message: &Encoded, caller: Caller) -> Result<Encoded, Failure> {
        let message = decode::Batch::read(message, BATCH_MAX)?;
        // A batch that is refused for its size has been read all the same.
        self.limits.charge_caller(&caller, message.checks.count)?;
        batch_size(&message)?;
        let wants = Wants { revision: message.with_revisions, detail: message.with_details, explanation: false };
        let counters = &self.shared.metrics.batch;
        let consistency = message.consistency.as_deref();
        if let Some(Requirement::AtLeast(at_least)) = requirement(consistency) {
            // Of whom it is each item asks by itself; but what is no revision is none for any.
            let given = &at_least.revision;
            Revision::parse(given).map_err(|error| Failure::invalid_revision("consistency.at_least.revision", given, error))?;
        }
        let frame = Frame { checks: &message.checks.kept, consistency, wants, counters };
        let met = if frame.waits() { Some(self.meet(&frame, &caller).await) } else { None };
        let moment = Moment::of(&self.shared);
        let mut out = Vec::with_capacity(frame.expected_bytes());
        self.answer_checks(&mut out, 1, &frame, (&moment, &caller), met.as_ref());
        encode::timestamp(&mut out, 2, Some(moment.now));
        Ok(out.into())
    }

    fn answer_frame(&self, id: u64, frame: &Frame<'_>, caller: &Caller, met: Option<&Met>) -> Encoded {
        let moment = Moment::of(&self.shared);
        let mut out = Vec::with_capacity(frame.expected_bytes());
        encode::uint(&mut out, 1, id);
        self.answer_checks(&mut out, 2, frame, (&moment, caller), met);
        out.into()
    }

    /// Waits for everything that the items demand, together.
    async fn meet(&self, frame: &Frame<'_>, caller: &Caller) -> Met {
        let until = self.consistency.wait_until(caller);
        let items = frame.checks.iter().enumerate().map(async |(position, check)| {
            // A bad question is not waited for.
            question(check, position)?;
            let demand = frame.demand(check, position)?;
            self.consistency.meet(check.asked.tenant_id, &demand, caller, until).await
        });
        join_all(items).await
    }

    /// Appends one `CheckResult` per check as field `tag`.
    fn answer_checks(
        &self,
        out: &mut Vec<u8>,
        tag: u32,
        frame: &Frame<'_>,
        (moment, caller): (&Moment, &Caller),
        met: Option<&Met>,
    ) {
        let log = self.shared.decision_log.of(frame.counters.mode, false);
        let mut held = Held::new(Arc::clone(&self.shared.matrix()));
        let mut tally = CheckTally::default();
        let (mut revision, mut errors) = (Vec::new(), 0);
        let mut found = [const { Found::Unknown }; LOOK_UPS_AT_ONCE];
        for (chunk, checks) in frame.checks.chunks(LOOK_UPS_AT_ONCE).enumerate() {
            let first = chunk * LOOK_UPS_AT_ONCE;
            for (position, (found, message)) in (first..).zip(found.iter_mut().zip(checks)) {
                *found = match met.and_then(|met| met.get(position)) {
                    Some(Ok(matrix)) => matrix.tenant(message.asked.tenant_id),
                    Some(Err(_)) => Found::Unknown,
                    None => held.find(message.asked.tenant_id),
                };
            }
            for (position, (found, message)) in (first..).zip(found.iter().zip(checks)) {
                if out.len() > FULL_BYTES {
                    frame.counters.error("TOO_LARGE");
                    encode::result_error(out, tag, full());
                    continue;
                }
                let decided = match met.and_then(|met| met.get(position)) {
                    Some(Err(failure)) => Err(failure.clone()),
                    met => {
                        let of_met = met.and_then(|met| met.as_ref().ok()).map(|matrix| {
                            held.turn_to(matrix);
                            moment.told_of(matrix, &self.shared)
                        });
                        let moment = of_met.as_ref().unwrap_or(moment);
                        let decided = convert::query_by_names(&message.asked).and_then(|query| {
                            let wants = Wants { explanation: message.explain, ..frame.wants };
                            let (tenant, unchecked) = (message.asked.tenant_id, Some(&message.asked));
                            self.limits.charge_tenant(caller, tenant, 1)?;
                            let check = Check { tenant, query, wants, unchecked, hidden: !caller.sees(tenant), log };
                            held.decide(found, &check, moment, &mut revision, |answer| encode::result_answer(out, tag, answer))
                        });
                        decided.map_err(|failure| failure.within(&path(position)))
                    }
                };
                match decided {
                    Ok((reason, ())) => tally.count(reason),
                    Err(failure) => {
                        frame.counters.error(failure.reason());
                        let before = out.len();
                        encode::result_error(out, tag, item_status(failure, errors));
                        errors += out.len().saturating_sub(before);
                    }
                }
            }
        }
        frame.counters.many(&tally);
    }
}

impl<'a> Frame<'a> {
    fn of_stream(parts: &'a Parts, request: &'a decode::Frame<'a>) -> Self {
        let wants = Wants { revision: request.with_revisions, detail: request.with_details, explanation: false };
        Self { checks: &request.checks.kept, consistency: None, wants, counters: &parts.shared.metrics.stream }
    }

    /// Whether any item demands more than what is there.
    fn waits(&self) -> bool {
        let demands = |consistency: Option<&v1::Consistency>| {
            requirement(consistency).is_some_and(|requirement| !matches!(requirement, Requirement::MinimizeLatency(_)))
        };
        demands(self.consistency) || self.checks.iter().any(|check| demands(check.consistency.as_deref()))
    }

    /// What an item demands: what it says itself, else what all do.
    fn demand(&self, check: &decode::Check<'_>, position: usize) -> Result<Demand, Failure> {
        if requirement(check.consistency.as_deref()).is_none() {
            return Demand::of(self.consistency, check.asked.tenant_id);
        }
        Demand::of(check.consistency.as_deref(), check.asked.tenant_id).map_err(|failure| failure.within(&path(position)))
    }

    fn expected_bytes(&self) -> usize {
        /// A plain answer with its frame.
        const ANSWER_BYTES: usize = 64;
        16 + self.checks.len() * ANSWER_BYTES
    }
}

fn batch_size(message: &decode::Batch<'_>) -> Result<(), Failure> {
    let detailed = message.with_revisions || message.with_details;
    let (max, with) = if detailed { (DETAILED_MAX, " with revisions or details") } else { (BATCH_MAX, "") };
    size(&message.checks, max, with)
}

fn frame_size(message: &decode::Frame<'_>) -> Result<(), Failure> {
    size(&message.checks, FRAME_MAX, " in a frame")
}

fn size(checks: &decode::Checks<'_>, max: usize, with: &str) -> Result<(), Failure> {
    let count = checks.count;
    if count > max {
        return Err(Failure::too_large("checks", format!("`{count}` checks; allowed are at most {max}{with}")));
    }
    if count > EXPLAINED_MAX && checks.kept.iter().any(|check| check.explain) {
        let allowed = format!("`{count}` checks; allowed are at most {EXPLAINED_MAX} when one asks to be explained");
        return Err(Failure::too_large("checks", allowed));
    }
    Ok(())
}

fn frame_error(id: u64, failure: &Failure) -> Encoded {
    let mut out = Vec::new();
    encode::uint(&mut out, 1, id);
    encode::message(&mut out, 3, &failure.to_rpc_status());
    out.into()
}

/// What is said of how new an answer must be. Nothing in it is as if it were not there.
fn requirement(consistency: Option<&v1::Consistency>) -> Option<&Requirement> {
    consistency.and_then(|consistency| consistency.requirement.as_ref())
}

fn question<'a>(check: &decode::Check<'a>, position: usize) -> Result<Query<'a>, Failure> {
    convert::query(&check.asked).map_err(|failure| failure.within(&path(position)))
}

fn path(position: usize) -> String {
    format!("checks[{position}].")
}

/// The status of an item: whole as long as errors have not taken their share, then brief.
fn item_status(failure: Failure, errors: usize) -> pb::Status {
    let failure = if errors < ERRORS_BYTES { failure } else { failure.brief() };
    failure.to_rpc_status()
}

/// The status of an item for which there is no room.
fn full() -> pb::Status {
    Failure::too_large("checks", "the answer is full; ask for fewer at a time").brief().to_rpc_status()
}
