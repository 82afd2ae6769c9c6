//! `ImportTenants`: rows in flight, an import run again, an import cut short. Bad rows and bad streams: `bad_input/imports.rs`.

use std::time::Duration;

use futures::StreamExt as _;
use tessera_proto::v1;
use tessera_proto::v1::import_tenants_request::Item;
use tonic::{Code, Request, Status};

use crate::rig::{Rig, refused};

fn start(mode: v1::ImportMode) -> v1::ImportTenantsRequest {
    let start = v1::ImportStart { import_id: "import-1".to_owned(), mode: mode as i32 };
    v1::ImportTenantsRequest { item: Some(Item::Start(start)) }
}

fn row(row: i64, plan: &str) -> v1::ImportTenantsRequest {
    let tenant = v1::TenantDocument { tenant_id: format!("tenant-{row}"), plan_id: plan.to_owned(), ..Default::default() };
    v1::ImportTenantsRequest { item: Some(Item::Row(v1::ImportRow { row, tenant: Some(tenant) })) }
}

fn whole(rows: i64) -> Vec<v1::ImportTenantsRequest> {
    std::iter::once(start(v1::ImportMode::Upsert)).chain((1..=rows).map(|n| row(n, "gold"))).collect()
}

/// All answers, and how the stream ended.
async fn import(rig: &mut Rig, messages: Vec<v1::ImportTenantsRequest>) -> (Vec<v1::ImportTenantsResponse>, Option<Status>) {
    import_from(rig, Request::new(futures::stream::iter(messages))).await
}

async fn import_from<S>(rig: &mut Rig, request: Request<S>) -> (Vec<v1::ImportTenantsResponse>, Option<Status>)
where
    S: futures::Stream<Item = v1::ImportTenantsRequest> + Send + 'static,
{
    let mut answers = match rig.tenants.import_tenants(request).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut read = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => read.push(answer),
            Err(status) => return (read, Some(status)),
        }
    }
    (read, None)
}

#[tokio::test]
async fn an_import_is_answered_at_least_every_thousand_rows_and_a_second_run_changes_nothing() {
    let mut rig = Rig::furnished().await;
    let (answers, end) = import(&mut rig, whole(2_500)).await;
    assert!(end.is_none(), "{end:?}");
    let mut through = 0;
    for answer in &answers {
        assert!(answer.applied_through_row - through <= 1_000 && answer.errors.is_empty());
        through = answer.applied_through_row;
    }
    assert_eq!((through, answers.last().unwrap().unchanged), (2_500, 0));
    let appends = rig.bench.store.appends().len();
    let (answers, end) = import(&mut rig, whole(2_500)).await;
    assert!(end.is_none());
    assert_eq!((answers.last().unwrap().applied_through_row, answers.last().unwrap().unchanged), (2_500, 2_500));
    assert_eq!(rig.bench.store.appends().len(), appends, "not one append");
}

#[tokio::test]
async fn an_import_cut_short_is_completed_by_the_next_run() {
    let mut rig = Rig::furnished().await;
    let (answers, _) = import(&mut rig, whole(30)).await;
    assert_eq!(answers.last().unwrap().applied_through_row, 30);
    // As a client does that does not know what came of its first run.
    let mut retried = Request::new(futures::stream::iter(whole(50)));
    retried.metadata_mut().insert("tessera-retry", "1".parse().unwrap());
    let (answers, end) = import_from(&mut rig, retried).await;
    assert!(end.is_none());
    assert_eq!((answers.last().unwrap().applied_through_row, answers.last().unwrap().unchanged), (50, 30));
    assert_eq!(rig.bench.stored("tenant-7").1, 1);
}

#[tokio::test]
async fn tenants_that_exist_are_refused_by_an_import_that_only_creates() {
    let mut rig = Rig::furnished().await;
    rig.create("tenant-2").await;
    let messages = std::iter::once(start(v1::ImportMode::CreateOnly)).chain((1..=3).map(|n| row(n, "gold")));
    let (answers, end) = import(&mut rig, messages.collect()).await;
    assert!(end.is_none(), "{end:?}");
    let [error] = &*answers.iter().flat_map(|answer| &answer.errors).collect::<Vec<_>>() else { panic!("{answers:?}") };
    let status = error.status.clone().unwrap();
    let details = Status::with_details(Code::from(status.code), "", prost::Message::encode_to_vec(&status).into());
    assert_eq!((error.row, error.tenant_id.as_str()), (2, "tenant-2"));
    assert_eq!(refused(Err::<(), _>(details)), (Code::AlreadyExists, "TENANT_EXISTS".to_owned()));
    assert_eq!((answers.last().unwrap().applied_through_row, rig.bench.stored("tenant-3").1), (3, 1));
}

#[tokio::test]
async fn rows_go_on_through_a_store_that_does_not_answer_for_a_while() {
    let mut rig = Rig::furnished().await;
    let chances = tessera_ports::memory::StoreChances {
        delay_max: Duration::ZERO,
        late_max: Duration::from_millis(20),
        ..tessera_ports::memory::StoreChances::stormy()
    };
    rig.bench.store.inner.faults().seed(11, chances);
    let (answers, end) = import(&mut rig, whole(300)).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(answers.iter().flat_map(|answer| &answer.errors).count(), 0);
    rig.bench.store.inner.faults().calm();
    for n in 1..=300 {
        assert_eq!(rig.bench.stored(&format!("tenant-{n}")).1, 1, "tenant-{n}");
    }
}

#[tokio::test]
async fn draining_ends_an_import_after_the_rows_under_way() {
    let mut rig = Rig::furnished().await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    for message in whole(10) {
        sender.unbounded_send(message).unwrap();
    }
    let mut answers = rig.tenants.import_tenants(receiver).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().applied_through_row, 10);
    rig.bench.tasks.shutdown().drain();
    let mut last = None;
    while let Some(answer) = answers.next().await {
        last = Some(answer);
    }
    assert_eq!(refused(last.unwrap()), (Code::Unavailable, "DRAINING".to_owned()));
    drop(sender);
}
