//! `ImportTenants`: any number of tenant documents in one stream, each a `StateTenant` of its own.
//!
//! Rows that have come are handled a batch at a time (the store commits them together), some batches at once, and answered in
//! order: "applied through row n" means that every row up to n is done or reported. A row begins when the rows of its tenant
//! before it are done or have failed, and a batch when there is room for it beside all other imports; until then no more is read.
//!
//! A row's request id is a hash of import id, row number, tenant and document, so the same import run again, at any loader and in
//! any mode, finds every row done that is. Rows that fail are reported and do not end the stream, and the same import run again
//! decides them again; a stream that is not an import (no start, rows that do not rise) is refused.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use futures::stream::BoxStream;
use futures::{FutureExt as _, Stream, StreamExt as _};
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::shown::shown;
use tessera_core::tenant::{Action, Command, StateMode, TenantState};
use tessera_proto::convert::tenant as convert;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tessera_proto::v1::import_tenants_request::Item;
use tessera_runtime::identity::Principal;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::gate::{Gate, is_retry, sees, time_left};
use super::tenant_svc::{command, not_found};
use super::undecoded;
use crate::digest;
use crate::handler::{Caller, Handler, Request};
use crate::metric_definitions as metrics;
use crate::refusal::Refusal;

/// Most rows that one answer speaks of.
const ROWS_PER_ANSWER: usize = 1_000;
/// Longest time that a finished row waits to be answered.
const ANSWER_AFTER: Duration = Duration::from_millis(200);
/// Most rows in a batch: enough to share what a batch costs, few enough that the first do not wait long for the last.
const ROWS_PER_BATCH: usize = 512;
/// Bytes of a batch, beyond which it takes no more rows: bounds what an import of big tenants holds.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How often a row is tried when the store does not answer, before it is reported.
const ROW_ATTEMPTS: u32 = 3;

/// Lets an import in.
#[derive(Debug)]
pub(crate) struct Import {
    gate: Gate,
    handler: Handler<TenantState>,
    principal: Principal,
    retry: bool,
    deadline: Option<Instant>,
}

/// An import whose start was read.
#[derive(Debug)]
struct Rows {
    import: Import,
    id: RequestId,
    mode: StateMode,
}

/// Rows that are handled together.
#[derive(Debug, Default)]
struct Batch {
    /// One turn after the other, so that the rows of one tenant keep their order: each has one row of a tenant at most.
    turns: Vec<Vec<v1::ImportRow>>,
    /// Its tenants, each with its number of rows.
    tenants: HashMap<String, usize>,
    len: usize,
    bytes: usize,
}

/// A batch that was begun.
#[derive(Debug)]
struct Begun {
    tenants: HashMap<String, usize>,
    /// Closed when all of it is done.
    done: oneshot::Receiver<Infallible>,
}

