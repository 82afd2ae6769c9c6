//! Loading a snapshot: the heads of all blocks first, which costs next to nothing and finds files that are not whole, then tables,
//! then rows by all cores at once, then what was parked. What comes out is what was written, or nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tessera_core::digest::StateDigest;
use tessera_core::evaluator::Tables;
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_core::time::Timestamp;
use tessera_ports::event_store::StoreIdentity;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::{Change, Clock};

use super::bytes::{End, HEAD_LEN, Head, Kind, PREAMBLE_LEN, Take, Whole, checksum, read_preamble};
use super::folder::{SnapshotFolder, SnapshotReader};
use super::{Origin, Refusal, Standing, software};
use crate::Config;
use crate::matrix::Matrix;
use crate::matrix::writer::Writer;
use crate::shared::Shared;

/// More threads than these gain nothing: memory is what bounds loading by then.
const THREADS_MAX: usize = 16;
/// A file may be so far ahead of the clock and yet count as new: clocks are set back by seconds.
const AHEAD_MAX: Duration = Duration::from_mins(5);
/// The least that a row takes, so that no file can ask for more room than it could fill.
const ROW_LEN_MIN: u64 = 12;

/// What a snapshot made.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) writer: Writer,
    pub(crate) origin: Origin,
    pub(crate) standing: Standing,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// A file that was looked at: preamble, heads of blocks, and the three small blocks.
#[derive(Debug)]
struct Opened {
    file: Box<dyn SnapshotReader>,
    blocks: Vec<Block>,
    origin: Origin,
    standing: Standing,
    end: End,
    checked: bool,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    head: Head,
    number: u64,
    /// Where its payload begins.
    from: u64,
}

/// Loads the newest generation that can be used. Every one that cannot is given to `refused` with its name. It blocks.
pub(crate) fn newest(
    folder: &dyn SnapshotFolder,
    shared: &Shared,
    age_max: Duration,
    mut refused: impl FnMut(&str, &Refusal),
) -> Option<Loaded> {
    let generations = match folder.generations() {
        Ok(generations) => generations,
        Err(error) => {
            refused("the folder of snapshots", &error.into());
            return None;
        }
    };
    for generation in generations {
        let name = folder.name(generation);
        match one(folder, generation, shared, age_max) {
            Ok((writer, opened)) => {
                let Opened { file, origin, standing, .. } = opened;
                return Some(Loaded { writer, origin, standing, name, bytes: file.length() });
            }
            Err(refusal) => refused(&name, &refusal),
        }
    }
    None
}

/// Whether there is a file that seems to be usable: it is whole as far as can be told without reading all of it.
pub(crate) fn is_there(folder: &dyn SnapshotFolder, config: &Config, clock: &dyn Clock) -> bool {
    let (now, age_max) = (clock.now(), config.snapshot_age_max());
    let generations = folder.generations().unwrap_or_default();
    generations.into_iter().any(|generation| look(folder, generation).is_ok_and(|opened| young(&opened, now, age_max).is_ok()))
}

fn one(folder: &dyn SnapshotFolder, generation: u64, shared: &Shared, age_max: Duration) -> Result<(Writer, Opened), Refusal> {
    let opened = look(folder, generation)?;
    young(&opened, shared.clock.now(), age_max)?;
    let identity = StoreIdentity { epoch: opened.origin.epoch, store: opened.origin.store.clone() };
    let room = opened.origin.tenants.min(opened.file.length() / ROW_LEN_MIN);
    let mut writer = Writer::new(shared.new_matrix(&identity, room), shared.metrics.clone());
    writer.matrix().set_of_store_read(false);

    let tables = opened.changes(Kind::Tables, identity.epoch)?;
    writer.take_tables(&tables).map_err(|stream| Refusal::Malformed(format!("`{stream}` does not fit the others")))?;
    let threads = if folder.pause().is_some() { 1 } else { threads() };
    let (digest, rows) = opened.rows(writer.matrix(), writer.tables(), threads)?;
    writer.count_rows(digest);
    if opened.checked && (rows != opened.end.rows || writer.digest().sum() != opened.end.digest) {
        return Err(Refusal::Malformed("its rows are not those that were written".to_owned()));
    }
    let (parked, bad) = (opened.changes(Kind::Parked, identity.epoch)?, opened.bad()?);
    writer.take_waiting(opened.standing.whole_until(), &parked, &bad);
    Ok((writer, opened))
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(THREADS_MAX)
}

fn young(opened: &Opened, now: Timestamp, age_max: Duration) -> Result<(), Refusal> {
    if !hooks::holds(Guard::SnapshotAgeLimit) {
        return Ok(());
    }
    let at = opened.standing.at;
    let (age, ahead) = (now.saturating_since(at), at.saturating_since(now));
    if age > age_max {
        return Err(Refusal::TooOld { age_s: age.as_secs(), max_s: age_max.as_secs() });
    }
    if ahead > AHEAD_MAX {
        return Err(Refusal::FromTheFuture { ahead_s: ahead.as_secs() });
    }
    Ok(())
}

