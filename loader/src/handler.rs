//! Commands: asked for by a caller, decided by an aggregate, appended to its stream once.
//!
//! The rules, each of which guards against a run that goes wrong without it (docs/GUARDS.md):
//! - per stream one queue; commands that wait for the same stream go into one append as a group ([`queue`]);
//! - one strong read gives head, state and the rows of the request ids; a request id is looked up before etag, preconditions
//!   and decision, at the first attempt and after every conflict or unknown outcome ([`group`]);
//! - commands of many streams that are asked for together share reads and the hand-over of their appends, and nothing else
//!   ([`batch`]);
//! - nothing of a group, a rejection included, is answered before the group is committed;
//! - what has to be read from history to answer a replay is read beside the queue, which goes on ([`replay`]);
//! - an unknown outcome is resolved by a strong read, never by deciding again while the head has not moved ([`group`]);
//! - a command runs in a task of its own; the request only waits for it, and says at its deadline what is known
//!   ([`pending`]).
//!
//! Nothing here knows gRPC or which aggregate it serves.

mod batch;
mod decide;
mod group;
mod pending;
mod queue;
mod replay;

use std::sync::Arc;

use tessera_core::aggregate::Actor;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_ports::event_store::CommandDigest;
use tessera_ports::{Clock, HintStore};
use tessera_runtime::lifecycle::Tasks;
use tessera_runtime::telemetry::traces;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub(crate) use self::pending::cutoff;
use self::queue::Queues;
pub(crate) use self::queue::until;
pub(crate) use self::replay::REPLAYS_AT_ONCE;
use crate::aggregate::{Handled, Snapshot};
use crate::config::Config;
use crate::due::DueTimes;
use crate::metric_definitions as metrics;
use crate::publisher::Outgoing;
use crate::refusal::Refusal;
use crate::streams::Streams;
use crate::world::WorldReader;

/// Who asks, and until when.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The command's name.
    pub request_id: RequestId,
    /// Who it is recorded as.
    pub actor: Actor,
    /// An earlier attempt of the caller may still be on its way: whatever is decided is written down.
    pub retry: bool,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// A command with everything that names it.
#[derive(Debug, Clone)]
pub struct Request<C> {
    /// Who asks.
    pub caller: Caller,
    /// Of which stream.
    pub stream: StreamId,
    /// What for.
    pub command: C,
    /// Tells this command from another one under the same request id.
    pub digest: CommandDigest,
    /// Refused unless the resource is still at this etag.
    pub etag: Option<String>,
    /// Roughly how long the command is, in bytes.
    pub len: usize,
    /// Whether a rejection that was written down is the answer for ever; else whoever asks again is decided again.
    pub rejection_stands: bool,
}

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Done<A> {
    /// The life of the store.
    pub epoch: Epoch,
    /// Seq of the command's last event; the head it was decided at when it changed nothing.
    pub seq: Seq,
    /// The state at that seq.
    pub state: Arc<A>,
    /// It had been done before, by an earlier call with the same request id.
    pub replay: bool,
    /// Whether it changed anything, then or now.
    pub changed: bool,
}

/// What a handler works with.
#[derive(Debug)]
pub struct Desk<A: Handled> {
    /// Its streams.
    pub streams: Arc<Streams<A>>,
    /// What commands are decided against.
    pub world: Arc<WorldReader>,
    /// Where hints are kept.
    pub hints: Arc<dyn HintStore>,
    /// Where committed states go.
    pub outgoing: Outgoing,
    /// What is told of due times.
    pub due: Arc<DueTimes>,
    /// The time of events.
    pub clock: Arc<dyn Clock>,
    /// Runs commands.
    pub tasks: Tasks,
    /// Lets so many replays read history at once.
    pub replays: Semaphore,
    /// Settings.
    pub config: Arc<Config>,
}

/// Handles the commands of one aggregate. Cheap to clone.
#[derive(Debug)]
pub struct Handler<A: Handled> {
    desk: Arc<Desk<A>>,
    queues: Arc<Queues<A>>,
}

impl<A: Handled> Clone for Handler<A> {
    fn clone(&self) -> Self {
        Self { desk: Arc::clone(&self.desk), queues: Arc::clone(&self.queues) }
    }
}

impl<A: Handled> Handler<A> {
    /// A handler at that desk.
    pub fn new(desk: Desk<A>) -> Self {
        let queues = Queues::new(&desk.config);
        Self { desk: Arc::new(desk), queues: Arc::new(queues) }
    }

    /// Has the command done, and waits for it until shortly before its deadline. Dropping the future leaves the command to
    /// its task.
    pub async fn handle(&self, request: Request<A::Command>) -> Result<Done<A>, Refusal> {
        if let StreamId::Tenant(id) = &request.stream {
            traces::note_tenant(id.as_str());
        }
        let started = Instant::now();
        let (pending, waiting) = pending::new(request, &self.desk.config);
        let result = match self.queues.push(&self.desk, pending) {
            Ok(()) => waiting.result().await,
            Err(refusal) => Err(refusal),
        };
        metrics::command_handled(A::NAME, &result, started.elapsed());
        result
    }

    /// Waits for room for so many commands of so many bytes, to be held while [`Self::handle_many`] has them: all who do so have
    /// half of what may be under way.
    pub async fn room(&self, commands: usize, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.queues.room(commands, bytes).await
    }

    /// As [`Self::handle`] of each, in the order of the requests: what the store can do for many at once is done so. Each has its
    /// own outcome; those for one stream wait for each other.
    pub async fn handle_many(&self, requests: Vec<Request<A::Command>>) -> Vec<Result<Done<A>, Refusal>> {
        let started = Instant::now();
        let new = |request| pending::new(request, &self.desk.config);
        let (pendings, waitings): (_, Vec<_>) = requests.into_iter().map(new).unzip();
        self.queues.push_many(&self.desk, pendings);
        let mut results = Vec::with_capacity(waitings.len());
        for waiting in waitings {
            // Each sees to its own deadline: one whose time is over does not wait, however long those before it took.
            results.push(waiting.result().await);
        }
        metrics::commands_handled(A::NAME, &results, started.elapsed());
        results
    }

    /// The stream as it is now, read strongly.
    pub async fn read(&self, stream: &StreamId) -> Result<Snapshot<A>, Refusal> {
        self.desk.streams.read(stream, &[]).await.map(|(snapshot, _)| snapshot)
    }

    /// Where its commands run.
    pub fn tasks(&self) -> &Tasks {
        &self.desk.tasks
    }

    /// The streams it writes.
    pub fn streams(&self) -> &Arc<Streams<A>> {
        &self.desk.streams
    }
}