/// Whether a channel is open that is only there to be closed.
fn is_open(receiver: &mut oneshot::Receiver<Infallible>) -> bool {
    matches!(receiver.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

/// What came of a row.
#[derive(Debug)]
struct RowDone {
    row: i64,
    unchanged: bool,
    error: Option<v1::ImportError>,
}

/// A row of a batch.
struct Tried {
    row: v1::ImportRow,
    outcome: Outcome,
}

/// What has come of it so far.
enum Outcome {
    /// Nothing yet.
    Asked,
    /// Nothing the first time.
    Refused(Refusal),
    /// Whether it changed anything now.
    Known(Result<bool, Failure>),
}

impl Batch {
    fn push(&mut self, row: v1::ImportRow) {
        self.len += 1;
        self.bytes = self.bytes.saturating_add(prost::Message::encoded_len(&row));
        let tenant = row.tenant.as_ref().map(|tenant| tenant.tenant_id.clone()).unwrap_or_default();
        let before = self.tenants.entry(tenant).or_default();
        match self.turns.get_mut(*before) {
            Some(turn) => turn.push(row),
            None => self.turns.push(vec![row]),
        }
        *before += 1;
    }
}

impl Tried {
    async fn settle(&mut self, rows: &Rows) {
        if let Outcome::Refused(refusal) = &self.outcome {
            self.outcome = Outcome::Known(rows.again(&self.row, refusal.clone()).await);
        }
    }
}

impl From<Tried> for RowDone {
    fn from(tried: Tried) -> Self {
        let row = tried.row.row;
        let failure = match tried.outcome {
            Outcome::Known(Ok(changed)) => return Self { row, unchanged: !changed, error: None },
            Outcome::Known(Err(failure)) => failure,
            Outcome::Refused(refusal) => refusal.into(),
            Outcome::Asked => Failure::internal("a row was not handled".to_owned()),
        };
        let tenant_id = tried.row.tenant.as_ref().map(|tenant| shown_id(&tenant.tenant_id)).unwrap_or_default();
        // What decides speaks of the document of `StateTenant`.
        let failure = failure.renamed("document", "tenant");
        let error = v1::ImportError { row, tenant_id, status: Some(failure.to_rpc_status()) };
        Self { row, unchanged: false, error: Some(error) }
    }
}

impl Import {
    pub(crate) fn begin(
        gate: Gate,
        handler: Handler<TenantState>,
        metadata: &MetadataMap,
        principal: Principal,
    ) -> Result<Self, Failure> {
        gate.admit_read(metadata)?;
        let deadline = time_left(metadata)?.map(|left| Instant::now() + left);
        Ok(Self { gate, handler, principal, retry: is_retry(metadata), deadline })
    }

    /// The answers to what comes in.
    pub(crate) fn answers<S>(self, inbound: S) -> BoxStream<'static, Result<v1::ImportTenantsResponse, Status>>
    where
        S: Stream<Item = Result<v1::ImportTenantsRequest, Status>> + Send + 'static,
    {
        let starting = async move {
            let mut inbound = Box::pin(inbound);
            match inbound.next().await {
                Some(Ok(first)) => match self.start(first) {
                    Ok(rows) => Arc::new(rows).run(inbound),
                    Err(failure) => refused(failure.into()),
                },
                Some(Err(status)) => refused(undecoded::in_our_words(status)),
                None => refused(Failure::invalid_field("item", "the stream is empty; the first message is `start`").into()),
            }
        };
        futures::stream::once(starting).flatten().boxed()
    }

    fn start(self, first: v1::ImportTenantsRequest) -> Result<Rows, Failure> {
        let Some(Item::Start(start)) = first.item else {
            return Err(Failure::invalid_field("item", "the first message is not `start`; allowed is `start` first, then rows"));
        };
        let id =
            RequestId::parse(&start.import_id).map_err(|error| Failure::invalid_field("start.import_id", error.to_string()))?;
        let mode = match v1::ImportMode::try_from(start.mode) {
            Ok(v1::ImportMode::CreateOnly) => StateMode::CreateOnly,
            Ok(v1::ImportMode::Upsert) => StateMode::Upsert,
            Ok(v1::ImportMode::Unspecified) | Err(_) => {
                let description = format!("`{}` is not a mode; allowed are CREATE_ONLY and UPSERT", start.mode);
                return Err(Failure::invalid_field("start.mode", description));
            }
        };
        Ok(Rows { import: self, id, mode })
    }
}

fn refused(status: Status) -> BoxStream<'static, Result<v1::ImportTenantsResponse, Status>> {
    futures::stream::once(async { Err(status) }).boxed()
}

type Inbound<S> = Pin<Box<S>>;

impl Rows {
    fn run<S>(self: Arc<Self>, inbound: Inbound<S>) -> BoxStream<'static, Result<v1::ImportTenantsResponse, Status>>
    where
        S: Stream<Item = Result<v1::ImportTenantsRequest, Status>> + Send + 'static,
    {
        let draining = self.import.gate.shutdown.soft.clone();
        let rows_at_once = self.import.gate.config.import_concurrency;
        let rows_per_batch = ROWS_PER_BATCH.min(rows_at_once);
        let rows = inbound
            // No new rows once draining; those under way are finished and answered.
            .take_until(draining.clone().cancelled_owned())
            // Nor after a message that is no row.
            .scan(Some(0), |last, message| {
                let row = last.map(|before| rising(message, before));
                *last = row.as_ref().and_then(|row| row.as_ref().ok()).map(|row| row.row);
                std::future::ready(row)
            });
        let beginning = (self, Box::pin(batches(rows, rows_per_batch)), Vec::new());
        let begun = futures::stream::unfold(beginning, |(rows, mut batches, mut under_way)| async move {
            let begun = match batches.next().await? {
                Ok(batch) => rows.begin(batch, &mut under_way).await,
                Err(status) => Err(status),
            };
            Some((begun, (rows, batches, under_way)))
        });
        let done = begun.map(|begun| async move { begun?.await }).buffered(rows_at_once / rows_per_batch).flat_map(|done| {
            let (done, status) = done.map_or_else(|status| (Vec::new(), Some(status)), |done| (done, None));
            futures::stream::iter(done.into_iter().map(Ok).chain(status.map(Err)))
        });
        let ending = async move { draining.is_cancelled().then(|| Status::from(Failure::draining())) };
        let done = done.map(Some).chain(futures::stream::once(ending).map(|draining| draining.map(Err)));
        let progress = Progress { done: done.boxed(), through: 0, unchanged: 0, stage: Stage::Rows };
        futures::stream::unfold(progress, Progress::next_answer).boxed()
    }

    /// Begins a batch behind those of `under_way` that have tenants of its own, and when there is room. It goes on in a task of
    /// its own: room that others wait for is given back whether or not anybody reads the answers.
    async fn begin(
        self: &Arc<Self>,
        batch: Batch,
        under_way: &mut Vec<Begun>,
    ) -> Result<impl Future<Output = Result<Vec<RowDone>, Status>> + use<>, Status> {
        under_way.retain_mut(|before| is_open(&mut before.done));
        let is_before = |before: &mut Begun| batch.tenants.keys().any(|tenant| before.tenants.contains_key(tenant));
        for before in under_way.extract_if(.., is_before) {
            let Err(_closed) = before.done.await;
        }
        let room = self.room(&batch).await?;
        let (ending, done) = oneshot::channel();
        let (waits, waited_for) = oneshot::channel();
        let Batch { turns, tenants, .. } = batch;
        under_way.push(Begun { tenants, done });
        let rows = Arc::clone(self);
        let answered = self.import.handler.tasks().run("loader.import", async move {
            let done = rows.batch(turns, waited_for).await;
            drop((room, ending));
            done
        });
        Ok(async move {
            let answer = answered.await.map_err(|lost| Failure::internal(lost.to_string()).into());
            drop(waits);
            answer
        })
    }

    /// Waits, at most as long as the import may take, for the room of a batch.
    async fn room(&self, batch: &Batch) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let room = self.import.handler.room(batch.len, batch.bytes);
        match self.import.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, room).await.map_err(|_| Failure::deadline_exceeded()),
            None => Ok(room.await),
        }
    }

    /// Makes the tenants what the rows say. When the caller has left and `waited_for` is closed, no further turn begins.
    async fn batch(&self, turns: Vec<Vec<v1::ImportRow>>, mut waited_for: oneshot::Receiver<Infallible>) -> Vec<RowDone> {
        let mut done = Vec::new();
        for rows in turns {
            if !is_open(&mut waited_for) {
                break;
            }
            done.append(&mut self.turn(rows).await);
        }
        done.sort_unstable_by_key(|done| done.row);
        let count =
            |unchanged, failed| done.iter().filter(|row| (row.unchanged, row.error.is_some()) == (unchanged, failed)).count();
        metrics::import_rows("changed", count(false, false));
        metrics::import_rows("unchanged", count(true, false));
        metrics::import_rows("failed", count(false, true));
        done
    }

    /// As [`Self::batch`], of rows that each have a tenant of their own.
    async fn turn(&self, rows: Vec<v1::ImportRow>) -> Vec<RowDone> {
        let mut requests = Vec::with_capacity(rows.len());
        let mut tried = Vec::with_capacity(rows.len());
        for row in rows {
            let request = self.request(&row, self.import.retry);
            let outcome = request.map(|request| requests.push(request));
            tried.push(Tried { row, outcome: outcome.map_or_else(|failure| Outcome::Known(Err(failure)), |()| Outcome::Asked) });
        }
        let mut results = self.import.handler.handle_many(requests).await.into_iter();
        for tried in tried.iter_mut().filter(|tried| matches!(tried.outcome, Outcome::Asked)) {
            tried.outcome = match results.next() {
                Some(Ok(done)) => Outcome::Known(Ok(done.changed && !done.replay)),
                Some(Err(refusal)) => Outcome::Refused(refusal),
                None => Outcome::Asked,
            };
        }
        let refused = tried.iter_mut().filter(|tried| matches!(tried.outcome, Outcome::Refused(_)));
        join_all(refused.map(|tried| tried.settle(self))).await;
        tried.into_iter().map(RowDone::from).collect()
    }

    /// What a row asks for.
    fn request(&self, row: &v1::ImportRow, retry: bool) -> Result<Request<Command>, Failure> {
        let import = &self.import;
        let body = row.tenant.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let (tenant, document, suspended) = convert::document("tenant", "", row.tenant.as_ref())?;
        let parts: [&[u8]; 4] = [self.id.as_str().as_bytes(), &row.row.to_le_bytes(), tenant.as_str().as_bytes(), &body];
        let request_id = RequestId::parse(&digest::name(&parts)).map_err(|error| Failure::internal(error.to_string()))?;
        let (stream, command) = command(tenant, Action::State { document: Box::new(document), suspended, mode: self.mode });
        if !sees(&import.principal, &stream) {
            return Err(not_found(stream.key()));
        }
        let caller = Caller { request_id, actor: import.principal.actor().clone(), retry, deadline: self.deadline() };
        // The mode is left out: a row that is done is done, in whichever mode the import is run again.
        let digest = digest::of_command("ImportTenants", &body);
        // One that was rejected is not: what was in its way may be gone, and another mode may not mind.
        Ok(Request { caller, stream, command, digest, etag: None, len: body.len(), rejection_stands: false })
    }

    /// Asks again for a row that was refused for want of an answer or of room.
    async fn again(&self, row: &v1::ImportRow, mut refusal: Refusal) -> Result<bool, Failure> {
        let import = &self.import;
        // Once an attempt may have been stored, only a decision tells.
        let mut unknown = None;
        for attempt in 1..ROW_ATTEMPTS {
            match &refusal {
                Refusal::OutcomeUnknown(_) => unknown = Some(refusal),
                Refusal::StoreUnavailable(_) => {}
                Refusal::Overloaded(_) => {
                    tokio::time::sleep(import.gate.config.backoff(attempt.saturating_mul(2), 0)).await;
                }
                _ => break,
            }
            match import.handler.handle(self.request(row, import.retry || unknown.is_some())?).await {
                // What is found then was changed by the attempt before.
                Ok(done) => return Ok(done.changed && (unknown.is_some() || !done.replay)),
                Err(next) => refusal = next,
            }
        }
        let decided = matches!(refusal, Refusal::Rejected(_) | Refusal::RequestIdReused(_));
        Err(unknown.filter(|_| !decided).unwrap_or(refusal).into())
    }

    fn deadline(&self) -> Instant {
        let own = Instant::now() + self.import.gate.granted(None);
        self.import.deadline.map_or(own, |deadline| deadline.min(own))
    }
}

