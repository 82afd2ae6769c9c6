//! What is written by hand is what prost writes.

use proptest::prelude::*;
use prost::Message as _;
use tessera_core::value::Amount;

use super::*;

fn time() -> impl Strategy<Value = Timestamp> {
    (0_i64..=253_402_300_799, prop_oneof![Just(0_i64), 0_i64..1_000_000_000])
        .prop_map(|(seconds, nanos)| Timestamp::new(seconds, nanos).unwrap())
}

fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(i64::MAX), 0..=i64::MAX]
}

fn limit() -> impl Strategy<Value = (String, LimitValue, i64, Option<i64>)> {
    let value =
        prop_oneof![amount().prop_map(|amount| LimitValue::Maximum(Amount::new(amount).unwrap())), Just(LimitValue::Unlimited)];
    ("[a-z]{1,63}", value, amount(), prop::option::of(amount()))
}

fn detail() -> impl Strategy<Value = v1::ReasonDetail> {
    let suspension = prop::collection::vec("[a-z ]{1,200}", 0..4)
        .prop_map(|reasons| v1::reason_detail::Detail::Suspension(v1::SuspensionDetail { reasons }));
    let add_on = "[a-z]{1,63}".prop_map(v1::reason_detail::Detail::AddOnId);
    prop_oneof![suspension, add_on].prop_map(|detail| v1::ReasonDetail { detail: Some(detail) })
}

proptest! {
    #[test]
    fn answers_are_what_prost_writes(
        reason in prop::sample::select(Reason::ALL.to_vec()),
        plan in ("[a-z]{0,63}", 0_u32..=i32::MAX.cast_unsigned()),
        familiarity in prop::sample::select(vec![0_u16, 5_000, 7_500, 8_750, 10_000]),
        limit in prop::option::of(limit()),
        times in (prop::option::of(time()), time(), prop::option::of(time())),
        revision in prop::collection::vec(any::<u8>(), 0..200),
        staleness in prop::option::of(amount()),
        detail in prop::option::of(detail()),
        explain in any::<bool>(),
    ) {
        let explanation = explain.then_some([StepOutcome::NotReached; Step::ALL.len()]);
        let expected = v1::CheckEntitlementResponse {
            entitled: reason.entitles(),
            reason: convert::to_reason(reason) as i32,
            plan_id: plan.0.clone(),
            plan_version: i32::try_from(plan.1).unwrap(),
            familiarity_basis_points: i32::from(familiarity),
            limit: limit.clone().map(|(name, value, used, remaining)| v1::LimitState {
                name,
                value: Some(match value {
                    LimitValue::Maximum(amount) => v1::limit_state::Value::Maximum(amount.get()),
                    LimitValue::Unlimited => v1::limit_state::Value::Unlimited(true),
                }),
                used,
                remaining,
            }),
            valid_until: times.0.map(to_timestamp),
            revision: revision.clone().into(),
            staleness_ms: staleness,
            evaluated_at: Some(to_timestamp(times.1)),
            grace_until: times.2.map(to_timestamp),
            reason_detail: detail.clone(),
            explanation: explanation.as_ref().map(convert::to_explanation).unwrap_or_default(),
        };
        let by_hand = Answer {
            reason,
            plan_id: &plan.0,
            plan_version: plan.1,
            familiarity_basis_points: familiarity,
            limit: limit.as_ref().map(|(name, value, used, remaining)| LimitAnswer {
                name,
                value: *value,
                used: *used,
                remaining: *remaining,
            }),
            valid_until: times.0,
            revision: &revision,
            as_of: &AsOf::new(staleness, times.1),
            grace_until: times.2,
            detail,
            explanation,
        };
        let mut out = Vec::new();
        answer(&mut out, &by_hand);
        prop_assert_eq!(&out, &expected.encode_to_vec());

        let error = pb::Status { code: 3, message: "no".to_owned(), details: Vec::new() };
        let results = vec![
            v1::CheckResult { result: Some(v1::check_result::Result::Response(expected)) },
            v1::CheckResult { result: Some(v1::check_result::Result::Error(error.clone())) },
        ];
        let frame = v1::StreamCheckEntitlementResponse { id: 7, results, frame_error: None };
        let mut out = Vec::new();
        uint(&mut out, 1, 7);
        result_answer(&mut out, 2, &by_hand);
        result_error(&mut out, 2, error);
        prop_assert_eq!(out, frame.encode_to_vec());
    }
}
