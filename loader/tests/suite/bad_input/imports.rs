//! `ImportTenants` fed with what is no import, and with rows that are bad: those fail alone.

use futures::StreamExt as _;
use tessera_proto::v1;
use tessera_proto::v1::import_tenants_request::Item;
use tonic::{Code, Status};

use super::asking::{Said, said};
use crate::rig::Rig;

fn start_as(import_id: &str, mode: i32) -> v1::ImportTenantsRequest {
    let start = v1::ImportStart { import_id: import_id.to_owned(), mode };
    v1::ImportTenantsRequest { item: Some(Item::Start(start)) }
}

fn start() -> v1::ImportTenantsRequest {
    start_as("import-1", v1::ImportMode::Upsert as i32)
}

fn document(tenant: &str) -> v1::TenantDocument {
    v1::TenantDocument { tenant_id: tenant.to_owned(), plan_id: "gold".to_owned(), ..Default::default() }
}

fn row(row: i64, tenant: v1::TenantDocument) -> v1::ImportTenantsRequest {
    v1::ImportTenantsRequest { item: Some(Item::Row(v1::ImportRow { row, tenant: Some(tenant) })) }
}

/// A good row, of a tenant that is named after it.
fn good(number: i64) -> v1::ImportTenantsRequest {
    row(number, document(&format!("tenant-{number}")))
}

/// The rows that failed, how far it came, and how it ended.
async fn import(rig: &Rig, messages: Vec<v1::ImportTenantsRequest>) -> (Vec<v1::ImportError>, i64, Option<Status>) {
    let mut answers = rig.tenants.clone().import_tenants(futures::stream::iter(messages)).await.unwrap().into_inner();
    let (mut errors, mut through) = (Vec::new(), 0);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(answer) => {
                assert!(answer.applied_through_row >= through);
                through = answer.applied_through_row;
                errors.extend(answer.errors);
            }
            Err(status) => return (errors, through, Some(status)),
        }
    }
    (errors, through, None)
}

#[tokio::test]
async fn a_stream_that_is_no_import_ends_with_the_field_at_fault_after_what_came_before_it() {
    let rig = Rig::furnished().await;
    let first = "allowed is `start` first, then rows";
    let after = "allowed are rows after the one `start`";
    let nothing = || v1::ImportTenantsRequest { item: None };
    let ids = "allowed are 1 to 64 printable ASCII characters";
    let modes = "allowed are CREATE_ONLY and UPSERT";
    let long = "i".repeat(65);
    let long_shown = format!("`{}", &long[..64]);
    for (messages, field, words, done) in [
        // The start.
        (vec![], "item", vec!["the stream is empty", "the first message is `start`"], 0),
        (vec![good(1), start()], "item", vec!["the first message is not `start`", first], 0),
        (vec![nothing()], "item", vec!["the first message is not `start`", first], 0),
        (vec![start_as("", 2)], "start.import_id", vec!["``", "it is empty", ids], 0),
        (vec![start_as(&long, 2)], "start.import_id", vec![&long_shown, "it has 65 bytes", ids], 0),
        (vec![start_as("\u{456}d\0", 2)], "start.import_id", vec![r"`\u{456}d\u{0}`", ids], 0),
        (vec![start_as("i", 0)], "start.mode", vec!["`0`", modes], 0),
        (vec![start_as("i", 99)], "start.mode", vec!["`99`", modes], 0),
        (vec![start_as("i", -1)], "start.mode", vec!["`-1`", modes], 0),
        // What follows.
        (vec![start(), start()], "item", vec!["it is not a row", after], 0),
        (vec![start(), good(1), good(2), start(), good(3)], "item", vec!["it is not a row", after], 2),
        (vec![start(), good(1), nothing()], "item", vec!["it is not a row", after], 1),
        // Numbers of rows: from 1, rising, with gaps if need be.
        (vec![start(), good(0)], "row.row", vec!["`0` is not allowed after row 0", "allowed are rising numbers from 1"], 0),
        (vec![start(), good(-1)], "row.row", vec!["`-1`", "rising numbers"], 0),
        (vec![start(), good(i64::MIN)], "row.row", vec!["`-9223372036854775808`", "rising numbers"], 0),
        (vec![start(), good(7), good(7)], "row.row", vec!["`7` is not allowed after row 7", "rising numbers"], 7),
        (vec![start(), good(7), good(9), good(8)], "row.row", vec!["`8` is not allowed after row 9", "rising numbers"], 9),
        (vec![start(), good(i64::MAX), good(1)], "row.row", vec!["`1` is not allowed after row 9223372036854775807"], i64::MAX),
    ] {
        let shown = format!("{messages:?}");
        let (errors, through, end) = import(&rig, messages).await;
        assert!(errors.is_empty() && through == done, "{shown}: through {through}, {errors:?}");
        said(Err::<(), _>(end.unwrap_or_else(|| panic!("{shown} ended well")))).is_invalid(field, &words);
    }
    // What came before the fault is done.
    assert_eq!((rig.bench.stored("tenant-2").1, rig.bench.stored("tenant-3").1, rig.bench.stored("tenant-9").1), (1, 0, 1));
}

