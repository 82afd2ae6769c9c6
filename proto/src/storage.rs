//! Stored bytes: events and states of every aggregate, to and from the domain.
//!
//! Encoding is deterministic: equal values are equal bytes, which the hash chain and the digests rest on. What was stored
//! once is read for ever; the golden files in `proto/golden/` hold a copy of every message. Whoever needs only the links of
//! the chain reads them with [`EventLink`], whatever the payload.

mod catalog;
mod plan;
mod tenant;
mod value;

use prost::Message as _;
use tessera_core::aggregate::{Actor, Aggregate, Recorded};
use tessera_core::catalog::Catalog;
use tessera_core::ids::{IdError, RequestId};
use tessera_core::plan::PlanState;
use tessera_core::stream::Seq;
use tessera_core::tenant::TenantState;
use tessera_core::time::{TimeOutOfRange, Timestamp};
use tessera_core::value::ValueError;

use crate::generated::storage as stored;

/// The version of reader that this software is. Streams that need a higher one are left alone.
pub const READER: u32 = 1;

/// Why stored bytes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// Not a message of that kind at all.
    #[error("the bytes are not a stored message: {0}")]
    Malformed(String),
    /// A field holds what was never written there.
    #[error("field {field}: {problem}")]
    Field {
        /// Which field, by its name in the .proto files.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Written by newer software for newer readers only.
    #[error("reader version {needs} is needed, this one is {READER}")]
    ReaderTooOld {
        /// What it needs.
        needs: u32,
    },
    /// An event or state of another kind of stream.
    #[error("the payload belongs to another kind of stream")]
    OtherKind,
}

impl StorageError {
    fn field(field: &'static str, problem: impl std::fmt::Display) -> Self {
        Self::Field { field, problem: problem.to_string() }
    }

    fn missing(field: &'static str) -> Self {
        Self::field(field, "it is not set")
    }
}

impl From<prost::DecodeError> for StorageError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<IdError> for StorageError {
    fn from(error: IdError) -> Self {
        Self::field("id", error)
    }
}

impl From<ValueError> for StorageError {
    fn from(error: ValueError) -> Self {
        Self::field("value", error)
    }
}

impl From<TimeOutOfRange> for StorageError {
    fn from(error: TimeOutOfRange) -> Self {
        Self::field("time", error)
    }
}

/// An event with everything its cell holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent<E> {
    /// SHA-256 of the cell before this one; zeros for the first.
    pub previous_hash: [u8; 32],
    /// The command's name.
    pub request_id: RequestId,
    /// SHA-256 over the command's method and body.
    pub command_digest: [u8; 32],
    /// Who asked.
    pub actor: Actor,
    /// The event itself, with seq, time and references.
    pub recorded: Recorded<E>,
}

/// What every cell says of itself, whatever its payload: enough to walk the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLink {
    /// Number within the stream.
    pub seq: Seq,
    /// SHA-256 of the cell before.
    pub previous_hash: [u8; 32],
    /// The command's name.
    pub request_id: RequestId,
    /// SHA-256 over the command's method and body.
    pub command_digest: [u8; 32],
    /// Who asked.
    pub actor: Actor,
    /// When it happened.
    pub at: Timestamp,
    /// The reader version it needs.
    pub min_reader: u32,
}

impl EventLink {
    /// Reads the links of a cell; the payload is not looked at, so that newer events can be walked too.
    pub fn decode(cell: &[u8]) -> Result<Self, StorageError> {
        Self::of(&stored::Event::decode(cell)?)
    }

    fn of(event: &stored::Event) -> Result<Self, StorageError> {
        Ok(Self {
            seq: event.seq,
            previous_hash: value::hash(&event.previous_hash, "previous_hash")?,
            request_id: RequestId::parse(&event.request_id)?,
            command_digest: value::hash(&event.command_digest, "command_digest")?,
            actor: Actor::parse("an actor", &event.actor)?,
            at: value::instant(event.at.as_ref(), "at")?,
            min_reader: event.min_reader,
        })
    }
}

/// An aggregate whose events and states can be stored.
pub trait Stored: Aggregate {
    /// The payload of an event cell.
    #[doc(hidden)]
    fn payload_of(event: &Self::Event) -> stored::event::Payload;
    /// The event of a payload.
    #[doc(hidden)]
    fn event_of(payload: stored::event::Payload) -> Result<Self::Event, StorageError>;
    /// The stored state; `None` when the stream holds nothing.
    #[doc(hidden)]
    fn state_to(&self) -> Option<stored::state::State>;
    /// The state of what was stored.
    #[doc(hidden)]
    fn state_of(state: Option<stored::state::State>) -> Result<Self, StorageError>;
}

