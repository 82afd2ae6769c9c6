//! The scan of a whole keyspace: through the port, as a hydration reads it, and by a bare driver that asks for the same columns of
//! the same ranges of tokens, in pages of the same size and as many ranges at once, and drops the pages as they come.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use scylla::client::session::Session;
use scylla::response::PagingState;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;
use tessera_backends::{ClusterConfig, Purpose};
use tessera_core::digest::state_checksum;
use tessera_core::stream::StreamKind;
use tessera_core::tenant::TenantState;
use tessera_ports::EventStore;
use tessera_ports::event_store::ScanRange;
use tessera_proto::storage;
use tokio::task::JoinSet;

use super::cells::table;
use super::place::opening;
use super::turns::{Began, Turn};

/// As a server has it, unless it is told otherwise.
const PAGE_ROWS: usize = 256;
const RANGES_AT_ONCE: usize = 8;
/// Rounds, after one that warms up.
const ROUNDS: usize = 5;

/// Whether states are decoded, as a hydration decodes them, or dropped as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum States {
    Decoded,
    Dropped,
}

/// Rounds, each of: through the port with the states decoded; through the port; by the bare driver.
pub async fn rounds(config: &ClusterConfig, tenants: u64) -> anyhow::Result<Vec<Vec<Turn>>> {
    let backends = tessera_backends::Config::Cluster(Box::new(config.clone()));
    let store = tessera_backends::open_store(&backends, &opening(Purpose::Serving)).await?;
    let bare = Arc::new(Bare::connect(config).await?);
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let began = Began::now();
        let decoded = began.done(through_the_port(&store, States::Decoded).await?);
        let began = Began::now();
        let dropped = began.done(through_the_port(&store, States::Dropped).await?);
        let began = Began::now();
        let by_bare = began.done(by_the_bare_driver(&store, &bare).await?);
        for turn in [&decoded, &dropped, &by_bare] {
            anyhow::ensure!(turn.count == decoded.count && turn.count > tenants, "{} rows of {tenants} tenants", turn.count);
        }
        if round > 0 {
            rounds.push(vec![decoded, dropped, by_bare]);
        }
    }
    Ok(rounds)
}

/// Every kind after the other, as many ranges at once as a hydration reads.
async fn through_the_port(store: &Arc<dyn EventStore>, states: States) -> anyhow::Result<u64> {
    let mut rows = 0;
    for kind in StreamKind::ALL {
        let read = |range| {
            let store = Arc::clone(store);
            async move { read_range(&*store, range, states).await }
        };
        rows += all(store.scan_ranges(kind).await?, read).await?;
    }
    Ok(rows)
}

async fn read_range(store: &dyn EventStore, range: ScanRange, states: States) -> anyhow::Result<u64> {
    let (mut rows, mut next) = (0, Some(range));
    while let Some(range) = next {
        let page = store.scan(&range, PAGE_ROWS).await?;
        rows += page.changes.len() as u64;
        for change in &page.changes {
            anyhow::ensure!(!change.state.is_empty(), "`{}` is damaged", change.stream);
            if states == States::Decoded {
                std::hint::black_box(state_checksum(&change.state));
                if range.kind == StreamKind::Tenant {
                    std::hint::black_box(storage::decode_state::<TenantState>(&change.state)?);
                }
            }
        }
        next = page.rest;
    }
    Ok(rows)
}

/// A connection and, by kind, the statement of a scan.
struct Bare {
    session: Session,
    scans: Vec<(StreamKind, PreparedStatement)>,
}

impl Bare {
    async fn connect(config: &ClusterConfig) -> anyhow::Result<Self> {
        let points = &config.scylla.contact_points;
        let session = scylla::client::session_builder::SessionBuilder::new().known_nodes(points).build().await?;
        let mut scans = Vec::new();
        for kind in StreamKind::ALL {
            let table = table(&config.scylla.keyspace, kind);
            let columns = "SELECT DISTINCT key, head, hash, state, sum";
            let mut scan = session.prepare(format!("{columns} FROM {table} WHERE token(key) > ? AND token(key) <= ?")).await?;
            scan.set_page_size(i32::try_from(PAGE_ROWS)?);
            scan.set_consistency(Consistency::LocalQuorum);
            scan.set_is_idempotent(true);
            scans.push((kind, scan));
        }
        Ok(Self { session, scans })
    }

    async fn read_range(&self, range: ScanRange) -> anyhow::Result<u64> {
        let scan = self.scans.iter().find(|(kind, _)| *kind == range.kind).map(|(_, scan)| scan);
        let scan = scan.context("a statement for every kind")?;
        let bounds = (token(&range.from)?, token(&range.until)?);
        let (mut rows, mut from) = (0, PagingState::start());
        loop {
            let (page, next) = self.session.execute_single_page(scan, bounds, from).await?;
            rows += page.into_rows_result()?.rows_num() as u64;
            from = match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => next,
                ControlFlow::Break(()) => return Ok(rows),
            };
        }
    }
}

/// The store only says which ranges there are.
async fn by_the_bare_driver(store: &Arc<dyn EventStore>, bare: &Arc<Bare>) -> anyhow::Result<u64> {
    let mut rows = 0;
    for kind in StreamKind::ALL {
        let read = |range| {
            let bare = Arc::clone(bare);
            async move { bare.read_range(range).await }
        };
        rows += all(store.scan_ranges(kind).await?, read).await?;
    }
    Ok(rows)
}

/// Bounds of ranges are tokens, the most significant byte first.
fn token(bound: &Bytes) -> anyhow::Result<i64> {
    Ok(i64::from_be_bytes(bound[..].try_into().context("a range of tokens")?))
}

/// Reads all of them, so many at once, each by a task of its own.
async fn all<F>(ranges: Vec<ScanRange>, read: impl Fn(ScanRange) -> F) -> anyhow::Result<u64>
where
    F: Future<Output = anyhow::Result<u64>> + Send + 'static,
{
    let (mut rows, mut tasks) = (0, JoinSet::new());
    for range in ranges {
        if tasks.len() >= RANGES_AT_ONCE
            && let Some(read) = tasks.join_next().await
        {
            rows += read??;
        }
        tasks.spawn(read(range));
    }
    while let Some(read) = tasks.join_next().await {
        rows += read??;
    }
    Ok(rows)
}
