//! Up to when a matrix says that it is whole, while something is parked.

use std::collections::BTreeMap;

use tessera_core::stream::Seq;
use tessera_core::time::Timestamp;

use super::*;
use crate::matrix::parking::NO_LAG;

fn at(second: usize) -> Option<Timestamp> {
    Timestamp::from_seconds(i64::try_from(second).unwrap()).ok()
}

/// A writer with tenant `acme` on gold, whole up to second 10; and version 2 of gold, which has not come.
fn with_acme() -> (Writer, Universe, Change) {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.create("acme", latest("gold")));
    assert_eq!(writer.whole_until(at(10)), at(10));
    let second = universe.publish("gold", &[("reports", &["export"])], &[]);
    (writer, universe, second)
}

#[test]
fn while_a_newer_state_waits_the_matrix_is_whole_up_to_when_the_wait_began() {
    let (mut writer, mut universe, second) = with_acme();
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2))));
    assert_eq!(writer.whole_until(at(20)), at(10));

    // The wait goes on with a newer state.
    let third = universe.publish("gold", &[("reports", &["view"])], &[]);
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 3))));
    assert_eq!(writer.whole_until(at(30)), at(10));

    // One of the two is there, and the newer one waits for the other.
    apply(&mut writer, &second);
    assert_eq!((writer.parked(), writer.whole_until(at(40))), (1, at(10)));
    apply(&mut writer, &third);
    assert_eq!((writer.parked(), writer.whole_until(at(40))), (0, at(40)));

    // A later wait is another one.
    universe.publish("silver", &[("reports", &["view"])], &[]);
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(latest("silver"))));
    assert_eq!(writer.whole_until(at(50)), at(40));
}

#[test]
fn a_wait_that_one_arrival_does_not_end_began_when_it_began() {
    let (mut writer, mut universe, second) = with_acme();
    let extra = universe.publish_add_on("extra", &[("reports", &["export"])], &[]);
    universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2)));
    apply(&mut writer, &universe.attach("acme", "extra"));
    assert_eq!(writer.whole_until(at(20)), at(10));
    apply(&mut writer, &second);
    assert_eq!((writer.parked(), writer.whole_until(at(30))), (1, at(10)), "it goes on waiting, for the add-on");
    apply(&mut writer, &extra);
    assert_eq!(writer.whole_until(at(30)), at(30));
}

#[test]
fn a_matrix_of_which_nothing_is_known_stays_so_while_a_state_waits() {
    let (mut universe, usual) = Universe::usual();
    let mut writer = writer();
    apply_all(&mut writer, &usual);
    apply(&mut writer, &universe.create("acme", latest("gold")));
    let second = universe.publish("gold", &[("reports", &["export"])], &[]);
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2))));
    assert_eq!(writer.whole_until(at(10)), None);
    apply(&mut writer, &second);
    assert_eq!(writer.whole_until(at(10)), at(10));
    assert_eq!(writer.whole_until(None), None);
}

#[test]
fn where_no_state_answers_no_answer_is_old() {
    let (mut writer, mut universe, _) = with_acme();
    apply(&mut writer, &universe.create("newcomer", latest("gold")));
    apply(&mut writer, &universe.tenant_event("newcomer", Event::Activated));
    assert_eq!((writer.parked(), writer.whole_until(at(20))), (1, at(20)));
    assert_eq!(writer.lag(), NO_LAG);
}

#[test]
fn what_waits_for_a_state_that_cannot_be_used_makes_no_other_answer_look_old() {
    let (mut writer, mut universe, second) = with_acme();
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2))));
    assert_eq!(writer.whole_until(at(20)), at(10));
    let broken = Change { state: Bytes::from_static(b"\xff\xff"), ..second };
    assert_eq!(apply(&mut writer, &broken), Applied::Bad);
    assert_eq!((writer.parked(), writer.whole_until(at(20))), (1, at(20)));

    // It counts for a state that has not come: what was told stays as it is.
    let third = universe.publish("gold", &[("reports", &["view"])], &[]);
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 3))));
    assert_eq!(writer.whole_until(at(30)), at(20));
    apply(&mut writer, &third);
    assert_eq!((writer.parked(), writer.whole_until(at(30))), (0, at(30)));
}

