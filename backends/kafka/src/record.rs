//! The records of the topic of changes, byte by byte. Stored bytes are for ever: old ones must decode the same.
//!
//! The key of a change is the stream as text, `tenant/acme` or `catalog`; a heartbeat has none. A value is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, 1 |
//! | 1 | 1 for a change, 2 for a heartbeat |
//! | 8 | xxh3-64 of the rest, seeded with the xxh3-64 of the key: a flipped byte, or a value under another key, is found |
//! | 8 | epoch |
//! | change: 8 | seq |
//! | change: rest | the stored state |
//! | heartbeat: 8, 4 | `at`: seconds since 1970, nanoseconds |
//! | heartbeat: 4 | how many partitions it was swept for |
//! | heartbeat: rest | name of the store |
//!
//! with all numbers big-endian. What does not decode is [`FeedMessage::Bad`] with its reason.

use bytes::Bytes;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::time::Timestamp;
use tessera_ports::change_feed::{Change, FeedMessage, Heartbeat};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const FORMAT: u8 = 1;
const CHANGE: u8 = 1;
const HEARTBEAT: u8 = 2;
const CHECKSUM_AT: usize = 2;
const BODY_AT: usize = 10;
/// What there is of a change beside key and state.
const CHANGE_OVERHEAD: usize = BODY_AT + 16;
/// How much of a foreign key a message shows.
const KEY_SHOWN: usize = 64;

/// Most bytes of key and value together: a state of 900 KiB and what is around it fit. Whatever is longer was not written by a
/// loader.
pub(crate) const RECORD_BYTES_MAX: usize = 960 * 1024;

/// The key of a stream's changes.
pub(crate) fn key(stream: &StreamId) -> String {
    stream.to_string()
}

/// How long a change's record is, key and value together.
pub(crate) fn record_bytes(change: &Change) -> usize {
    key(&change.stream).len().saturating_add(CHANGE_OVERHEAD).saturating_add(change.state.len())
}

/// The value of a change under that key.
pub(crate) fn encode_change(key: &str, change: &Change) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHANGE_OVERHEAD.saturating_add(change.state.len()));
    value.extend([FORMAT, CHANGE]);
    value.extend([0; 8]);
    value.extend(change.epoch.to_be_bytes());
    value.extend(change.seq.to_be_bytes());
    value.extend_from_slice(&change.state);
    sealed(key.as_bytes(), value)
}

/// The value of a heartbeat.
pub(crate) fn encode_heartbeat(heartbeat: &Heartbeat) -> Vec<u8> {
    let mut value = vec![FORMAT, HEARTBEAT];
    value.extend([0; 8]);
    value.extend(heartbeat.epoch.to_be_bytes());
    value.extend(heartbeat.at.seconds().to_be_bytes());
    value.extend(heartbeat.at.subsec_nanos().to_be_bytes());
    value.extend(heartbeat.partitions.to_be_bytes());
    value.extend_from_slice(heartbeat.store.as_bytes());
    sealed(&[], value)
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; 8] {
    xxh3_64_with_seed(body, xxh3_64(key)).to_be_bytes()
}

fn sealed(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    if let Some((head, body)) = value.split_at_mut_checked(BODY_AT)
        && let Some(place) = head.get_mut(CHECKSUM_AT..)
    {
        place.copy_from_slice(&checksum(key, body));
    }
    value
}

/// What a record says.
pub(crate) fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> FeedMessage {
    message(key.unwrap_or_default(), value).unwrap_or_else(FeedMessage::Bad)
}

