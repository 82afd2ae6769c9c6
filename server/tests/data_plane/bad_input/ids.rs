//! Ids: empty, too long, of a wrong alphabet, with control characters, with look-alikes.

use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_request::Action;
use tonic::Request;

use super::rpc::{Refusal, Rpc, Said, bench};
use crate::bench::check;

const TENANT: &str = "1 to 128 bytes of ASCII letters, digits and . _ : @ -, first alphanumeric";
const NAME: &str = "1 to 63 bytes of a-z 0-9 . _ -, first and last alphanumeric";

/// What is sent, how it is shown, what is wrong with it: wrong for every kind of id.
fn bad_everywhere() -> Vec<(String, String, &'static str)> {
    let row = |sent: &str, shown: &str, problem| (sent.to_owned(), shown.to_owned(), problem);
    vec![
        row(" ", " ", "byte 0 is not allowed there"),
        row("a b", "a b", "byte 1 is not allowed there"),
        row("a/b", "a/b", "byte 1 is not allowed there"),
        row("a`b", "a\\u{60}b", "byte 1 is not allowed there"),
        row("_a", "_a", "byte 0 is not allowed there"),
        row("-a", "-a", "byte 0 is not allowed there"),
        row("../etc", "../etc", "byte 0 is not allowed there"),
        // Control characters, which must not act.
        row("acme\n", "acme\\n", "byte 4 is not allowed there"),
        row("acme\r\n", "acme\\r\\n", "byte 4 is not allowed there"),
        row("ac\u{0}me", "ac\\u{0}me", "byte 2 is not allowed there"),
        row("a\u{1b}[31m", "a\\u{1b}[31m", "byte 1 is not allowed there"),
        row("acme\u{7f}", "acme\\u{7f}", "byte 4 is not allowed there"),
        row("ac\u{85}me", "ac\\u{85}me", "byte 2 is not allowed there"),
        // Look-alikes, which must be seen: Cyrillic, full width, zero width, combining, direction, soft hyphen, dotless i.
        row("\u{430}cme", "\\u{430}cme", "byte 0 is not allowed there"),
        row("\u{ff41}cme", "\\u{ff41}cme", "byte 0 is not allowed there"),
        row("ac\u{200b}me", "ac\\u{200b}me", "byte 2 is not allowed there"),
        row("acme\u{301}", "acme\\u{301}", "byte 4 is not allowed there"),
        row("\u{202e}emca", "\\u{202e}emca", "byte 0 is not allowed there"),
        row("a\u{2066}b", "a\\u{2066}b", "byte 1 is not allowed there"),
        row("ac\u{ad}me", "ac\\u{ad}me", "byte 2 is not allowed there"),
        row("\u{131}d", "\\u{131}d", "byte 0 is not allowed there"),
        // Long ones are cut.
        row(&"x".repeat(129), &format!("{}…", "x".repeat(64)), "it has 129 bytes"),
        row(&"\u{10ffff}".repeat(40), &format!("{}…", "\\u{10ffff}".repeat(16)), "it has 160 bytes"),
        row(&"x".repeat(100_000), &format!("{}…", "x".repeat(64)), "it has 100000 bytes"),
    ]
}

fn bad_tenants() -> Vec<(String, String, &'static str)> {
    let mut table = bad_everywhere();
    table.push((String::new(), String::new(), "it is empty"));
    table
}

fn bad_names() -> Vec<(String, String, &'static str)> {
    let row = |sent: &str, problem| (sent.to_owned(), sent.to_owned(), problem);
    let mut table = bad_everywhere();
    table.extend([
        row("Reports", "byte 0 is not allowed there"),
        row("a:b", "byte 1 is not allowed there"),
        row("a@b", "byte 1 is not allowed there"),
        row("a-", "byte 1 is not allowed there"),
        row("a.", "byte 1 is not allowed there"),
        row(".a", "byte 0 is not allowed there"),
    ]);
    table.push(("x".repeat(64), "x".repeat(64), "it has 64 bytes"));
    table
}

fn refusal(field: &str, shown: &str, kind: &str, problem: &str, allowed: &str) -> Refusal {
    let description = format!("`{shown}` is not a {kind} id: {problem}; allowed are {allowed}");
    Refusal::invalid("INVALID_FIELD", field, &description)
}

