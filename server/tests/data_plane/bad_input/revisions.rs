//! Revisions: malformed, of another tenant, of another epoch, from the future. Never an older answer.

use std::time::Duration;

use tessera_core::revision::{Named, of_write, write};
use tessera_core::stream::{StreamId, StreamKind};
use tessera_core::tenant::Event;
use tessera_ports::change_feed::ChangePublisher as _;
use tessera_ports::memory::Operation;
use tessera_proto::v1;
use tessera_proto::v1::check_result::Result as Item;
use tokio::time::Instant;
use tonic::Code;

use super::rpc::{Refusal, Rpc, Said, bench, delete_acme_unheard};
use crate::bench::{Bench, at_least, check, check_at_least, revision, revision_of};
use crate::universe::{plan_stream, tenant_stream};

const MALFORMED: &str = "the revision is malformed; allowed are bytes that an earlier answer returned";
const OTHER: &str = "the revision belongs to another tenant; allowed are revisions of the tenant that is asked about, or of a plan, an \
                     add-on or the catalog";

/// Of a write of `acme` that was never made.
pub(super) fn future_of_acme() -> Vec<u8> {
    revision_of(&[(&tenant_stream("acme"), 99)])
}

fn unreached() -> Refusal {
    Refusal {
        code: Code::Unavailable,
        reason: "REVISION_NOT_REACHED".to_owned(),
        message: "the revision asked for has not arrived yet".to_owned(),
        violations: vec![],
        retry: true,
    }
}

/// Format 1, epoch 1, then the catalog by its true hash at that seq, as given.
fn catalog_at(seq: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 1, StreamKind::Catalog as u8];
    out.extend(StreamId::Catalog.hash().to_le_bytes());
    out.extend(seq);
    out
}

fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let good = catalog_at(&[1]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let acme = Named::new(&tenant_stream("acme"), 1);
    let of_acme_twice = {
        let mut out = Vec::new();
        write(&mut out, 1, [acme, acme]);
        out
    };
    let many = {
        let mut out = Vec::new();
        write(&mut out, 1, std::iter::repeat_n(Named::new(&StreamId::Catalog, 1), 129));
        out
    };
    vec![
        ("text", b"garbage".to_vec()),
        ("format 0", with(&|bytes| bytes[0] = 0)),
        ("an unknown format", with(&|bytes| bytes[0] = 2)),
        ("nothing but the format", vec![1]),
        ("no stream", vec![1, 1]),
        ("epoch 0", with(&|bytes| bytes[1] = 0)),
        ("kind 0", with(&|bytes| bytes[2] = 0)),
        ("an unknown kind", with(&|bytes| bytes[2] = 5)),
        ("cut in a hash", good[..7].to_vec()),
        ("cut before a seq", good[..11].to_vec()),
        ("cut in a seq", catalog_at(&[0x80])),
        ("seq 0", catalog_at(&[0])),
        ("a seq in more bytes than it needs", catalog_at(&[0x81, 0])),
        ("a seq beyond 64 bits", catalog_at(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2])),
        ("a seq without end", catalog_at(&[0xff; 12])),
        ("an epoch beyond 64 bits", [vec![1], vec![0xff; 9], vec![2, 1]].concat()),
        ("a byte behind", with(&|bytes| bytes.push(1))),
        ("two tenants", of_acme_twice),
        ("too many streams", many),
        ("too long", vec![1; 5_000]),
    ]
}

fn shown(bytes: &[u8]) -> String {
    let hex = bytes.iter().take(24).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let cut = if bytes.len() > 24 { "…" } else { "" };
    format!("`0x{hex}{cut}` ({} bytes)", bytes.len())
}

#[tokio::test(start_paused = true)]
async fn what_is_no_revision_is_refused_at_once() {
    let bench = bench().await;
    for (what, bytes) in malformed() {
        for rpc in Rpc::ALL {
            let begun = Instant::now();
            let said = rpc.ask(&bench, check_at_least("acme", bytes.clone())).await;
            let field = rpc.field("consistency.at_least.revision");
            let expected = Refusal::invalid("INVALID_REVISION", &field, &format!("{}: {MALFORMED}", shown(&bytes)));
            assert_eq!((said, begun.elapsed()), (Said::Refused(expected), Duration::ZERO), "{rpc:?} of {what}");
        }
    }
    // The one that the others are made from is a revision.
    assert_eq!(Rpc::Check.ask(&bench, check_at_least("acme", catalog_at(&[1]))).await, Said::Decision(v1::Reason::GrantedByPlan));
}

