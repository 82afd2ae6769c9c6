//! Properties of retries: how much they add, when they come, and what is never tried again.

use proptest::prelude::*;
use tessera_proto::status as server;
use tonic::Status;

use super::*;

proptest! {
    /// However the calls and failures come, retries stay below what calls and time have paid in.
    #[test]
    fn the_budget_bounds_what_retries_add(
        percent in 0u32..=100,
        per_second in 0u32..=20,
        steps in prop::collection::vec((any::<bool>(), 0u64..500), 0..2_000),
    ) {
        let policy = RetryPolicy { budget_percent: percent, budget_per_second: per_second, ..RetryPolicy::default() };
        let begun = Instant::now();
        let (mut now, mut budget) = (begun, Budget::new(&policy, begun));
        let (mut calls, mut retries) = (0u64, 0u64);
        for (call, ms) in steps {
            now += Duration::from_millis(ms);
            if call {
                budget.pay_in();
                calls += 1;
            } else if budget.take(now) {
                retries += 1;
            }
            let seconds_ms = u64::try_from((now - begun).as_millis()).unwrap();
            let paid = SAVED_FIRST + calls * u64::from(percent) * 10 + seconds_ms * u64::from(per_second);
            prop_assert!(retries * RETRY <= paid, "{retries} retries of {calls} calls");
        }
    }

    /// A burst of failures after a long quiet time is bounded too.
    #[test]
    fn what_is_saved_up_is_bounded(calls in 0u32..2_000, hours in 0u64..1_000) {
        let begun = Instant::now();
        let mut budget = Budget::new(&RetryPolicy::default(), begun);
        (0..calls).for_each(|_| budget.pay_in());
        let now = begun + Duration::from_hours(hours);
        let retries = (0..10_000).take_while(|_| budget.take(now)).count();
        prop_assert!(retries <= 100, "{retries}");
        prop_assert!(!budget.has_one(now));
    }

    /// Time that passes in small pieces pays as much as in one piece, up to a rounding.
    #[test]
    fn a_slow_client_gets_its_floor(pieces in prop::collection::vec(1u64..900, 1..100)) {
        let policy = RetryPolicy { budget_percent: 0, ..RetryPolicy::default() };
        let mut now = Instant::now();
        let mut budget = Budget::new(&policy, now);
        while budget.take(now) {}
        let (mut passed, mut retries) = (0u64, 0u64);
        for ms in pieces {
            now += Duration::from_millis(ms);
            passed += ms;
            retries += u64::from(budget.take(now));
        }
        prop_assert!(retries <= passed / 1_000 + 1 && retries + 1 >= passed / 1_000, "{retries} in {passed} ms");
    }

    #[test]
    fn pauses_grow_stay_bounded_and_never_come_before_the_server_wishes(
        failed in 1u32..40, after_ms in prop::option::of(0u64..5_000), random in any::<u64>(),
    ) {
        let policy = RetryPolicy::default();
        let after = after_ms.map(Duration::from_millis);
        let pause = policy.pause(failed, after, random);
        let (least, most) = (policy.pause_min / 2, policy.pause_max);
        prop_assert!(pause >= after.unwrap_or_default() + least && pause <= after.unwrap_or_default() + most, "{pause:?}");
        prop_assert!(policy.pause(failed + 1, after, random) >= pause);
    }
}

#[test]
fn only_what_another_attempt_can_mend_is_tried_again() {
    let of = |failure: server::Failure| verdict(&Failure::of_status(&Status::from(failure)));
    let soon = Some(server::RETRY_AFTER);
    assert_eq!(of(server::Failure::not_ready()), Verdict::Elsewhere(soon));
    assert_eq!(of(server::Failure::draining()), Verdict::Elsewhere(soon));
    assert_eq!(of(server::Failure::revision_not_reached()), Verdict::Elsewhere(soon));
    assert_eq!(of(server::Failure::overloaded("full")), Verdict::After(server::RETRY_AFTER));
    assert_eq!(of(server::Failure::deadline_exceeded()), Verdict::Elsewhere(None));
    for wrong in [
        server::Failure::invalid_field("tenant_id", "`` is empty"),
        server::Failure::token_invalid("it has expired"),
        server::Failure::scope_missing("check"),
        server::Failure::internal("a bug"),
    ] {
        assert_eq!(of(wrong.clone()), Verdict::GiveUp, "{wrong:?}");
    }
    assert_eq!(verdict(&Failure::of_status(&Status::unavailable("no details"))), Verdict::Elsewhere(None));
    assert_eq!(verdict(&Failure::of_status(&Status::resource_exhausted("no hint"))), Verdict::GiveUp);
    assert_eq!(verdict(&Failure::of_status(&Status::unimplemented("not a tessera server"))), Verdict::GiveUp);
    assert_eq!(verdict(&Failure::broken("the stream ended")), Verdict::Elsewhere(None));
    assert_eq!(verdict(&Failure::no_answer_in_time("slow")), Verdict::Elsewhere(None));
}

#[test]
fn a_wish_to_be_left_alone_does_not_hold_for_other_endpoints() {
    let after = Some(Duration::from_secs(1));
    let table = [
        (Verdict::GiveUp, [None, None]),
        (Verdict::Elsewhere(None), [None, None]),
        (Verdict::Elsewhere(after), [after, None]),
        // It is the caller who asks too much, wherever.
        (Verdict::After(Duration::from_secs(1)), [after, after]),
    ];
    for (verdict, expected) in table {
        assert_eq!([verdict.after(false), verdict.after(true)], expected, "{verdict:?}");
    }
}

#[test]
fn settings_out_of_bounds_are_named() {
    let refused = |policy: RetryPolicy| policy.validate().unwrap_err().to_string();
    let policy = RetryPolicy::default();
    assert!(policy.validate().is_ok());
    assert_eq!(refused(RetryPolicy { attempts_max: 0, ..policy }), "`retry.attempts_max` is `0`; allowed are 1 to 10");
    assert!(refused(RetryPolicy { budget_percent: 101, ..policy }).starts_with("`retry.budget_percent` is `101`"));
    let shorter = RetryPolicy { pause_max: Duration::from_millis(1), ..policy };
    assert_eq!(refused(shorter), "`retry.pause_max` is `1ms`; allowed are `pause_min` to 1 min");
}
