//! What every feed does, seen from both of its sides.
//!
//! Changes are written as a loader writes them: appended to a store and published, unless the store feeds itself. A feed
//! without a store of its own is examined with a [`MemoryStore`](crate::memory::MemoryStore).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;
use tokio::time::timeout;

use super::Run;
use super::sample::{epoch, read, write};
use crate::change_feed::{Change, ChangeFeed, ChangePublisher, FeedBatch, FeedError, FeedMessage, Heartbeat, Position};
use crate::event_store::EventStore;
use crate::shard::Shard;

/// Long enough for any feed that works, where there is nothing to wait for.
const SOON: Duration = Duration::from_secs(20);
/// What readers say they would wait: much longer, so that a feed that sleeps through what it has to tell is found out.
const WAIT: Duration = Duration::from_mins(2);
/// What a reader waits who is told nothing.
const BRIEF: Duration = Duration::from_millis(100);
/// Beyond any end.
const FAR: Position = 1 << 40;

/// Both sides of one feed, and the store whose changes it carries.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// Where changes come from.
    pub store: &'a dyn EventStore,
    /// The reading side.
    pub feed: &'a dyn ChangeFeed,
    /// The writing side.
    pub publisher: &'a dyn ChangePublisher,
}

/// Every check of this suite, one after the other.
pub async fn check_all(sides: Sides<'_>, run: &Run) {
    topic_and_ends_agree(sides, run).await;
    changes_come_in_order_where_their_shard_says(sides, run).await;
    positions_belong_to_the_reader(sides, run).await;
    limit_is_kept(sides, run).await;
    reader_who_waits_is_woken(sides, run).await;
    end_is_quiet(sides, run).await;
    publishing_twice_is_harmless(sides, run).await;
    heartbeat_comes_after_what_was_published_before(sides, run).await;
    heartbeat_comes_in_its_partitions_alone(sides, run).await;
    beyond_the_end_is_out_of_range(sides, run).await;
    another_topic_is_out_of_range(sides, run).await;
    unknown_partition_is_out_of_range(sides, run).await;
}

/// What has to come without a wait.
async fn soon<T>(what: &str, answer: impl Future<Output = T>) -> T {
    timeout(SOON, answer).await.unwrap_or_else(|_| panic!("{what}: nothing within {SOON:?}"))
}

impl Sides<'_> {
    /// One event more, in the feed when this returns; its seq.
    async fn change(self, stream: &StreamId, text: &str) -> Seq {
        let head = write(self.store, stream, &[text]).await;
        if !self.store.feeds_itself() {
            self.publish(stream).await;
        }
        head.seq
    }

    async fn publish(self, stream: &StreamId) {
        let read = read(self.store, stream).await;
        let state = read.state.expect("a state");
        let change = Change { epoch: read.epoch, stream: stream.clone(), seq: read.head.seq, state };
        self.publisher.publish(&[change]).await.expect("publish");
    }

    async fn topic(self) -> String {
        self.feed.topic().await.expect("a topic").id
    }

    async fn ends(self) -> Vec<Position> {
        self.feed.ends().await.expect("ends")
    }

    async fn partitions(self) -> u32 {
        self.publisher.partitions().await.expect("a number of partitions")
    }

    async fn beat(self, partitions: &[u32], heartbeat: &Heartbeat) {
        self.publisher.beat(partitions, heartbeat).await.expect("beat");
    }

    async fn heartbeat(self, at_s: i64) -> Heartbeat {
        let identity = self.store.identity().await.expect("an identity");
        let at = Timestamp::from_seconds(at_s).expect("a time");
        Heartbeat { epoch: identity.epoch, store: identity.store, at, partitions: self.partitions().await }
    }

    /// Reads where there is something, or where there is nothing to wait for.
    async fn read(self, topic: &str, partition: u32, from: Position, limit: usize) -> Result<FeedBatch, FeedError> {
        soon("a read", self.feed.read(topic, partition, from, limit, WAIT)).await
    }

    /// Nothing is there: whoever would wait for `wait` hears so then.
    async fn read_nothing(self, topic: &str, partition: u32, from: Position, wait: Duration) -> FeedBatch {
        soon("a short wait", self.feed.read(topic, partition, from, 100, wait)).await.expect("a batch")
    }

    /// Everything from one position of a partition to another.
    async fn read_to(self, topic: &str, partition: usize, from: Position, end: Position) -> Vec<FeedMessage> {
        let partition = u32::try_from(partition).expect("few partitions");
        let mut messages = Vec::new();
        let mut at = from;
        while at < end {
            let batch = self.read(topic, partition, at, 1000).await.expect("a batch");
            assert!(batch.next > at, "reading partition {partition} at {at} does not move on to {end}");
            at = batch.next;
            messages.extend(batch.messages);
        }
        messages
    }

    /// Everything from noted positions to the ends of now, by partition.
    async fn read_all(self, from: &[Position]) -> Vec<Vec<FeedMessage>> {
        let (topic, ends) = (self.topic().await, self.ends().await);
        let mut partitions = Vec::new();
        for (partition, (from, end)) in from.iter().zip(ends).enumerate() {
            partitions.push(self.read_to(&topic, partition, *from, end).await);
        }
        partitions
    }

    /// From a noted position until the partition has told of this heartbeat.
    async fn read_to_heartbeat(self, topic: &str, partition: u32, from: Position, heartbeat: &Heartbeat) -> Vec<FeedMessage> {
        let (mut messages, mut at) = (Vec::new(), from);
        while !told(&messages, heartbeat) {
            let batch = self.read(topic, partition, at, 1000).await.expect("a batch");
            assert!(!batch.messages.is_empty(), "no heartbeat in partition {partition}");
            at = batch.next;
            messages.extend(batch.messages);
        }
        messages
    }
}

