//! `tessera.v1.AuditService`: reads the events of all streams, proves that nothing was altered, and shows tenants as of a time.

use std::time::Duration;

use tessera_core::aggregate::Actor;
use tessera_core::catalog::Catalog;
use tessera_core::plan::PlanState;
use tessera_core::shown::shown;
use tessera_core::stream::{Seq, StreamId, StreamKind};
use tessera_core::tenant::TenantState;
use tessera_core::time::Timestamp;
use tessera_ports::EventStore;
use tessera_ports::event_store::{CellHash, EventCell};
use tessera_proto::convert::{Fields, tenant as convert, time};
use tessera_proto::status::Failure;
use tessera_proto::storage::EventLink;
use tessera_proto::v1;
use tessera_proto::v1::audit_service_server::AuditService;
use tessera_runtime::identity::Principal;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::audit::at::Past;
use super::audit::payload;
use super::audit::verify::{Found, verify};
use super::gate::{Gate, in_time, own_tenants, principal, sees};
use super::page::{self, Left, Page};
use super::{offers, tenant_svc};
use crate::handler::{Handler, until};
use crate::refusal::Refusal;
use crate::unreadable;

/// Events read at a time.
const EVENTS_PER_READ: usize = 256;
/// Events that one page looks at, at most, whatever it filters.
const EVENTS_PER_PAGE: usize = 20_000;
/// Longest time that a page takes, so that callers who wait for ten seconds have a part of it to spare.
const PAGE_TIME_MAX: Duration = Duration::from_secs(3);
/// Streams that a verification walks when it is not told how many.
const VERIFY_DEFAULT: usize = 1_000;
/// Most streams that one call of a verification walks.
const VERIFY_MAX: usize = 10_000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct AuditSvc {
    gate: Gate,
    catalog: Handler<Catalog>,
    offers: Handler<PlanState>,
    tenants: Handler<TenantState>,
}

/// Which streams are asked about.
enum Streams {
    One(StreamId),
    All(Vec<StreamKind>),
}

