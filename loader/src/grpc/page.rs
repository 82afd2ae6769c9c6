//! Pages of listings: sizes, opaque tokens, and pages of a scan.
//!
//! A token carries all there is to know of the place where a page ended, so that any loader can go on from it: the ranges
//! of the store that are left, and within a stream the seq. It names no resource in clear and is worth nothing elsewhere:
//! a checksum tells a token of ours from anything else, and a hash of the request's other fields keeps it to its listing.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tessera_core::shown::shown;
use tessera_core::stream::StreamKind;
use tessera_ports::EventStore;
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::ScanRange;
use tessera_proto::status::Failure;

use crate::digest;
use crate::refusal::Refusal;

/// Size of a page that asks for none.
const SIZE_DEFAULT: usize = 50;
/// Greatest size of a page of a listing.
pub(crate) const SIZE_MAX: usize = 1_000;

/// Bytes of items in one answer, which with all else stays below 4 MiB.
const ANSWER_LEN_MAX: usize = 3 * 1024 * 1024;
/// Where a page ended.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Place {
    /// Hash of what is listed.
    #[prost(string, tag = "1")]
    listing: String,
    /// Ranges that are left, in order.
    #[prost(message, repeated, tag = "2")]
    ranges: Vec<Range>,
    /// How many items of a list, or the seq in a stream, were passed.
    #[prost(uint64, tag = "3")]
    pub(crate) passed: u64,
    /// The stream that was being read: its kind, 0 for none.
    #[prost(uint32, tag = "4")]
    stream_kind: u32,
    /// Its key.
    #[prost(string, tag = "5")]
    stream_key: String,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    from: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    until: Vec<u8>,
}

/// Streams of a kind read at a time: as many as are short of a hundred megabytes at their longest.
pub(crate) fn chunk_max(kind: StreamKind) -> usize {
    match kind {
        StreamKind::Tenant => 256,
        StreamKind::Catalog | StreamKind::Plan | StreamKind::AddOn => 64,
    }
}

/// The size of a page: the default when 0.
pub(crate) fn size(given: i32, default: usize, max: usize) -> Result<usize, Failure> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(size) if size <= max => Ok(size),
        _ => Err(Failure::invalid_field("page_size", format!("`{given}` is not allowed; allowed are 0 to {max}"))),
    }
}

/// The size of a page of an ordinary listing.
pub(crate) fn listing_size(given: i32) -> Result<usize, Failure> {
    size(given, SIZE_DEFAULT, SIZE_MAX)
}

/// A hash of what a listing is of: `request` without page size and token.
pub(crate) fn listing_of(method: &str, request: &impl Message) -> String {
    digest::name(&[method.as_bytes(), &request.encode_to_vec()])
}

impl Place {
    /// The beginning of a listing over a list.
    pub(crate) fn beginning(listing: &str) -> Self {
        Self { listing: listing.to_owned(), ..Self::default() }
    }

    /// Where `token` says, or the beginning, found by `ranges`, when it is empty.
    pub(crate) fn read(token: &str, listing: &str) -> Result<Option<Self>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let shown = shown(token);
            let allowed = "allowed is empty, or a `next_page_token` of the same listing with the same filters";
            Failure::invalid_field("page_token", format!("`{shown}` is not a page token; {allowed}"))
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
        let (checksum, body) = bytes.split_first_chunk::<8>().ok_or_else(wrong)?;
        if *checksum != checksum_of(body) {
            return Err(wrong());
        }
        let place = Self::decode(body).map_err(|_| wrong())?;
        if place.listing == listing { Ok(Some(place)) } else { Err(wrong()) }
    }

    /// The token of this place.
    pub(crate) fn token(&self) -> String {
        let body = self.encode_to_vec();
        let mut bytes = checksum_of(&body).to_vec();
        bytes.extend(body);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The stream that was being read.
    pub(crate) fn stream(&self) -> Option<tessera_core::stream::StreamId> {
        let kind = u8::try_from(self.stream_kind).ok().and_then(StreamKind::from_number)?;
        tessera_core::stream::StreamId::from_parts(kind, &self.stream_key).ok()
    }

    /// The same place within a stream, after that seq.
    pub(crate) fn within(mut self, stream: &tessera_core::stream::StreamId, seq: u64) -> Self {
        self.stream_kind = u32::from(stream.kind() as u8);
        stream.key().clone_into(&mut self.stream_key);
        self.passed = seq;
        self
    }

    /// A place in front of those ranges.
    pub(crate) fn before(listing: &str, ranges: &VecDeque<ScanRange>) -> Self {
        let ranges = ranges.iter().map(|range| Range {
            kind: u32::from(range.kind as u8),
            from: range.from.to_vec(),
            until: range.until.to_vec(),
        });
        Self { listing: listing.to_owned(), ranges: ranges.collect(), ..Self::default() }
    }

    /// The ranges that are left.
    pub(crate) fn ranges(&self) -> VecDeque<ScanRange> {
        let ranges = self.ranges.iter().filter_map(|range| {
            let kind = u8::try_from(range.kind).ok().and_then(StreamKind::from_number)?;
            Some(ScanRange { kind, from: range.from.clone().into(), until: range.until.clone().into() })
        });
        ranges.collect()
    }
}

fn checksum_of(body: &[u8]) -> [u8; 8] {
    let name = digest::of_command("page_token", body).0;
    name.first_chunk::<8>().copied().unwrap_or_default()
}

