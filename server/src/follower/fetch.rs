//! Reads of single streams: what parked rows have waited for long enough, and what readers wish for at half their wait. At
//! most one read per stream at a time, and a bounded number over all.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::StreamId;
use tessera_ports::Change;
use tessera_ports::event_store::{ReadError, StreamRead};
use tracing::{debug, warn};

use super::session::Generation;
use super::{Event, Follower};
use crate::metric_definitions::Source;

impl Follower {
    /// A reader wishes for a stream. Ignored when it is on its way, or when too many are.
    pub(super) fn fetch_now(&mut self, stream: StreamId) {
        let at_once = self.config.fetches_at_once_max;
        let Some(session) = &mut self.live else { return };
        let generation = session.generation;
        if session.reads < at_once && !session.fetches.contains(&stream) {
            session.fetches.insert(stream.clone());
            self.read_stream(generation, stream);
        }
    }

    /// What parked rows wait for has not come.
    pub(super) fn fetch_due(&mut self, generation: Generation, stream: StreamId) {
        let at_once = self.config.fetches_at_once_max;
        let Some(session) = self.session(generation) else { return };
        if !session.writer.is_waited_for(&stream) {
            session.fetches.remove(&stream);
        } else if session.reads < at_once {
            self.read_stream(generation, stream);
        } else {
            self.due_later(generation, stream);
        }
    }

    fn due_later(&self, generation: Generation, stream: StreamId) {
        self.later(Duration::from_millis(self.config.parked_fetch_after_ms), Event::FetchDue(generation, stream));
    }

    fn read_stream(&mut self, generation: Generation, stream: StreamId) {
        let (store, limit) = (Arc::clone(&self.store), self.config.store_read_timeout());
        let Some(session) = self.session(generation) else { return };
        session.reads += 1;
        self.errand(async move {
            let read = tokio::time::timeout(limit, store.read(&stream, &[], None)).await;
            let result = read.unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".to_owned())));
            Event::Fetched(generation, stream, result)
        });
    }

    pub(super) fn fetched(&mut self, generation: Generation, stream: StreamId, result: Result<StreamRead, ReadError>) {
        let Some(session) = self.session(generation) else { return };
        session.reads = session.reads.saturating_sub(1);
        session.fetches.remove(&stream);
        match result {
            Ok(StreamRead { epoch, head, state: Some(state), .. }) => {
                let change = Change { epoch, stream: stream.clone(), seq: head.seq, state };
                self.apply(generation, &[change], Source::Fetch);
            }
            Ok(_) => debug!(%stream, "the store has no such stream"),
            Err(error) => {
                self.shared.metrics.store_errors.increment(1);
                warn!(%error, kind = stream.kind().name(), "cannot read a stream");
            }
        }
        // Rows that still wait for it ask again after the usual pause.
        let Some(session) = self.session(generation) else { return };
        if session.writer.is_waited_for(&stream) && session.fetches.insert(stream.clone()) {
            self.due_later(generation, stream);
        }
    }
}
