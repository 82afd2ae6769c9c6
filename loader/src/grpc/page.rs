//! Pages of listings: sizes, opaque tokens, and pages of a scan.
//!
//! A token carries all there is to know of the place where a page ended, so that any loader can go on from it: the ranges
//! of the store that are left, and within a stream the seq. It names no resource in clear and is worth nothing elsewhere:
//! a checksum tells a token of ours from anything else, and a hash of the request's other fields keeps it to its listing.
//!
//! Whoever is bound to tenants is shown these by their names and never by a scan, so that no page and no token tells of others.

use std::collections::{BTreeSet, VecDeque, btree_set};
use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tessera_core::ids::TenantId;
use tessera_core::shown::shown;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_ports::EventStore;
use tessera_ports::change_feed::Change;
use tessera_ports::event_store::{Question, ReadError, ScanRange};
use tessera_proto::status::Failure;
use tessera_proto::storage::StorageError;

use crate::digest;
use crate::refusal::Refusal;
use crate::unreadable;

/// Size of a page that asks for none.
const SIZE_DEFAULT: usize = 50;
/// Greatest size of a page of a listing.
pub(crate) const SIZE_MAX: usize = 1_000;

/// Bytes of items in one answer, which with all else stays below 4 MiB.
const ANSWER_LEN_MAX: usize = 3 * 1024 * 1024;
/// Most ranges that a token may name. ScyllaDB cuts tenants into 4,096 at most; SQLite into one for every 4,096 of them, which is enough
/// for 67 million.
const RANGES_MAX: usize = 16_384;

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
        // Anybody can make a token, and each range of one costs a scan.
        let is_ours = place.listing == listing && place.ranges.len() <= RANGES_MAX;
        if is_ours { Ok(Some(place)) } else { Err(wrong()) }
    }

    /// The token of this place.
    pub(crate) fn token(&self) -> String {
        let body = self.encode_to_vec();
        let mut bytes = checksum_of(&body).to_vec();
        bytes.extend(body);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The stream that was being read, or is the next.
    fn stream(&self) -> Option<StreamId> {
        let kind = u8::try_from(self.stream_kind).ok().and_then(StreamKind::from_number)?;
        StreamId::from_parts(kind, &self.stream_key).ok()
    }

    /// The same place within a stream, after that seq.
    fn within(mut self, stream: &StreamId, seq: u64) -> Self {
        self.stream_kind = u32::from(stream.kind() as u8);
        stream.key().clone_into(&mut self.stream_key);
        self.passed = seq;
        self
    }

    /// A place in front of those ranges.
    fn before(listing: &str, ranges: &VecDeque<ScanRange>) -> Self {
        let ranges = ranges.iter().map(|range| Range {
            kind: u32::from(range.kind as u8),
            from: range.from.to_vec(),
            until: range.until.to_vec(),
        });
        Self { listing: listing.to_owned(), ranges: ranges.collect(), ..Self::default() }
    }

    /// The ranges that are left.
    fn ranges(&self) -> VecDeque<ScanRange> {
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
async fn all_ranges(store: &dyn EventStore, kinds: &[StreamKind]) -> Result<VecDeque<ScanRange>, Failure> {
    let mut ranges = VecDeque::new();
    for kind in kinds {
        ranges.extend(store.scan_ranges(*kind).await.map_err(Refusal::from)?);
    }
    Ok(ranges)
}

/// What is left of a listing of streams: ranges of the store, and behind them the tenants of a caller who is bound to some.
#[derive(Debug)]
pub(crate) struct Left<'a> {
    listing: String,
    ranges: VecDeque<ScanRange>,
    own: Own<'a>,
}

/// Tenants of a caller who is bound to some; `None` for one who is not.
type Own<'a> = Option<btree_set::Range<'a, TenantId>>;

/// Where [`Left`] stood: how many ranges were left, the first of them, and the tenants behind them. The others are as they were, and there
/// may be thousands.
struct Front<'a> {
    count: usize,
    range: Option<ScanRange>,
    own: Own<'a>,
}

