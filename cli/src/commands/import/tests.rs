//! Imports that break off. The other side is a closure.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use tessera_proto::status::Failure;
use tessera_proto::v1::import_tenants_request::Item;

use super::*;
use crate::connection::{Addresses, credentials::Credentials};
use crate::console::Format;

/// What the other side saw of one stream: whether it said that it is a retry, its first row and its last.
type Seen = (bool, i64, i64);

fn planes() -> Planes {
    let addresses = Addresses { data: "127.0.0.1:1".into(), control: "127.0.0.1:2".into(), http: String::new() };
    Planes::new(addresses, &Credentials::default(), std::time::Duration::from_secs(1)).unwrap()
}

/// Documents that can be read once, and where they come from.
fn piped(tenants: i64) -> (Source, std::io::PipeReader) {
    let (pipe, mut writer) = std::io::pipe().unwrap();
    let documents: Vec<String> = (1..=tenants).map(|n| format!("---\ntenant: t-{n}\nplan: p\n")).collect();
    // What does not fit the pipe waits for its reader.
    let writing = std::thread::spawn(move || writer.write_all(documents.concat().as_bytes()).unwrap());
    let source = Source::open(&[format!("/proc/self/fd/{}", pipe.as_raw_fd()).into()], true).unwrap();
    writing.join().unwrap();
    (source, pipe)
}

/// A stream that takes rows up to a number and then ends so; or, without one, all there are.
async fn answer(
    sent: Sent,
    breaks_off: Option<(i64, Status)>,
    seen: &RefCell<Vec<Seen>>,
) -> Response<BoxStream<'static, Result<v1::ImportTenantsResponse, Status>>> {
    let is_retry = sent.metadata().get("tessera-retry").is_some_and(|mark| mark == "1");
    let (mut first, mut last) = (None, 0);
    let mut items = sent.into_inner();
    while let Some(item) = items.next().await {
        if let Some(Item::Row(row)) = item.item {
            assert_eq!(row.tenant.unwrap().tenant_id, format!("t-{}", row.row));
            assert_eq!(row.row, first.map_or(row.row, |_| last + 1), "in order, none left out");
            first = first.or(Some(row.row));
            last = row.row;
            if breaks_off.as_ref().is_some_and(|(through, _)| last >= *through) {
                break;
            }
        }
    }
    seen.borrow_mut().push((is_retry, first.unwrap_or(0), last));
    let applied = v1::ImportTenantsResponse { applied_through_row: last, ..Default::default() };
    let end = breaks_off.map(|(_, status)| Err(status));
    Response::new(futures::stream::iter(std::iter::once(Ok(applied)).chain(end)).boxed())
}

fn import(again: bool) -> Import {
    Import::new(&planes(), Common { import_id: Some("i".to_owned()), again, yes: true }, Mode::Upsert)
}

/// Imports what a pipe brings over streams that break off like this, and then over ones that do not.
async fn imported(tenants: i64, again: bool, ends: Vec<(i64, Status)>) -> (anyhow::Result<Progress>, Vec<Seen>) {
    let (seen, mut ends) = (RefCell::new(Vec::new()), VecDeque::from(ends));
    let (import, (source, _pipe)) = (import(again), piped(tenants));
    let call = async |sent: Sent| Ok(answer(sent, ends.pop_front(), &seen).await);
    let done = carry_out(&planes(), &import, &indicatif::ProgressBar::hidden(), || Ok(source.rows()), call).await;
    (done, seen.into_inner())
}

