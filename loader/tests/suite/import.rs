//! `ImportTenants`: rows in flight, an import run again, an import cut short. Bad rows and bad streams: `bad_input/imports.rs`.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use tessera_loader::Handle;
use tessera_ports::memory::AppendFault;
use tessera_proto::v1;
use tessera_proto::v1::import_tenants_request::Item;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tokio::time::Instant;
use tonic::service::Routes;
use tonic::{Code, Request, Status, Streaming};

use crate::bench::{Bench, choice, create, furnish, stream, wait_for};
use crate::rig::{Rig, create_plan, refused};

fn start(mode: v1::ImportMode) -> v1::ImportTenantsRequest {
    let start = v1::ImportStart { import_id: "import-1".to_owned(), mode: mode as i32 };
    v1::ImportTenantsRequest { item: Some(Item::Start(start)) }
}

fn row(row: i64, plan: &str) -> v1::ImportTenantsRequest {
    row_of(row, &format!("tenant-{row}"), plan, "")
}

fn row_of(row: i64, tenant: &str, plan: &str, title: &str) -> v1::ImportTenantsRequest {
    let (tenant_id, plan_id, title) = (tenant.to_owned(), plan.to_owned(), title.to_owned());
    let tenant = v1::TenantDocument { tenant_id, plan_id, title, ..Default::default() };
    v1::ImportTenantsRequest { item: Some(Item::Row(v1::ImportRow { row, tenant: Some(tenant) })) }
}

/// Rows of these numbers.
fn part(rows: std::ops::RangeInclusive<i64>) -> Vec<v1::ImportTenantsRequest> {
    std::iter::once(start(v1::ImportMode::Upsert)).chain(rows.map(|n| row(n, "gold"))).collect()
}

fn whole(rows: i64) -> Vec<v1::ImportTenantsRequest> {
    part(1..=rows)
}

/// As a client says it that does not know what came of an earlier run.
fn retried(messages: Vec<v1::ImportTenantsRequest>) -> Request<impl futures::Stream<Item = v1::ImportTenantsRequest> + Send> {
    let mut retried = Request::new(futures::stream::iter(messages));
    retried.metadata_mut().insert("tessera-retry", "1".parse().unwrap());
    retried
}

/// Rows that failed, and why.
fn failed(answers: &[v1::ImportTenantsResponse]) -> Vec<(i64, (Code, String))> {
    let why = |status: &v1::ImportError| {
        let status = status.status.clone().unwrap();
        let details = prost::Message::encode_to_vec(&status).into();
        refused(Err::<(), _>(Status::with_details(Code::from(status.code), "", details)))
    };
    answers.iter().flat_map(|answer| &answer.errors).map(|error| (error.row, why(error))).collect()
}

/// All answers, and how the stream ended.
async fn import(rig: &mut Rig, messages: Vec<v1::ImportTenantsRequest>) -> (Vec<v1::ImportTenantsResponse>, Option<Status>) {
    import_from(rig, Request::new(futures::stream::iter(messages))).await
}

async fn import_from<S>(rig: &mut Rig, request: Request<S>) -> (Vec<v1::ImportTenantsResponse>, Option<Status>)
where
    S: futures::Stream<Item = v1::ImportTenantsRequest> + Send + 'static,
{
    match rig.tenants.import_tenants(request).await {
        Ok(answers) => read(answers.into_inner()).await,
        Err(status) => (Vec::new(), Some(status)),
    }
}

async fn read(mut answers: Streaming<v1::ImportTenantsResponse>) -> (Vec<v1::ImportTenantsResponse>, Option<Status>) {
    let mut read = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => read.push(answer),
            Err(status) => return (read, Some(status)),
        }
    }
    (read, None)
}