/// Which of their events.
struct Filter {
    actor: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Filter {
    fn read(fields: &mut Fields, request: &v1::ListAuditEventsRequest) -> Self {
        if !request.actor.is_empty() {
            fields.check("actor", Actor::parse("an actor", &request.actor));
        }
        let from = time::timestamp(fields, "start_time", request.start_time.as_ref());
        let until = time::timestamp(fields, "end_time", request.end_time.as_ref());
        if let (Some(from), Some(until)) = (from, until)
            && until < from
        {
            let (given, start) = (until.seconds(), from.seconds());
            let allowed = format_args!("`{given}` s is before `start_time`, {start} s; allowed is the same time or a later one");
            fields.fault("end_time", allowed);
        }
        Self { actor: request.actor.clone(), from, until }
    }

    fn shows(&self, link: &EventLink) -> bool {
        (self.actor.is_empty() || link.actor.as_str() == self.actor)
            && self.from.is_none_or(|from| link.at >= from)
            && self.until.is_none_or(|until| link.at < until)
    }
}

fn streams(asked: Option<&v1::Stream>) -> Result<Streams, Failure> {
    let Some(asked) = asked else { return Ok(Streams::All(StreamKind::ALL.to_vec())) };
    let kind = match v1::StreamKind::try_from(asked.kind) {
        Ok(v1::StreamKind::Catalog) if asked.id.is_empty() => return Ok(Streams::One(StreamId::Catalog)),
        Ok(v1::StreamKind::Catalog) => {
            let given = shown(&asked.id);
            let description = format!("`{given}` is not allowed: there is one catalog, and it has no id; allowed is none");
            return Err(Failure::invalid_field("stream.id", description));
        }
        Ok(v1::StreamKind::Plan) => StreamKind::Plan,
        Ok(v1::StreamKind::AddOn) => StreamKind::AddOn,
        Ok(v1::StreamKind::Tenant) => StreamKind::Tenant,
        Ok(v1::StreamKind::Unspecified) if asked.id.is_empty() => return Ok(Streams::All(StreamKind::ALL.to_vec())),
        Ok(v1::StreamKind::Unspecified) | Err(_) => {
            let description = format!("`{}` is not a kind; allowed are CATALOG, PLAN, ADD_ON and TENANT", asked.kind);
            return Err(Failure::invalid_field("stream.kind", description));
        }
    };
    if asked.id.is_empty() {
        return Ok(Streams::All(vec![kind]));
    }
    let stream = StreamId::from_parts(kind, &asked.id);
    stream.map(Streams::One).map_err(|error| Failure::invalid_field("stream.id", error.to_string()))
}

/// When a page ends although there is more, if it is to be answered `by` then: what is read last may take as long again.
fn page_end(by: Option<Instant>) -> Instant {
    let now = Instant::now();
    now + by.map_or(PAGE_TIME_MAX, |by| (by.saturating_duration_since(now) / 2).min(PAGE_TIME_MAX))
}

/// The first stream of a page alone takes longer than its caller waits.
fn too_long(stream: Option<&StreamId>) -> Failure {
    let of = stream.map_or_else(String::new, |stream| format!(" of `{stream}`"));
    let why = "they are many, the store is slow, or others read as well; give the call a longer deadline";
    Refusal::StoreUnavailable(format!("the events{of} were not read before the deadline: {why}")).into()
}

/// Refuses a stream without events that is asked for by its name: it never was, or is not there for the caller. The catalog always is.
fn check_known(stream: &StreamId, by_name: bool) -> Result<(), Failure> {
    match stream {
        StreamId::Plan(_) | StreamId::AddOn(_) if by_name => Err(offers::not_found(stream)),
        StreamId::Tenant(tenant) if by_name => Err(tenant_svc::not_found(tenant.as_str())),
        _ => Ok(()),
    }
}

/// A stream to the API.
pub(crate) fn to_stream(stream: &StreamId) -> v1::Stream {
    let kind = match stream.kind() {
        StreamKind::Catalog => v1::StreamKind::Catalog,
        StreamKind::Plan => v1::StreamKind::Plan,
        StreamKind::AddOn => v1::StreamKind::AddOn,
        StreamKind::Tenant => v1::StreamKind::Tenant,
    };
    v1::Stream { kind: kind as i32, id: stream.key().to_owned() }
}

fn to_event(stream: &StreamId, cell: &EventCell, link: &EventLink) -> v1::AuditEvent {
    let (r#type, payload) = payload::of(&cell.cell);
    v1::AuditEvent {
        stream: Some(to_stream(stream)),
        seq: i64::try_from(cell.seq).unwrap_or(i64::MAX),
        time: Some(time::to_timestamp(link.at)),
        actor: link.actor.to_string(),
        request_id: link.request_id.to_string(),
        r#type,
        payload: Some(payload),
        hash: CellHash::of(&cell.cell).0.to_vec().into(),
        previous_hash: link.previous_hash.to_vec().into(),
    }
}

/// Walks the streams that are asked about, one after the other, from where a page ended.
struct Walk<'a> {
    store: &'a dyn EventStore,
    /// The stream being read, and up to which seq it was.
    current: Option<(StreamId, Seq)>,
    /// Up to which seq it goes at least, where that is known.
    end: Option<Seq>,
    /// Whether one stream is asked for by its name.
    by_name: bool,
    /// How many streams a page may look at yet; a scan that finds none counts as one.
    room: usize,
    /// When it looks at no more, however many that were; one stream or scan it always gets beyond.
    end_of_page: Instant,
    /// How many streams were left out since they cannot be read.
    unreadable: i32,
    left: Left<'a>,
}

/// What came of reading some events of a stream.
enum Read {
    /// So many were looked at.
    Some(usize),
    /// There are no more.
    End,
    /// There is no room for more in the page.
    Full,
}

impl<'a> Walk<'a> {
    async fn begin(
        store: &'a dyn EventStore,
        (asked, principal): (Streams, &'a Principal),
        (listing, token): (&str, &str),
        (room, end_of_page): (usize, Instant),
    ) -> Result<Self, Failure> {
        let by_name = matches!(asked, Streams::One(_));
        let (one, kinds) = match asked {
            Streams::One(stream) => (Some((stream, 0)), Vec::new()),
            Streams::All(kinds) => (None, kinds),
        };
        let (mut left, at) = Left::begin(store, (listing, token), (&kinds, own_tenants(principal))).await?;
        let current = if token.is_empty() { one } else { at };
        if let Some((stream, _)) = &current {
            left.pass(stream);
        }
        Ok(Self { store, current, end: None, by_name, room, end_of_page, unreadable: 0, left })
    }

    /// The stream to read and after which seq; `None` at the end, and when there is no room for it in the page.
    async fn stream(&mut self) -> Result<Option<(StreamId, Seq)>, Failure> {
        while self.current.is_none() && self.room > 0 {
            // One at a time, so that the place in front of the next one is always known.
            let next = match self.left.scan(self.store, 1).await? {
                Some(changes) => changes.into_iter().next().map(|change| (change.stream, Some(change.seq))),
                None => match self.left.next_own() {
                    Some(stream) => Some((stream, None)),
                    None => return Ok(None),
                },
            };
            if next.is_none() {
                self.take_room();
            }
            self.end = next.as_ref().and_then(|(_, end)| *end);
            self.current = next.map(|(stream, _)| (stream, 0));
        }
        Ok(self.current.clone())
    }

    fn passed(&mut self, seq: Seq) {
        if let Some((_, passed)) = &mut self.current {
            *passed = seq;
        }
    }

    /// Whether the stream was read up to where it is known to go.
    fn is_through(&self) -> bool {
        self.current.as_ref().zip(self.end).is_some_and(|((_, passed), end)| *passed >= end)
    }

    fn next_stream(&mut self) {
        (self.current, self.end) = (None, None);
        self.take_room();
    }

    fn take_room(&mut self) {
        self.room = if self.is_late() { 0 } else { self.room.saturating_sub(1) };
    }

    fn is_late(&self) -> bool {
        self.end_of_page <= Instant::now()
    }

    fn token(&self) -> String {
        let place = match &self.current {
            Some((stream, passed)) => Some(self.left.within(stream, *passed)),
            None => self.left.place(),
        };
        place.map_or_else(String::new, |place| place.token())
    }
}

impl AuditSvc {
    pub(crate) fn new(gate: Gate, catalog: Handler<Catalog>, offers: Handler<PlanState>, tenants: Handler<TenantState>) -> Self {
        Self { gate, catalog, offers, tenants }
    }

