//! What is applied, parked and refused.

mod age;

use std::sync::Arc;

use bytes::Bytes;
use metrics::Counter;
use proptest::prelude::*;
use tessera_core::decision::{Query, Reason};
use tessera_core::digest::{StateDigest, state_checksum};
use tessera_core::evaluator::evaluate;
use tessera_core::stream::StreamId;
use tessera_core::tenant::{Event, ScheduledChange};
use tessera_ports::Change;

use super::early::Early;
use super::writer::{Applied, Writer};
use super::*;
use crate::metric_definitions::{Metrics, Source};
use crate::universe::{Universe, latest, pinned, plan_stream, start, tenant_stream};

fn writer() -> Writer {
    Writer::new(Arc::new(Matrix::new(1, "test", 0, Arc::default())), Metrics::new())
}

fn apply(writer: &mut Writer, change: &Change) -> Applied {
    apply_from(writer, change, Source::Feed)
}

fn apply_from(writer: &mut Writer, change: &Change, source: Source) -> Applied {
    let applied = writer.apply(change, Early::only_checksum(change), source);
    writer.finish();
    applied
}

fn apply_all<'a>(writer: &mut Writer, changes: impl IntoIterator<Item = &'a Change>) {
    for change in changes {
        apply(writer, change);
    }
}

/// What a check of reports/`feature` says.
#[track_caller]
fn reason(writer: &Writer, tenant: &str, feature: &str) -> Reason {
    let matrix = writer.matrix();
    let row = match matrix.tenant(tenant) {
        Found::Row(row) => Some(row),
        Found::Unknown => None,
        other => panic!("expected an answer, found {other:?}"),
    };
    let query = Query { service: "reports", feature, limit: None };
    evaluate(&matrix.tables().tables, row.as_ref(), &query, start()).reason()
}

fn digest_of<'a>(changes: impl IntoIterator<Item = &'a Change>) -> StateDigest {
    let mut digest = StateDigest::default();
    for change in changes {
        digest.add(change.stream.kind(), change.stream.key().as_bytes(), change.seq, state_checksum(&change.state));
    }
    digest
}

#[test]
fn newer_changes_are_applied_and_everything_else_is_left_alone() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let created = universe.create("acme", latest("gold"));
    assert_eq!(apply(&mut writer, &created), Applied::Installed);
    assert_eq!(reason(&writer, "acme", "view"), Reason::GrantedByPlan);

    let deleted = universe.tenant_event("acme", Event::Deleted);
    assert_eq!(apply(&mut writer, &deleted), Applied::Installed);
    for zombie in [&created, &deleted, &usual[2]] {
        assert_eq!(apply(&mut writer, zombie), Applied::Behind);
    }
    assert_eq!(reason(&writer, "acme", "view"), Reason::TenantDeleted);
    assert_eq!(writer.matrix().tenant_seq("acme"), 2);
    assert_eq!(writer.digest(), digest_of(&universe.changes()));
}

#[test]
fn watches_hear_only_of_a_matrix_that_answers() {
    let (mut universe, usual) = Universe::usual();
    let hub = Arc::<Hub>::default();
    let mut writer = Writer::new(Arc::new(Matrix::new(1, "test", 0, Arc::clone(&hub))), Metrics::new());
    let mailbox = hub.open();
    hub.subscribe(&TenantKey::new("acme"), &mailbox);
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.create("acme", latest("gold")));
    let notes = mailbox.take();
    assert!(!notes.everything && notes.tenants.is_empty());
    writer.matrix().begin_serving();
    apply(&mut writer, &universe.tenant_event("acme", Event::Deleted));
    apply(&mut writer, &universe.publish("gold", &[("reports", &["export"])], &[]));
    let notes = mailbox.take();
    assert!(notes.everything && !notes.replaced && notes.tenants.len() == 1);
}

#[test]
fn a_stream_without_a_tenant_is_unknown_but_counted() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.settle_nothing("ghost"));
    assert_eq!(reason(&writer, "ghost", "view"), Reason::TenantUnknown);
    assert_eq!(writer.matrix().tenant_seq("ghost"), 1);
    apply(&mut writer, &universe.create("ghost", latest("gold")));
    assert_eq!(reason(&writer, "ghost", "view"), Reason::GrantedByPlan);
}

