//! `WatchEntitlements`: documents of any number of tenants over one stream, sent again whenever they change, also by time.
//!
//! No task and no queue of messages: a watch keeps *which* tenants to look at again, and looks when there is room to send. What
//! changed in between coalesces to the newest document by itself. A tenant is looked at again after a note of the writer (see
//! `hub.rs`) or when time passes the document's edge; the look is cheap when its streams have not moved, and a document is sent
//! only when its tag differs from the one sent last, or its epoch does: after a restore every document is sent again, since
//! revisions of the epoch before can be met by strong reads only. An error item ends its subscription, not the stream.

pub(super) mod places;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, Stream, StreamExt as _};
use prost::Message as _;
use tessera_core::ids::TenantId;
use tessera_core::shown::shown;
use tessera_core::time::Timestamp;
use tessera_proto::status::{Failure, RETRY_AFTER};
use tessera_proto::v1;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::list::{check_tenant, known_row, make};
use super::server::input_error;
use super::{Entitlements, Parts};
use crate::consistency::{Caller, Demand};
use crate::decide::{Moment, write_revision};
use crate::matrix::key::TenantKey;
use crate::wire::codec::Encoded;
use places::Place;
use subscriptions::{Subscription, Subscriptions};

/// Requests taken in before the next document is sent: subscribing goes on while many documents change.
const REQUESTS_AT_ONCE: usize = 64;
/// Looks at tenants, one after the other, before others have the thread: checks are served by it, too.
const LOOKS_AT_ONCE: usize = 256;
/// How often the clock is looked at while documents have an edge: it may be set.
const TICK: Duration = Duration::from_secs(1);

/// One call.
struct Watch {
    parts: Arc<Parts>,
    caller: Caller,
    input: Streaming<v1::WatchEntitlementsRequest>,
    input_ended: bool,
    subscriptions: Subscriptions,
    /// Subscriptions that wait for their revision: with their number, since the tenant may be subscribed anew meanwhile.
    waits: FuturesUnordered<BoxFuture<'static, Waited>>,
    next_heartbeat: Instant,
    /// Everything that was published by then, in ms since 1970, has been looked at and sent.
    sent_through_ms: Option<i64>,
    /// From when on the next document may be made.
    next_document: Instant,
    /// Looks since others had the thread.
    looks: usize,
    ended: bool,
    _place: Place,
}

/// Which subscription has waited, and what came of it.
type Waited = (TenantKey, u64, Result<(), Failure>);

impl Entitlements {
    pub(super) fn watch(
        &self,
        input: Streaming<v1::WatchEntitlementsRequest>,
        caller: Caller,
    ) -> Result<impl Stream<Item = Result<Encoded, Status>> + Send + use<>, Failure> {
        let parts = Arc::clone(&self.0);
        let place = parts.watches.take(&caller)?;
        let subscriptions = Subscriptions::new(Arc::clone(&parts.shared.hub), parts.shared.metrics.watch_subscriptions.clone());
        let now = Instant::now();
        let watch = Watch {
            caller: Caller { deadline: None, ..caller },
            input,
            input_ended: false,
            subscriptions,
            waits: FuturesUnordered::new(),
            next_heartbeat: now + Duration::from_millis(parts.config.watch_heartbeat_ms),
            sent_through_ms: None,
            next_document: now,
            looks: 0,
            ended: false,
            _place: place,
            parts,
        };
        Ok(futures::stream::unfold(watch, |mut watch| async move {
            let item = watch.next().await?;
            Some((item, watch))
        }))
    }
}

