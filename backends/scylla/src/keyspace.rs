//! One keyspace: who it is, and the statements on its tables, prepared.
//!
//! A handle that moves to another keyspace gets another of these; every call takes one and keeps to it to its end.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::try_join_all;
use scylla::client::session::Session;
use scylla::errors::PrepareError;
use scylla::statement::prepared::PreparedStatement;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_ports::event_store::StoreIdentity;

use crate::config::Config;
use crate::hints::Minutes;
use crate::session::{Consistencies, repeatable};

/// Event rows.
pub(crate) const CLASS_EVENT: i8 = 0;
/// Request rows.
pub(crate) const CLASS_REQUEST: i8 = 1;
/// Where the request row would be whose id is empty, which none is: it is written with the first event, so that the strong read
/// always finds a row to return the static columns with.
pub(crate) const ANCHOR: &str = "";

/// Bytes of states in a page of a scan: what a node can put together at once without trouble.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Rows in a page, at most: states of which nothing is known yet may all be big.
const PAGE_ROWS_MAX: usize = 1_000;

/// The table of a kind.
pub(crate) fn table(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Catalog => "catalog",
        StreamKind::Plan => "plan",
        StreamKind::AddOn => "add_on",
        StreamKind::Tenant => "tenant",
    }
}

/// The partition of a stream: a partition key cannot be empty, as the key of the catalog is.
pub(crate) fn partition(stream: &StreamId) -> &str {
    match stream {
        StreamId::Catalog => "catalog",
        _ => stream.key(),
    }
}

/// Statements on the streams of one kind.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Head, hash, state and request rows: strong.
    pub(crate) read: PreparedStatement,
    /// As that, without the state.
    pub(crate) read_stateless: PreparedStatement,
    /// The head alone: strong. Also tells the token of a key.
    pub(crate) head: PreparedStatement,
    /// Events from a seq on: strong.
    pub(crate) events: PreparedStatement,
    /// Request rows from an id on: strong.
    pub(crate) requests: PreparedStatement,
    /// The condition of an append, with the new head.
    pub(crate) advance: PreparedStatement,
    /// A row of an append.
    pub(crate) insert: PreparedStatement,
    /// A page of a scan.
    pub(crate) scan: PreparedStatement,
    /// As that, of keys alone.
    pub(crate) keys: PreparedStatement,
    /// How many rows a page has, by what the last ones were like.
    page_rows: AtomicUsize,
}

/// Statements on hints.
#[derive(Debug)]
pub(crate) struct Hints {
    pub(crate) put: PreparedStatement,
    pub(crate) erase: PreparedStatement,
    pub(crate) list: PreparedStatement,
    pub(crate) register: PreparedStatement,
    pub(crate) unregister: PreparedStatement,
    pub(crate) minutes: PreparedStatement,
}

/// Statements on leases.
#[derive(Debug)]
pub(crate) struct Leases {
    pub(crate) renew: PreparedStatement,
    pub(crate) list: PreparedStatement,
}

/// One keyspace.
#[derive(Debug)]
pub(crate) struct Keyspace {
    pub(crate) name: String,
    pub(crate) identity: StoreIdentity,
    pub(crate) hints: Hints,
    pub(crate) leases: Leases,
    /// Who the keyspace is.
    pub(crate) meta: PreparedStatement,
    /// Minutes in which hints were put, and seen.
    pub(crate) minutes: Minutes,
    /// By kind, in the order of [`StreamKind::ALL`].
    streams: [Streams; 4],
}

impl Keyspace {
    /// Prepares everything.
    pub(crate) async fn prepare(
        session: &Session,
        config: &Config,
        name: &str,
        identity: StoreIdentity,
    ) -> Result<Self, PrepareError> {
        // A future for each statement is too big to be handed around.
        let [catalog, plan, add_on, tenant] = StreamKind::ALL.map(|kind| Box::pin(streams(session, config, name, kind)));
        let (streams, hints, leases, meta) = futures::try_join!(
            async { futures::try_join!(catalog, plan, add_on, tenant) },
            Box::pin(hints(session, config, name)),
            leases(session, config, name),
            meta(session, config, name),
        )?;
        let (catalog, plan, add_on, tenant) = streams;
        let streams = [catalog, plan, add_on, tenant];
        Ok(Self { name: name.to_owned(), identity, hints, leases, meta, minutes: Minutes::default(), streams })
    }

    pub(crate) fn streams(&self, kind: StreamKind) -> &Streams {
        let [catalog, plan, add_on, tenant] = &self.streams;
        match kind {
            StreamKind::Catalog => catalog,
            StreamKind::Plan => plan,
            StreamKind::AddOn => add_on,
            StreamKind::Tenant => tenant,
        }
    }
}