#[tokio::test(start_paused = true)]
async fn an_empty_revision_is_refused_where_one_is_promised() {
    let bench = bench().await;
    for rpc in Rpc::ALL {
        let said = rpc.ask(&bench, check_at_least("acme", vec![])).await;
        if rpc == Rpc::Watch {
            assert_eq!(said, Said::Document(v1::TenantStatus::Active), "empty asks for what is there");
            continue;
        }
        let description = "`0x` (0 bytes): the revision is empty; allowed are bytes that an earlier answer returned";
        let expected = Refusal::invalid("INVALID_REVISION", &rpc.field("consistency.at_least.revision"), description);
        assert_eq!(said, Said::Refused(expected), "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_of_another_tenant_is_refused_at_once() {
    let bench = bench().await;
    let foreign = revision_of(&[(&StreamId::Catalog, 1), (&tenant_stream("other"), 1)]);
    for rpc in Rpc::ALL {
        let begun = Instant::now();
        let said = rpc.ask(&bench, check_at_least("acme", foreign.clone())).await;
        let field = rpc.field("consistency.at_least.revision");
        let expected = Refusal::invalid("INVALID_REVISION", &field, &format!("{}: {OTHER}", shown(&foreign)));
        assert_eq!((said, begun.elapsed()), (Said::Refused(expected), Duration::ZERO), "{rpc:?}");
    }
    // Of a plan or the catalog alone it is anybody's.
    let of_plan = revision_of(&[(&plan_stream("gold"), 1), (&StreamId::Catalog, 1)]);
    for rpc in Rpc::ALL {
        assert!(!matches!(rpc.ask(&bench, check_at_least("acme", of_plan.clone())).await, Said::Refused(_)), "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_revision_from_the_future_is_waited_for_and_then_refused() {
    let bench = bench().await;
    for (what, tenant, revision) in [
        ("a later seq", "acme", future_of_acme()),
        ("the last seq", "acme", revision_of(&[(&tenant_stream("acme"), u64::MAX)])),
        ("a later plan", "acme", revision_of(&[(&plan_stream("gold"), 99)])),
        ("a plan that nobody knows", "acme", revision_of(&[(&plan_stream("new"), 1)])),
        ("a later catalog", "acme", revision_of(&[(&StreamId::Catalog, 99)])),
        ("a tenant that nobody knows", "nobody", revision_of(&[(&tenant_stream("nobody"), 1)])),
        ("the next epoch", "acme", of_write(2, &tenant_stream("acme"), 1)),
        ("the last epoch", "acme", of_write(u64::MAX, &tenant_stream("acme"), u64::MAX)),
    ] {
        for rpc in Rpc::ALL {
            let begun = Instant::now();
            let said = rpc.ask(&bench, check_at_least(tenant, revision.clone())).await;
            assert_eq!((said, begun.elapsed()), (Said::Refused(unreached()), Duration::from_millis(200)), "{rpc:?} of {what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_in_time_is_answered_as_new_as_asked() {
    for rpc in Rpc::ALL {
        let mut bench = bench().await;
        let deleted = delete_acme_unheard(&mut bench);
        let ask = rpc.ask(&bench, check_at_least("acme", revision(&deleted)));
        let publish = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            bench.feed.publish(std::slice::from_ref(&deleted)).await.unwrap();
        };
        let begun = Instant::now();
        let (said, ()) = tokio::join!(ask, publish);
        assert_eq!((said, begun.elapsed()), (deleted_says(rpc), Duration::from_millis(50)), "{rpc:?}");
    }
}

fn deleted_says(rpc: Rpc) -> Said {
    match rpc {
        Rpc::List | Rpc::Watch => Said::Document(v1::TenantStatus::Deleted),
        _ => Said::Decision(v1::Reason::TenantDeleted),
    }
}

/// A bench in its second epoch, with a revision of the first.
async fn restored() -> (Bench, Vec<u8>) {
    let mut bench = bench().await;
    let backup = bench.store.back_up(&StreamKind::ALL);
    bench.store.restore(&backup, "second");
    bench.universe.epoch = 2;
    let renewed = bench.universe.tenant_event("acme", Event::SubscriptionRenewed);
    bench.commit(&renewed).await;
    bench.settled().await;
    (bench, revision_of(&[(&tenant_stream("acme"), 77)]))
}

#[tokio::test(start_paused = true)]
async fn a_revision_of_an_older_epoch_means_fully_consistent() {
    for rpc in Rpc::ALL {
        let (mut bench, old) = restored().await;
        delete_acme_unheard(&mut bench);
        assert_eq!(rpc.ask(&bench, check_at_least("acme", old.clone())).await, deleted_says(rpc), "{rpc:?}");
        bench.store.faults().fail_next(Operation::Read, 1_000);
        let refusal = rpc.ask(&bench, check_at_least("acme", old)).await.refusal();
        assert_eq!((refusal.code, refusal.reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"), "{rpc:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_said_of_consistency_asks_for_what_is_there() {
    let mut bench = bench().await;
    delete_acme_unheard(&mut bench);
    let minimize = v1::consistency::Requirement::MinimizeLatency(v1::MinimizeLatency {});
    let table = [None, Some(v1::Consistency { requirement: None }), Some(v1::Consistency { requirement: Some(minimize) })];
    for consistency in table {
        for rpc in Rpc::CHECKING {
            let asked = v1::CheckEntitlementRequest { consistency: consistency.clone(), ..check("acme", "reports", "view") };
            assert_eq!(rpc.ask(&bench, asked).await, Said::Decision(v1::Reason::GrantedByPlan), "{rpc:?} of {consistency:?}");
        }
    }
}

fn outcomes(results: Vec<v1::CheckResult>) -> Vec<Result<v1::Reason, Refusal>> {
    let outcome = |item: v1::CheckResult| match item.result.unwrap() {
        Item::Response(answer) => Ok(answer.reason()),
        Item::Error(status) => Err(Refusal::of_item(&status)),
    };
    results.into_iter().map(outcome).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_says_of_consistency_is_for_checks_that_say_nothing() {
    let mut bench = bench().await;
    let deleted = delete_acme_unheard(&mut bench);
    let nothing = v1::CheckEntitlementRequest {
        consistency: Some(v1::Consistency { requirement: None }),
        ..check("acme", "reports", "view")
    };
    let request = |checks, consistency| v1::BatchCheckEntitlementRequest {
        checks,
        consistency: Some(consistency),
        ..v1::BatchCheckEntitlementRequest::default()
    };
    // Of one tenant: the others' items are refused, each in the field that is at fault, which is the batch's.
    let checks = vec![check("acme", "reports", "view"), nothing, check("other", "reports", "view")];
    let of_acme = revision(&deleted);
    let answer = bench.client.batch_check_entitlement(request(checks, at_least(of_acme.clone()))).await.unwrap().into_inner();
    let description = format!("{}: {OTHER}", shown(&of_acme));
    let foreign = Refusal::invalid("INVALID_REVISION", "consistency.at_least.revision", &description);
    let gone = Ok(v1::Reason::TenantDeleted);
    assert_eq!(outcomes(answer.results), [gone.clone(), gone, Err(foreign)]);

    // What is no revision is none for any item, not even for those that do not need it.
    for (what, bytes) in malformed().into_iter().chain([("nothing", vec![])]) {
        let checks = vec![check_at_least("acme", catalog_at(&[1]))];
        let status = bench.client.batch_check_entitlement(request(checks, at_least(bytes))).await.unwrap_err();
        let refusal = Refusal::of(&status);
        assert_eq!(refusal.reason, "INVALID_REVISION", "{what}");
        assert_eq!(refusal.violations[0].0, "consistency.at_least.revision", "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_waits_of_one_batch_or_frame_are_together_and_each_item_answers_for_itself() {
    let mut bench = bench().await;
    let checks = || {
        let mut checks: Vec<_> = (1..=10).map(|n| check_at_least("acme", revision_of(&[(&tenant_stream("acme"), n)]))).collect();
        checks.push(check("acme", "reports", "view"));
        checks.push(check_at_least("acme", vec![9]));
        checks
    };
    let granted = Ok(v1::Reason::GrantedByPlan);
    let invalid = Refusal::invalid(
        "INVALID_REVISION",
        "checks[11].consistency.at_least.revision",
        &format!("`0x09` (1 bytes): {MALFORMED}"),
    );
    let mut expected = vec![granted.clone()];
    expected.extend(std::iter::repeat_n(Err(unreached()), 9));
    expected.extend([granted, Err(invalid)]);

    let begun = Instant::now();
    let request = v1::BatchCheckEntitlementRequest { checks: checks(), ..Default::default() };
    let answer = bench.client.batch_check_entitlement(request).await.unwrap().into_inner();
    assert_eq!((outcomes(answer.results), begun.elapsed()), (expected.clone(), Duration::from_millis(200)));

    let begun = Instant::now();
    let frame = v1::StreamCheckEntitlementRequest { checks: checks(), ..Default::default() };
    let mut answers = bench.client.stream_check_entitlement(tokio_stream::iter([frame])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    assert_eq!((outcomes(answer.results), begun.elapsed()), (expected, Duration::from_millis(200)));
}