fn told(messages: &[FeedMessage], heartbeat: &Heartbeat) -> bool {
    messages.iter().any(|message| matches!(message, FeedMessage::Heartbeat(other) if other == heartbeat))
}

fn changes(messages: &[FeedMessage]) -> impl Iterator<Item = &Change> {
    messages.iter().filter_map(|message| match message {
        FeedMessage::Change(change) => Some(change),
        FeedMessage::Heartbeat(_) => None,
        FeedMessage::Bad(why) => panic!("a record that nobody wrote: {why}"),
    })
}

/// There is a partition at least, and an end for each.
pub async fn topic_and_ends_agree(sides: Sides<'_>, _run: &Run) {
    let topic = sides.feed.topic().await.expect("a topic");
    assert!(topic.partitions >= 1 && !topic.id.is_empty(), "{topic:?}");
    assert_eq!(sides.ends().await.len() as u64, u64::from(topic.partitions));
    assert_eq!(sides.feed.topic().await, Ok(topic));
}

/// From noted positions on, every stream's newest state comes, in the partition of its shard, and its seqs do not fall.
pub async fn changes_come_in_order_where_their_shard_says(sides: Sides<'_>, run: &Run) {
    let noted = sides.ends().await;
    let mut streams: Vec<StreamId> = (0..8).map(|n| run.tenant(&format!("fed-{n}"))).collect();
    streams.extend([run.plan("fed"), run.add_on("fed"), StreamId::Catalog]);
    let mut newest = BTreeMap::new();
    for round in 0..3 {
        for stream in &streams {
            let text = format!("{stream} {round}");
            let seq = sides.change(stream, &text).await;
            newest.insert(stream.clone(), (seq, text));
        }
    }
    let epoch = epoch(sides.store).await;
    let partitions = sides.partitions().await;
    assert_eq!(u64::from(partitions), noted.len() as u64, "both sides know the same partitions");
    let mut seen: BTreeMap<StreamId, (Seq, bytes::Bytes)> = BTreeMap::new();
    for (partition, messages) in (0u32..).zip(sides.read_all(&noted).await) {
        for change in changes(&messages).filter(|change| newest.contains_key(&change.stream)) {
            assert_eq!(change.epoch, epoch);
            assert_eq!(partition, Shard::of(&change.stream).partition(partitions), "{} is elsewhere", change.stream);
            if let Some((seq, _)) = seen.get(&change.stream) {
                assert!(*seq <= change.seq, "{} falls from {seq} to {}", change.stream, change.seq);
            }
            seen.insert(change.stream.clone(), (change.seq, change.state.clone()));
        }
    }
    for (stream, (seq, text)) in &newest {
        let (seen_seq, state) = seen.get(stream).unwrap_or_else(|| panic!("{stream} is not in the feed"));
        assert_eq!((seen_seq, &state[..]), (seq, text.as_bytes()), "{stream}");
    }
}