impl Streams {
    /// How many rows the next page may have.
    pub(crate) fn page_rows(&self) -> usize {
        self.page_rows.load(Ordering::Relaxed)
    }

    /// What a page was like.
    pub(crate) fn saw_page(&self, rows: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(rows) {
            let next = (PAGE_BYTES / each.max(1)).clamp(4, PAGE_ROWS_MAX);
            // Grows in steps, and shrinks at once.
            let next = next.min(self.page_rows().saturating_mul(2));
            self.page_rows.store(next, Ordering::Relaxed);
        }
    }
}

/// The text of the append's condition; tests take parts of it away.
pub(crate) fn advance_text(keyspace: &str, kind: StreamKind, head: bool, hash: bool) -> String {
    let condition = match (head, hash) {
        (true, true) => " IF head = ? AND hash = ?",
        (true, false) => " IF head = ?",
        (false, _) => "",
    };
    let table = table(kind);
    format!("UPDATE \"{keyspace}\".{table} SET head = ?, hash = ?, state = ?, sum = ? WHERE key = ?{condition}")
}

async fn streams(session: &Session, config: &Config, keyspace: &str, kind: StreamKind) -> Result<Streams, PrepareError> {
    let table = format!("\"{keyspace}\".{}", table(kind));
    let consistencies = Consistencies::of(config.datacenters);
    let strong = |text: String| repeatable(session, text, consistencies.serial, config.read_timeout());
    let page = |text: String| repeatable(session, text, consistencies.regular, config.scan_timeout());
    let asked = format!("FROM {table} WHERE key = ? AND class = {CLASS_REQUEST} AND request IN ?");
    let (read, read_stateless, head, events, requests, scan, keys) = futures::try_join!(
        strong(format!("SELECT head, hash, state, sum, request, cell {asked}")),
        strong(format!("SELECT head, hash, request, cell {asked}")),
        strong(format!("SELECT head FROM {table} WHERE key = ? LIMIT 1")),
        strong(format!(
            "SELECT head, hash, seq, cell FROM {table} WHERE key = ? AND class = {CLASS_EVENT} AND request = '' AND seq > ? LIMIT ?"
        )),
        strong(format!("SELECT request, cell FROM {table} WHERE key = ? AND class = {CLASS_REQUEST} AND request > ? LIMIT ?")),
        page(format!(
            "SELECT DISTINCT key, head, hash, state, sum FROM {table} WHERE token(key) > ? AND token(key) <= ? LIMIT ?"
        )),
        page(format!("SELECT DISTINCT key FROM {table} WHERE token(key) > ? AND token(key) <= ? LIMIT ?")),
    )?;
    let (advance, insert) = futures::try_join!(
        session.prepare(advance_text(keyspace, kind, true, true)),
        session.prepare(format!("INSERT INTO {table} (key, class, request, seq, cell) VALUES (?, ?, ?, ?, ?)")),
    )?;
    // Few plans and big ones, many tenants and small ones.
    let page_rows = AtomicUsize::new(if kind == StreamKind::Tenant { 256 } else { 8 });
    Ok(Streams { read, read_stateless, head, events, requests, advance, insert, scan, keys, page_rows })
}

async fn prepared<const N: usize>(
    session: &Session,
    config: &Config,
    texts: [String; N],
) -> Result<[PreparedStatement; N], PrepareError> {
    let consistency = Consistencies::of(config.datacenters).regular;
    let all = texts.map(|text| repeatable(session, text, consistency, config.read_timeout()));
    let all = try_join_all(all).await?;
    // As many as there were texts.
    all.try_into().map_err(|_| PrepareError::PreparedStatementIdsMismatch)
}