#[test]
fn a_tenant_is_not_unknown_while_it_waits_though_its_stream_was_there_without_it() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    for id in ["waits", "newer"] {
        apply(&mut writer, &universe.settle_nothing(id));
        assert!(matches!(writer.matrix().tenant(id), Found::Unknown));
    }
    let created = universe.create("newer", latest("gold"));
    let newer = Change { state: for_a_newer_reader(&created.state), ..created };
    assert_eq!(apply(&mut writer, &newer), Applied::Bad);
    assert!(matches!(writer.matrix().tenant("newer"), Found::Unreadable));

    let second = universe.publish("gold", &[("reports", &["view"])], &[]);
    assert_eq!(apply(&mut writer, &universe.create("waits", latest("gold"))), Applied::Parked(plan_stream("gold")));
    assert!(matches!(writer.matrix().tenant("waits"), Found::CatalogBehind));
    apply(&mut writer, &second);
    assert_eq!(reason(&writer, "waits", "view"), Reason::GrantedByPlan);
}

#[test]
fn a_row_waits_for_the_plan_it_was_decided_against_and_the_last_good_one_answers() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.create("acme", latest("gold")));
    let second = universe.publish("gold", &[("reports", &["view", "export"])], &[]);
    let moved = universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));

    assert_eq!(apply(&mut writer, &moved), Applied::Parked(plan_stream("gold")));
    assert_eq!(reason(&writer, "acme", "export"), Reason::FeatureNotInPlan);
    assert_eq!((writer.parked(), writer.matrix().tenant_seq("acme")), (1, 1));
    assert!(writer.is_waited_for(&plan_stream("gold")));

    apply(&mut writer, &second);
    assert_eq!(reason(&writer, "acme", "export"), Reason::GrantedByPlan);
    assert_eq!((writer.parked(), writer.matrix().tenant_seq("acme")), (0, 2));
    assert_eq!(writer.digest(), digest_of(&universe.changes()));
}

#[test]
fn latest_and_scheduled_plans_are_waited_for_too() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let second = universe.publish("gold", &[("reports", &["export"])], &[]);
    assert_eq!(apply(&mut writer, &universe.create("follows", latest("gold"))), Applied::Parked(plan_stream("gold")));
    let third = universe.publish("silver", &[("reports", &["view"])], &[]);
    universe.create("moves", pinned("gold", 1));
    let change = ScheduledChange { id: 1, at: start(), choice: latest("silver") };
    let moves = universe.tenant_event("moves", Event::PlanChangeScheduled(change));
    assert!(matches!(apply(&mut writer, &moves), Applied::Parked(_)));
    apply(&mut writer, &second);
    assert_eq!(reason(&writer, "follows", "export"), Reason::GrantedByPlan);
    assert!(matches!(writer.matrix().tenant("moves"), Found::CatalogBehind));
    apply(&mut writer, &third);
    assert_eq!(reason(&writer, "moves", "view"), Reason::GrantedByPlan);
    assert_eq!(writer.parked(), 0);
}

#[test]
fn a_plan_waits_for_its_catalog_and_takes_its_tenants_along() {
    let mut universe = Universe::new();
    let mut writer = writer();
    let service = universe.service("reports", &["view"]);
    let plan = universe.publish("gold", &[("reports", &["view"])], &[]);
    let tenant = universe.create("acme", latest("gold"));
    assert_eq!(apply(&mut writer, &tenant), Applied::Parked(StreamId::Catalog));
    assert_eq!(apply(&mut writer, &plan), Applied::Parked(StreamId::Catalog));
    assert!(matches!(writer.matrix().tenant("acme"), Found::CatalogBehind));
    apply(&mut writer, &service);
    assert_eq!(reason(&writer, "acme", "view"), Reason::GrantedByPlan);
    assert_eq!(writer.parked(), 0);
}