/// A row's tenant in an answer: the id, or of what is none as much as may be repeated, escaped.
fn shown_id(given: &str) -> String {
    if TenantId::check(given).is_ok() {
        return given.to_owned();
    }
    shown(given)
}

/// The next row, whose number must be above the `last` one.
fn rising(message: Result<v1::ImportTenantsRequest, Status>, last: i64) -> Result<v1::ImportRow, Status> {
    let Some(Item::Row(row)) = message.map_err(undecoded::in_our_words)?.item else {
        return Err(Failure::invalid_field("item", "it is not a row; allowed are rows after the one `start`").into());
    };
    if row.row <= last {
        let description = format!("`{}` is not allowed after row {last}; allowed are rising numbers from 1", row.row);
        return Err(Failure::invalid_field("row.row", description).into());
    }
    Ok(row)
}

/// The rows in batches: what has come when one is asked for, at least one row. An error comes behind the rows before it.
fn batches<S>(rows: S, rows_max: usize) -> impl Stream<Item = Result<Batch, Status>>
where
    S: Stream<Item = Result<v1::ImportRow, Status>>,
{
    let rows = (Box::pin(rows.fuse()), None);
    futures::stream::unfold(rows, move |(mut rows, error)| async move {
        if let Some(status) = error {
            return Some((Err(status), (rows, None)));
        }
        let (mut batch, mut error) = (Batch::default(), None);
        let mut next = rows.next().await;
        while let Some(row) = next.take() {
            match row {
                Ok(row) => batch.push(row),
                Err(status) => {
                    error = Some(status);
                    break;
                }
            }
            if batch.len < rows_max && batch.bytes < BATCH_BYTES_MAX {
                next = rows.next().now_or_never().flatten();
            }
        }
        match error {
            Some(status) if batch.len == 0 => Some((Err(status), (rows, None))),
            error => (batch.len > 0).then(|| (Ok(batch), (rows, error))),
        }
    })
}

