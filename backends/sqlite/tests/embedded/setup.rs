//! A place for a database, real events to put in it, and ways behind its back.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tempfile::TempDir;
use tessera_core::aggregate::{Actor, Recorded, References};
use tessera_core::catalog::{Catalog, Event};
use tessera_core::ids::{LimitId, RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::{Append, Appended, CommandDigest, EventStore, Head, RequestRow};
use tessera_proto::storage::{StoredEvent, encode_event};
use tessera_sqlite::{Checks, Config, OpenError, Sqlite};

/// Ids in order.
#[derive(Debug, Default)]
pub(crate) struct Numbered(AtomicU64);

impl IdSource for Numbered {
    fn request_id(&self) -> RequestId {
        RequestId::parse(&self.unique()).expect("a request id")
    }

    fn unique(&self) -> String {
        format!("unique-{}", self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A data directory that is gone afterwards.
#[derive(Debug)]
pub(crate) struct Place {
    directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data_dir().join("tessera.db")
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.data_dir())
    }

    /// What would be left of the directory if its process, which is not writing, were killed now.
    pub(crate) fn killed(&self) -> Self {
        let killed = Self::new();
        std::fs::create_dir(killed.data_dir()).expect("a directory");
        for name in ["tessera.db", "tessera.db-wal"] {
            std::fs::copy(self.data_dir().join(name), killed.data_dir().join(name)).expect("a copy");
        }
        killed
    }

    pub(crate) fn open(&self) -> Sqlite {
        self.try_open().expect("it opens")
    }

    pub(crate) fn try_open(&self) -> Result<Sqlite, OpenError> {
        open_at(&self.data_dir())
    }

    pub(crate) fn open_unchecked(&self) -> (Sqlite, Checks) {
        Sqlite::open_unchecked(&self.config(), &Numbered::default()).expect("it opens")
    }

    /// Another connection, behind the back of everything that guards the database; only while it is closed.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).expect("it opens")
    }
}

pub(crate) fn open_at(data_dir: &Path) -> Result<Sqlite, OpenError> {
    Sqlite::open(&Config::new(data_dir), &Numbered::default())
}

pub(crate) fn tenant(name: &str) -> StreamId {
    StreamId::Tenant(TenantId::parse(name).expect("a tenant id"))
}

pub(crate) fn request(name: &str) -> RequestId {
    RequestId::parse(name).expect("a request id")
}

/// An append of real events, so that the chain can be walked; the state is the text.
pub(crate) fn append_of(stream: &StreamId, expected: Head, count: u64, text: &str) -> Append {
    let mut head = expected;
    let mut cells = Vec::new();
    for _ in 0..count {
        let seq = head.seq + 1;
        let event = StoredEvent::<Event> {
            previous_hash: head.hash.0,
            request_id: request(text),
            command_digest: [7; 32],
            actor: Actor::parse("an actor", "local").expect("an actor"),
            recorded: Recorded {
                seq,
                at: Timestamp::MIN,
                references: References::default(),
                event: Event::LimitArchived(LimitId::parse("max_users").expect("a limit id")),
            },
        };
        let cell = Bytes::from(encode_event::<Catalog>(&event));
        head = Head { seq, hash: tessera_ports::event_store::CellHash::of(&cell) };
        cells.push(cell);
    }
    let requests = vec![RequestRow { id: request(text), seq: head.seq, digest: CommandDigest([7; 32]) }];
    let state = Bytes::copy_from_slice(text.as_bytes());
    Append { epoch: 1, stream: stream.clone(), expected, cells, state, requests }
}

/// Appends real events at the end of a stream.
pub(crate) async fn write(sqlite: &Sqlite, stream: &StreamId, count: u64, text: &str) -> Head {
    let head = sqlite.read(stream, &[], None).await.expect("a read").head;
    let append = append_of(stream, head, count, text);
    let after = append.head_after();
    assert_eq!(sqlite.append(append).await, Ok(Appended::Committed));
    after
}
