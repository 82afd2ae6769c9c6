//! Rows as they are read, by the names of their columns, and what is made of them.

use bytes::Bytes;
use scylla::DeserializeRow;
use tessera_core::ids::RequestId;
use tessera_core::stream::{Epoch, Seq, StreamId, StreamKind};
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{CellHash, CommandDigest, Head, ReadError, RequestRow};

use crate::checksum;
use crate::keyspace::ANCHOR;

/// A number as it is stored: 63 bits. No counter here gets near the end of them; one that did would be refused by the comparisons
/// it is stored for.
pub(crate) fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn damaged(stream: &StreamId, why: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged(format!("stream `{stream}`: {why}"))
}

/// A row of the strong read.
#[derive(Debug, DeserializeRow)]
pub(crate) struct ReadRow<'a> {
    pub(crate) head: Option<i64>,
    pub(crate) hash: Option<&'a [u8]>,
    pub(crate) state: Option<&'a [u8]>,
    pub(crate) sum: Option<i64>,
    pub(crate) request: Option<&'a str>,
    pub(crate) cell: Option<&'a [u8]>,
}

/// A row of the strong read that leaves the state out.
#[derive(Debug, DeserializeRow)]
pub(crate) struct StatelessRow<'a> {
    pub(crate) head: Option<i64>,
    pub(crate) hash: Option<&'a [u8]>,
    pub(crate) request: Option<&'a str>,
    pub(crate) cell: Option<&'a [u8]>,
}

/// A row of the page of request rows.
#[derive(Debug, DeserializeRow)]
pub(crate) struct RequestsRow<'a> {
    pub(crate) request: Option<&'a str>,
    pub(crate) cell: Option<&'a [u8]>,
}

/// A row of the page of events.
#[derive(Debug, DeserializeRow)]
pub(crate) struct EventRow<'a> {
    pub(crate) head: Option<i64>,
    pub(crate) hash: Option<&'a [u8]>,
    pub(crate) seq: i64,
    pub(crate) cell: Option<&'a [u8]>,
}

/// A row of a scan.
#[derive(Debug, DeserializeRow)]
pub(crate) struct ScanRow<'a> {
    pub(crate) key: &'a str,
    pub(crate) head: Option<i64>,
    pub(crate) hash: Option<&'a [u8]>,
    pub(crate) state: Option<&'a [u8]>,
    pub(crate) sum: Option<i64>,
}

/// A head from its two columns. `None`: the stream has none, and so no event.
pub(crate) fn head_of(stream: &StreamId, head: Option<i64>, hash: Option<&[u8]>) -> Result<Option<Head>, ReadError> {
    let (seq, hash) = match (head, hash) {
        (None, None) => return Ok(None),
        (Some(seq), Some(hash)) => (seq, hash),
        _ => return Err(damaged(stream, &"it has one of head and hash")),
    };
    let seq = Seq::try_from(seq).ok().filter(|seq| *seq > 0);
    let seq = seq.ok_or_else(|| damaged(stream, &"its head is no counter"))?;
    let hash = hash.try_into().map_err(|_| damaged(stream, &format_args!("a hash of {} bytes", hash.len())))?;
    Ok(Some(Head { seq, hash: CellHash(hash) }))
}

/// The state, checked against its sum.
pub(crate) fn state_of(stream: &StreamId, head: &Head, state: Option<&[u8]>, sum: Option<i64>) -> Result<Bytes, ReadError> {
    let (Some(state), Some(sum)) = (state, sum) else {
        return Err(damaged(stream, &format_args!("seq {}: it has no state, or no checksum", head.seq)));
    };
    if checksum::of_stream(stream, head, state) != sum {
        return Err(damaged(stream, &format_args!("seq {}: head and state do not match their checksum", head.seq)));
    }
    Ok(Bytes::copy_from_slice(state))
}

/// The cell of a request row: seq, digest, checksum, numbers least byte first.
pub(crate) fn request_cell(stream: &StreamId, row: &RequestRow) -> Bytes {
    let sum = checksum::of_request(stream, row.id.as_str(), row.seq, &row.digest);
    let mut cell = Vec::with_capacity(48);
    cell.extend_from_slice(&row.seq.to_le_bytes());
    cell.extend_from_slice(&row.digest.0);
    cell.extend_from_slice(&sum.to_le_bytes());
    cell.into()
}

