//! Every metric of the loader: names, labels (all bounded), and the only places that record them.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use tessera_ports::event_store::{AppendError, Appended};

use crate::handler::Done;
use crate::refusal::Refusal;

/// Commands answered; labels `aggregate`, `outcome`.
pub const COMMANDS_TOTAL: &str = "tessera_commands_total";
/// Time from a command's arrival to its answer; label `aggregate`.
pub const COMMAND_DURATION_SECONDS: &str = "tessera_command_duration_seconds";
/// Commands that went into one append; label `aggregate`.
pub const GROUP_COMMANDS: &str = "tessera_group_commands";
/// Append attempts; labels `aggregate`, `outcome`.
pub const APPENDS_TOTAL: &str = "tessera_appends_total";
/// Changes published by the publisher.
pub const CHANGES_PUBLISHED_TOTAL: &str = "tessera_changes_published_total";
/// Changes that the publisher left to the sweeper.
pub const CHANGES_LEFT_TOTAL: &str = "tessera_changes_left_total";
/// Changes published by the sweeper.
pub const CHANGES_SWEPT_TOTAL: &str = "tessera_changes_swept_total";
/// Events that others were told of.
pub const EVENTS_PUBLISHED_TOTAL: &str = "tessera_events_published_total";
/// Hints that the sweeper's last read found.
pub const HINTS: &str = "tessera_hints";
/// Heartbeats sent.
pub const HEARTBEATS_TOTAL: &str = "tessera_heartbeats_total";
/// Heartbeats that were due and could not be sent.
pub const HEARTBEATS_MISSED_TOTAL: &str = "tessera_heartbeats_missed_total";
/// Tenants whose due changes were recorded; label `outcome`.
pub const DUE_TENANTS_TOTAL: &str = "tessera_due_tenants_total";
/// Import rows answered; label `outcome`.
pub const IMPORT_ROWS_TOTAL: &str = "tessera_import_rows_total";

/// All of them.
pub const ALL: [&str; 13] = [
    COMMANDS_TOTAL,
    COMMAND_DURATION_SECONDS,
    GROUP_COMMANDS,
    APPENDS_TOTAL,
    CHANGES_PUBLISHED_TOTAL,
    CHANGES_LEFT_TOTAL,
    CHANGES_SWEPT_TOTAL,
    EVENTS_PUBLISHED_TOTAL,
    HINTS,
    HEARTBEATS_TOTAL,
    HEARTBEATS_MISSED_TOTAL,
    DUE_TENANTS_TOTAL,
    IMPORT_ROWS_TOTAL,
];

/// Describes all metrics to the recorder of this process.
pub fn describe() {
    describe_counter!(COMMANDS_TOTAL, "commands answered, by aggregate and outcome");
    describe_histogram!(COMMAND_DURATION_SECONDS, "time from a command's arrival to its answer");
    describe_histogram!(GROUP_COMMANDS, "commands that went into one append");
    describe_counter!(APPENDS_TOTAL, "append attempts, by aggregate and outcome");
    describe_counter!(CHANGES_PUBLISHED_TOTAL, "changes published after their commit");
    describe_counter!(CHANGES_LEFT_TOTAL, "changes not published after their commit and left to the sweeper");
    describe_counter!(CHANGES_SWEPT_TOTAL, "changes published by the sweeper");
    describe_counter!(EVENTS_PUBLISHED_TOTAL, "events that others were told of");
    describe_gauge!(HINTS, "hints that the sweeper's last read found");
    describe_counter!(HEARTBEATS_TOTAL, "heartbeats sent");
    describe_counter!(HEARTBEATS_MISSED_TOTAL, "heartbeats that were due and could not be sent");
    describe_counter!(DUE_TENANTS_TOTAL, "tenants whose due changes were recorded, by outcome");
    describe_counter!(IMPORT_ROWS_TOTAL, "import rows answered, by outcome");
}

pub(crate) fn command_handled<A>(aggregate: &'static str, result: &Result<Done<A>, Refusal>, took: Duration) {
    counter!(COMMANDS_TOTAL, "aggregate" => aggregate, "outcome" => outcome_of(result)).increment(1);
    histogram!(COMMAND_DURATION_SECONDS, "aggregate" => aggregate).record(took.as_secs_f64());
}

