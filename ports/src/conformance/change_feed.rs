//! What every feed does, seen from both of its sides.
//!
//! Changes are written as a loader writes them: appended to a store and published, unless the store feeds itself. A feed
//! without a store of its own is examined with a [`MemoryStore`](crate::memory::MemoryStore).

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join;
use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;

use super::Run;
use super::sample::{epoch, read, write};
use crate::change_feed::{Change, ChangeFeed, ChangePublisher, FeedError, FeedMessage, Heartbeat, Position};
use crate::event_store::EventStore;

/// Long enough for any feed that works.
const WAIT: Duration = Duration::from_secs(20);
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
    changes_come_in_order_in_one_partition(sides, run).await;
    positions_belong_to_the_reader(sides, run).await;
    limit_is_kept(sides, run).await;
    reader_who_waits_is_woken(sides, run).await;
    end_is_quiet(sides, run).await;
    publishing_twice_is_harmless(sides, run).await;
    heartbeat_comes_after_what_was_published_before(sides, run).await;
    beyond_the_end_is_out_of_range(sides, run).await;
    another_topic_is_out_of_range(sides, run).await;
    unknown_partition_is_out_of_range(sides, run).await;
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

    async fn heartbeat(self, at_s: i64) -> Heartbeat {
        let identity = self.store.identity().await.expect("an identity");
        let at = Timestamp::from_seconds(at_s).expect("a time");
        let partitions = self.publisher.partitions().await.expect("a number of partitions");
        Heartbeat { epoch: identity.epoch, store: identity.store, at, partitions }
    }

    /// Everything from one position of a partition to another.
    async fn read_to(self, topic: &str, partition: usize, from: Position, end: Position) -> Vec<FeedMessage> {
        let partition = u32::try_from(partition).expect("few partitions");
        let mut messages = Vec::new();
        let mut at = from;
        while at < end {
            let batch = self.feed.read(topic, partition, at, 1000, WAIT).await.expect("a batch");
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

    /// From noted positions until every partition has told of this heartbeat.
    async fn read_to_heartbeat(self, from: &[Position], heartbeat: &Heartbeat) -> Vec<Vec<FeedMessage>> {
        let topic = self.topic().await;
        let told = |messages: &[FeedMessage]| messages.contains(&FeedMessage::Heartbeat(heartbeat.clone()));
        let mut partitions = Vec::new();
        for (partition, from) in from.iter().enumerate() {
            let (mut messages, mut at) = (Vec::new(), *from);
            while !told(&messages) {
                let number = u32::try_from(partition).expect("few partitions");
                let batch = self.feed.read(&topic, number, at, 1000, WAIT).await.expect("a batch");
                assert!(!batch.messages.is_empty(), "no heartbeat in partition {partition}");
                at = batch.next;
                messages.extend(batch.messages);
            }
            partitions.push(messages);
        }
        partitions
    }
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

/// From noted positions on, every stream's newest state comes, in one partition, and its seqs do not fall.
pub async fn changes_come_in_order_in_one_partition(sides: Sides<'_>, run: &Run) {
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
    let mut seen: BTreeMap<StreamId, (usize, Seq, bytes::Bytes)> = BTreeMap::new();
    for (partition, messages) in sides.read_all(&noted).await.iter().enumerate() {
        for change in changes(messages).filter(|change| newest.contains_key(&change.stream)) {
            assert_eq!(change.epoch, epoch);
            if let Some((before, seq, _)) = seen.get(&change.stream) {
                assert_eq!(*before, partition, "{} is in two partitions", change.stream);
                assert!(*seq <= change.seq, "{} falls from {seq} to {}", change.stream, change.seq);
            }
            seen.insert(change.stream.clone(), (partition, change.seq, change.state.clone()));
        }
    }
    for (stream, (seq, text)) in &newest {
        let (_, seen_seq, state) = seen.get(stream).unwrap_or_else(|| panic!("{stream} is not in the feed"));
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
            let batch = sides.feed.read(&topic, partition, at, 1, WAIT).await.expect("a batch");
            assert!(batch.messages.len() <= 1 && batch.next > at, "{batch:?} from {at}");
            at = batch.next;
            found.extend(changes(&batch.messages).map(|change| change.stream.clone()));
        }
    }
    assert!(streams.iter().all(|stream| found.contains(stream)), "{found:?}");
}

/// A change that is published while somebody waits for it ends the wait.
pub async fn reader_who_waits_is_woken(sides: Sides<'_>, run: &Run) {
    let (topic, noted) = (sides.topic().await, sides.ends().await);
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
    join(waiting, sides.change(&stream, "a")).await;
}

/// At the end there are no changes, and whoever does not want to wait does not.
pub async fn end_is_quiet(sides: Sides<'_>, run: &Run) {
    sides.change(&run.tenant("quiet"), "a").await;
    let (topic, ends) = (sides.topic().await, sides.ends().await);
    for (partition, end) in (0u32..).zip(ends) {
        let batch = sides.feed.read(&topic, partition, end, 100, Duration::ZERO).await.expect("a batch");
        assert_eq!(changes(&batch.messages).count(), 0, "{batch:?}");
        let batch = sides.feed.read(&topic, partition, batch.next, 100, Duration::ZERO).await.expect("a batch");
        assert_eq!(batch.messages, [], "the end does not come to rest");
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
        let partitions = sides.publisher.partitions().await.expect("a number of partitions");
        let partitions: Vec<u32> = (0..partitions).collect();
        sides.publisher.beat(&partitions, &heartbeat).await.expect("beat");
        let mut missing = streams.clone();
        for messages in sides.read_to_heartbeat(&noted, &heartbeat).await {
            let until = messages.iter().take_while(|message| **message != FeedMessage::Heartbeat(heartbeat.clone()));
            let before: Vec<FeedMessage> = until.cloned().collect();
            missing.retain(|stream| !changes(&before).any(|change| change.stream == *stream));
        }
        assert_eq!(missing, [], "in round {round}");
    }
}

/// A position that nobody can have noted is refused: it was noted elsewhere.
pub async fn beyond_the_end_is_out_of_range(sides: Sides<'_>, _run: &Run) {
    let topic = sides.topic().await;
    for (partition, end) in (0u32..).zip(sides.ends().await) {
        let position = end + FAR;
        let answer = sides.feed.read(&topic, partition, position, 10, WAIT).await;
        assert_eq!(answer, Err(FeedError::OutOfRange { partition, position }));
    }
}

/// Positions of another topic mean nothing.
pub async fn another_topic_is_out_of_range(sides: Sides<'_>, run: &Run) {
    for (partition, position) in (0u32..).zip(sides.ends().await) {
        let answer = sides.feed.read(run.text(), partition, position, 10, WAIT).await;
        assert_eq!(answer, Err(FeedError::OutOfRange { partition, position }));
    }
}

/// A partition that does not exist has no positions.
pub async fn unknown_partition_is_out_of_range(sides: Sides<'_>, _run: &Run) {
    let topic = sides.feed.topic().await.expect("a topic");
    let answer = sides.feed.read(&topic.id, topic.partitions, 0, 10, WAIT).await;
    assert_eq!(answer, Err(FeedError::OutOfRange { partition: topic.partitions, position: 0 }));
}