/// Reading takes nothing away: the same position gives the same streams again.
pub async fn positions_belong_to_the_reader(sides: Sides<'_>, run: &Run) {
    let noted = sides.ends().await;
    let stream = run.tenant("reader");
    sides.change(&stream, "a").await;
    for _ in 0..2 {
        let partitions = sides.read_all(&noted).await;
        let found = partitions.iter().flat_map(|messages| changes(messages)).filter(|change| change.stream == stream);
        assert_eq!(found.last().map(|change| change.seq), Some(1));
    }
}

/// A batch is no longer than asked for, and the next one goes on where it ended.
pub async fn limit_is_kept(sides: Sides<'_>, run: &Run) {
    let (topic, noted) = (sides.topic().await, sides.ends().await);
    let streams: Vec<StreamId> = (0..5).map(|n| run.tenant(&format!("limited-{n}"))).collect();
    for stream in &streams {
        sides.change(stream, "a").await;
    }
    let mut found = Vec::new();
    for (partition, (from, end)) in (0u32..).zip(noted.into_iter().zip(sides.ends().await)) {
        let mut at = from;
        while at < end {
            let batch = sides.read(&topic, partition, at, 1).await.expect("a batch");
            assert!(batch.messages.len() <= 1 && batch.next > at, "{batch:?} from {at}");
            at = batch.next;
            found.extend(changes(&batch.messages).map(|change| change.stream.clone()));
        }
    }
    assert!(streams.iter().all(|stream| found.contains(stream)), "{found:?}");
}

/// A change that is published while somebody waits for it ends the wait, long before its time is over.
pub async fn reader_who_waits_is_woken(sides: Sides<'_>, run: &Run) {
    let (topic, mut noted) = (sides.topic().await, sides.ends().await);
    for (partition, at) in (0u32..).zip(&mut noted) {
        // With a heartbeat that may still be there nobody would have to wait.
        *at = sides.read_nothing(&topic, partition, *at, Duration::ZERO).await.next;
    }
    let stream = run.tenant("woken");
    let waiting = async {
        let (topic, stream) = (&topic, &stream);
        let readers = (0u32..).zip(noted).map(|(partition, from)| {
            Box::pin(async move {
                let mut at = from;
                loop {
                    let batch = sides.feed.read(topic, partition, at, 100, WAIT).await.expect("a batch");
                    if changes(&batch.messages).any(|change| change.stream == *stream) {
                        return;
                    }
                    at = batch.next;
                }
            })
        });
        futures::future::select_all(readers).await;
    };
    soon("a reader who waits", join(waiting, sides.change(&stream, "a"))).await;
}

/// At the end there are no changes, whoever does not want to wait does not, and nobody waits longer than he wants to.
pub async fn end_is_quiet(sides: Sides<'_>, run: &Run) {
    sides.change(&run.tenant("quiet"), "a").await;
    let (topic, ends) = (sides.topic().await, sides.ends().await);
    for (partition, end) in (0u32..).zip(ends) {
        let batch = sides.read_nothing(&topic, partition, end, Duration::ZERO).await;
        assert_eq!(changes(&batch.messages).count(), 0, "{batch:?}");
        for wait in [Duration::ZERO, BRIEF] {
            let batch = sides.read_nothing(&topic, partition, batch.next, wait).await;
            assert_eq!(batch.messages, [], "the end does not come to rest");
        }
    }
}

/// Published again, the state comes again or does not; it is never another one.
pub async fn publishing_twice_is_harmless(sides: Sides<'_>, run: &Run) {
    let noted = sides.ends().await;
    let stream = run.tenant("twice");
    sides.change(&stream, "a").await;
    sides.publish(&stream).await;
    let partitions = sides.read_all(&noted).await;
    let found: Vec<&Change> =
        partitions.iter().flat_map(|messages| changes(messages)).filter(|change| change.stream == stream).collect();
    assert!(!found.is_empty());
    assert!(found.iter().all(|change| change.seq == 1 && change.state == "a"), "{found:?}");
}