async fn hints(session: &Session, config: &Config, keyspace: &str) -> Result<Hints, PrepareError> {
    let [put, erase, list, register, unregister, minutes] = prepared(
        session,
        config,
        [
            format!(
                "INSERT INTO \"{keyspace}\".hint (shard, minute, at_s, at_ns, kind, key, request, head) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            ),
            format!(
                "DELETE FROM \"{keyspace}\".hint WHERE shard = ? AND minute = ? AND at_s = ? AND at_ns = ? AND kind = ? AND key = ? \
                 AND request = ? AND head = ?"
            ),
            format!(
                "SELECT at_s, at_ns, kind, key, request, head FROM \"{keyspace}\".hint WHERE shard = ? AND minute = ? LIMIT ?"
            ),
            format!("INSERT INTO \"{keyspace}\".hint_minute (shard, minute, since) VALUES (?, ?, toTimestamp(now()))"),
            format!("DELETE FROM \"{keyspace}\".hint_minute USING TIMESTAMP ? WHERE shard = ? AND minute = ?"),
            format!("SELECT minute, writetime(since) AS written FROM \"{keyspace}\".hint_minute WHERE shard = ?"),
        ],
    )
    .await?;
    Ok(Hints { put, erase, list, register, unregister, minutes })
}

async fn leases(session: &Session, config: &Config, keyspace: &str) -> Result<Leases, PrepareError> {
    let [renew, list] = prepared(
        session,
        config,
        [
            format!("INSERT INTO \"{keyspace}\".lease (space, owner) VALUES (0, ?) USING TTL ?"),
            format!("SELECT owner FROM \"{keyspace}\".lease WHERE space = 0"),
        ],
    )
    .await?;
    Ok(Leases { renew, list })
}

async fn meta(session: &Session, config: &Config, keyspace: &str) -> Result<PreparedStatement, PrepareError> {
    let [meta] = prepared(session, config, [crate::schema::meta_text(keyspace)]).await?;
    Ok(meta)
}

/// A statement that is asked of too few replicas passes every suite on a database of one node.
#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use scylla::statement::{Consistency, SerialConsistency};
    use tessera_core::ids::RequestId;
    use tessera_core::time::Timestamp;
    use tessera_ports::clock::{IdSource, ManualClock};
    use tessera_ports::event_store::{Append, Head};

    use super::*;
    use crate::appending::Comparisons;
    use crate::config::Datacenters;
    use crate::migrating::migrate;
    use crate::open::{Moves, Scylla};

    #[derive(Debug)]
    struct RandomIds;

    impl IdSource for RandomIds {
        fn request_id(&self) -> RequestId {
            RequestId::parse(&self.unique()).expect("an id")
        }

        #[expect(clippy::disallowed_methods, reason = "runs beside runs need names that are really new")]
        fn unique(&self) -> String {
            uuid::Uuid::now_v7().simple().to_string()
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what is compared with the clock of a real database has to be a real one")]
    fn clock() -> ManualClock {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        ManualClock::new(Timestamp::MIN.saturating_add(since))
    }

    async fn opened(datacenters: Datacenters, address: String) -> anyhow::Result<Scylla> {
        let keyspace = format!("t_{}", RandomIds.unique());
        let config = Config { datacenters, keyspace, replication_factor: 1, ..Config::new(vec![address]) };
        // A machine that is busy with other suites answers late.
        let config = Config { append_timeout_ms: 30_000, read_timeout_ms: 30_000, ..config };
        migrate(&config, &RandomIds, &clock(), None).await?;
        Ok(Scylla::open(&config, Arc::new(clock()), Moves::No).await?)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_statement_is_asked_of_a_majority() -> anyhow::Result<()> {
        let one = (Datacenters::One, Consistency::LocalQuorum, Consistency::LocalSerial, SerialConsistency::LocalSerial);
        let many = (Datacenters::Many, Consistency::Quorum, Consistency::Serial, SerialConsistency::Serial);
        for (datacenters, regular, serial, conditions) in [one, many] {
            let Some(address) = tessera_engines::shared_cassandra()? else { return Ok(()) };
            let store = opened(datacenters, address).await?;
            let keyspace = store.keyspace();
            let Hints { put, erase, list, register, unregister, minutes } = &keyspace.hints;
            let mut regulars = vec![put, erase, list, register, unregister, minutes, &keyspace.meta];
            regulars.extend([&keyspace.leases.renew, &keyspace.leases.list]);
            let mut serials = Vec::new();
            for kind in StreamKind::ALL {
                // The batch says it of the first two.
                let Streams { advance: _, insert: _, read, read_stateless, head, events, requests, scan, keys, page_rows: _ } =
                    keyspace.streams(kind);
                serials.extend([read, read_stateless, head, events, requests]);
                regulars.extend([scan, keys]);
            }
            for (statements, expected) in [(regulars, regular), (serials, serial)] {
                for statement in statements {
                    assert_eq!(statement.get_consistency(), Some(expected), "{}", statement.get_statement());
                }
            }
            let (stream, expected) = (StreamId::Catalog, Head::default());
            let append = Append { epoch: 1, stream, expected, cells: Vec::new(), state: Bytes::new(), requests: Vec::new() };
            let batch = store.batch(&keyspace, &append, Comparisons::now(), 2);
            assert_eq!((batch.get_consistency(), batch.get_serial_consistency()), (Some(regular), Some(conditions)));
            store.0.session.query_unpaged(format!("DROP KEYSPACE {}", keyspace.name), ()).await?;
        }
        Ok(())
    }
}