/// What the status of a failed row says.
fn told(error: &v1::ImportError) -> Said {
    let status = error.status.clone().unwrap();
    let bytes = prost::Message::encode_to_vec(&status);
    said(Err::<(), _>(Status::with_details(Code::from(status.code), status.message, bytes.into())))
}

#[tokio::test]
async fn a_bad_row_fails_alone_with_its_number_its_field_and_its_value() {
    let rig = Rig::furnished().await;
    let of = |tenant: &str, change: &dyn Fn(&mut v1::TenantDocument)| {
        let mut document = document(tenant);
        change(&mut document);
        document
    };
    let huge = "\u{430}".repeat(100_000);
    let never = Some(prost_types::Timestamp { seconds: -1, nanos: 0 });
    let attached = |quantity| v1::AttachedAddOn { add_on_id: "seats".to_owned(), quantity, ..Default::default() };
    let invalid = "INVALID_FIELD";
    let table: Vec<(v1::TenantDocument, &str, &str, Vec<&str>)> = vec![
        (of("", &|_| {}), invalid, "tenant.tenant_id", vec!["``", "it is empty", "1 to 128 bytes"]),
        (of("a\0b", &|_| {}), invalid, "tenant.tenant_id", vec![r"`a\u{0}b`", "1 to 128 bytes"]),
        (of(&huge, &|_| {}), invalid, "tenant.tenant_id", vec![r"`\u{430}\u{430}", "it has 200000 bytes", "1 to 128 bytes"]),
        (of("b1", &|d| d.plan_id = "Gold".to_owned()), invalid, "tenant.plan_id", vec!["`Gold`", "1 to 63 bytes"]),
        (of("b2", &|d| d.plan_version = -7), invalid, "tenant.plan_version", vec!["`-7`", "1 and above"]),
        (of("b3", &|d| d.starts = never), invalid, "tenant.starts", vec!["time -1 s", "1970 to 9999"]),
        (of("b4", &|d| d.title = "x".repeat(201)), invalid, "tenant.title", vec!["`xxx", "at most 200 bytes"]),
        (of("b5", &|d| d.add_ons = vec![attached(-1)]), invalid, "tenant.add_ons[0].quantity", vec!["`-1`", "1 to 1000000"]),
        (
            of("b6", &|d| d.add_ons = vec![attached(1), attached(2)]),
            invalid,
            "tenant.add_ons",
            vec!["`seats`", "allowed is once"],
        ),
        (
            of("b7", &|d| d.familiarity_basis_points = [("reporting".to_owned(), 1)].into()),
            invalid,
            "tenant.familiarity_basis_points[\"reporting\"]",
            vec!["`1`", "one of 5000, 7500, 8750 and 10000"],
        ),
        (
            of("b10", &|d| d.familiarity_basis_points = [("nothing".to_owned(), 5000)].into()),
            invalid,
            "tenant.familiarity_basis_points[\"nothing\"]",
            vec!["`nothing`"],
        ),
        (of("b8", &|d| d.plan_id = "nothing".to_owned()), "PLAN_NOT_FOUND", "", vec!["plan `nothing` does not exist"]),
        (of("b9", &|d| d.plan_version = 9), "PLAN_VERSION_NOT_FOUND", "", vec!["no version `9`", "published are 1 to 1"]),
    ];
    let mut messages = vec![start()];
    for (number, (document, ..)) in (1..).step_by(2).zip(&table) {
        messages.extend([good(number), row(number + 1, document.clone())]);
    }
    let last = i64::try_from(messages.len() - 1).unwrap();
    messages.push(v1::ImportTenantsRequest { item: Some(Item::Row(v1::ImportRow { row: last + 1, tenant: None })) });
    let (errors, through, end) = import(&rig, messages).await;
    assert!(end.is_none() && through == last + 1, "through {through}: {end:?}");
    assert_eq!(errors.len(), table.len() + 1, "{errors:?}");
    for ((number, error), (document, reason, field, words)) in (2..).step_by(2).zip(&errors).zip(&table) {
        let found = told(error);
        assert_eq!((error.row, found.reason.as_str()), (number, *reason), "{error:?}");
        if *reason == invalid {
            found.is_invalid(field, words);
        } else {
            found.is(Code::NotFound, reason, words);
        }
        // The id is repeated as it is if it is one, and else cut and escaped.
        let given = &document.tenant_id;
        if tessera_core::ids::TenantId::check(given).is_ok() {
            assert_eq!(error.tenant_id, *given);
        } else {
            assert!(
                error.tenant_id.chars().all(|c| c.is_ascii() || c == '…') && error.tenant_id.len() < 1_000,
                "{} bytes",
                error.tenant_id.len()
            );
            assert!(!error.tenant_id.contains('\0'));
        }
        assert_eq!(rig.bench.stored(&format!("tenant-{}", number - 1)).1, 1, "its neighbour is done");
    }
    told(&errors[table.len()]).is_invalid("tenant", &["it is not set; a value is required"]);
}

