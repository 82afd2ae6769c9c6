//! A keyspace with the tenants of an embedded store, written by a bare driver: the same cells with the same bytes that the adapter
//! would have written, one batch per stream, without conditions and many at once. A stream's head is as its last append left it, so
//! that the adapter reads it and appends to it.

use std::path::Path;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use scylla::client::session::Session;
use scylla::statement::batch::{Batch, BatchType};
use tessera_core::stream::{StreamId, StreamKind};
use tokio_stream::wrappers::ReceiverStream;

use super::cells::{CLASS_EVENT, CLASS_REQUEST, Values, insert_row, partition, request_cell, set_head, sum_of_head};
use super::place::Place;
use crate::bare_driver::{self, Stream};

/// Streams written at once.
const AT_ONCE: usize = 128;
/// Streams read ahead.
const AHEAD: usize = 1_000;

/// Makes keyspace and topic, and writes what the store in the data directory `from` has into the keyspace, unless that was done in
/// an earlier run.
pub async fn fill(place: &Place, from: &Path) -> anyhow::Result<()> {
    place.migrate().await?;
    let session = place.session().await?;
    if is_filled(&session, &place.keyspace).await? {
        return Ok(());
    }
    eprintln!("bench: filling keyspace {} from {}", place.keyspace, from.display());
    let mut writers = Vec::new();
    for kind in StreamKind::ALL {
        writers.push(Writer::prepare(&session, &place.keyspace, kind).await?);
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    let database = from.join("tessera.db");
    let reader = std::thread::spawn(move || {
        bare_driver::each(&database, |stream| sender.blocking_send(stream).context("nobody writes any more"))
    });
    let (session, writers) = (&session, &writers);
    let written = ReceiverStream::new(receiver).map(anyhow::Ok).try_for_each_concurrent(AT_ONCE, |stream| async move {
        let writer = writers.iter().find(|writer| writer.kind as i64 == stream.kind).context("a stream of no kind")?;
        writer.write(session, &stream).await.with_context(|| format!("write stream `{}`", stream.key))
    });
    written.await?;
    reader.join().map_err(|_| anyhow::anyhow!("the thread that reads ended"))??;
    // What was broken off before this is written once more the next time, with the same bytes.
    let done = format!("CREATE TABLE \"{}\".filled (one tinyint PRIMARY KEY)", place.keyspace);
    session.query_unpaged(done, ()).await?;
    Ok(())
}

async fn is_filled(session: &Session, keyspace: &str) -> anyhow::Result<bool> {
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'filled'";
    let rows = session.query_unpaged(text, (keyspace,)).await?.into_rows_result()?;
    Ok(rows.rows_num() > 0)
}

/// Writes streams of one kind.
struct Writer {
    kind: StreamKind,
    set_head: scylla::statement::prepared::PreparedStatement,
    insert_row: scylla::statement::prepared::PreparedStatement,
}

impl Writer {
    async fn prepare(session: &Session, keyspace: &str, kind: StreamKind) -> anyhow::Result<Self> {
        Ok(Self {
            kind,
            set_head: session.prepare(set_head(keyspace, kind, "")).await?,
            insert_row: session.prepare(insert_row(keyspace, kind)).await?,
        })
    }

    async fn write(&self, session: &Session, stored: &Stream) -> anyhow::Result<()> {
        let stream = StreamId::from_parts(self.kind, &stored.key)?;
        let key = partition(&stream);
        let sum = sum_of_head(&stream, u64::try_from(stored.seq)?, &stored.hash, &stored.state);
        let requests = stored
            .requests
            .iter()
            .map(|(id, seq, digest, _)| anyhow::Ok((id.as_str(), request_cell(&stream, id, u64::try_from(*seq)?, digest))));
        let requests = requests.collect::<anyhow::Result<Vec<_>>>()?;
        let row = |class, request, seq, cell| Values::Row { key, class, request, seq, cell };
        let mut values = vec![
            Values::Head { key, head: stored.seq, hash: &stored.hash, state: &stored.state, sum },
            // The anchor, which the strong read needs.
            row(CLASS_REQUEST, "", 0, &[]),
        ];
        values.extend(stored.events.iter().map(|(seq, cell, _)| row(CLASS_EVENT, "", *seq, cell)));
        values.extend(requests.iter().map(|(id, cell)| row(CLASS_REQUEST, id, 0, cell)));
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.append_statement(self.set_head.clone());
        for _ in 1..values.len() {
            batch.append_statement(self.insert_row.clone());
        }
        batch.set_is_idempotent(true);
        session.batch(&batch, values).await?;
        Ok(())
    }
}