    fn store(&self) -> &dyn EventStore {
        &**self.catalog.streams().store()
    }

    async fn verify_stream(&self, stream: &StreamId) -> Result<Found, Refusal> {
        let turns = &*self.gate.history;
        match stream.kind() {
            StreamKind::Catalog => verify(self.catalog.streams(), turns, stream).await,
            StreamKind::Plan | StreamKind::AddOn => verify(self.offers.streams(), turns, stream).await,
            StreamKind::Tenant => verify(self.tenants.streams(), turns, stream).await,
        }
    }

    async fn page_of_events(
        &self,
        walk: &mut Walk<'_>,
        (filter, principal): (&Filter, &Principal),
        size: usize,
    ) -> Result<Vec<v1::AuditEvent>, Failure> {
        let mut page = Page::new();
        let mut looked = 0_usize;
        while looked < EVENTS_PER_PAGE && (looked == 0 || !walk.is_late()) {
            let Some((stream, after)) = walk.stream().await? else { break };
            let read = if sees(principal, &stream) {
                self.read(walk, (&stream, after), filter, (&mut page, size)).await
            } else {
                Ok(Read::End)
            };
            let ended = match read {
                Ok(Read::Full) => break,
                Ok(Read::Some(count)) => {
                    looked = looked.saturating_add(count);
                    walk.is_through()
                }
                Ok(Read::End) => {
                    check_known(&stream, walk.by_name && after == 0)?;
                    true
                }
                Err(Refusal::StoreDamaged(why)) => {
                    unreadable::tell(&why);
                    if walk.by_name {
                        let message = format!("the events of `{stream}` cannot be read; the operator's log says more");
                        return Err(Failure::internal(message));
                    }
                    walk.unreadable = walk.unreadable.saturating_add(1);
                    true
                }
                Err(refusal) => return Err(refusal.into()),
            };
            if ended {
                walk.next_stream();
            }
        }
        Ok(page.items)
    }

    /// Reads the next events of a stream into the page.
    async fn read(
        &self,
        walk: &mut Walk<'_>,
        (stream, after): (&StreamId, Seq),
        filter: &Filter,
        (page, size): (&mut Page<v1::AuditEvent>, usize),
    ) -> Result<Read, Refusal> {
        let _turn = self.gate.history.acquire().await;
        let cells = self.store().events(stream, after, EVENTS_PER_READ).await?;
        if cells.is_empty() {
            return Ok(Read::End);
        }
        let looked = cells.len();
        for cell in cells {
            let link = EventLink::decode(&cell.cell).map_err(|error| Refusal::undecodable(stream, &error))?;
            let event = filter.shows(&link).then(|| to_event(stream, &cell, &link));
            if event.is_some() && (page.items.len() == size || page.fitting(std::slice::from_ref(&event)) == 0) {
                return Ok(Read::Full);
            }
            page.extend(event);
            walk.passed(cell.seq);
        }
        Ok(Read::Some(looked))
    }

    /// `None` at the end of the page.
    async fn verify_next(&self, walk: &mut Walk<'_>, principal: &Principal) -> Result<Option<(StreamId, Found)>, Failure> {
        let Some((stream, _)) = walk.stream().await? else { return Ok(None) };
        let found =
            if sees(principal, &stream) { self.verify_stream(&stream).await? } else { Found { events: 0, problem: None } };
        Ok(Some((stream, found)))
    }