impl<'a> Left<'a> {
    /// All streams of those kinds, of tenants only `own` if there are any; or what `token` leaves of them, with the stream that
    /// was being read, and up to which seq it was.
    pub(crate) async fn begin(
        store: &dyn EventStore,
        (listing, token): (&str, &str),
        (kinds, own): (&[StreamKind], Option<&'a BTreeSet<TenantId>>),
    ) -> Result<(Self, Option<(StreamId, u64)>), Failure> {
        // What is left of the one listing is nothing that the other could go on from.
        let listing = if own.is_some() { format!("{listing}-own") } else { listing.to_owned() };
        let scanned = kinds.iter().copied().filter(|kind| own.is_none() || *kind != StreamKind::Tenant);
        let scanned: Vec<StreamKind> = scanned.collect();
        let place = Place::read(token, &listing)?;
        let mut ranges = match &place {
            Some(place) => place.ranges(),
            None => all_ranges(store, &scanned).await?,
        };
        // Anybody can make a token, and none says what its bearer may see.
        ranges.retain(|range| scanned.contains(&range.kind));
        let at = place.and_then(|place| Some((place.stream()?, place.passed)));
        let first = match &at {
            Some((StreamId::Tenant(tenant), _)) => Bound::Included(tenant),
            _ => Bound::Unbounded,
        };
        let bounds: (Bound<&TenantId>, Bound<&TenantId>) = (first, Bound::Unbounded);
        let own = own.filter(|_| kinds.contains(&StreamKind::Tenant)).map(|own| own.range::<TenantId, _>(bounds));
        Ok((Self { listing, ranges, own }, at))
    }

    /// The next current states of the front range, `limit` at most; `None` when there is no range left.
    pub(crate) async fn scan(&mut self, store: &dyn EventStore, limit: usize) -> Result<Option<Vec<Change>>, Failure> {
        let Some(range) = self.ranges.pop_front() else { return Ok(None) };
        let page = store.scan(&range, limit).await.map_err(Refusal::from)?;
        if let Some(rest) = page.rest {
            self.ranges.push_front(rest);
        }
        Ok(Some(page.changes))
    }

    /// The next tenant of the caller, whether it ever was or not.
    pub(crate) fn next_own(&mut self) -> Option<StreamId> {
        self.own.as_mut()?.next().cloned().map(StreamId::Tenant)
    }

    /// The tenant that [`Self::next_own`] goes on with.
    fn peek_own(&self) -> Option<StreamId> {
        self.own.clone()?.next().cloned().map(StreamId::Tenant)
    }

    /// Passes that stream, if it is the next tenant of the caller.
    pub(crate) fn pass(&mut self, stream: &StreamId) {
        if self.peek_own().as_ref() == Some(stream) {
            self.next_own();
        }
    }

    fn front(&self) -> Front<'a> {
        Front { count: self.ranges.len(), range: self.ranges.front().cloned(), own: self.own.clone() }
    }

    /// Back to where it stood before one page of a scan.
    fn go_back(&mut self, front: Front<'a>) {
        // What the page left of its range stands in front, unless it left nothing.
        if self.ranges.len() == front.count {
            self.ranges.pop_front();
        }
        if let Some(range) = front.range {
            self.ranges.push_front(range);
        }
        self.own = front.own;
    }

    /// The next current states of `limit` streams at most; `None` when nothing is left.
    async fn changes(&mut self, store: &dyn EventStore, limit: usize) -> Result<Option<Found>, Failure> {
        if let Some(changes) = self.scan(store, limit).await? {
            let looked = changes.len().max(1);
            return Ok(Some(Found { changes, looked, unreadable: 0 }));
        }
        let own = self.own.iter_mut().flatten().take(limit);
        let streams: Vec<StreamId> = own.cloned().map(StreamId::Tenant).collect();
        let looked = streams.len();
        if looked == 0 {
            return Ok(None);
        }
        let questions = streams.iter().map(|stream| Question { stream: stream.clone(), requests: Vec::new() });
        let reads = store.read_many(questions.collect()).await;
        let (mut changes, mut unreadable) = (Vec::with_capacity(looked), 0_usize);
        for (stream, read) in streams.into_iter().zip(reads) {
            let read = match read {
                Err(ReadError::Damaged(why)) => {
                    unreadable::tell(&why);
                    unreadable = unreadable.saturating_add(1);
                    continue;
                }
                read => read.map_err(Refusal::from)?,
            };
            // Those that never were have none.
            if let Some(state) = read.state {
                changes.push(Change { epoch: read.epoch, stream, seq: read.head.seq, state });
            }
        }
        Ok(Some(Found { changes, looked, unreadable }))
    }