/// Whoever has seen a heartbeat has seen everything that was published before it, in every partition.
pub async fn heartbeat_comes_after_what_was_published_before(sides: Sides<'_>, run: &Run) {
    let streams: Vec<StreamId> = (0..10).map(|n| run.tenant(&format!("beaten-{n}"))).collect();
    for round in 1..=3 {
        let noted = sides.ends().await;
        for stream in &streams {
            sides.change(stream, "a").await;
        }
        let heartbeat = sides.heartbeat(1_000_000 + round).await;
        let partitions: Vec<u32> = (0..sides.partitions().await).collect();
        sides.beat(&partitions, &heartbeat).await;
        let topic = sides.topic().await;
        let mut missing = streams.clone();
        for (partition, from) in (0u32..).zip(noted) {
            let messages = sides.read_to_heartbeat(&topic, partition, from, &heartbeat).await;
            let until = messages.iter().take_while(|message| **message != FeedMessage::Heartbeat(heartbeat.clone()));
            let before: Vec<FeedMessage> = until.cloned().collect();
            missing.retain(|stream| !changes(&before).any(|change| change.stream == *stream));
        }
        assert_eq!(missing, [], "in round {round}");
    }
}

/// A heartbeat comes in the partitions that it was published to, and in no other.
pub async fn heartbeat_comes_in_its_partitions_alone(sides: Sides<'_>, _run: &Run) {
    let topic = sides.topic().await;
    let all: Vec<u32> = (0..sides.partitions().await).collect();
    let last = all.last().copied().into_iter().collect();
    for (named, at_s) in [Vec::new(), last].into_iter().zip([2_000_000, 2_000_001]) {
        let noted = sides.ends().await;
        let heartbeat = sides.heartbeat(at_s).await;
        sides.beat(&named, &heartbeat).await;
        for (partition, from) in (0u32..).zip(&noted) {
            if named.contains(&partition) {
                sides.read_to_heartbeat(&topic, partition, *from, &heartbeat).await;
            } else {
                let batch = sides.read_nothing(&topic, partition, *from, Duration::ZERO).await;
                assert!(!told(&batch.messages, &heartbeat), "it came in partition {partition} of {named:?}");
            }
        }
        // What comes a moment later is before the next one.
        let next = sides.heartbeat(at_s + 10).await;
        sides.beat(&all, &next).await;
        for (partition, from) in (0u32..).zip(noted).filter(|(partition, _)| !named.contains(partition)) {
            let messages = sides.read_to_heartbeat(&topic, partition, from, &next).await;
            assert!(!told(&messages, &heartbeat), "it came in partition {partition} of {named:?}");
        }
    }
}

/// A position that nobody can have noted is refused: it was noted elsewhere.
pub async fn beyond_the_end_is_out_of_range(sides: Sides<'_>, _run: &Run) {
    let topic = sides.topic().await;
    for (partition, end) in (0u32..).zip(sides.ends().await) {
        let position = end + FAR;
        let answer = sides.read(&topic, partition, position, 10).await;
        assert_eq!(answer, Err(FeedError::OutOfRange { partition, position }));
    }
}

/// Positions of another topic mean nothing.
pub async fn another_topic_is_out_of_range(sides: Sides<'_>, run: &Run) {
    for (partition, position) in (0u32..).zip(sides.ends().await) {
        let answer = sides.read(run.text(), partition, position, 10).await;
        assert_eq!(answer, Err(FeedError::OutOfRange { partition, position }));
    }
}

/// A partition that does not exist has no positions.
pub async fn unknown_partition_is_out_of_range(sides: Sides<'_>, _run: &Run) {
    let topic = sides.feed.topic().await.expect("a topic");
    let answer = sides.read(&topic.id, topic.partitions, 0, 10).await;
    assert_eq!(answer, Err(FeedError::OutOfRange { partition: topic.partitions, position: 0 }));
}
