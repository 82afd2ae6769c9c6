//! Appends by one writer: through the port, and by a bare driver that sends the same conditional batch: the same statements with as
//! many bytes in the same columns, put together once, and without hashes and sums. One after the other, in turns of a few.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};
use tessera_backends::{ClusterConfig, Purpose};
use tessera_core::ids::{RequestId, TenantId};
use tessera_core::stream::{Epoch, StreamId, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::event_store::{Append, Appended, CommandDigest, Head, RequestRow};

use super::cells::{CLASS_EVENT, CLASS_REQUEST, Values, insert_row, set_head};
use super::place::opening;
use super::turns::{Began, Turn};

/// Streams that each of them appends to.
const STREAMS: usize = 64;
/// Appends of one turn, and turns of each in one round.
const TURN: usize = 50;
const TURNS: usize = 8;
/// Rounds, after one that warms up.
const ROUNDS: usize = 7;
/// On average the event of a tenant that was made has so many bytes, its state so many, and the id of its request so many.
const EVENT_BYTES: usize = 178;
const STATE_BYTES: usize = 95;
const REQUEST_ID_BYTES: usize = 48;

/// Rounds, each of: through the port; by the bare driver.
pub async fn rounds(config: &ClusterConfig) -> anyhow::Result<Vec<Vec<Turn>>> {
    let mut ours = Ours::open(config).await?;
    let mut bare = Bare::connect(config).await?;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let (mut of_ours, mut of_bare) = (Turn::default(), Turn::default());
        for _ in 0..TURNS {
            let mut latencies = Vec::with_capacity(TURN);
            let began = Began::now();
            for _ in 0..TURN {
                latencies.push(ours.append().await?);
            }
            add(&mut of_ours, &began.done(TURN as u64), &latencies);
            let mut latencies = Vec::with_capacity(TURN);
            let began = Began::now();
            for _ in 0..TURN {
                latencies.push(bare.append().await?);
            }
            add(&mut of_bare, &began.done(TURN as u64), &latencies);
        }
        if round > 0 {
            for turn in [&mut of_ours, &mut of_bare] {
                turn.latencies_ms.sort_by(f64::total_cmp);
            }
            rounds.push(vec![of_ours, of_bare]);
        }
    }
    Ok(rounds)
}

fn add(sum: &mut Turn, turn: &Turn, latencies: &[f64]) {
    sum.count += turn.count;
    sum.seconds += turn.seconds;
    sum.cpu_seconds += turn.cpu_seconds;
    sum.latencies_ms.extend(latencies);
}

fn stream_name(who: &str, number: usize) -> String {
    format!("appended-to-by-{who}-{number:03}")
}

fn request_name(number: u64) -> String {
    format!("{number:0REQUEST_ID_BYTES$}")
}

/// The writer through the port.
struct Ours {
    store: Arc<dyn EventStore>,
    epoch: Epoch,
    streams: Vec<(StreamId, Head)>,
    cell: Bytes,
    state: Bytes,
    sent: usize,
}

impl Ours {
    async fn open(config: &ClusterConfig) -> anyhow::Result<Self> {
        let backends = tessera_backends::Config::Cluster(Box::new(config.clone()));
        let store = tessera_backends::open_store(&backends, &opening(Purpose::Loading)).await?;
        let mut streams = Vec::new();
        for number in 0..STREAMS {
            let stream = StreamId::Tenant(TenantId::parse(&stream_name("port", number))?);
            streams.push((stream, Head::default()));
        }
        let (cell, state) = (Bytes::from(vec![1; EVENT_BYTES]), Bytes::from(vec![2; STATE_BYTES]));
        let epoch = store.identity().await?.epoch;
        let mut ours = Self { store, epoch, streams, cell, state, sent: 0 };
        // The first append to each has a row more.
        for _ in 0..STREAMS {
            ours.append().await?;
        }
        Ok(ours)
    }

    /// In ms.
    async fn append(&mut self) -> anyhow::Result<f64> {
        let number = self.sent;
        self.sent += 1;
        let (stream, head) = self.streams.get_mut(number % STREAMS).context("a stream")?;
        let row =
            RequestRow { id: RequestId::parse(&request_name(number as u64))?, seq: head.seq + 1, digest: CommandDigest([3; 32]) };
        let append = Append {
            epoch: self.epoch,
            stream: stream.clone(),
            expected: *head,
            cells: vec![self.cell.clone()],
            state: self.state.clone(),
            requests: vec![row],
        };
        let after = append.head_after();
        let began = Instant::now();
        let appended = self.store.append(append).await?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        anyhow::ensure!(appended == Appended::Committed, "an append by the only writer was a conflict");
        *head = after;
        Ok(took)
    }
}

/// The writer that has nothing but the driver.
struct Bare {
    session: Session,
    batch: Batch,
    /// Names, and the seq of each.
    streams: Vec<(String, i64)>,
    sent: usize,
}

impl Bare {
    async fn connect(config: &ClusterConfig) -> anyhow::Result<Self> {
        let session = SessionBuilder::new().known_nodes(&config.scylla.contact_points).build().await?;
        let (keyspace, kind) = (&config.scylla.keyspace, StreamKind::Tenant);
        let set_head = session.prepare(set_head(keyspace, kind, " IF head = ? AND hash = ?")).await?;
        let insert = session.prepare(insert_row(keyspace, kind)).await?;
        let batch = |rows: usize| {
            let mut batch = Batch::new(BatchType::Unlogged);
            batch.append_statement(set_head.clone());
            for _ in 0..rows {
                batch.append_statement(insert.clone());
            }
            batch.set_consistency(Consistency::LocalQuorum);
            batch.set_serial_consistency(Some(SerialConsistency::LocalSerial));
            batch.set_is_idempotent(false);
            batch.set_retry_policy(Some(Arc::new(FallthroughRetryPolicy::new())));
            batch
        };
        let streams = (0..STREAMS).map(|number| (stream_name("bare", number), 0)).collect();
        let mut bare = Self { session, batch: batch(3), streams, sent: 0 };
        // The first append to each has a row more.
        for _ in 0..STREAMS {
            bare.append().await?;
        }
        bare.batch = batch(2);
        Ok(bare)
    }

    /// In ms.
    async fn append(&mut self) -> anyhow::Result<f64> {
        let number = self.sent;
        self.sent += 1;
        let (key, seq) = self.streams.get_mut(number % STREAMS).context("a stream")?;
        let request = request_name(number as u64);
        let (hash, state, cell, request_cell) = ([4; 32], [2; STATE_BYTES], [1; EVENT_BYTES], [3; 48]);
        let first = *seq == 0;
        let expected = if first { (None, None) } else { (Some(*seq), Some(&hash[..])) };
        let row = |class, request, seq, cell| Values::Row { key, class, request, seq, cell };
        let mut values = Vec::with_capacity(4);
        values.push(Values::HeadIf { key, head: *seq + 1, hash: &hash, state: &state, sum: 1, expected });
        if first {
            values.push(row(CLASS_REQUEST, "", 0, &[]));
        }
        values.push(row(CLASS_EVENT, "", *seq + 1, &cell));
        values.push(row(CLASS_REQUEST, &request, 0, &request_cell));
        let began = Instant::now();
        let answer = self.session.batch(&self.batch, values).await?;
        let row = answer.into_rows_result()?.first_row::<Row>()?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let applied = row.columns.first() == Some(&Some(CqlValue::Boolean(true)));
        anyhow::ensure!(applied, "a batch of the only writer was not applied");
        *seq += 1;
        Ok(took)
    }
}
