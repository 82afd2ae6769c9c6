//! The connections to all endpoints, one each, and their health. Who is asked next is decided by [`selection`]; here is the
//! lock round it and what a change of health does to a connection.

mod selection;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tonic::{Code, transport};

use crate::credentials::bearer::Bearer;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::wire::{Client, Wire};
pub(crate) use selection::Outcome;
use selection::{Change, Selection};

/// All endpoints of a client.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoints: Vec<Endpoint>,
    selection: Mutex<Selection>,
    bearer: Option<Bearer>,
    random: Arc<Random>,
    metrics: Arc<dyn Metrics>,
}

#[derive(Debug)]
struct Endpoint {
    shown: String,
    /// None in this process: there is nothing to connect to.
    way: Option<transport::Endpoint>,
    wire: Mutex<Wire>,
}

/// A request to one endpoint, counted as in flight until it is finished or dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    pool: Arc<Pool>,
    index: usize,
    is_probe: bool,
    finished: bool,
}

impl Pool {
    /// Over endpoints, each with what messages call it. Must be called inside a runtime.
    pub(crate) fn new(
        ways: Vec<(String, transport::Endpoint)>,
        bearer: Option<Bearer>,
        random: Arc<Random>,
        metrics: Arc<dyn Metrics>,
    ) -> Self {
        let endpoint = |(shown, way): (String, transport::Endpoint)| Endpoint {
            shown,
            wire: Mutex::new(Wire::to(&way, bearer.clone())),
            way: Some(way),
        };
        let endpoints = ways.into_iter().map(endpoint).collect();
        Self::of(endpoints, bearer, random, metrics)
    }

    #[cfg(feature = "fake")]
    pub(crate) fn in_process(wire: Wire, random: Arc<Random>, metrics: Arc<dyn Metrics>) -> Self {
        let endpoint = Endpoint { shown: "fake".to_owned(), way: None, wire: Mutex::new(wire) };
        Self::of(vec![endpoint], None, random, metrics)
    }

    fn of(endpoints: Vec<Endpoint>, bearer: Option<Bearer>, random: Arc<Random>, metrics: Arc<dyn Metrics>) -> Self {
        let selection = Mutex::new(Selection::new(endpoints.len()));
        Self { endpoints, selection, bearer, random, metrics }
    }

    /// The token that every call shows, if there is one.
    pub(crate) fn bearer(&self) -> Option<&Bearer> {
        self.bearer.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// The endpoint to ask next, and not one of `avoid` while there is another.
    pub(crate) fn pick(self: &Arc<Self>, avoid: &[usize]) -> Permit {
        self.pick_apart(avoid, &[])
    }

    /// As [`Pool::pick`], and of those that are well rather one that is not `taken`.
    pub(crate) fn pick_apart(self: &Arc<Self>, avoid: &[usize], taken: &[usize]) -> Permit {
        let (index, is_probe) = self.selection().pick(Instant::now(), self.random.next(), avoid, taken);
        Permit { pool: Arc::clone(self), index, is_probe, finished: false }
    }

    /// Whether there is somebody well to ask instead.
    pub(crate) fn has_other(&self, index: usize) -> bool {
        self.selection().has_other(index)
    }

    /// Where everything is, for messages.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &str> {
        self.endpoints.iter().map(|endpoint| endpoint.shown.as_str())
    }

    pub(crate) fn client_of(&self, index: usize) -> Option<Client> {
        let endpoint = self.endpoints.get(index)?;
        Some(endpoint.wire.lock().unwrap_or_else(PoisonError::into_inner).clone().client())
    }

    fn selection(&self) -> std::sync::MutexGuard<'_, Selection> {
        // What is guarded are counters: sound after any panic.
        self.selection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream to an endpoint ended so.
    pub(crate) fn note(&self, index: usize, outcome: Outcome) {
        let change = self.selection().note(index, outcome, Instant::now(), self.random.next());
        self.act_on(index, change, outcome);
    }

    fn finish(&self, index: usize, is_probe: bool, outcome: Outcome) {
        let change = self.selection().finish(index, is_probe, outcome, Instant::now(), self.random.next());
        self.act_on(index, change, outcome);
    }

    fn act_on(&self, index: usize, change: Option<Change>, outcome: Outcome) {
        let Some(endpoint) = self.endpoints.get(index) else { return };
        match change {
            None => {}
            Some(Change::Returned) => {
                tracing::info!(endpoint = endpoint.shown, "an endpoint answers again");
                self.metrics.endpoint_returned(&endpoint.shown);
            }
            Some(Change::PutAside(time)) => {
                tracing::warn!(endpoint = endpoint.shown, ?outcome, ?time, "an endpoint is put aside");
                self.metrics.endpoint_put_aside(&endpoint.shown, time);
                if outcome == Outcome::Unanswered
                    && let Some(way) = &endpoint.way
                {
                    // The connection may be half-open: the probe gets a new one. What is under way keeps the old.
                    let wire = Wire::to(way, self.bearer.clone());
                    *endpoint.wire.lock().unwrap_or_else(PoisonError::into_inner) = wire;
                }
            }
        }
    }
}

impl Permit {
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.pool.endpoints.get(self.index).map_or("", |endpoint| endpoint.shown.as_str())
    }

    /// A client of the endpoint. `None` never: there is an endpoint behind every permit.
    pub(crate) fn client(&self) -> Option<Client> {
        self.pool.client_of(self.index)
    }

    /// Whether there is somebody else to ask.
    pub(crate) fn has_other(&self) -> bool {
        self.pool.has_other(self.index)
    }

    pub(crate) fn finish(mut self, outcome: Outcome) {
        self.finished = true;
        self.pool.finish(self.index, self.is_probe, outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.finished {
            self.pool.finish(self.index, self.is_probe, Outcome::Abandoned);
        }
    }
}

/// What a failure says of the endpoint's health.
pub(crate) fn outcome_of(failure: &Failure) -> Outcome {
    if failure.timed_out() {
        return Outcome::Unanswered;
    }
    // `CONNECTION_ENDS` is said by an endpoint that is well.
    let serves_not = match failure.code() {
        Code::Unavailable => matches!(failure.reason(), "" | "NOT_READY" | "DRAINING"),
        // Something listens there, but it is no Tessera server.
        Code::Unimplemented => failure.reason().is_empty(),
        _ => false,
    };
    if serves_not || failure.is_connection_trouble() { Outcome::Refused } else { Outcome::Answered }
}

#[cfg(test)]
mod tests {
    use tessera_proto::status as server;
    use tonic::Status;

    use super::*;

    #[test]
    fn an_endpoint_is_put_aside_for_what_speaks_against_it_alone() {
        let of = |status: Status| outcome_of(&Failure::of_status(&status));
        for against in [server::Failure::not_ready(), server::Failure::draining()] {
            assert_eq!(of(against.clone().into()), Outcome::Refused, "{against:?}");
        }
        assert_eq!(of(Status::unavailable("a proxy, which knows of nobody behind it")), Outcome::Refused);
        assert_eq!(of(Status::unimplemented("no Tessera server")), Outcome::Refused);
        assert_eq!(outcome_of(&Failure::no_answer_in_time("slow")), Outcome::Unanswered);
        for well in [
            server::Failure::connection_ends(),
            server::Failure::caller_changed("other tenants"),
            server::Failure::revision_not_reached(),
            server::Failure::too_much_asked(),
            server::Failure::token_invalid("it has expired"),
        ] {
            assert_eq!(of(well.clone().into()), Outcome::Answered, "{well:?}");
        }
    }
}