    /// What was verified is told also if the next stream is not through `by` then: that one is the next page's first.
    async fn page_of_verified(
        &self,
        walk: &mut Walk<'_>,
        principal: &Principal,
        by: Option<Instant>,
    ) -> Result<v1::VerifyAuditResponse, Failure> {
        let mut answer = v1::VerifyAuditResponse::default();
        let mut is_first = true;
        loop {
            let verified = match until(by, self.verify_next(walk, principal)).await {
                Some(verified) => verified?,
                None if is_first => return Err(too_long(walk.current.as_ref().map(|(stream, _)| stream))),
                None => break,
            };
            let Some((stream, found)) = verified else { break };
            is_first = false;
            walk.next_stream();
            // What never was is none of them.
            let counts = found.events > 0 || found.problem.is_some();
            check_known(&stream, walk.by_name && !counts)?;
            answer.streams = answer.streams.saturating_add(i64::from(counts));
            answer.events = answer.events.saturating_add(i64::try_from(found.events).unwrap_or(i64::MAX));
            answer.problems.extend(found.problem.map(|problem| v1::AuditProblem {
                stream: Some(to_stream(&stream)),
                seq: i64::try_from(problem.seq).unwrap_or(i64::MAX),
                description: problem.description,
            }));
        }
        answer.next_page_token = walk.token();
        Ok(answer)
    }
}

#[tonic::async_trait]
impl AuditService for AuditSvc {
    async fn list_audit_events(
        &self,
        request: Request<v1::ListAuditEventsRequest>,
    ) -> Result<Response<v1::ListAuditEventsResponse>, Status> {
        self.gate.admit_read(request.metadata())?;
        let by = self.gate.answer_by(request.metadata())?;
        let principal = principal(request.extensions())?;
        let mut asked = request.into_inner();
        let size = page::listing_size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let mut fields = Fields::new();
        let filter = Filter::read(&mut fields, &asked);
        let filter = fields.finish(Some(filter))?;
        let listing = page::listing_of("list_audit_events", &asked);
        let asked_for = (streams(asked.stream.as_ref())?, &principal);
        let bounds = (self.gate.config.scan_per_page, page_end(by));
        let mut walk = Walk::begin(self.store(), asked_for, (&listing, &token), bounds).await?;
        let events = in_time(by, self.page_of_events(&mut walk, (&filter, &principal), size)).await?;
        let (next_page_token, unreadable_count) = (walk.token(), walk.unreadable);
        Ok(Response::new(v1::ListAuditEventsResponse { events, next_page_token, unreadable_count }))
    }

    async fn verify_audit(&self, request: Request<v1::VerifyAuditRequest>) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        self.gate.admit_read(request.metadata())?;
        let by = self.gate.answer_by(request.metadata())?;
        let principal = principal(request.extensions())?;
        let mut asked = request.into_inner();
        let size = page::size(std::mem::take(&mut asked.page_size), VERIFY_DEFAULT, VERIFY_MAX)?;
        let token = std::mem::take(&mut asked.page_token);
        let listing = page::listing_of("verify_audit", &asked);
        let asked_for = (streams(asked.stream.as_ref())?, &principal);
        let mut walk = Walk::begin(self.store(), asked_for, (&listing, &token), (size, page_end(by))).await?;
        Ok(Response::new(self.page_of_verified(&mut walk, &principal, by).await?))
    }

    async fn get_tenant_at(&self, request: Request<v1::GetTenantAtRequest>) -> Result<Response<v1::GetTenantAtResponse>, Status> {
        self.gate.admit_read(request.metadata())?;
        let by = self.gate.answer_by(request.metadata())?;
        let principal = principal(request.extensions())?;
        let asked = request.into_inner();
        let tenant = convert::tenant_id(&asked.tenant_id)?;
        let mut fields = Fields::new();
        let required = fields.required("time", asked.time.as_ref());
        let at = time::timestamp(&mut fields, "time", required);
        let at = fields.finish(at)?;
        if !sees(&principal, &StreamId::Tenant(tenant.clone())) {
            return Err(tenant_svc::not_found(tenant.as_str()).into());
        }
        let past = Past {
            catalog: self.catalog.streams(),
            offers: self.offers.streams(),
            tenants: self.tenants.streams(),
            turns: &self.gate.history,
        };
        Ok(Response::new(in_time(by, past.tenant_at(&tenant, at, self.gate.clock.now())).await?))
    }
}
