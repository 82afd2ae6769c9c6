//! What every event store does.

mod appending;
mod reading;
mod scanning;

pub use appending::*;
pub use reading::*;
pub use scanning::*;

use super::Run;
use crate::event_store::EventStore;

/// Every check of this suite, one after the other.
pub async fn check_all(store: &dyn EventStore, run: &Run) {
    identity_stays(store, run).await;
    unknown_stream_is_empty(store, run).await;
    what_is_appended_is_read(store, run).await;
    any_bytes_are_kept(store, run).await;
    known_seq_leaves_the_state_out(store, run).await;
    requests_are_looked_up_in_their_stream(store, run).await;
    read_is_of_one_moment(store, run).await;
    many_are_read_as_each_alone(store, run).await;
    events_come_in_pages(store, run).await;
    long_events_come_in_pages(store, run).await;
    request_rows_come_in_pages(store, run).await;

    append_compares_seq(store, run).await;
    append_compares_hash(store, run).await;
    append_compares_epoch(store, run).await;
    append_without_events_is_refused(store, run).await;
    conflict_writes_nothing(store, run).await;
    same_bytes_again_are_a_conflict(store, run).await;
    group_is_written_whole(store, run).await;
    big_states_and_events_fit(store, run).await;
    odd_ids_are_apart(store, run).await;
    concurrent_writers_lose_nothing(store, run).await;
    concurrent_streams_do_not_disturb_each_other(store, run).await;
    many_are_appended_as_each_alone(store, run).await;

    ranges_cover_every_stream(store, run).await;
    scan_sees_what_was_committed_before(store, run).await;
    scan_overlaps_writes(store, run).await;
    count_follows(store, run).await;
}