    /// The place within that stream, in front of what is left.
    pub(crate) fn within(&self, stream: &StreamId, seq: u64) -> Place {
        Place::before(&self.listing, &self.ranges).within(stream, seq)
    }

    /// The place in front of what is left; `None` when nothing is.
    pub(crate) fn place(&self) -> Option<Place> {
        if !self.ranges.is_empty() {
            return Some(Place::before(&self.listing, &self.ranges));
        }
        let next = self.peek_own()?;
        Some(self.within(&next, 0))
    }
}

/// What [`Left::changes`] found.
struct Found {
    changes: Vec<Change>,
    /// How many streams were looked at, and of how many of those there is no state since it cannot be read.
    looked: usize,
    unreadable: usize,
}

/// A page of a listing of streams.
#[derive(Debug)]
pub(crate) struct Scanned<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next_page_token: String,
    /// How many streams were left out since they cannot be read.
    pub(crate) unreadable_count: i32,
}

/// A page of a listing of one kind of stream, of tenants only `own` if there are any: those of which `keep` makes an item. What
/// cannot be read is left out, counted and told to the log, so that it hides nothing behind it. Passes `scan_max` streams at most, and
/// stops before it is too long for an answer, so that a page may end early, even empty, with more to come.
pub(crate) async fn scan<T: Message>(
    store: &dyn EventStore,
    (kind, own): (StreamKind, Option<&BTreeSet<TenantId>>),
    (listing, token): (&str, &str),
    (size, scan_max): (usize, usize),
    mut keep: impl FnMut(&Change) -> Result<Option<T>, StorageError>,
) -> Result<Scanned<T>, Failure> {
    let (mut left, _) = Left::begin(store, (listing, token), (&[kind], own)).await?;
    let mut page = Page::new();
    let (mut scanned, mut unreadable) = (0_usize, 0_usize);
    let mut chunk_max = chunk_max(kind);
    while page.items.len() < size && scanned < scan_max && !page.is_full() {
        let limit = size.saturating_sub(page.items.len()).min(scan_max.saturating_sub(scanned)).min(chunk_max);
        let front = left.front();
        let Some(found) = left.changes(store, limit).await? else { break };
        let (mut chunk, mut unreadable_here) = (Vec::with_capacity(found.changes.len()), found.unreadable);
        for change in found.changes {
            let item = keep(&change);
            chunk.push(item.unwrap_or_else(|error| {
                unreadable::tell(&format_args!("stream `{}`: {error}", change.stream));
                unreadable_here = unreadable_here.saturating_add(1);
                None
            }));
        }
        match page.fitting(&chunk) {
            fitting if fitting == chunk.len() => {
                page.extend(chunk.into_iter().flatten());
                // What is read again from the same place is not passed: a page always gets beyond where it began.
                scanned = scanned.saturating_add(found.looked);
                unreadable = unreadable.saturating_add(unreadable_here);
            }
            // The answer would be too long: read fewer from the same place, or end the page there.
            0 => {
                left.go_back(front);
                break;
            }
            fitting => {
                left.go_back(front);
                chunk_max = fitting;
            }
        }
    }
    let next_page_token = left.place().map_or_else(String::new, |place| place.token());
    Ok(Scanned { items: page.items, next_page_token, unreadable_count: i32::try_from(unreadable).unwrap_or(i32::MAX) })
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
    use bytes::Bytes;
    use tessera_ports::event_store::{Append, Appended, Head};
    use tessera_ports::memory::MemoryStore;

    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    async fn store_of(tenants: &[&str]) -> MemoryStore {
        let store = MemoryStore::new("test");
        let epoch = store.identity().await.unwrap().epoch;
        for id in tenants {
            let stream = StreamId::Tenant(tenant(id));
            let (cells, state) = (vec![Bytes::from_static(b"event")], Bytes::from_static(b"state"));
            let append = Append { epoch, stream, expected: Head::default(), cells, state, requests: Vec::new() };
            assert_eq!(store.append_now(&append), Appended::Committed);
        }
        store
    }

    /// All pages of a listing of tenants, of one each, with their tokens.
    async fn pages(store: &MemoryStore, own: Option<&BTreeSet<TenantId>>) -> Vec<(Vec<String>, String)> {
        let mut pages = Vec::new();
        let mut token = String::new();
        loop {
            let keep = |change: &Change| Ok(Some(change.stream.key().to_owned()));
            let page = scan(store, (StreamKind::Tenant, own), ("all", &token), (1, 10), keep).await.unwrap();
            token.clone_from(&page.next_page_token);
            pages.push((page.items, page.next_page_token));
            if token.is_empty() {
                return pages;
            }
        }
    }

    #[tokio::test]
    async fn pages_and_tokens_tell_whoever_is_bound_to_tenants_nothing_of_others() {
        let own = BTreeSet::from(["b", "d", "never"].map(tenant));
        let (alone, among) = (store_of(&["b", "d"]).await, store_of(&["a", "b", "c", "d", "e"]).await);
        let told = pages(&alone, Some(&own)).await;
        assert_eq!(told, pages(&among, Some(&own)).await);
        assert_eq!(told.iter().flat_map(|(ids, _)| ids.clone()).collect::<Vec<_>>(), ["b", "d"]);

        // Nor does the token of somebody who sees all, nor one that was made by hand.
        let all = pages(&among, None).await;
        assert_eq!(all.len(), 5);
        let kinds = [StreamKind::Tenant];
        assert!(Left::begin(&among, ("all", &all[0].1), (&kinds, Some(&own))).await.is_err());
        assert!(Left::begin(&among, ("all", &told[0].1), (&kinds, None)).await.is_err());
        let made = Place::before("all-own", &all_ranges(&among, &kinds).await.unwrap()).token();
        let (left, _) = Left::begin(&among, ("all", &made), (&kinds, Some(&own))).await.unwrap();
        assert!(left.ranges.is_empty());
    }

    #[tokio::test]
    async fn whoever_is_bound_to_tenants_is_shown_those_behind_one_that_is_damaged() {
        let store = store_of(&["a", "b", "c"]).await;
        let own = BTreeSet::from(["a", "b", "c"].map(tenant));
        store.faults().damage(StreamId::Tenant(tenant("b")));
        let whole = scan(&store, (StreamKind::Tenant, Some(&own)), ("all", ""), (10, 10), |_| Ok(Some(String::new())));
        assert_eq!(whole.await.unwrap().unreadable_count, 1);
        let pages = pages(&store, Some(&own)).await;
        assert_eq!(pages.into_iter().flat_map(|(ids, _)| ids).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[tokio::test]
    async fn a_page_that_goes_back_loses_nothing_and_shows_nothing_twice() {
        let ids: Vec<String> = (0..20).map(|n| format!("t{n:02}")).collect();
        let store = store_of(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let own = ids.iter().map(|id| tenant(id)).collect();
        // Three fit into an answer; a range has sixteen.
        let long = |change: &Change| Ok(Some(format!("{}{}", change.stream.key(), " ".repeat(1_000_000))));
        for (own, scan_max) in [(None, 5_000), (Some(&own), 5_000), (None, 5), (Some(&own), 5), (None, 1)] {
            let (mut listed, mut token) = (Vec::new(), String::new());
            loop {
                let page = scan(&store, (StreamKind::Tenant, own), ("all", &token), (1_000, scan_max), long).await.unwrap();
                assert!(page.items.len() <= scan_max && page.next_page_token != token, "every page gets on");
                listed.extend(page.items.iter().map(|item| item.trim().to_owned()));
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, ids);
        }
    }

    #[test]
    fn a_token_names_so_many_ranges_at_most() {
        let range = ScanRange { kind: StreamKind::Tenant, from: Bytes::from_static(b"a"), until: Bytes::from_static(b"b") };
        let token_of = |count| Place::before("all", &std::iter::repeat_n(range.clone(), count).collect()).token();
        assert_eq!(Place::read(&token_of(RANGES_MAX), "all").unwrap().unwrap().ranges().len(), RANGES_MAX);
        assert_eq!(Place::read(&token_of(RANGES_MAX + 1), "all").unwrap_err().reason(), "INVALID_FIELD");
    }

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
