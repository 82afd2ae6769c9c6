//! How fast the embedded database commits here: one writer after the other, and 128 at once; then how long it takes to open
//! again. `cargo run --release -p tessera-sqlite --example commits -- [directory] [streams]`. A sketch, not a benchmark.
#![expect(clippy::disallowed_methods, reason = "it measures how long things take")]

use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt as _;
use tessera_core::aggregate::{Actor, Recorded, References};
use tessera_core::catalog::{Catalog, Event};
use tessera_core::ids::{LimitId, RequestId, TenantId};
use tessera_core::stream::StreamId;
use tessera_core::time::Timestamp;
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::{Append, Appended, CommandDigest, EventStore as _, Head, RequestRow};
use tessera_proto::storage::{StoredEvent, encode_event};
use tessera_sqlite::{Config, Sqlite};

#[derive(Debug)]
struct OneName;

impl IdSource for OneName {
    fn request_id(&self) -> RequestId {
        RequestId::parse("one").expect("a request id")
    }

    fn unique(&self) -> String {
        "commits".to_owned()
    }
}

/// The first event of a tenant, about as big as a real one.
fn append(name: &str) -> Append {
    let request_id = RequestId::parse(name).expect("a request id");
    let event = StoredEvent::<Event> {
        previous_hash: [0; 32],
        request_id: request_id.clone(),
        command_digest: [7; 32],
        actor: Actor::parse("an actor", "local").expect("an actor"),
        recorded: Recorded {
            seq: 1,
            at: Timestamp::MIN,
            references: References::default(),
            event: Event::LimitArchived(LimitId::parse("max_users").expect("a limit id")),
        },
    };
    Append {
        epoch: 1,
        stream: StreamId::Tenant(TenantId::parse(name).expect("a tenant id")),
        expected: Head::default(),
        cells: vec![encode_event::<Catalog>(&event).into()],
        state: Bytes::from(vec![7; 200]),
        requests: vec![RequestRow { id: request_id, seq: 1, digest: CommandDigest([7; 32]) }],
    }
}

async fn commit(sqlite: &Sqlite, prefix: &str, count: u64, at_once: usize) {
    let began = Instant::now();
    let outcomes = futures::stream::iter((0..count).map(|n| sqlite.append(append(&format!("{prefix}-{n}")))));
    let committed = outcomes
        .buffer_unordered(at_once)
        .filter(|outcome| futures::future::ready(*outcome == Ok(Appended::Committed)))
        .count()
        .await;
    let per_second = f64::from(u32::try_from(committed).expect("few")) / began.elapsed().as_secs_f64();
    println!("{at_once:>4} at once: {committed} appends, {per_second:.0} a second");
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = tempfile::tempdir().expect("a directory");
    let path = arguments.next().map_or_else(|| directory.path().to_owned(), std::path::PathBuf::from);
    let streams: u64 = arguments.next().map_or(20_000, |count| count.parse().expect("a number of streams"));
    let run = std::process::id();
    let config = Config::new(path);
    let sqlite = Sqlite::open(&config, &OneName).expect("it opens");
    commit(&sqlite, &format!("single-{run}"), streams / 20, 1).await;
    commit(&sqlite, &format!("many-{run}"), streams, 128).await;
    commit(&sqlite, &format!("more-{run}"), streams, 1024).await;
    drop(sqlite);
    let began = Instant::now();
    let sqlite = Sqlite::open(&config, &OneName).expect("it opens");
    let count = sqlite.count(tessera_core::stream::StreamKind::Tenant).await.expect("a count");
    println!("opened again with {count} tenants in {:?}", began.elapsed());
}