#[test]
fn the_newest_parked_change_wins() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let second = universe.publish("gold", &[("reports", &["export"])], &[]);
    let sixth = universe.create("acme", latest("gold"));
    let seventh = universe.tenant_event("acme", Event::Activated);
    assert!(matches!(apply(&mut writer, &seventh), Applied::Parked(_)));
    assert_eq!(apply(&mut writer, &sixth), Applied::Behind);
    apply(&mut writer, &second);
    assert_eq!(writer.matrix().tenant_seq("acme"), 2);
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_state_and_others_flow() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.create("acme", latest("gold")));
    let next = universe.tenant_event("acme", Event::Deleted);
    let broken = Change { state: Bytes::from_static(b"\xff\xff"), ..next.clone() };
    assert_eq!(apply(&mut writer, &broken), Applied::Bad);
    assert_eq!(apply(&mut writer, &broken), Applied::Behind, "told once");
    assert_eq!(reason(&writer, "acme", "view"), Reason::GrantedByPlan);

    let newcomer = Change { stream: tenant_stream("newcomer"), ..broken };
    assert_eq!(apply(&mut writer, &newcomer), Applied::Bad);
    assert!(matches!(writer.matrix().tenant("newcomer"), Found::Unreadable));
    assert_eq!(apply(&mut writer, &universe.create("other", latest("gold"))), Applied::Installed);
    assert_eq!(apply(&mut writer, &next), Applied::Installed);
    assert_eq!(reason(&writer, "acme", "view"), Reason::TenantDeleted);
}

/// Field 1 of a stored state is the reader version; the last one written counts.
fn for_a_newer_reader(state: &[u8]) -> Bytes {
    [state, &[0x08, 99]].concat().into()
}

#[test]
fn a_state_for_a_newer_reader_is_left_alone() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let created = universe.create("acme", latest("gold"));
    let newer = Change { state: for_a_newer_reader(&created.state), ..created };
    assert_eq!(apply(&mut writer, &newer), Applied::Bad);
    assert!(matches!(writer.matrix().tenant("acme"), Found::Unreadable));
}

#[test]
fn versions_that_vanish_and_a_rewritten_catalog_are_refused() {
    let (universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let mut other = Universe::new();
    for _ in 0..9 {
        other.service("billing", &["pay"]);
    }
    assert_eq!(apply(&mut writer, &other.change(&StreamId::Catalog)), Applied::Bad);
    let gone = Change { seq: 99, state: other_plan(), ..universe.change(&plan_stream("gold")) };
    assert_eq!(apply(&mut writer, &gone), Applied::Bad);
    assert_eq!(writer.digest(), digest_of(&universe.changes()));
}

/// A plan without a published version.
fn other_plan() -> Bytes {
    let mut universe = Universe::new();
    let created = tessera_core::plan::Event::Created(tessera_core::plan::Document::default());
    universe.offer_event(&plan_stream("gold"), created).state
}

#[test]
fn a_difference_at_the_same_seq_is_repaired_from_the_store_and_never_from_the_feed() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let truth = universe.create("acme", latest("gold"));
    universe.publish("silver", &[], &[]);
    let mut other = universe.clone();
    let wrong = Change { state: other.tenant_event("acme", Event::Deleted).state, ..truth.clone() };
    apply(&mut writer, &wrong);
    assert_eq!(reason(&writer, "acme", "view"), Reason::TenantDeleted);
    assert_eq!(apply(&mut writer, &truth), Applied::Behind);
    assert_eq!(apply_from(&mut writer, &truth, Source::Scan), Applied::Installed);
    assert_eq!(reason(&writer, "acme", "view"), Reason::GrantedByPlan);
    assert_eq!(apply_from(&mut writer, &truth, Source::Scan), Applied::Behind);
}

#[test]
fn who_waits_behind_a_wrong_state_is_set_free_by_its_repair() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let first = usual.iter().find(|change| change.stream == plan_stream("gold")).unwrap();
    let truth = universe.publish("gold", &[("reports", &["export"])], &[]);
    apply(&mut writer, &Change { state: first.state.clone(), ..truth.clone() });
    let tenant = universe.create("acme", pinned("gold", 2));
    assert_eq!(apply(&mut writer, &tenant), Applied::Parked(plan_stream("gold")));
    assert_eq!(apply_from(&mut writer, &truth, Source::Scan), Applied::Installed);
    assert_eq!(writer.parked(), 0);
    assert_eq!(reason(&writer, "acme", "export"), Reason::GrantedByPlan);
}