#[tokio::test]
async fn an_import_that_breaks_off_is_resumed_from_any_row() {
    let rig = Rig::furnished().await;
    let (sender, receiver) = futures::channel::mpsc::unbounded();
    sender.unbounded_send(start()).unwrap();
    for number in 1..=20 {
        sender.unbounded_send(good(number)).unwrap();
    }
    let mut answers = rig.tenants.clone().import_tenants(receiver).await.unwrap().into_inner();
    let mut through = 0;
    while through < 20 {
        through = answers.next().await.unwrap().unwrap().applied_through_row;
    }
    // The caller is gone without a word; what it was told is done.
    drop((answers, sender));
    for number in 1..=20 {
        assert_eq!(rig.bench.stored(&format!("tenant-{number}")).1, 1);
    }
    // Another one goes on under the same name, a little before where the answers ended, and over a bad row.
    let mut messages = vec![start()];
    messages.extend((15..=30).filter(|number| *number != 25).map(good));
    messages.insert(11, row(25, document("Bad Id")));
    let (errors, through, end) = import(&rig, messages).await;
    assert!(end.is_none() && through == 30, "through {through}: {end:?}");
    assert_eq!(errors.iter().map(|error| (error.row, error.tenant_id.as_str())).collect::<Vec<_>>(), [(25, "Bad Id")]);
    for number in (1..=30).filter(|number| *number != 25) {
        assert_eq!(rig.bench.stored(&format!("tenant-{number}")).1, 1, "tenant-{number}");
    }
}