/// The request row of a row of the strong read; `None` for the anchor.
pub(crate) fn request_of(stream: &StreamId, request: Option<&str>, cell: Option<&[u8]>) -> Result<Option<RequestRow>, ReadError> {
    // A partition of which nothing but static columns is left comes as a row of nulls from some databases.
    let Some(request) = request.filter(|request| *request != ANCHOR) else { return Ok(None) };
    let wrong = |why: &dyn std::fmt::Display| damaged(stream, &format_args!("request `{}`: {why}", request.escape_debug()));
    let id = RequestId::parse(request).map_err(|error| wrong(&error))?;
    let cell = cell.unwrap_or_default();
    let parts = cell.split_first_chunk::<8>().and_then(|(seq, rest)| {
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let sum = <[u8; 8]>::try_from(rest).ok()?;
        Some((u64::from_le_bytes(*seq), CommandDigest(*digest), u64::from_le_bytes(sum)))
    });
    let (seq, digest, sum) = parts.ok_or_else(|| wrong(&format_args!("its cell has {} bytes", cell.len())))?;
    if checksum::of_request(stream, request, seq, &digest) != sum {
        return Err(wrong(&"the row does not match its checksum"));
    }
    Ok(Some(RequestRow { id, seq, digest }))
}

/// What a row of a scan says of its stream, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// `None` when nobody can say whose the row is, and for a stream without an event.
    pub(crate) change: Option<Change>,
    /// Told to the log.
    pub(crate) damage: Option<String>,
}

/// A state that cannot be read is handed on as an empty one, which whoever decodes it has to refuse, so that it stops nobody else:
/// the last good row goes on answering, and who never had one is not taken for unknown.
pub(crate) fn scanned(kind: StreamKind, epoch: Epoch, row: &ScanRow<'_>) -> Scanned {
    let stream = match StreamId::from_parts(kind, row.key) {
        Ok(stream) => stream,
        Err(error) => {
            return Scanned { change: None, damage: Some(format!("table `{}`: {error}", crate::keyspace::table(kind))) };
        }
    };
    let read = head_of(&stream, row.head, row.hash)
        .and_then(|head| head.map(|head| Ok((head.seq, state_of(&stream, &head, row.state, row.sum)?))).transpose());
    match read {
        Ok(None) => Scanned { change: None, damage: None },
        Ok(Some((seq, state))) => Scanned { change: Some(Change { epoch, stream, seq, state }), damage: None },
        Err(error) => {
            let seq = row.head.and_then(|head| Seq::try_from(head).ok()).unwrap_or(1).max(1);
            let damage = Some(error.to_string());
            Scanned { change: Some(Change { epoch, stream, seq, state: Bytes::new() }), damage }
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::ids::TenantId;

    use super::*;

    fn stream() -> StreamId {
        StreamId::Tenant(TenantId::parse("acme").expect("an id"))
    }

    #[test]
    fn request_rows_come_back_and_tell_a_flipped_bit() {
        let row = RequestRow { id: RequestId::parse("first/1").expect("an id"), seq: 7, digest: CommandDigest([3; 32]) };
        let cell = request_cell(&stream(), &row);
        assert_eq!(request_of(&stream(), Some("first/1"), Some(&cell)), Ok(Some(row)));
        assert_eq!(request_of(&stream(), Some(ANCHOR), Some(&[])), Ok(None));
        assert_eq!(request_of(&stream(), None, None), Ok(None));
        for bit in 0..cell.len() * 8 {
            let mut other = cell.to_vec();
            other[bit / 8] ^= 1 << (bit % 8);
            let read = request_of(&stream(), Some("first/1"), Some(&other));
            assert!(matches!(read, Err(ReadError::Damaged(_))), "bit {bit}: {read:?}");
        }
        assert!(request_of(&stream(), Some("other"), Some(&cell)).is_err(), "of another id");
        assert!(request_of(&stream(), Some("first/1"), Some(&cell[..47])).is_err(), "cut");
    }

    #[test]
    fn a_state_that_cannot_be_read_is_handed_on_empty() {
        let head = Head { seq: 2, hash: CellHash([1; 32]) };
        let sum = checksum::of_stream(&stream(), &head, b"state");
        let row = |state, sum| ScanRow { key: "acme", head: Some(2), hash: Some(&[1; 32]), state, sum };
        let good = scanned(StreamKind::Tenant, 1, &row(Some(b"state"), Some(sum)));
        assert_eq!(good.change.map(|change| (change.seq, change.state)), Some((2, Bytes::from_static(b"state"))));
        assert_eq!(good.damage, None);
        for bad in [row(Some(b"State"), Some(sum)), row(None, Some(sum)), row(Some(b"state"), None)] {
            let read = scanned(StreamKind::Tenant, 1, &bad);
            assert_eq!(read.change.map(|change| (change.seq, change.state)), Some((2, Bytes::new())));
            assert!(read.damage.is_some_and(|damage| damage.contains("`tenant/acme`")));
        }
        let nobody = scanned(StreamKind::Tenant, 1, &ScanRow { key: "no id", ..row(None, None) });
        assert!(nobody.change.is_none() && nobody.damage.is_some());
        let empty = ScanRow { key: "acme", head: None, hash: None, state: None, sum: None };
        let empty = scanned(StreamKind::Tenant, 1, &empty);
        assert!(empty.change.is_none() && empty.damage.is_none());
    }
}
