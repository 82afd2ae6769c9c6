//! Rows of the matrix as bytes, for the snapshot: copied out part by part while the writer goes on, and put into a table that
//! nobody reads yet, from any thread.

use tessera_core::digest::StateDigest;
use tessera_core::evaluator::{Tables, TenantRow};
use tessera_core::stream::StreamKind;

use super::key::TenantKey;
use super::{Entry, EntryState, Matrix};
use crate::snapshot::Refusal;

const NEVER: u8 = 0;
const ROW: u8 = 1;

/// Rows that were copied, in their form in a file.
#[derive(Debug, Default)]
pub(crate) struct PackedRows {
    /// As they are written.
    pub(crate) bytes: Vec<u8>,
    /// How many.
    pub(crate) rows: u64,
    /// Their digest.
    pub(crate) digest: StateDigest,
}

impl Matrix {
    /// How many parts the table has, when each of its maps is cut into that many.
    pub(crate) fn parts(&self, cut: usize) -> usize {
        self.tenants.maps().saturating_mul(cut.max(1))
    }

    /// Packs the rows of one part into blocks of about `full` bytes, one after the other. Every shard is locked for the time of a
    /// copy; packing happens after that.
    pub(crate) fn pack_part<E>(
        &self,
        part: usize,
        cut: usize,
        full: usize,
        mut block: impl FnMut(&PackedRows) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut packed = PackedRows::default();
        for (key, seq, row, checksum) in self.copy_part(part, cut) {
            packed.push(&key, seq, row.as_ref(), checksum);
            if packed.bytes.len() >= full {
                block(&packed)?;
                packed = PackedRows::default();
            }
        }
        if packed.rows > 0 {
            block(&packed)?;
        }
        Ok(())
    }

    fn copy_part(&self, part: usize, cut: usize) -> Vec<(TenantKey, u64, Option<TenantRow>, u64)> {
        let cut = cut.max(1);
        let mut copied = Vec::new();
        self.tenants.each_of(part / cut, part % cut, cut, |key, entry| {
            let row = match &entry.state {
                EntryState::Row(row) => Some(row.clone()),
                EntryState::Never(_) => None,
            };
            copied.push((key.clone(), entry.seq(), row, entry.checksum));
        });
        copied
    }

    /// Puts packed rows into the table. Nobody may read the matrix yet, since nothing is told to those who wait or watch.
    pub(crate) fn put_rows(&self, mut bytes: &[u8], tables: &Tables) -> Result<(StateDigest, u64), Refusal> {
        let (mut digest, mut rows) = (StateDigest::default(), 0_u64);
        while !bytes.is_empty() {
            let (key, entry) = take_row(&mut bytes, tables)?;
            digest.add(StreamKind::Tenant, key.bytes(), entry.seq(), entry.checksum);
            if self.tenants.insert(key, entry).is_some() {
                return Err(Refusal::Malformed("a tenant is there twice".to_owned()));
            }
            rows = rows.saturating_add(1);
        }
        Ok((digest, rows))
    }
}

impl PackedRows {
    fn push(&mut self, key: &TenantKey, seq: u64, row: Option<&TenantRow>, checksum: u64) {
        // Ids have 128 bytes at most.
        let length = u8::try_from(key.bytes().len()).unwrap_or(u8::MAX);
        self.bytes.push(length);
        self.bytes.extend_from_slice(key.bytes());
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        prost::encoding::encode_varint(seq, &mut self.bytes);
        match row {
            None => self.bytes.push(NEVER),
            Some(row) => {
                self.bytes.push(ROW);
                row.pack(&mut self.bytes);
            }
        }
        self.digest.add(StreamKind::Tenant, key.bytes(), seq, checksum);
        self.rows = self.rows.saturating_add(1);
    }
}

fn take_row(bytes: &mut &[u8], tables: &Tables) -> Result<(TenantKey, Entry), Refusal> {
    let (key, seq, checksum, tag) = take_head(bytes).ok_or_else(|| Refusal::Malformed("the head of a row".to_owned()))?;
    let state = match tag {
        NEVER => EntryState::Never(seq),
        ROW => {
            let row = TenantRow::unpack(seq, bytes, tables);
            EntryState::Row(row.map_err(|error| Refusal::Malformed(error.to_string()))?)
        }
        _ => return Err(Refusal::Malformed("the mark of a row".to_owned())),
    };
    Ok((key, Entry { state, checksum }))
}

fn take_head(bytes: &mut &[u8]) -> Option<(TenantKey, u64, u64, u8)> {
    let (length, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_at_checked(usize::from(*length))?;
    let (checksum, mut rest) = rest.split_first_chunk()?;
    let seq = prost::encoding::decode_varint(&mut rest).ok()?;
    let (tag, rest) = rest.split_first()?;
    *bytes = rest;
    Some((TenantKey::new(std::str::from_utf8(id).ok()?), seq, u64::from_le_bytes(*checksum), *tag))
}