#[test]
fn nor_does_what_waits_for_what_waits_for_it() {
    let (mut writer, mut universe, _) = with_acme();
    apply(&mut writer, &universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 2))));
    assert_eq!(writer.whole_until(at(20)), at(10));
    // The plan comes as it is now, and rests on a catalog that cannot be used.
    let broken = Change { state: Bytes::from_static(b"\xff\xff"), ..universe.service("billing", &["pay"]) };
    assert_eq!(apply(&mut writer, &broken), Applied::Bad);
    let third = universe.publish("gold", &[("billing", &["pay"])], &[]);
    assert_eq!(apply(&mut writer, &third), Applied::Parked(StreamId::Catalog));
    assert_eq!((writer.parked(), writer.whole_until(at(20))), (2, at(20)));
}

#[test]
fn a_name_that_means_nothing_though_all_has_come_is_no_lag() {
    let (mut writer, mut universe, second) = with_acme();
    apply(&mut writer, &second);
    let astray = universe.tenant_event("acme", Event::PlanChanged(pinned("gold", 9)));
    assert!(matches!(apply(&mut writer, &astray), Applied::Parked(_)));
    assert_eq!((writer.parked(), writer.whole_until(at(20))), (1, at(20)));
}

/// Of every stream the seqs that it had, by the moment at which it got each.
fn seqs_of(history: &[Change]) -> BTreeMap<StreamId, Vec<(usize, Seq)>> {
    let mut seqs: BTreeMap<StreamId, Vec<(usize, Seq)>> = BTreeMap::new();
    for (moment, change) in history.iter().enumerate() {
        seqs.entry(change.stream.clone()).or_default().push((moment, change.seq));
    }
    seqs
}

/// The seq that answers; 0 when no state does.
fn answers(writer: &Writer, stream: &StreamId) -> Seq {
    let matrix = writer.matrix();
    match stream {
        StreamId::Tenant(id) => matrix.tenant_seq(id.as_str()),
        _ => matrix.tables().tables.seq_by_hash(stream.kind(), stream.hash()).unwrap_or(0),
    }
}

proptest! {
    /// Moment by moment something is committed, and states come in any order and any number of times; some never come, since a
    /// newer one came in their place. A heartbeat says up to when everything has come, now and then and perhaps late.
    #[test]
    fn whatever_was_committed_before_it_is_in_the_matrix_or_nothing_answers(
        order in Just((0..history().len()).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        skipped in any::<u64>(),
        beats in prop::collection::vec(prop::option::of(0_usize..3), 60),
    ) {
        let history = history();
        let seqs = seqs_of(&history);
        let is_newest = |moment: usize| seqs[&history[moment].stream].last().is_some_and(|(newest, _)| *newest == moment);
        let order = order.into_iter().filter(|moment| is_newest(*moment) || (skipped >> moment) & 1 == 0);
        let coming = order.chain(again.iter().map(|pick| pick.index(history.len())).filter(|moment| is_newest(*moment)));

        let (mut writer, mut come) = (writer(), BTreeMap::<&StreamId, Seq>::new());
        let (mut received, mut told) = (None, None);
        for (moment, beat) in coming.zip(beats.into_iter().chain(std::iter::repeat(Some(0)))) {
            let change = &history[moment];
            apply(&mut writer, change);
            let newest = come.entry(&change.stream).or_default();
            *newest = (*newest).max(change.seq);
            if let Some(late) = beat {
                let has_come = |change: &&Change| come.get(&change.stream).is_some_and(|seq| *seq >= change.seq);
                let up_to = history.iter().take_while(has_come).count().saturating_sub(late);
                received = received.max(at(up_to));
            }
            let whole = writer.whole_until(received);
            prop_assert!(whole <= received && told <= whole, "{told:?}, then {whole:?} of {received:?}");
            told = whole;
            let Some(until) = whole.and_then(|until| usize::try_from(until.seconds()).ok()) else { continue };
            for (stream, seqs) in &seqs {
                let committed = seqs.iter().rev().find(|(moment, _)| *moment < until).map_or(0, |(_, seq)| *seq);
                let answering = answers(&writer, stream);
                prop_assert!(answering == 0 || answering >= committed, "{stream}@{committed} was before {until}: {answering}");
            }
        }
        prop_assert_eq!((writer.parked(), writer.whole_until(at(99))), (0, at(99)));
    }
}