#[tokio::test(start_paused = true)]
async fn tenant_id_of_every_call() {
    let bench = bench().await;
    for (sent, shown, problem) in bad_tenants() {
        for rpc in Rpc::ALL {
            let said = rpc.ask(&bench, check(&sent, "reports", "view")).await;
            let expected = refusal(&rpc.field("tenant_id"), &shown, "tenant", problem, TENANT);
            assert_eq!(said, Said::Refused(expected), "{rpc:?} of {sent:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn service_feature_and_limit_of_every_check() {
    let bench = bench().await;
    let limit = |name: &str| Some(v1::LimitCheck { name: name.to_owned(), amount: 1, used: None });
    let empty = || (String::new(), String::new(), "it is empty");
    for rpc in Rpc::CHECKING {
        for (sent, shown, problem) in bad_names().into_iter().chain([empty()]) {
            let said = rpc.ask(&bench, check("acme", &sent, "view")).await;
            let expected = refusal(&rpc.field("service"), &shown, "service", problem, NAME);
            assert_eq!(said, Said::Refused(expected), "{rpc:?} of {sent:?}");

            let asked = v1::CheckEntitlementRequest { limit_check: limit(&sent), ..check("acme", "reports", "view") };
            let expected = refusal(&rpc.field("limit_check.name"), &shown, "limit", problem, NAME);
            assert_eq!(rpc.ask(&bench, asked).await, Said::Refused(expected), "{rpc:?} of {sent:?}");
        }
        // An empty feature asks for the service itself.
        for (sent, shown, problem) in bad_names() {
            let said = rpc.ask(&bench, check("acme", "reports", &sent)).await;
            let expected = refusal(&rpc.field("feature"), &shown, "feature", problem, NAME);
            assert_eq!(said, Said::Refused(expected), "{rpc:?} of {sent:?}");
        }
        assert_eq!(rpc.ask(&bench, check("acme", "reports", "")).await, Said::Decision(v1::Reason::GrantedByPlan));
    }
}

#[tokio::test(start_paused = true)]
async fn every_field_at_fault_is_named() {
    let bench = bench().await;
    for rpc in Rpc::CHECKING {
        let asked = v1::CheckEntitlementRequest {
            limit_check: Some(v1::LimitCheck { name: "Seats".to_owned(), amount: -1, used: Some(-2) }),
            ..check("a b", "Reports", "View")
        };
        let fields: Vec<_> = rpc.ask(&bench, asked).await.refusal().violations.into_iter().map(|(field, _)| field).collect();
        let all = ["tenant_id", "service", "feature", "limit_check.name", "limit_check.amount", "limit_check.used"];
        assert_eq!(fields, all.map(|field| rpc.field(field)), "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn tenant_id_of_unsubscribe() {
    let bench = bench().await;
    for (sent, shown, problem) in bad_tenants() {
        let unsubscribe = v1::Unsubscribe { tenant_id: sent.clone() };
        let request = v1::WatchEntitlementsRequest { action: Some(Action::Unsubscribe(unsubscribe)) };
        let said = Rpc::Watch.call(&bench, Request::new(prost::Message::encode_to_vec(&request).into())).await;
        let said = Rpc::Watch.read(said.unwrap().into_inner().map(Option::unwrap));
        let expected = refusal("unsubscribe.tenant_id", &shown, "tenant", problem, TENANT);
        assert_eq!(said, Said::Refused(expected), "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_ids_and_every_character_of_their_grammar_are_allowed() {
    let bench = bench().await;
    for tenant in ["A", "9-", "a:b@c.d-e_", &"x".repeat(128)] {
        let said = Rpc::Check.ask(&bench, check(tenant, "reports", "view")).await;
        assert_eq!(said, Said::Decision(v1::Reason::TenantUnknown), "{tenant}");
    }
    for name in ["a", "9", "a.b-c_d", &"x".repeat(63)] {
        let said = Rpc::Check.ask(&bench, check("acme", name, name)).await;
        assert_eq!(said, Said::Decision(v1::Reason::ServiceUnknown), "{name}");
    }
}
