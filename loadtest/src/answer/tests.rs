//! Reading answers, held against prost, and the look for wrong ones.

use proptest::prelude::*;
use prost::Message as _;
use tessera_benches::scenario::{ALL_FEATURES, Tenant};
use tessera_proto::v1;
use tonic_types::pb;

use super::*;

fn answer() -> impl Strategy<Value = v1::CheckEntitlementResponse> {
    let text = proptest::string::string_regex("[a-z0-9-]{0,20}").unwrap();
    (any::<bool>(), any::<i32>(), text, any::<i32>(), any::<i32>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(entitled, reason, plan_id, plan_version, familiarity_basis_points, revision)| v1::CheckEntitlementResponse {
            entitled,
            reason,
            plan_id,
            plan_version,
            familiarity_basis_points,
            revision: revision.into(),
            staleness_ms: Some(i64::from(plan_version)),
            ..Default::default()
        },
    )
}

fn result() -> impl Strategy<Value = v1::CheckResult> {
    use v1::check_result::Result as Either;
    let error = any::<i32>().prop_map(|code| Either::Error(pb::Status { code, message: "no".to_owned(), details: Vec::new() }));
    proptest::option::weighted(0.9, prop_oneof![4 => answer().prop_map(Either::Response), 1 => error])
        .prop_map(|result| v1::CheckResult { result })
}

/// Whether both readings say the same.
fn same(item: Item<'_>, result: &v1::CheckResult) -> bool {
    use v1::check_result::Result as Either;
    match (item, &result.result) {
        (Item::Answer(bytes), Some(Either::Response(answer))) => read_same(Answer::read(bytes).unwrap(), answer),
        (Item::Error(bytes), Some(Either::Error(error))) => pb::Status::decode(bytes).unwrap() == *error,
        (Item::Nothing, None) => true,
        _ => false,
    }
}

fn read_same(read: Answer<'_>, answer: &v1::CheckEntitlementResponse) -> bool {
    let whole = Answer {
        entitled: answer.entitled,
        reason: answer.reason,
        plan_id: answer.plan_id.as_bytes(),
        familiarity_basis_points: answer.familiarity_basis_points,
    };
    read == whole
}

fn right(verdict: Verdict, oracle: &Oracle) -> v1::CheckEntitlementResponse {
    v1::CheckEntitlementResponse {
        entitled: verdict.entitled,
        reason: verdict.reason,
        plan_id: oracle.plan_id(verdict.plan).to_owned(),
        plan_version: 1,
        familiarity_basis_points: verdict.familiarity_basis_points,
        ..Default::default()
    }
}

proptest! {
    #[test]
    fn an_answer_is_read_as_prost_reads_it(answer in answer()) {
        prop_assert!(read_same(Answer::read(&answer.encode_to_vec()).unwrap(), &answer));
    }

    #[test]
    fn many_answers_are_read_as_prost_reads_them(id: u64, results in proptest::collection::vec(result(), 0..20), bad: bool) {
        let whole = v1::BatchCheckEntitlementResponse { results: results.clone(), evaluated_at: None }.encode_to_vec();
        let items: Vec<_> = batch(&whole).map(Result::unwrap).collect();
        prop_assert_eq!(items.len(), results.len());
        prop_assert!(items.iter().zip(&results).all(|(item, result)| same(*item, result)));

        let frame_error = bad.then(|| pb::Status { code: 3, ..Default::default() });
        let whole = v1::StreamCheckEntitlementResponse { id, results: results.clone(), frame_error }.encode_to_vec();
        let read = frame(&whole).unwrap();
        prop_assert_eq!((read.id, read.error.is_some()), (id, bad));
        let items: Vec<_> = frame_items(&whole).map(Result::unwrap).collect();
        prop_assert_eq!(items.len(), results.len());
        prop_assert!(items.iter().zip(&results).all(|(item, result)| same(*item, result)));
    }

    #[test]
    fn anything_else_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Prost refuses more (fields that are not looked at here) and skips groups, which nobody sends.
        if let (Ok(answer), Ok(read)) = (v1::CheckEntitlementResponse::decode(&bytes[..]), Answer::read(&bytes)) {
            prop_assert!(read_same(read, &answer));
        }
        prop_assert!(batch(&bytes).count() <= bytes.len());
        prop_assert!(frame_items(&bytes).count() <= bytes.len());
        prop_assert!(frame(&bytes).is_ok() || !bytes.is_empty());
    }

    #[test]
    fn a_wrong_answer_is_found(number in 0_u64..1_000_000, feature in 0..ALL_FEATURES, which in 0..4) {
        let mut oracle = Oracle::new().unwrap();
        let expected = oracle.expected(Tenant(number), feature).unwrap();
        let mut answer = right(expected, &oracle);
        prop_assert!(Answer::read(&answer.encode_to_vec()).unwrap().says(&expected, &oracle));
        match which {
            0 => answer.entitled = !answer.entitled,
            1 => answer.reason += 1,
            2 => answer.plan_id.push('0'),
            _ => answer.familiarity_basis_points += 2_500,
        }
        prop_assert!(!Answer::read(&answer.encode_to_vec()).unwrap().says(&expected, &oracle), "{answer:?}");
    }
}

#[test]
fn what_was_cut_off_is_an_error() {
    let answer = v1::CheckEntitlementResponse { plan_id: "plan-1".to_owned(), ..Default::default() }.encode_to_vec();
    for len in 1..answer.len() {
        assert_eq!(Answer::read(&answer[..len]), Err(Malformed), "{len} bytes");
    }
}
