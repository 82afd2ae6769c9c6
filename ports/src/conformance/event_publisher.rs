//! What everybody does who tells others of events.
//!
//! How others read is the adapter's business. It tells this suite what they find: stream, as text, and seq of each event, those of
//! one stream in their order.

use tessera_core::stream::{Seq, StreamId};
use tessera_core::time::Timestamp;

use super::Run;
use crate::event_publisher::{EventPublisher, PublicEvent};

/// Every check of this suite, one after the other. `told` is everything that others can read now, from the first event on.
pub async fn check_all(events: &dyn EventPublisher, told: &impl AsyncFn() -> Vec<(String, Seq)>, run: &Run) {
    what_is_published_can_be_read_in_order(events, told, run).await;
    publishing_nothing_tells_nothing(events, told, run).await;
}

fn event(run: &Run, stream: &StreamId, seq: Seq) -> PublicEvent {
    let at = Timestamp::from_seconds(1_000).ok();
    PublicEvent { store: run.text().to_owned(), stream: stream.clone(), seq, kind: "updated".to_owned(), at }
}

/// The seqs of one stream, each where it was told first: an event may be told more than once.
fn seqs(told: &[(String, Seq)], stream: &StreamId) -> Vec<Seq> {
    let stream = stream.to_string();
    let mut seqs = Vec::new();
    for (_, seq) in told.iter().filter(|(of, _)| *of == stream) {
        if !seqs.contains(seq) {
            seqs.push(*seq);
        }
    }
    seqs
}

/// When publishing returns every event is where others can read it, and those of one stream stand as they were given.
pub async fn what_is_published_can_be_read_in_order(
    events: &dyn EventPublisher,
    told: &impl AsyncFn() -> Vec<(String, Seq)>,
    run: &Run,
) {
    const TOGETHER: Seq = 20;
    let mut streams: Vec<StreamId> = (0..5).map(|n| run.tenant(&format!("told-{n}"))).collect();
    streams.extend([run.plan("told"), run.add_on("told")]);
    for before in [0, TOGETHER, 2 * TOGETHER] {
        let last = before + TOGETHER;
        let given = (before + 1..=last).flat_map(|seq| streams.iter().map(move |stream| event(run, stream, seq)));
        let given: Vec<PublicEvent> = given.collect();
        events.publish(&given).await.expect("publish");
        let (found, expected) = (told().await, (1..=last).collect::<Vec<Seq>>());
        for stream in &streams {
            assert_eq!(seqs(&found, stream), expected, "{stream}");
        }
    }
}

/// There may be nothing to tell.
pub async fn publishing_nothing_tells_nothing(
    events: &dyn EventPublisher,
    told: &impl AsyncFn() -> Vec<(String, Seq)>,
    _run: &Run,
) {
    let before = told().await.len();
    assert_eq!(events.publish(&[]).await, Ok(()));
    assert_eq!(told().await.len(), before);
}