/// A furnished loader, and its services without a network, so that time can be paused.
async fn at_hand(bench: &Bench) -> (Handle, TenantServiceClient<Routes>) {
    let loader = bench.loader();
    let tenants = TenantServiceClient::new(loader.routes());
    let handle = loader.start(&bench.tasks);
    furnish(&handle).await;
    bench.store.attempts.lock().unwrap().clear();
    (handle, tenants)
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
    let (answers, end) = import_from(&mut rig, retried(whole(50))).await;
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
    assert_eq!(failed(&answers), [(2, (Code::AlreadyExists, "TENANT_EXISTS".to_owned()))]);
    assert_eq!(answers.iter().flat_map(|answer| &answer.errors).next().unwrap().tenant_id, "tenant-2");
    assert_eq!((answers.last().unwrap().applied_through_row, rig.bench.stored("tenant-3").1), (3, 1));
}

#[tokio::test]
async fn a_row_that_is_done_is_done_in_every_mode_and_one_that_was_rejected_is_decided_again() {
    let mut rig = Rig::furnished().await;
    rig.create("tenant-1").await;
    let rows = |mode: v1::ImportMode| vec![start(mode), row(1, "silver"), row(2, "bronze"), row(3, "gold")];
    let exists = (1, (Code::AlreadyExists, "TENANT_EXISTS".to_owned()));
    let without_plan = (2, (Code::NotFound, "PLAN_NOT_FOUND".to_owned()));
    // What a retry is told is written down each time, so that nothing of before comes after it.
    for (runs, unchanged) in [(1, 0), (2, 1)] {
        let (answers, end) = import_from(&mut rig, retried(rows(v1::ImportMode::CreateOnly))).await;
        assert!(end.is_none(), "{end:?}");
        assert_eq!(
            (failed(&answers), answers.last().unwrap().unchanged),
            (vec![exists.clone(), without_plan.clone()], unchanged)
        );
        assert_eq!((rig.bench.stored("tenant-1").1, rig.bench.stored("tenant-2").1), (1 + runs, runs));
    }
    let (answers, _) = import(&mut rig, rows(v1::ImportMode::Upsert)).await;
    assert_eq!((failed(&answers), answers.last().unwrap().unchanged), (vec![without_plan], 1));
    assert_eq!(rig.bench.stored("tenant-1").0.0.unwrap().subscription.choice, choice("silver"));
    rig.plans.create_plan(create_plan("bronze", 1)).await.unwrap();
    let publish = v1::PublishPlanRequest { plan_id: "bronze".to_owned(), ..Default::default() };
    rig.plans.publish_plan(publish).await.unwrap();
    let (answers, _) = import_from(&mut rig, retried(rows(v1::ImportMode::Upsert))).await;
    assert_eq!((failed(&answers), answers.last().unwrap().unchanged), (vec![], 2));
    let appends = rig.bench.store.appends().len();
    for mode in [v1::ImportMode::CreateOnly, v1::ImportMode::Upsert] {
        let (answers, _) = import_from(&mut rig, retried(rows(mode))).await;
        assert_eq!((failed(&answers), answers.last().unwrap().unchanged), (vec![], 3), "{mode:?}");
    }
    assert_eq!(rig.bench.store.appends().len(), appends, "not one append");
}

/// A loader that gives a row up after a second, and whose store stores the first one, does not say so and is away from then on.
async fn unanswered() -> Rig {
    let mut bench = Bench::new();
    bench.config.deadline_default_ms = 1_000;
    let mut rig = Rig::over(bench).await;
    rig.furnish().await;
    rig.bench.store.inner.faults().next_append(AppendFault::UnknownApplied);
    rig.bench.store.unreadable_after.lock().unwrap().insert(stream("tenant-1"));
    rig
}

#[tokio::test]
async fn a_row_that_may_be_stored_is_unknown_for_as_long_as_the_store_is_away() {
    let mut rig = unanswered().await;
    let (answers, end) = import(&mut rig, whole(1)).await;
    assert!(end.is_none(), "{end:?}");
    assert_eq!(failed(&answers), [(1, (Code::Aborted, "OUTCOME_UNKNOWN".to_owned()))]);
    assert_eq!(rig.bench.stored("tenant-1").1, 1);
}