impl Watch {
    /// The next thing to say; `None` after the last.
    async fn next(&mut self) -> Option<Result<Encoded, Status>> {
        if self.ended {
            return None;
        }
        loop {
            if self.parts.shutdown.is_closing() {
                return self.end(Failure::draining().into());
            }
            for _ in 0..REQUESTS_AT_ONCE {
                let Some(read) = self.input.next().now_or_never().filter(|_| !self.input_ended) else { break };
                match self.take_in(read) {
                    Ok(None) => {}
                    Ok(Some(item)) => return Some(Ok(item)),
                    Err(status) => return self.end(status),
                }
            }
            self.take_notes();
            if Instant::now() >= self.next_heartbeat {
                return Some(Ok(self.heartbeat()));
            }
            if let Some(item) = self.look_at_next() {
                return Some(Ok(item));
            }
            if self.looks >= LOOKS_AT_ONCE {
                self.looks = 0;
                tokio::task::yield_now().await;
                continue;
            }
            let wake = self.wake_at();
            let closing = self.parts.shutdown.closing.clone();
            tokio::select! {
                biased;
                () = closing.cancelled() => {}
                read = self.input.next(), if !self.input_ended => match self.take_in(read) {
                    Ok(None) => {}
                    Ok(Some(item)) => return Some(Ok(item)),
                    Err(status) => return self.end(status),
                },
                Some((tenant, number, met)) = self.waits.next() => {
                    if let Some(item) = self.met(&tenant, number, met) {
                        return Some(Ok(item));
                    }
                }
                () = self.subscriptions.noted() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    /// The last thing that is said.
    #[expect(clippy::unnecessary_wraps, reason = "an item of the stream, like every other")]
    fn end(&mut self, status: Status) -> Option<Result<Encoded, Status>> {
        self.ended = true;
        Some(Err(status))
    }

    /// When there is something to do by itself.
    fn wake_at(&self) -> Instant {
        let now = self.parts.shared.evaluation.now();
        let edge = self.subscriptions.first_edge().map(|edge| {
            let left = edge.saturating_since(now).min(TICK).max(Duration::from_millis(1));
            Instant::now() + left
        });
        let paced = self.subscriptions.has_pending().then_some(self.next_document);
        [edge, paced].into_iter().flatten().fold(self.next_heartbeat, Instant::min)
    }

    /// Takes note of what is to be looked at again. Until it is, the listener lags further behind than the matrix: a change may
    /// be applied and its document still wait for the pace.
    fn take_notes(&mut self) {
        // Before the notes: whatever was applied by then has left one.
        let now = self.parts.shared.clock.now();
        let staleness_ms = self.parts.shared.staleness_ms(now);
        self.subscriptions.take_notes();
        self.subscriptions.pass_edges(self.parts.shared.evaluation.now());
        if !self.subscriptions.has_pending() {
            self.sent_through_ms = staleness_ms.map(|lag| milliseconds(now).saturating_sub(lag));
        }
    }

    fn heartbeat(&mut self) -> Encoded {
        self.next_heartbeat = Instant::now() + Duration::from_millis(self.parts.config.watch_heartbeat_ms);
        let now = milliseconds(self.parts.shared.clock.now());
        let staleness_ms = self.sent_through_ms.map(|sent| now.saturating_sub(sent).max(0));
        item(v1::watch_entitlements_response::Event::Heartbeat(v1::Heartbeat { staleness_ms }))
    }

    // === requests ===

    fn take_in(&mut self, read: Option<Result<v1::WatchEntitlementsRequest, Status>>) -> Result<Option<Encoded>, Status> {
        use v1::watch_entitlements_request::Action;
        let Some(request) = read else {
            // Whoever has no more to ask may still listen.
            self.input_ended = true;
            return Ok(None);
        };
        Ok(match request.map_err(input_error)?.action {
            None => Some(error("", &Failure::invalid_field("action", "it is not set; allowed are subscribe and unsubscribe"))),
            Some(Action::Unsubscribe(v1::Unsubscribe { tenant_id })) => {
                self.unsubscribe(&tenant_id).err().map(|failure| error(&tenant_id, &failure))
            }
            Some(Action::Subscribe(subscribe)) => {
                self.subscribe(&subscribe).err().map(|failure| error(&subscribe.tenant_id, &failure))
            }
        })
    }

    fn unsubscribe(&mut self, tenant: &str) -> Result<(), Failure> {
        check_tenant("unsubscribe.tenant_id", tenant)?;
        self.subscriptions.remove(&TenantKey::new(tenant));
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &v1::Subscribe) -> Result<(), Failure> {
        let tenant = subscribe.tenant_id.as_str();
        check_tenant("subscribe.tenant_id", tenant)?;
        let demand = if subscribe.last_revision.is_empty() {
            Demand::MinimizeLatency
        } else {
            Demand::at_least("subscribe.last_revision", &subscribe.last_revision, tenant)?
        };
        let (key, max) = (TenantKey::new(tenant), self.parts.config.watch_subscriptions_max);
        if self.subscriptions.len() >= max && !self.subscriptions.has(&key) {
            let message = format!("this watch has `{max}` subscriptions, the most allowed; open another");
            return Err(Failure::rate_limited(message, RETRY_AFTER));
        }
        let waits = !demand.is_none();
        // A tenant can be subscribed again and again while the waits of before go on.
        if waits && self.waits.len() >= max {
            let message = format!("`{max}` subscriptions of this watch wait for their revision, the most allowed");
            return Err(Failure::rate_limited(message, RETRY_AFTER));
        }
        // Its first document costs what a list does; those of changes come at the watch's pace.
        let features = self.parts.shared.matrix().tables().tables.feature_count();
        self.parts.limits.charge_caller(&self.caller, features)?;
        self.parts.limits.charge_tenant(&self.caller, tenant, features)?;
        let number = self.subscriptions.add(&key, waits);
        if waits {
            let (parts, caller) = (Arc::clone(&self.parts), self.caller.clone());
            let tenant = tenant.to_owned();
            self.waits.push(Box::pin(async move {
                let until = parts.consistency.wait_until(&caller);
                let met = parts.consistency.meet(&tenant, &demand, &caller, until).await;
                (key, number, met.map(drop))
            }));
        }
        Ok(())
    }

    /// A subscription has what it waited for, or not.
    fn met(&mut self, tenant: &TenantKey, number: u64, met: Result<(), Failure>) -> Option<Encoded> {
        if !self.subscriptions.is_current(tenant, number) {
            return None;
        }
        match met {
            Ok(()) => {
                self.subscriptions.begin(tenant);
                None
            }
            Err(failure) => {
                self.subscriptions.remove(tenant);
                Some(error(tenant.text(), &failure))
            }
        }
    }

    // === documents ===

    /// Looks at pending tenants until one has something to say, or until the pace or [`LOOKS_AT_ONCE`] is reached.
    fn look_at_next(&mut self) -> Option<Encoded> {
        while self.looks < LOOKS_AT_ONCE && Instant::now() >= self.next_document {
            let tenant = self.subscriptions.next_pending()?;
            self.looks = self.looks.saturating_add(1);
            match self.look(&tenant) {
                Ok(None) => {}
                Ok(Some(document)) => {
                    self.parts.shared.metrics.watch_documents.increment(1);
                    return Some(item(v1::watch_entitlements_response::Event::Document(document)));
                }
                Err(failure) => {
                    self.subscriptions.remove(&tenant);
                    return Some(error(tenant.text(), &failure));
                }
            }
        }
        None
    }

    /// The tenant's document, if it differs from the one sent last, or its listener holds a revision of another epoch.
    fn look(&mut self, tenant: &TenantKey) -> Result<Option<v1::TenantEntitlements>, Failure> {
        let Some(subscription) = self.subscriptions.begun(tenant) else { return Ok(None) };
        let shared = &self.parts.shared;
        // Before the matrix as well: what is told may be of the one that is served, and never of a newer one.
        let moment = Moment::of(shared);
        let matrix = shared.matrix();
        let row = known_row(&matrix, tenant.text(), &self.caller)?;
        let mut revision = Vec::with_capacity(64);
        write_revision(&mut revision, matrix.epoch(), &matrix.tables().tables, Some(&row), tenant.text(), moment.now);
        if subscription.stands(&revision, moment.now) {
            return Ok(None);
        }
        let pace = Duration::from_secs(1) / u32::try_from(self.parts.config.watch_documents_per_second_max).unwrap_or(u32::MAX);
        self.next_document = self.next_document.max(Instant::now()) + pace;
        let made = make(&matrix, &row, tenant.text(), &moment)?;
        let differs = subscription.tag != made.message.document_tag || subscription.epoch != matrix.epoch();
        subscription.tag.clone_from(&made.message.document_tag);
        subscription.epoch = matrix.epoch();
        subscription.revision = made.message.revision.clone();
        self.subscriptions.set_edge(tenant, made.valid_until);
        Ok(differs.then_some(made.message))
    }
}

impl Subscription {
    /// Whether nothing can have changed since the last look.
    fn stands(&self, revision: &[u8], now: Timestamp) -> bool {
        self.revision == revision && self.edge.is_none_or(|edge| now < edge)
    }
}

fn milliseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn item(event: v1::watch_entitlements_response::Event) -> Encoded {
    v1::WatchEntitlementsResponse { event: Some(event) }.encode_to_vec().into()
}

/// What is not a tenant id is repeated as errors repeat it, so that it cannot act on a terminal, and an answer stays short.
fn error(tenant: &str, failure: &Failure) -> Encoded {
    let tenant_id = if TenantId::check(tenant).is_ok() { tenant.to_owned() } else { shown(tenant) };
    let error = v1::WatchError { tenant_id, status: Some(failure.to_rpc_status()) };
    item(v1::watch_entitlements_response::Event::Error(error))
}

#[cfg(test)]
mod tests;
