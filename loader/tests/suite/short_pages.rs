//! Pages of events that end early, as those of real stores do: whoever reads a stream takes none for its end.

use tessera_proto::v1;

use crate::bench::{Bench, again, create, rename, title};
use crate::rig::{Rig, create_plan, day, plan_document};

/// One event in a page, and the tenant `acme` whose title is `title N` from day N on.
async fn rig() -> Rig {
    let mut rig = Rig::furnished().await;
    rig.bench.store.inner.faults().events_bytes_max(1);
    rig.create("acme").await;
    for n in 1..=4 {
        rig.advance(1);
        let (tenant_id, title) = ("acme".to_owned(), format!("title {n}"));
        rig.tenants.update_tenant(v1::UpdateTenantRequest { tenant_id, title, ..Default::default() }).await.unwrap();
    }
    rig
}

/// The seqs that a listing shows, page by page, and whose they are.
async fn listed(rig: &mut Rig, mut list: v1::ListAuditEventsRequest) -> Vec<(String, i64)> {
    let mut found = Vec::new();
    loop {
        let page = rig.audit.list_audit_events(list.clone()).await.unwrap().into_inner();
        found.extend(page.events.into_iter().map(|event| (event.stream.unwrap().id, event.seq)));
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_answered_alike() {
    let bench = Bench::new();
    let (one, other) = (bench.furnished().await, bench.loader().handle());
    bench.store.inner.faults().events_bytes_max(1);
    one.tenants().handle(create("acme", "r1")).await.unwrap();
    for n in 2..=5 {
        one.tenants().handle(rename("acme", &format!("title {n}"), &format!("r{n}"))).await.unwrap();
    }
    let replayed = other.tenants().handle(again(rename("acme", "title 3", "r3"))).await.unwrap();
    assert_eq!((replayed.seq, title(&replayed), replayed.replay), (3, "title 3", true));
}

#[tokio::test]
async fn a_tenant_is_shown_as_it_stood_then() {
    let mut rig = rig().await;
    for n in 1..=3 {
        let asked = v1::GetTenantAtRequest { tenant_id: "acme".to_owned(), time: day(n) };
        let tenant = rig.audit.get_tenant_at(asked).await.unwrap().into_inner().tenant.unwrap();
        assert_eq!((tenant.title, tenant.etag), (format!("title {n}"), format!("1-{}", n + 1)));
    }
}

#[tokio::test]
async fn a_listing_of_events_goes_on_behind_a_page_of_which_it_shows_nothing() {
    let mut rig = rig().await;
    let late: Vec<_> = [3, 4, 5].map(|seq| ("acme".to_owned(), seq)).into();
    let acme = Some(v1::Stream { kind: v1::StreamKind::Tenant as i32, id: "acme".to_owned() });
    for stream in [acme, None] {
        let list = v1::ListAuditEventsRequest { stream, start_time: day(2), page_size: 1, ..Default::default() };
        assert_eq!(listed(&mut rig, list).await, late);
    }
    // The furniture (2 + 3 × 2) and the tenant.
    for page_size in [0, 3] {
        assert_eq!(listed(&mut rig, v1::ListAuditEventsRequest { page_size, ..Default::default() }).await.len(), 8 + 5);
    }
}

#[tokio::test]
async fn a_deleted_plan_is_shown_as_it_was() {
    let mut rig = Rig::furnished().await;
    rig.bench.store.inner.faults().events_bytes_max(1);
    let (plan_id, document) = ("bronze".to_owned(), Some(plan_document(2)));
    rig.plans.create_plan(create_plan("bronze", 1)).await.unwrap();
    let update = v1::UpdatePlanRequest { plan_id: plan_id.clone(), document: document.clone(), ..Default::default() };
    rig.plans.update_plan(update).await.unwrap();
    let delete = v1::DeletePlanRequest { plan_id, ..Default::default() };
    let deleted = rig.plans.delete_plan(delete).await.unwrap().into_inner().plan.unwrap();
    assert_eq!((deleted.draft.unwrap().limits, deleted.etag.as_str()), (document.unwrap().limits, "1-2"));
}
