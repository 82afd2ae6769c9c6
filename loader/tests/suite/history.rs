//! Calls that read history: a page of the audit ends in time, few of them read at once, and none outlives its deadline.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use tessera_ports::memory::StoreChances;
use tessera_proto::v1;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Request, Status};

use crate::bench::{Bench, create, wait_for};
use crate::rig::{create_plan, day, refused};

const DEADLINE: Duration = Duration::from_secs(10);

/// Straight to the services, so that time can be paused.
fn audit(bench: &Bench) -> AuditServiceClient<Routes> {
    AuditServiceClient::new(bench.loader().routes())
}

fn in_time<M>(message: M) -> Request<M> {
    within(DEADLINE, message)
}

fn within<M>(deadline: Duration, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn tenant_at(tenant: &str) -> Request<v1::GetTenantAtRequest> {
    in_time(v1::GetTenantAtRequest { tenant_id: tenant.to_owned(), time: day(0) })
}

#[tokio::test(start_paused = true)]
async fn a_page_of_the_audit_ends_in_time_and_the_next_goes_on() {
    pages_end_within(DEADLINE, Duration::from_millis(500)).await;
    // To end after three seconds would be too late.
    pages_end_within(Duration::from_secs(3), Duration::from_millis(200)).await;
}

async fn pages_end_within(deadline: Duration, delay_max: Duration) {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    for n in 0..20 {
        loader.tenants().handle(create(&format!("t{n}"), "r1")).await.unwrap();
    }
    let chances = StoreChances { delay_max, ..StoreChances::default() };
    bench.store.inner.faults().seed(1, chances);
    let mut audit = audit(&bench);
    // The furniture (2 + 2 × 2) and the tenants.
    let all = 6 + 20;
    let (mut list, mut verify) =
        (v1::ListAuditEventsRequest { page_size: 1_000, ..Default::default() }, v1::VerifyAuditRequest::default());
    let (mut listed, mut verified, mut pages) = (0, 0, 0);
    let mut begun = Instant::now();
    let mut page_ended = || {
        assert!(begun.elapsed() < deadline, "a page took {:?}", begun.elapsed());
        begun = Instant::now();
        pages += 1;
    };
    loop {
        let page = audit.list_audit_events(within(deadline, list.clone())).await.unwrap().into_inner();
        page_ended();
        listed += page.events.len();
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            break;
        }
    }
    loop {
        let page = audit.verify_audit(within(deadline, verify.clone())).await.unwrap().into_inner();
        page_ended();
        verified += page.events;
        verify.page_token = page.next_page_token;
        if verify.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((listed, verified), (all, 6 + 20));
    assert!(pages > 4, "{pages} pages");
}

#[tokio::test(start_paused = true)]
async fn few_calls_read_history_at_once_and_all_of_them_are_answered() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    bench.clock.advance(Duration::from_hours(1));
    let slow = bench.store.history.clone().write_owned().await;
    let audit = audit(&bench);
    let stream = Some(v1::Stream { kind: v1::StreamKind::Tenant.into(), id: "acme".to_owned() });
    let list = v1::ListAuditEventsRequest { stream: stream.clone(), ..Default::default() };
    let verify = v1::VerifyAuditRequest { stream, ..Default::default() };
    let asked = (0..24).map(|n| {
        let (mut audit, list, verify) = (audit.clone(), in_time(list.clone()), in_time(verify.clone()));
        let asking: BoxFuture<'static, Result<(), Status>> = match n % 3 {
            0 => async move { audit.list_audit_events(list).await.map(drop) }.boxed(),
            1 => async move { audit.verify_audit(verify).await.map(drop) }.boxed(),
            _ => async move { audit.get_tenant_at(tenant_at("acme")).await.map(drop) }.boxed(),
        };
        bench.tasks.run("test", asking)
    });
    let asked: Vec<_> = asked.collect();
    let begun = || bench.store.history_reads.load(Ordering::Relaxed);
    wait_for("the first reads", || begun() == 16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(begun(), 16);
    drop(slow);
    for answered in join_all(asked).await {
        answered.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_for_history_is_told_so_before_the_deadline() {
    let bench = Bench::new();
    let loader = bench.furnished().await;
    loader.tenants().handle(create("acme", "r1")).await.unwrap();
    let mut plans = PlanServiceClient::<Routes>::new(bench.loader().routes());
    for plan in ["bronze", "copper"] {
        plans.create_plan(create_plan(plan, 1)).await.unwrap();
    }
    bench.clock.advance(Duration::from_hours(1));
    let _slow = bench.store.history.clone().write_owned().await;
    let begun = Instant::now();
    let asked = refused(audit(&bench).get_tenant_at(tenant_at("acme")).await);
    assert_eq!(asked, (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    assert!(begun.elapsed() < DEADLINE);

    // It is deleted all the same; only what it was is not shown.
    let begun = Instant::now();
    let delete = v1::DeletePlanRequest { plan_id: "bronze".to_owned(), ..Default::default() };
    let deleted = plans.delete_plan(in_time(delete)).await.unwrap().into_inner().plan.unwrap();
    assert!(begun.elapsed() < DEADLINE);
    assert_eq!((deleted.plan_id.as_str(), deleted.draft), ("bronze", None));
    // Nor does it wait for ever for whoever names no deadline.
    let delete = v1::DeletePlanRequest { plan_id: "copper".to_owned(), ..Default::default() };
    assert_eq!(plans.delete_plan(delete).await.unwrap().into_inner().plan.unwrap().draft, None);
    let get = v1::GetPlanRequest { plan_id: "bronze".to_owned() };
    assert_eq!(refused(plans.get_plan(get).await), (Code::NotFound, "PLAN_NOT_FOUND".to_owned()));
}