fn message(key: &[u8], value: Option<&[u8]>) -> Result<FeedMessage, String> {
    let Some(value) = value else { return Err(format!("a record without a value, with key {}", shown(key))) };
    let bytes = key.len().saturating_add(value.len());
    if bytes > RECORD_BYTES_MAX {
        return Err(format!("a record of {bytes} bytes, with key {}; the most is {RECORD_BYTES_MAX}", shown(key)));
    }
    let short = || format!("a record of {bytes} bytes, with key {}, which is no record of ours", shown(key));
    let (&format, rest) = value.split_first().ok_or_else(short)?;
    if format != FORMAT {
        return Err(format!("a record in format {format}, with key {}; this software knows format {FORMAT}", shown(key)));
    }
    let (&what, rest) = rest.split_first().ok_or_else(short)?;
    let (sum, body) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    if checksum(key, body) != *sum {
        return Err(format!("a record with key {} whose checksum is wrong", shown(key)));
    }
    let (epoch, body) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let epoch = u64::from_be_bytes(*epoch);
    if epoch == 0 {
        return Err(format!("a record of epoch 0, with key {}", shown(key)));
    }
    match what {
        CHANGE => {
            let stream = stream(key)?;
            let (seq, state) = body.split_first_chunk::<8>().ok_or_else(short)?;
            let seq = u64::from_be_bytes(*seq);
            if seq == 0 {
                return Err(format!("a change of seq 0, with key {}", shown(key)));
            }
            Ok(FeedMessage::Change(Change { epoch, stream, seq, state: Bytes::copy_from_slice(state) }))
        }
        HEARTBEAT if key.is_empty() => {
            let (seconds, body) = body.split_first_chunk::<8>().ok_or_else(short)?;
            let (nanos, body) = body.split_first_chunk::<4>().ok_or_else(short)?;
            let (partitions, store) = body.split_first_chunk::<4>().ok_or_else(short)?;
            let partitions = u32::from_be_bytes(*partitions);
            let at = Timestamp::new(i64::from_be_bytes(*seconds), i64::from(u32::from_be_bytes(*nanos)));
            let at = at.map_err(|error| format!("a heartbeat with a time out of range: {error}"))?;
            let store = str::from_utf8(store).map_err(|_| "a heartbeat whose store is not UTF-8".to_owned())?.to_owned();
            Ok(FeedMessage::Heartbeat(Heartbeat { epoch, store, at, partitions }))
        }
        HEARTBEAT => Err(format!("a heartbeat with key {}; it has none", shown(key))),
        _ => Err(format!("a record of kind {what}, with key {}, which this software does not know", shown(key))),
    }
}

fn stream(key: &[u8]) -> Result<StreamId, String> {
    let foreign = || format!("a change with key {}, which names no stream", shown(key));
    let text = str::from_utf8(key).map_err(|_| foreign())?;
    if text == StreamKind::Catalog.name() {
        return Ok(StreamId::Catalog);
    }
    let (name, id) = text.split_once('/').ok_or_else(foreign)?;
    let kind = StreamKind::ALL.into_iter().find(|kind| kind.name() == name && *kind != StreamKind::Catalog);
    StreamId::from_parts(kind.ok_or_else(foreign)?, id).map_err(|_| foreign())
}