#[tokio::test]
async fn a_row_that_is_found_after_an_attempt_without_an_answer_was_changed_by_it() {
    let mut rig = unanswered().await;
    let begun = Instant::now();
    let store = rig.bench.store.clone();
    let back = async {
        // The first attempt is given up.
        wait_for("the deadline", || begun.elapsed() > Duration::from_millis(1_200)).await;
        store.unreadable_after.lock().unwrap().clear();
        store.unreadable.lock().unwrap().clear();
    };
    let ((answers, _), ()) = tokio::join!(import(&mut rig, whole(1)), back);
    assert_eq!((failed(&answers), answers.last().unwrap().unchanged), (vec![], 0));
    assert_eq!(rig.bench.stored("tenant-1").1, 1);
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

#[tokio::test(start_paused = true)]
async fn rows_of_one_tenant_keep_their_order_when_the_first_has_to_be_sent_again() {
    let mut bench = Bench::new();
    bench.config.deadline_default_ms = 1_000;
    let (_, mut tenants) = at_hand(&bench).await;
    // The first row is refused after its second: its append fails, and then the store is away.
    bench.store.inner.faults().next_append(AppendFault::NotAttempted);
    bench.store.unreadable_after.lock().unwrap().insert(stream("acme"));
    let (rows, inbound) = futures::channel::mpsc::unbounded();
    rows.unbounded_send(start(v1::ImportMode::Upsert)).unwrap();
    rows.unbounded_send(row_of(1, "acme", "gold", "")).unwrap();
    let answers = bench.tasks.run("test", async move { read(tenants.import_tenants(inbound).await.unwrap().into_inner()).await });
    wait_for("the first row", || !bench.store.attempts.lock().unwrap().is_empty()).await;
    // The second one comes while it waits, and would be taken first when the store is back.
    tokio::time::sleep(Duration::from_millis(500)).await;
    rows.unbounded_send(row_of(2, "acme", "silver", "")).unwrap();
    drop(rows);
    tokio::time::sleep(Duration::from_millis(700)).await;
    bench.store.unreadable_after.lock().unwrap().clear();
    bench.store.unreadable.lock().unwrap().clear();
    let (answers, end) = answers.await.unwrap();
    assert!(end.is_none() && failed(&answers).is_empty(), "{end:?} {answers:?}");
    let (acme, events) = bench.stored("acme");
    assert_eq!((acme.0.unwrap().subscription.choice, events), (choice("silver"), 2));
}

#[tokio::test(start_paused = true)]
async fn rows_of_one_tenant_keep_their_order_when_there_is_no_room_for_the_first() {
    let mut bench = Bench::new();
    bench.config.command_bytes_max = 2 << 20;
    let (loader, mut tenants) = at_hand(&bench).await;
    // Somebody else leaves room for the second row only, and goes after 32 ms.
    bench.store.unreadable.lock().unwrap().insert(stream("other"));
    let mut other = create("other", "r1");
    other.len = bench.config.command_bytes_max - 60;
    other.caller.deadline = Instant::now() + Duration::from_millis(40);
    let messages = vec![
        start(v1::ImportMode::Upsert),
        row_of(1, "acme", "gold", &"x".repeat(100)),
        row_of(2, "acme", "silver", ""),
        row_of(3, "globex", "gold", ""),
    ];
    let import = async { read(tenants.import_tenants(futures::stream::iter(messages)).await.unwrap().into_inner()).await };
    let (other, (answers, end)) = tokio::join!(loader.tenants().handle(other), import);
    assert!(other.is_err() && end.is_none() && failed(&answers).is_empty(), "{end:?} {answers:?}");
    assert_eq!(answers.last().unwrap().applied_through_row, 3);
    let (acme, events) = bench.stored("acme");
    assert_eq!((acme.0.unwrap().subscription.choice, events), (choice("silver"), 2));
}

#[tokio::test(start_paused = true)]
async fn imports_wait_for_each_other_and_leave_room_to_everybody_else() {
    let mut bench = Bench::new();
    bench.config.commands_max = 8;
    bench.config.import_concurrency = 2;
    let (loader, tenants) = at_hand(&bench).await;
    let rows = 1..=10;
    bench.store.unreadable.lock().unwrap().extend(rows.clone().map(|n| stream(&format!("tenant-{n}"))));
    let import = |messages: Request<_>| {
        let mut tenants = tenants.clone();
        bench.tasks.run("test", async move { read(tenants.import_tenants(messages).await.unwrap().into_inner()).await })
    };
    let imports: Vec<_> = rows.step_by(2).map(|n| import(Request::new(futures::stream::iter(part(n..=n + 1))))).collect();
    // There are more rows than may be under way, and half of the room is free.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = (0..4).map(|n| loader.tenants().handle(create(&format!("other-{n}"), "r1")));
    for done in join_all(asked).await {
        assert!(done.as_ref().is_ok_and(|done| done.changed), "{done:?}");
    }
    // Who cannot wait is told so.
    let mut hurried = Request::new(futures::stream::iter(part(11..=12)));
    hurried.set_timeout(Duration::from_secs(1));
    let (answers, end) = import(hurried).await.unwrap();
    let over = (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned());
    assert_eq!((refused(Err::<(), _>(end.unwrap())), failed(&answers)), (over, vec![]));
    bench.store.unreadable.lock().unwrap().clear();
    for import in imports {
        let (answers, end) = import.await.unwrap();
        assert!(end.is_none() && failed(&answers).is_empty(), "{end:?} {answers:?}");
    }
    let changes: Vec<usize> = (1..=12).map(|n| bench.stored(&format!("tenant-{n}")).1).collect();
    assert_eq!(changes, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_import_whose_answers_nobody_reads_holds_up_no_other() {
    let mut bench = Bench::new();
    bench.config.commands_max = 4;
    bench.config.import_concurrency = 2;
    let (_, mut tenants) = at_hand(&bench).await;
    bench.store.unreadable.lock().unwrap().insert(stream("tenant-1"));
    let mut unread = tenants.import_tenants(futures::stream::iter(part(1..=2))).await.unwrap().into_inner();
    // It begins, and takes all the room there is.
    assert!(tokio::time::timeout(Duration::from_millis(10), unread.next()).await.is_err());
    bench.store.unreadable.lock().unwrap().clear();
    let other = tenants.import_tenants(futures::stream::iter(part(3..=6))).await.unwrap().into_inner();
    let (answers, end) = tokio::time::timeout(Duration::from_mins(1), read(other)).await.expect("the other waits in vain");
    assert!(end.is_none() && failed(&answers).is_empty(), "{end:?} {answers:?}");
    let (answers, _) = read(unread).await;
    assert_eq!((answers.last().unwrap().applied_through_row, failed(&answers)), (2, vec![]));
}

#[tokio::test(start_paused = true)]
async fn rows_behind_one_of_their_tenant_are_not_begun_when_the_caller_has_left() {
    let bench = Bench::new();
    let (_, mut tenants) = at_hand(&bench).await;
    bench.store.unreadable.lock().unwrap().insert(stream("acme"));
    let titled = |n: i64| row_of(n, "acme", "gold", &n.to_string());
    let messages = std::iter::once(start(v1::ImportMode::Upsert)).chain((1..=3).map(titled)).collect::<Vec<_>>();
    let mut answers = tenants.import_tenants(futures::stream::iter(messages)).await.unwrap().into_inner();
    assert!(tokio::time::timeout(Duration::from_millis(10), answers.next()).await.is_err());
    drop(answers);
    bench.store.unreadable.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(bench.stored("acme").1, 1, "the first was under way");
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