#[test]
fn a_stored_state_that_got_damaged_leaves_the_good_row_and_is_told_once() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let good = universe.create("acme", latest("gold"));
    apply(&mut writer, &good);
    let damaged = Change { state: Bytes::new(), ..good.clone() };
    assert_eq!(apply_from(&mut writer, &damaged, Source::Scan), Applied::Bad);
    assert_eq!(apply_from(&mut writer, &damaged, Source::Scan), Applied::Behind, "the next lap says nothing new");
    assert_eq!(reason(&writer, "acme", "view"), Reason::GrantedByPlan);
    // The feed repeats what was published, whatever the store has.
    assert_eq!((apply(&mut writer, &good), writer.bad()), (Applied::Behind, 1));
    assert_eq!(apply_from(&mut writer, &good, Source::Scan), Applied::Behind);
    assert_eq!(writer.bad(), 0, "the store is as it was");
    assert_eq!(apply_from(&mut writer, &damaged, Source::Scan), Applied::Bad, "and that is told again");
}

#[test]
fn a_stored_state_that_was_damaged_for_a_while_holds_no_tenant_back() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let ghost = universe.settle_nothing("ghost");
    apply(&mut writer, &ghost);
    universe.publish("gold", &[("reports", &["view"])], &[]);
    let waits = universe.create("waits", latest("gold"));
    assert!(matches!(apply(&mut writer, &waits), Applied::Parked(_)));
    for good in [&ghost, &waits] {
        let damaged = Change { state: Bytes::from_static(b"\xff\xff"), ..good.clone() };
        assert_eq!(apply_from(&mut writer, &damaged, Source::Scan), Applied::Bad);
        assert!(matches!(writer.matrix().tenant(good.stream.key()), Found::Unreadable));
        apply_from(&mut writer, good, Source::Scan);
    }
    assert_eq!((writer.bad(), writer.parked()), (0, 1));
    assert!(matches!(writer.matrix().tenant("ghost"), Found::Unknown));
    assert!(matches!(writer.matrix().tenant("waits"), Found::CatalogBehind));
    // Nor where a snapshot has both.
    let mut from_snapshot = self::writer();
    apply_all(&mut from_snapshot, &usual);
    from_snapshot.take_waiting(None, std::slice::from_ref(&waits), &[(waits.stream.clone(), waits.seq)]);
    assert!(matches!(from_snapshot.matrix().tenant("waits"), Found::CatalogBehind));
    from_snapshot.take_waiting(None, &[], &[(waits.stream.clone(), waits.seq + 1)]);
    assert!(matches!(from_snapshot.matrix().tenant("waits"), Found::Unreadable));
}

#[test]
fn the_alarm_of_a_difference_is_for_a_state_that_takes_the_place_of_another() {
    let (mut universe, usual) = Universe::usual();
    let (alarms, mut metrics) = (Arc::new(AtomicU64::new(0)), Metrics::new());
    metrics.checksum_alarms = Counter::from_arc(Arc::clone(&alarms));
    let mut writer = Writer::new(Arc::new(Matrix::new(1, "test", 0, Arc::default())), metrics);
    apply_all(&mut writer, &usual);
    let good = universe.create("acme", latest("gold"));
    apply(&mut writer, &good);
    let damaged = Change { state: Bytes::from_static(b"\xff\xff"), ..good.clone() };
    apply_from(&mut writer, &damaged, Source::Scan);
    assert_eq!(alarms.load(Ordering::Relaxed), 0);
    let other = Change { state: universe.tenant_event("acme", Event::Deleted).state, ..good };
    assert_eq!(apply_from(&mut writer, &other, Source::Scan), Applied::Installed);
    assert_eq!(alarms.load(Ordering::Relaxed), 1);
}