/// The one cell of an event.
pub fn encode_event<A: Stored>(event: &StoredEvent<A::Event>) -> Vec<u8> {
    stored::Event {
        seq: event.recorded.seq,
        previous_hash: event.previous_hash.to_vec(),
        request_id: event.request_id.as_str().to_owned(),
        command_digest: event.command_digest.to_vec(),
        actor: event.actor.as_str().to_owned(),
        at: Some(value::to_instant(event.recorded.at)),
        min_reader: READER,
        references: value::to_references(&event.recorded.references),
        payload: Some(A::payload_of(&event.recorded.event)),
    }
    .encode_to_vec()
}

/// Reads what [`encode_event`] wrote.
pub fn decode_event<A: Stored>(cell: &[u8]) -> Result<StoredEvent<A::Event>, StorageError> {
    let event = stored::Event::decode(cell)?;
    let link = EventLink::of(&event)?;
    if link.min_reader > READER {
        return Err(StorageError::ReaderTooOld { needs: link.min_reader });
    }
    let payload = event.payload.ok_or_else(|| StorageError::missing("payload"))?;
    Ok(StoredEvent {
        previous_hash: link.previous_hash,
        request_id: link.request_id,
        command_digest: link.command_digest,
        actor: link.actor,
        recorded: Recorded {
            seq: link.seq,
            at: link.at,
            references: value::references(event.references)?,
            event: A::event_of(payload)?,
        },
    })
}

/// A state and the time of the stream's last event, before which no later event may lie.
pub fn encode_state<A: Stored>(state: &A, last_event_at: Timestamp) -> Vec<u8> {
    let last_event_at = Some(value::to_instant(last_event_at));
    stored::State { min_reader: READER, last_event_at, state: state.state_to() }.encode_to_vec()
}

/// Reads what [`encode_state`] wrote.
pub fn decode_state<A: Stored>(bytes: &[u8]) -> Result<(A, Timestamp), StorageError> {
    let state = stored::State::decode(bytes)?;
    if state.min_reader > READER {
        return Err(StorageError::ReaderTooOld { needs: state.min_reader });
    }
    let last_event_at = value::instant(state.last_event_at.as_ref(), "last_event_at")?;
    Ok((A::state_of(state.state)?, last_event_at))
}

impl Stored for Catalog {
    fn payload_of(event: &Self::Event) -> stored::event::Payload {
        stored::event::Payload::Catalog(catalog::to_event(event))
    }

    fn event_of(payload: stored::event::Payload) -> Result<Self::Event, StorageError> {
        match payload {
            stored::event::Payload::Catalog(event) => catalog::event(event),
            _ => Err(StorageError::OtherKind),
        }
    }

    fn state_to(&self) -> Option<stored::state::State> {
        (*self != Self::default()).then(|| stored::state::State::Catalog(catalog::to_state(self)))
    }

    fn state_of(state: Option<stored::state::State>) -> Result<Self, StorageError> {
        match state {
            None => Ok(Self::default()),
            Some(stored::state::State::Catalog(state)) => catalog::state(state),
            Some(_) => Err(StorageError::OtherKind),
        }
    }
}

impl Stored for PlanState {
    fn payload_of(event: &Self::Event) -> stored::event::Payload {
        stored::event::Payload::Plan(plan::to_event(event))
    }

    fn event_of(payload: stored::event::Payload) -> Result<Self::Event, StorageError> {
        match payload {
            stored::event::Payload::Plan(event) => plan::event(event),
            _ => Err(StorageError::OtherKind),
        }
    }

    fn state_to(&self) -> Option<stored::state::State> {
        self.0.as_ref().map(|plan| stored::state::State::Plan(plan::to_state(plan)))
    }

    fn state_of(state: Option<stored::state::State>) -> Result<Self, StorageError> {
        match state {
            None => Ok(Self(None)),
            Some(stored::state::State::Plan(state)) => Ok(Self(Some(plan::state(state)?))),
            Some(_) => Err(StorageError::OtherKind),
        }
    }
}

impl Stored for TenantState {
    fn payload_of(event: &Self::Event) -> stored::event::Payload {
        stored::event::Payload::Tenant(tenant::to_event(event))
    }

    fn event_of(payload: stored::event::Payload) -> Result<Self::Event, StorageError> {
        match payload {
            stored::event::Payload::Tenant(event) => tenant::event(event),
            _ => Err(StorageError::OtherKind),
        }
    }

    fn state_to(&self) -> Option<stored::state::State> {
        self.0.as_ref().map(|tenant| stored::state::State::Tenant(tenant::to_state(tenant)))
    }

    fn state_of(state: Option<stored::state::State>) -> Result<Self, StorageError> {
        match state {
            None => Ok(Self(None)),
            Some(stored::state::State::Tenant(state)) => Ok(Self(Some(tenant::state(state)?))),
            Some(_) => Err(StorageError::OtherKind),
        }
    }
}