/// All ranges of those kinds.
pub(crate) async fn all_ranges(store: &dyn EventStore, kinds: &[StreamKind]) -> Result<VecDeque<ScanRange>, Failure> {
    let mut ranges = VecDeque::new();
    for kind in kinds {
        ranges.extend(store.scan_ranges(*kind).await.map_err(Refusal::from)?);
    }
    Ok(ranges)
}

/// Takes the next current states from the front of `ranges`, at most `limit`; `None` when nothing is left.
pub(crate) async fn next_changes(
    store: &dyn EventStore,
    ranges: &mut VecDeque<ScanRange>,
    limit: usize,
) -> Result<Option<Vec<Change>>, Failure> {
    let Some(range) = ranges.pop_front() else { return Ok(None) };
    let page = store.scan(&range, limit).await.map_err(Refusal::from)?;
    if let Some(rest) = page.rest {
        ranges.push_front(rest);
    }
    Ok(Some(page.changes))
}

/// A page of a scan over one kind of stream: those of which `keep` makes an item. Looks at `scan_max` streams at most, and
/// stops before it is too long for an answer, so that a page may end early, even empty, with more to come.
pub(crate) async fn scan<T: Message>(
    store: &dyn EventStore,
    kind: StreamKind,
    (listing, token): (&str, &str),
    (size, scan_max): (usize, usize),
    mut keep: impl FnMut(Change) -> Result<Option<T>, Failure>,
) -> Result<(Vec<T>, String), Failure> {
    let mut ranges = match Place::read(token, listing)? {
        Some(place) => place.ranges(),
        None => all_ranges(store, &[kind]).await?,
    };
    let mut page = Page::new();
    let mut scanned = 0_usize;
    let mut chunk_max = chunk_max(kind);
    while page.items.len() < size && scanned < scan_max && !page.is_full() {
        let limit = size.saturating_sub(page.items.len()).min(chunk_max);
        let before = ranges.clone();
        let Some(changes) = next_changes(store, &mut ranges, limit).await? else { break };
        scanned = scanned.saturating_add(changes.len().max(1));
        let mut chunk = Vec::with_capacity(changes.len());
        for change in changes {
            chunk.push(keep(change)?);
        }
        match page.fitting(&chunk) {
            fitting if fitting == chunk.len() => page.extend(chunk.into_iter().flatten()),
            // The answer would be too long: read fewer from the same place, or end the page there.
            0 => {
                ranges = before;
                break;
            }
            fitting => {
                ranges = before;
                chunk_max = fitting;
            }
        }
    }
    let next = if ranges.is_empty() { String::new() } else { Place::before(listing, &ranges).token() };
    Ok((page.items, next))
}

/// A page of a list that only ever grows at its end: from position `passed` on, those of which `keep` makes an item.
pub(crate) fn slice<S, T: Message>(
    list: &[S],
    (listing, token): (&str, &str),
    size: usize,
    mut keep: impl FnMut(&S) -> Option<T>,
) -> Result<(Vec<T>, String), Failure> {
    let place = Place::read(token, listing)?.unwrap_or_else(|| Place::beginning(listing));
    let mut page = Page::new();
    let mut passed = place.passed;
    for one in list.iter().skip(usize::try_from(place.passed).unwrap_or(usize::MAX)) {
        let item = keep(one);
        if page.items.len() == size || page.fitting(std::slice::from_ref(&item)) == 0 {
            return Ok((page.items, Place { passed, ..place }.token()));
        }
        page.extend(item);
        passed = passed.saturating_add(1);
    }
    Ok((page.items, String::new()))
}

/// Items that stay within an answer's length together. One item always fits: the longest states do.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    len: usize,
}

impl<T: Message> Page<T> {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), len: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= ANSWER_LEN_MAX
    }

    /// How many from the front of `chunk` still fit.
    pub(crate) fn fitting(&self, chunk: &[Option<T>]) -> usize {
        let mut len = self.len;
        let fits = |item: &&Option<T>| {
            let longer = len.saturating_add(item.as_ref().map_or(0, Message::encoded_len));
            let fits = longer <= ANSWER_LEN_MAX || len == 0;
            len = longer;
            fits
        };
        chunk.iter().take_while(fits).count()
    }

    pub(crate) fn extend(&mut self, items: impl IntoIterator<Item = T>) {
        for item in items {
            self.len = self.len.saturating_add(item.encoded_len());
            self.items.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_worth_something_in_its_own_listing_only() {
        let list = [1_i64, 2, 3, 4, 5];
        let (first, token) = slice(&list, ("all", ""), 2, |n| Some(*n)).unwrap();
        let (second, token) = slice(&list, ("all", &token), 2, |n| Some(*n)).unwrap();
        let (third, end) = slice(&list, ("all", &token), 2, |n| Some(*n)).unwrap();
        assert_eq!((first, second, third, end.as_str()), (vec![1, 2], vec![3, 4], vec![5], ""));
        assert!(Place::read(&token, "other").is_err());
        assert!(Place::read(&token, "all").is_ok());
        let mut altered = token.into_bytes();
        altered[12] = if altered[12] == b'A' { b'B' } else { b'A' };
        assert!(Place::read(&String::from_utf8(altered).unwrap(), "all").is_err());
        assert!(Place::read("%", "all").is_err());
    }

    #[test]
    fn page_sizes_have_bounds() {
        assert_eq!(listing_size(0).unwrap(), 50);
        assert_eq!(listing_size(1_000).unwrap(), 1_000);
        assert!(listing_size(1_001).is_err());
        assert!(listing_size(-1).is_err());
    }
}