#[test]
fn other_epochs_are_told_apart() {
    let (universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    let newer = Change { epoch: 2, seq: 99, ..universe.change(&plan_stream("gold")) };
    assert_eq!(apply(&mut writer, &newer), Applied::NewerEpoch);
    assert_eq!(apply(&mut writer, &Change { epoch: 0, ..newer }), Applied::Behind);
    assert_eq!(writer.digest(), digest_of(&universe.changes()));
}

#[test]
fn tables_are_installed_once_per_batch_and_before_rows() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    for change in &usual {
        writer.apply(change, Early::decoded(change), Source::Hydration);
    }
    assert_eq!(writer.matrix().tables().generation, 0);
    let held = writer.matrix().tables_to_keep();
    let created = universe.create("acme", latest("gold"));
    writer.apply(&created, Early::decoded(&created), Source::Hydration);
    assert_eq!(writer.matrix().tables().generation, 1);
    assert!(!writer.matrix().is_newest(&held));
    writer.finish();
    assert_eq!(writer.matrix().tables().generation, 1);
}

#[test]
fn a_hundred_thousand_tenants_are_found() {
    let (mut universe, usual) = Universe::usual();
    let matrix = Arc::new(Matrix::new(1, "test", 100_000, Arc::default()));
    let mut writer = Writer::new(matrix, Metrics::new());
    apply_all(&mut writer, &usual);
    let template = universe.create("acme", latest("gold"));
    for n in 0..100_000 {
        let change = Change { stream: tenant_stream(&format!("tenant-{n}")), ..template.clone() };
        assert_eq!(writer.apply(&change, Early::decoded(&change), Source::Hydration), Applied::Installed);
    }
    for n in (0..100_000).step_by(997) {
        assert_eq!(reason(&writer, &format!("tenant-{n}"), "view"), Reason::GrantedByPlan);
    }
    assert_eq!(reason(&writer, "tenant-100000", "view"), Reason::TenantUnknown);
    assert_eq!(writer.digest().count(StreamKind::Tenant), 100_000);
}

/// A history with everything that can make changes wait for one another, in the order in which it happened.
fn history() -> Vec<Change> {
    let (mut universe, mut changes) = Universe::usual();
    changes.push(universe.create("a", latest("gold")));
    changes.push(universe.publish("gold", &[("reports", &["view", "export"])], &[("seats", 20)]));
    changes.push(universe.create("b", pinned("gold", 2)));
    changes.push(universe.service("billing", &["pay"]));
    changes.push(universe.publish_add_on("extra", &[("billing", &["pay"])], &[("seats", 5)]));
    changes.push(universe.attach("a", "extra"));
    changes.push(universe.publish("silver", &[("billing", &[])], &[]));
    changes.push(universe.tenant_event("b", Event::PlanChanged(latest("silver"))));
    changes.push(universe.tenant_event("a", Event::Deleted));
    changes.push(universe.settle_nothing("c"));
    changes.push(universe.create("c", latest("gold")));
    changes.push(universe.limit("exports"));
    changes.push(universe.publish("gold", &[("billing", &["pay"])], &[("exports", 1)]));
    changes
}

fn everything(writer: &Writer) -> (StateDigest, usize, Vec<Reason>) {
    let asked = ["a", "b", "c"].into_iter().flat_map(|tenant| ["view", "export", ""].map(|feature| (tenant, feature)));
    (writer.digest(), writer.parked(), asked.map(|(tenant, feature)| reason(writer, tenant, feature)).collect())
}

proptest! {
    #[test]
    fn any_order_and_any_number_of_times_is_as_good_as_in_order(
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        order in Just((0..history().len()).collect::<Vec<_>>()).prop_shuffle(),
        batches in prop::collection::vec(1_usize..5, 1..20),
    ) {
        let history = history();
        let mut in_order = writer();
        apply_all(&mut in_order, &history);

        let mut shuffled = writer();
        let picked = picks.iter().map(|pick| pick.get(&history));
        let all: Vec<&Change> = picked.chain(order.iter().map(|position| &history[*position])).collect();
        let mut rest = &all[..];
        let mut sizes = batches.iter().cycle();
        let mut seqs = std::collections::BTreeMap::new();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            for change in batch {
                shuffled.apply(change, Early::only_checksum(change), Source::Feed);
            }
            shuffled.finish();
            rest = later;
            for tenant in ["a", "b", "c"] {
                let seq = shuffled.matrix().tenant_seq(tenant);
                prop_assert!(seqs.insert(tenant, seq).is_none_or(|before| before <= seq), "{tenant} went back");
            }
        }
        prop_assert_eq!(everything(&shuffled), everything(&in_order));
        prop_assert_eq!(shuffled.parked(), 0);
    }
}