/// How far the answers have come.
struct Progress {
    /// Rows in order; `None` at the end, after which nothing more comes.
    done: BoxStream<'static, Option<Result<RowDone, Status>>>,
    through: i64,
    unchanged: i64,
    stage: Stage,
}

/// What an import still has to say.
enum Stage {
    Rows,
    /// No more rows, and why.
    Refused(Status),
    /// Nothing.
    Over,
}

impl Progress {
    async fn next_answer(mut self) -> Option<(Result<v1::ImportTenantsResponse, Status>, Self)> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Rows => self.stage = Stage::Rows,
            Stage::Refused(status) => return Some((Err(status), self)),
            Stage::Over => return None,
        }
        let (mut errors, mut count) = (Vec::new(), 0_usize);
        let mut answer_at = None;
        while count < ROWS_PER_ANSWER {
            let next = match answer_at {
                None => self.done.next().await,
                Some(at) => match tokio::time::timeout_at(at, self.done.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next.flatten() {
                Some(Ok(done)) => {
                    self.through = done.row;
                    self.unchanged = self.unchanged.saturating_add(i64::from(done.unchanged));
                    errors.extend(done.error);
                    count = count.saturating_add(1);
                    answer_at = answer_at.or_else(|| Some(Instant::now() + ANSWER_AFTER));
                }
                Some(Err(status)) => {
                    self.stage = Stage::Refused(status);
                    break;
                }
                None => {
                    self.stage = Stage::Over;
                    break;
                }
            }
        }
        let answer = v1::ImportTenantsResponse { applied_through_row: self.through, unchanged: self.unchanged, errors };
        Some((Ok(answer), self))
    }
}
