//! What is well formed and not there: a decision with its reason where decisions are made, `NOT_FOUND` where documents are.

use tessera_proto::v1;
use tonic::Code;

use super::rpc::{Refusal, Rpc, Said, bench};
use crate::bench::check;

#[tokio::test(start_paused = true)]
async fn checks_of_what_is_not_there_are_decisions() {
    let bench = bench().await;
    let of_limit = |name: &str| v1::CheckEntitlementRequest {
        limit_check: Some(v1::LimitCheck { name: name.to_owned(), amount: 1, used: None }),
        ..check("acme", "reports", "view")
    };
    for (asked, reason) in [
        (check("nobody", "reports", "view"), v1::Reason::TenantUnknown),
        (check("ACME", "reports", "view"), v1::Reason::TenantUnknown),
        (check("nobody", "nothing", "nothing"), v1::Reason::TenantUnknown),
        (check("acme", "nothing", ""), v1::Reason::ServiceUnknown),
        (check("acme", "nothing", "view"), v1::Reason::ServiceUnknown),
        (check("acme", "reports", "nothing"), v1::Reason::FeatureUnknown),
        (of_limit("nothing"), v1::Reason::LimitUnknown),
        (of_limit("seats"), v1::Reason::GrantedByPlan),
    ] {
        for rpc in Rpc::CHECKING {
            assert_eq!(rpc.ask(&bench, asked.clone()).await, Said::Decision(reason), "{rpc:?} of {asked:?}");
        }
    }
    let denied = bench.ask(check("nobody", "reports", "view")).await.unwrap();
    assert!(!denied.entitled && denied.plan_id.is_empty() && denied.familiarity_basis_points == 0, "{denied:?}");
}

#[tokio::test(start_paused = true)]
async fn documents_of_unknown_tenants_are_not_found() {
    let mut bench = bench().await;
    // A stream with an event but no tenant is as unknown.
    let ghost = bench.universe.settle_nothing("ghost");
    bench.commit(&ghost).await;
    bench.settled().await;
    for tenant in ["nobody", "ghost"] {
        let expected = Refusal {
            code: Code::NotFound,
            reason: "TENANT_NOT_FOUND".to_owned(),
            message: format!("tenant `{tenant}` does not exist"),
            violations: vec![],
            retry: false,
        };
        for rpc in [Rpc::List, Rpc::Watch] {
            assert_eq!(rpc.ask(&bench, check(tenant, "reports", "view")).await, Said::Refused(expected.clone()), "{rpc:?}");
        }
    }
}
