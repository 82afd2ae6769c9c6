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
    /// A reader wishes for a stream. Ignored when it is being read already, when too many are, or when the store may be another
    /// than the matrix is of.
    pub(super) fn fetch_now(&mut self, stream: StreamId) {
        if let Some(generation) = self.live.as_ref().map(|session| session.generation) {
            self.read_stream(generation, stream);
        }
    }

    /// What parked rows wait for will be read after a while, unless it comes first.
    pub(super) fn due_later(&mut self, generation: Generation, stream: StreamId) {
        let Some(session) = self.session(generation) else { return };
        if session.due.insert(stream.clone()) {
            self.later(Duration::from_millis(self.config.parked_fetch_after_ms), Event::FetchDue(generation, stream));
        }
    }

    /// What parked rows wait for has not come.
    pub(super) fn fetch_due(&mut self, generation: Generation, stream: StreamId) {
        let Some(session) = self.session(generation) else { return };
        session.due.remove(&stream);
        if session.writer.is_waited_for(&stream) && !self.read_stream(generation, stream.clone()) {
            self.due_later(generation, stream);
        }
    }

    /// Begins to read a stream; `false` when it is being read, too many are, or what comes may be of another store.
    fn read_stream(&mut self, generation: Generation, stream: StreamId) -> bool {
        let (store, limit) = (Arc::clone(&self.store), self.config.store_read_timeout());
        let at_once = self.config.fetches_at_once_max;
        let Some(session) = self.session(generation) else { return false };
        if !session.writer.matrix().is_of_store_read() {
            return false;
        }
        if session.reading.len() >= at_once || !session.reading.insert(stream.clone()) {
            return false;
        }
        self.errand(async move {
            let read = tokio::time::timeout(limit, store.read(&stream, &[], None)).await;
            let result = read.unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".to_owned())));
            Event::Fetched(generation, stream, result)
        });
        true
    }

    pub(super) fn fetched(&mut self, generation: Generation, stream: StreamId, result: Result<StreamRead, ReadError>) {
        let Some(session) = self.session(generation) else { return };
        session.reading.remove(&stream);
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
        if self.session(generation).is_some_and(|session| session.writer.is_waited_for(&stream)) {
            self.due_later(generation, stream);
        }
    }
}