#[tokio::test(start_paused = true)]
async fn what_came_through_a_pipe_is_sent_on_after_the_loader_drained() {
    let (done, seen) = imported(500, false, vec![(200, Failure::draining().into())]).await;
    assert_eq!(done.unwrap().done_through, 500);
    assert_eq!(seen[0], (false, 1, 200));
    assert_eq!((seen[1].0, seen[1].1), (true, 201), "{seen:?}");
    assert_eq!(seen.last().unwrap().2, 500, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn only_rows_that_were_sent_before_are_said_to_be() {
    let many = 10_000;
    let lost = || Status::unavailable("broken pipe");
    let (done, seen) = imported(many, false, vec![(200, lost()), (201, lost())]).await;
    assert_eq!(done.unwrap().done_through, many);
    let [first, second, third, fourth] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((first, second), ((false, 1, 200), (true, 201, 201)));
    // The rows that waited while the first stream broke off, and no others.
    let waited = third.2;
    assert_eq!((third, fourth), ((true, 202, waited), (false, waited + 1, many)));
    assert!(waited < many / 2, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_an_import_up_says_so_of_every_row() {
    let (done, seen) = imported(3_000, true, Vec::new()).await;
    assert_eq!(done.unwrap().done_through, 3_000);
    assert_eq!(seen, [(true, 1, 3_000)]);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_does_not_get_on_says_how_to_go_on() {
    let (import, (source, _pipe), calls) = (import(false), piped(10), RefCell::new(0));
    let call = async |_: Sent| {
        *calls.borrow_mut() += 1;
        Err::<Response<futures::stream::Empty<_>>, _>(Status::unavailable("broken pipe"))
    };
    let done = carry_out(&planes(), &import, &indicatif::ProgressBar::hidden(), || Ok(source.rows()), call).await;
    assert_eq!(calls.into_inner(), 1 + RESUMPTIONS_MAX);
    let error = format!("{:#}", done.unwrap_err());
    assert!(error.contains("after tenant number 0") && error.contains("--import-id i --again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_refused_is_not_said_to_go_on() {
    let (done, seen) = imported(10, false, vec![(5, Failure::invalid_field("import_id", "x").into())]).await;
    assert_eq!(seen.len(), 1);
    let error = format!("{:#}", done.unwrap_err());
    assert!(error.contains("after tenant number 5: ") && !error.contains("--again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_not_allowed_is_not_tried_again() {
    let (import, (source, _pipe), calls) = (import(false), piped(10), RefCell::new(0));
    let call = async |_: Sent| {
        *calls.borrow_mut() += 1;
        Err::<Response<futures::stream::Empty<_>>, Status>(Failure::scope_missing("write:tenants").into())
    };
    let done = carry_out(&planes(), &import, &indicatif::ProgressBar::hidden(), || Ok(source.rows()), call).await;
    assert_eq!(calls.into_inner(), 1);
    let error = format!("{:#}", done.unwrap_err());
    assert!(error.contains("SCOPE_MISSING") && !error.contains("--again"), "{error}");

    // With another token it can go on where it was.
    let (done, seen) = imported(10, false, vec![(5, Failure::token_invalid("it was revoked").into())]).await;
    assert_eq!(seen.len(), 1);
    let error = format!("{:#}", done.unwrap_err());
    assert!(error.contains("after tenant number 5; ") && error.contains("--import-id i --again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn many_tenants_of_an_apply_are_not_said_to_take_flags_that_it_has_not() {
    let documents = crate::document::read("a.yaml", &b"tenant: t\nplan: p\n"[..]).map(Result::unwrap).collect();
    let error = format!("{:#}", located(&planes(), &Console { format: Format::Json }, documents).await.unwrap_err());
    assert!(error.contains("after tenant number 0; run the whole again") && !error.contains("--again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn rows_without_an_answer_are_not_taken_for_done() {
    let (import, (source, _pipe)) = (import(false), piped(10));
    // It takes everything, and ends well without a word.
    let call = async |sent: Sent| {
        sent.into_inner().collect::<Vec<_>>().await;
        Ok(Response::new(futures::stream::empty()))
    };
    let done = carry_out(&planes(), &import, &indicatif::ProgressBar::hidden(), || Ok(source.rows()), call).await;
    let error = format!("{:#}", done.unwrap_err());
    assert!(error.contains("after tenant number 0") && error.contains("before its last row"), "{error}");
}