/// Somebody else's bytes, fit for a message.
fn shown(key: &[u8]) -> String {
    let (part, rest) = key.split_at_checked(KEY_SHOWN).unwrap_or((key, &[]));
    format!("`{}`{}", part.escape_ascii(), if rest.is_empty() { "" } else { "…" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tessera_core::ids::{AddOnId, PlanId, TenantId};

    use super::*;

    fn change(stream: StreamId, epoch: u64, seq: u64, state: &[u8]) -> Change {
        Change { epoch, stream, seq, state: Bytes::copy_from_slice(state) }
    }

    fn decoded(change: &Change) -> FeedMessage {
        let key = key(&change.stream);
        decode(Some(key.as_bytes()), Some(&encode_change(&key, change)))
    }

    fn bad(key: Option<&[u8]>, value: Option<&[u8]>) -> String {
        match decode(key, value) {
            FeedMessage::Bad(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn streams() -> impl Strategy<Value = StreamId> {
        let name = "[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?";
        prop_oneof![
            Just(StreamId::Catalog),
            name.prop_map(|id| StreamId::Plan(PlanId::parse(&id).unwrap())),
            name.prop_map(|id| StreamId::AddOn(AddOnId::parse(&id).unwrap())),
            "[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}".prop_map(|id| StreamId::Tenant(TenantId::parse(&id).unwrap())),
        ]
    }

    /// Written in July they must be read in December.
    #[test]
    fn bytes_are_for_ever() {
        let acme = change(StreamId::Tenant(TenantId::parse("acme").unwrap()), 3, 258, b"state");
        assert_eq!(key(&acme.stream), "tenant/acme");
        let golden = [&[1, 1][..], &GOLDEN_CHANGE_SUM, &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 2], b"state"].concat();
        assert_eq!(encode_change("tenant/acme", &acme), golden);
        assert_eq!(decode(Some(b"tenant/acme"), Some(&golden)), FeedMessage::Change(acme));

        let at = Timestamp::new(1_000_000, 5).unwrap();
        let heartbeat = Heartbeat { epoch: 3, store: "store-1".to_owned(), at, partitions: 258 };
        let numbers = [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 5, 0, 0, 1, 2];
        let golden = [&[1, 2][..], &GOLDEN_HEARTBEAT_SUM, &numbers, b"store-1"].concat();
        assert_eq!(encode_heartbeat(&heartbeat), golden);
        assert_eq!(decode(None, Some(&golden)), FeedMessage::Heartbeat(heartbeat));
    }

    const GOLDEN_CHANGE_SUM: [u8; 8] = [211, 62, 1, 4, 169, 195, 45, 35];
    const GOLDEN_HEARTBEAT_SUM: [u8; 8] = [173, 98, 81, 232, 214, 66, 228, 10];

    #[test]
    fn what_nobody_wrote_is_named() {
        let key = b"catalog".as_slice();
        let good = encode_change("catalog", &change(StreamId::Catalog, 1, 1, b"s"));
        assert_eq!(bad(Some(key), None), "a record without a value, with key `catalog`");
        assert_eq!(bad(None, None), "a record without a value, with key ``");
        assert_eq!(bad(Some(key), Some(b"")), "a record of 7 bytes, with key `catalog`, which is no record of ours");
        let later = [&[2], &good[1..]].concat();
        assert_eq!(bad(Some(key), Some(&later)), "a record in format 2, with key `catalog`; this software knows format 1");
        assert_eq!(bad(Some(b"plan/pro"), Some(&good)), "a record with key `plan/pro` whose checksum is wrong");
        let huge = vec![1; RECORD_BYTES_MAX];
        assert!(bad(Some(key), Some(&huge)).starts_with("a record of 983047 bytes"));
        for foreign in ["", "orders", "orders/1", "catalog/", "tenant/", "tenant/a b", "Tenant/a"] {
            let value = encode_change(foreign, &change(StreamId::Catalog, 1, 1, b"s"));
            let reason = bad(Some(foreign.as_bytes()), Some(&value));
            assert_eq!(reason, format!("a change with key `{foreign}`, which names no stream"));
        }
        for (epoch, seq) in [(0, 1), (1, 0)] {
            let value = encode_change("catalog", &change(StreamId::Catalog, epoch, seq, b"s"));
            assert!(bad(Some(key), Some(&value)).contains(" 0, with key `catalog`"));
        }
        let mut kind = good;
        kind[1] = 9;
        assert_eq!(bad(Some(key), Some(&kind)), "a record of kind 9, with key `catalog`, which this software does not know");
    }

    /// The greatest state there may be fits, whatever its stream is called.
    #[test]
    fn greatest_state_fits() {
        let tenant = StreamId::Tenant(TenantId::parse(&"t".repeat(128)).unwrap());
        let greatest = change(tenant, u64::MAX, u64::MAX, &vec![7; 900 * 1024]);
        let written = key(&greatest.stream).len() + encode_change(&key(&greatest.stream), &greatest).len();
        assert_eq!(record_bytes(&greatest), written);
        assert!(written <= RECORD_BYTES_MAX);
        assert_eq!(decoded(&greatest), FeedMessage::Change(greatest));
    }

    proptest! {
        #[test]
        fn changes_come_back(stream in streams(), epoch in 1_u64.., seq in 1_u64.., state in proptest::collection::vec(any::<u8>(), 0..300)) {
            let change = change(stream, epoch, seq, &state);
            prop_assert_eq!(decoded(&change), FeedMessage::Change(change));
        }

        #[test]
        fn heartbeats_come_back(
            epoch in 1_u64..,
            store in ".{0,40}",
            seconds in 0..200_000_000_000_i64,
            nanos in 0..1_000_000_000_i64,
            partitions in 1_u32..,
        ) {
            let heartbeat = Heartbeat { epoch, store, at: Timestamp::new(seconds, nanos).unwrap(), partitions };
            prop_assert_eq!(decode(None, Some(&encode_heartbeat(&heartbeat))), FeedMessage::Heartbeat(heartbeat));
        }

        /// Whichever bit flips, and however much is missing: it is told, and not taken for something else.
        #[test]
        fn damage_is_found(stream in streams(), state in proptest::collection::vec(any::<u8>(), 0..60), at in any::<usize>(), bit in 0..8_u32) {
            let change = change(stream, 1, 1, &state);
            let key = key(&change.stream);
            let good = encode_change(&key, &change);
            let mut flipped = good.clone();
            let at = at % flipped.len();
            flipped[at] ^= 1_u8 << bit;
            prop_assert!(matches!(decode(Some(key.as_bytes()), Some(&flipped)), FeedMessage::Bad(_)));
            prop_assert!(matches!(decode(Some(key.as_bytes()), Some(&good[..at])), FeedMessage::Bad(_)));
        }

        #[test]
        fn anything_is_answered(key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)), value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))) {
            decode(key.as_deref(), value.as_deref());
        }
    }
}