/// Reads the preamble, the heads and the small blocks.
fn look(folder: &dyn SnapshotFolder, generation: u64) -> Result<Opened, Refusal> {
    let file = folder.open(generation)?;
    let length = file.length();
    let mut preamble = [0; PREAMBLE_LEN];
    read(&*file, 0, &mut preamble)?;
    read_preamble(preamble)?;

    let (mut blocks, mut whole) = (Vec::new(), Whole::new());
    let mut at = len(PREAMBLE_LEN);
    let last = loop {
        let mut head = [0; HEAD_LEN];
        read(&*file, at, &mut head)?;
        let head = Head::decode(head).ok_or(Refusal::Damaged { what: "the head of a block", at })?;
        let from = at.saturating_add(len(HEAD_LEN));
        let block = Block { head, number: len(blocks.len()), from };
        at = from.saturating_add(head.length.into());
        if at > length {
            return Err(Refusal::Torn { at: length });
        }
        if head.kind == Kind::End {
            break block;
        }
        whole.take_in(head);
        blocks.push(block);
    };
    if at < length {
        return Err(Refusal::TooLong { at });
    }
    let checked = hooks::holds(Guard::SnapshotChecksums);
    let end = End::decode(&payload(&*file, last, checked)?).ok_or_else(|| malformed("the end mark"))?;
    if checked && end.whole != whole.checksum() {
        return Err(Refusal::Damaged { what: "its blocks are not those that were written,", at: last.from });
    }
    let small = |kind, what: &'static str| {
        let mut of_kind = blocks.iter().filter(|block| block.head.kind == kind);
        match (of_kind.next(), of_kind.next()) {
            (Some(block), None) => payload(&*file, *block, checked),
            _ => Err(malformed(what)),
        }
    };
    let (software_of_file, origin) =
        Origin::decode(&small(Kind::Origin, "whose it is")?).ok_or_else(|| malformed("whose it is"))?;
    if software_of_file != software() {
        return Err(Refusal::Version { given: software_of_file, ours: software() });
    }
    let standing = Standing::decode(&small(Kind::Standing, "positions")?).ok_or_else(|| malformed("positions"))?;
    if usize::try_from(origin.topic.partitions) != Ok(standing.positions.len()) {
        return Err(malformed("positions"));
    }
    Ok(Opened { file, blocks, origin, standing, end, checked })
}

impl Opened {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = Block> + '_ {
        self.blocks.iter().filter(move |block| block.head.kind == kind).copied()
    }

    fn changes(&self, kind: Kind, epoch: Epoch) -> Result<Vec<Change>, Refusal> {
        let mut changes = Vec::new();
        for block in self.of_kind(kind) {
            let payload = Bytes::from(payload(&*self.file, block, self.checked)?);
            let mut take = Take(&payload);
            while !take.is_empty() {
                let (stream, seq, state) = take.change().ok_or_else(|| malformed("a state"))?;
                changes.push(Change { epoch, stream, seq, state: Bytes::copy_from_slice(state) });
            }
        }
        Ok(changes)
    }

    fn bad(&self) -> Result<Vec<(StreamId, Seq)>, Refusal> {
        let mut bad = Vec::new();
        for block in self.of_kind(Kind::Bad) {
            let payload = payload(&*self.file, block, self.checked)?;
            let mut take = Take(&payload);
            while !take.is_empty() {
                bad.push(take.stream().zip(take.number()).ok_or_else(|| malformed("a stream"))?);
            }
        }
        Ok(bad)
    }

    /// Puts all rows into the matrix, with that many threads; each takes the next block until there is none.
    fn rows(&self, matrix: &Matrix, tables: &Tables, threads: usize) -> Result<(StateDigest, u64), Refusal> {
        let blocks: Vec<Block> = self.of_kind(Kind::Rows).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut digest, mut rows, mut buffer) = (StateDigest::default(), 0_u64, Vec::new());
            while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
                read_payload(&*self.file, *block, self.checked, &mut buffer)?;
                let (more, count) = matrix.put_rows(&buffer, tables)?;
                digest.absorb(more);
                rows = rows.saturating_add(count);
            }
            Ok((digest, rows))
        };
        let threads = threads.min(blocks.len());
        if threads <= 1 {
            return work();
        }
        let parts: Vec<_> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let gone = |_| Err(malformed("a row brought a thread down"));
            started.into_iter().map(|thread| thread.join().unwrap_or_else(gone)).collect()
        });
        let (mut digest, mut rows) = (StateDigest::default(), 0_u64);
        for part in parts {
            let (more, count) = part?;
            digest.absorb(more);
            rows = rows.saturating_add(count);
        }
        Ok((digest, rows))
    }
}

fn payload(file: &dyn SnapshotReader, block: Block, checked: bool) -> Result<Vec<u8>, Refusal> {
    let mut buffer = Vec::new();
    read_payload(file, block, checked, &mut buffer)?;
    Ok(buffer)
}

fn read_payload(file: &dyn SnapshotReader, block: Block, checked: bool, buffer: &mut Vec<u8>) -> Result<(), Refusal> {
    // The heads were looked at: there are as many bytes in the file.
    buffer.resize(usize::try_from(block.head.length).unwrap_or(0), 0);
    read(file, block.from, buffer)?;
    if checked && checksum(block.head.kind, block.number, buffer) != block.head.checksum {
        return Err(Refusal::Damaged { what: "the checksum of a block", at: block.from });
    }
    Ok(())
}

fn read(file: &dyn SnapshotReader, from: u64, bytes: &mut [u8]) -> Result<(), Refusal> {
    let length = file.length();
    if from.saturating_add(len(bytes.len())) > length {
        return Err(Refusal::Torn { at: length });
    }
    Ok(file.read_at(from, bytes)?)
}

fn malformed(what: &'static str) -> Refusal {
    Refusal::Malformed(what.to_owned())
}

fn len(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
