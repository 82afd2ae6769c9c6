//! Amounts of a limit: negative, at the ends of i64, of a limit without a name.

use tessera_proto::v1;

use super::rpc::{Refusal, Rpc, Said, bench};
use crate::bench::check;

fn asked(limit: v1::LimitCheck) -> v1::CheckEntitlementRequest {
    v1::CheckEntitlementRequest { limit_check: Some(limit), ..check("acme", "reports", "view") }
}

fn seats(amount: i64, used: impl Into<Option<i64>>) -> v1::LimitCheck {
    v1::LimitCheck { name: "seats".to_owned(), amount, used: used.into() }
}

#[tokio::test(start_paused = true)]
async fn amounts_are_compared_exactly_up_to_the_greatest() {
    let bench = bench().await;
    let (granted, exceeded) = (v1::Reason::GrantedByPlan, v1::Reason::LimitExceeded);
    for (amount, used, reason) in [
        (0, None, granted),
        (10, None, granted),
        (10, Some(0), granted),
        (11, None, exceeded),
        (0, Some(10), granted),
        (0, Some(11), exceeded),
        (1, Some(10), exceeded),
        (i64::MAX, None, exceeded),
        (0, Some(i64::MAX), exceeded),
        (i64::MAX, Some(i64::MAX), exceeded),
        (1, Some(i64::MAX), exceeded),
    ] {
        for rpc in Rpc::CHECKING {
            let said = rpc.ask(&bench, asked(seats(amount, used))).await;
            assert_eq!(said, Said::Decision(reason), "{rpc:?} of {amount} and {used:?}");
        }
    }
    let state = bench.ask(asked(seats(1, i64::MAX))).await.unwrap().limit.unwrap();
    assert_eq!((state.used, state.remaining), (i64::MAX, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn negative_amounts_are_refused() {
    let bench = bench().await;
    for (limit, field, shown) in [
        (seats(-1, None), "limit_check.amount", "-1"),
        (seats(i64::MIN, 0), "limit_check.amount", "-9223372036854775808"),
        (seats(1, -1), "limit_check.used", "-1"),
        (seats(1, i64::MIN), "limit_check.used", "-9223372036854775808"),
        (seats(i64::MAX, i64::MIN), "limit_check.used", "-9223372036854775808"),
    ] {
        for rpc in Rpc::CHECKING {
            let description = format!("`{shown}` is not allowed for an amount: 0 to 9223372036854775807");
            let expected = Refusal::invalid("INVALID_FIELD", &rpc.field(field), &description);
            assert_eq!(rpc.ask(&bench, asked(limit.clone())).await, Said::Refused(expected), "{rpc:?} of {limit:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_check_names_its_limit() {
    let bench = bench().await;
    for rpc in Rpc::CHECKING {
        let refusal = rpc.ask(&bench, asked(v1::LimitCheck::default())).await.refusal();
        let [(field, description)] = &refusal.violations[..] else { panic!("{refusal:?}") };
        assert_eq!(*field, rpc.field("limit_check.name"));
        assert!(description.starts_with("`` is not a limit id: it is empty; allowed are 1 to 63 bytes"), "{description}");
    }
}