/// Of commands that were asked for and answered together.
pub(crate) fn commands_handled<A>(aggregate: &'static str, results: &[Result<Done<A>, Refusal>], took: Duration) {
    for (outcome, count) in counted(results.iter().map(outcome_of)) {
        counter!(COMMANDS_TOTAL, "aggregate" => aggregate, "outcome" => outcome).increment(count);
    }
    histogram!(COMMAND_DURATION_SECONDS, "aggregate" => aggregate).record_many(took.as_secs_f64(), results.len());
}

fn outcome_of<A>(result: &Result<Done<A>, Refusal>) -> &'static str {
    match result {
        Ok(done) if done.replay => "replayed",
        Ok(done) if done.changed => "changed",
        Ok(_) => "unchanged",
        Err(Refusal::Rejected(_)) => "rejected",
        Err(Refusal::RequestIdReused(_)) => "request_id_reused",
        Err(Refusal::OutcomeUnknown(_)) => "outcome_unknown",
        Err(Refusal::StoreUnavailable(_)) => "store_unavailable",
        Err(Refusal::StoreDamaged(_)) => "store_damaged",
        Err(Refusal::ReaderTooOld { .. }) => "reader_too_old",
        Err(Refusal::DiskFull) => "disk_full",
        Err(Refusal::Overloaded(_)) => "overloaded",
        Err(Refusal::Draining) => "draining",
        Err(Refusal::DeadlineExceeded) => "deadline_exceeded",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a group has at most 32 commands")]
pub(crate) fn group_begun(aggregate: &'static str, commands: usize) {
    histogram!(GROUP_COMMANDS, "aggregate" => aggregate).record(commands as f64);
}

/// Of so many appends with one command each.
pub(crate) fn groups_of_one_begun(aggregate: &'static str, groups: usize) {
    histogram!(GROUP_COMMANDS, "aggregate" => aggregate).record_many(1.0, groups);
}

/// Of appends that were answered together.
pub(crate) fn appends_answered(aggregate: &'static str, outcomes: &[Result<Appended, AppendError>]) {
    let outcomes = outcomes.iter().map(|outcome| match outcome {
        Ok(Appended::Committed) => "committed",
        Ok(Appended::Conflict) => "conflict",
        Err(AppendError::Unknown(_)) => "unknown",
        Err(AppendError::DiskFull) => "disk_full",
        Err(AppendError::NotAttempted(_)) => "not_attempted",
    });
    for (outcome, count) in counted(outcomes) {
        counter!(APPENDS_TOTAL, "aggregate" => aggregate, "outcome" => outcome).increment(count);
    }
}

/// How often each of them came.
fn counted(outcomes: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_insert(0) += 1;
    }
    counts
}

pub(crate) fn changes_published(count: usize) {
    counter!(CHANGES_PUBLISHED_TOTAL).increment(wide(count));
}

pub(crate) fn changes_left_to_sweeper(count: usize) {
    counter!(CHANGES_LEFT_TOTAL).increment(wide(count));
}

pub(crate) fn changes_swept(count: usize) {
    counter!(CHANGES_SWEPT_TOTAL).increment(wide(count));
}

pub(crate) fn events_published(count: usize) {
    counter!(EVENTS_PUBLISHED_TOTAL).increment(wide(count));
}

#[expect(clippy::cast_precision_loss, reason = "bounded by the sweeper's page and the publisher's queue")]
pub(crate) fn hints_seen(count: usize) {
    gauge!(HINTS).set(count as f64);
}

pub(crate) fn heartbeat_sent() {
    counter!(HEARTBEATS_TOTAL).increment(1);
}

pub(crate) fn heartbeat_missed() {
    counter!(HEARTBEATS_MISSED_TOTAL).increment(1);
}

pub(crate) fn due_recorded(recorded: bool) {
    counter!(DUE_TENANTS_TOTAL, "outcome" => if recorded { "recorded" } else { "failed" }).increment(1);
}

pub(crate) fn import_rows(outcome: &'static str, count: usize) {
    counter!(IMPORT_ROWS_TOTAL, "outcome" => outcome).increment(wide(count));
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
