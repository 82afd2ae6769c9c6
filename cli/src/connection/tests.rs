//! Addresses and repeated calls. The other side is a closure.

use std::cell::RefCell;
use std::io;

use hyper_util::rt::TokioIo;
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tokio::io::AsyncWriteExt as _;

use super::*;

fn planes() -> Planes {
    let addresses = Addresses { data: "127.0.0.1:1".into(), control: "127.0.0.1:2".into(), http: String::new() };
    Planes::new(addresses, &Credentials::default(), Duration::from_secs(1)).unwrap()
}

type Answers = Vec<Result<i32, Status>>;

/// Answers attempts one after the other, at last that nobody is there, and notes what each carried in `tessera-retry`.
fn other_side(answers: Answers, marks: &RefCell<Vec<bool>>) -> impl AsyncFnMut(Request<()>) -> Result<Response<i32>, Status> {
    let mut answers = answers.into_iter();
    async move |request: Request<()>| {
        marks.borrow_mut().push(request.metadata().get("tessera-retry").is_some_and(|mark| mark == "1"));
        answers.next().unwrap_or_else(|| Err(Status::unavailable("for ever"))).map(Response::new)
    }
}

/// What each attempt of a command carried in `tessera-retry`, and what its user reads.
async fn changed(command: CommandId, answers: Answers) -> (Vec<bool>, Result<i32, String>) {
    let marks = RefCell::new(Vec::new());
    let answer = planes().change(&command, (), other_side(answers, &marks)).await.map_err(|error| format!("{error:#}"));
    (marks.into_inner(), answer)
}

fn fresh() -> CommandId {
    CommandId::Fresh("r-1".to_owned())
}

fn lost() -> Result<i32, Status> {
    Err(Status::deadline_exceeded("too late"))
}

/// Words of the hint that nobody knows whether something was done.
const HINT: &str = "whether this was done is not known";

#[tokio::test(start_paused = true)]
async fn a_command_of_unknown_fate_is_sent_again_and_says_so() {
    let unknown = || Err(Failure::outcome_unknown("r").into());
    assert_eq!(changed(fresh(), vec![lost(), unknown(), Ok(7)]).await, (vec![false, true, true], Ok(7)));
    let marks = RefCell::new(Vec::new());
    let read = planes().read(Plane::Data, (), other_side(vec![Err(Failure::not_ready().into()), Ok(7)], &marks)).await;
    assert_eq!((marks.into_inner(), read.unwrap()), (vec![false, false], 7), "reads carry no mark");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_refusals_are_believed() {
    let (marks, answer) = changed(fresh(), Vec::new()).await;
    assert_eq!(marks.len(), 6);
    let error = answer.unwrap_err();
    assert!(error.contains(HINT) && error.contains("--request-id r-1"), "{error}");
    for refusal in [Failure::invalid_field("plan_id", "x"), Failure::disk_full(), Failure::request_id_reused("r")] {
        let (marks, answer) = changed(fresh(), vec![Err(refusal.clone().into())]).await;
        assert_eq!(marks.len(), 1, "{refusal:?}");
        let error = answer.unwrap_err();
        assert!(!error.contains(HINT), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_of_unknown_fate_stays_so_whatever_befalls_those_after_it() {
    let says_nothing = [
        Failure::not_ready(),
        Failure::draining(),
        Failure::store_unavailable("no quorum"),
        Failure::overloaded("a queue is full"),
        Failure::disk_full(),
        Failure::rate_limited("too much", Duration::from_millis(1)),
        Failure::token_invalid("it has expired"),
        Failure::scope_missing("write:tenants"),
    ];
    for failure in says_nothing {
        let answers = std::iter::once(lost()).chain((0..5).map(|_| Err(failure.clone().into())));
        let error = changed(fresh(), answers.collect()).await.1.unwrap_err();
        assert!(error.contains(HINT) && error.contains("--request-id r-1") && error.contains(failure.reason()), "{error}");
        // By itself it tells that nothing was done.
        let error = changed(fresh(), (0..6).map(|_| Err(failure.clone().into())).collect()).await.1.unwrap_err();
        assert!(!error.contains(HINT), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_retry_settles_what_came_of_those_before() {
    for rejection in [Failure::invalid_field("plan_id", "x"), Failure::request_id_reused("r")] {
        let answers = vec![lost(), Err(Failure::not_ready().into()), Err(rejection.clone().into())];
        let error = changed(fresh(), answers).await.1.unwrap_err();
        assert!(!error.contains(HINT) && error.contains(rejection.reason()), "{error}");
    }
    // Not in words of ours: somebody on the way may have said it.
    let error = changed(fresh(), vec![lost(), Err(Status::not_found("no such page"))]).await.1.unwrap_err();
    assert!(error.contains(HINT), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_its_user_has_named_may_have_been_sent_before() {
    let given = CommandId::Given("r-1".to_owned());
    assert_eq!(changed(given, vec![lost(), Ok(7)]).await, (vec![true, true], Ok(7)));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_takes_no_request_id_is_not_said_to_take_one() {
    let error = changed(CommandId::OneOfMany("r-1".to_owned()), Vec::new()).await.1.unwrap_err();
    assert!(error.contains(HINT) && error.contains("run the whole again") && !error.contains("--request-id"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_gone_without_a_word_does_not_hold_a_call_for_ever() {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    // The beginning of a connection, and nothing ever after.
    theirs.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    let mut way = Some(TokioIo::new(ours));
    let connector = tower::service_fn(move |_| {
        let way = way.take().ok_or_else(|| io::Error::other("it is gone"));
        async move { way }
    });
    let channel = attentive(Endpoint::from_static("http://gone")).connect_with_connector_lazy(connector);
    let mut client = EntitlementServiceClient::new(channel);
    let call = client.list_entitlements(v1::ListEntitlementsRequest::default());
    let status = tokio::time::timeout(Duration::from_mins(1), call).await.expect("it waits for ever").unwrap_err();
    assert!(may_help(&status), "{status:?}");
}

#[tokio::test]
async fn the_error_says_where_nobody_was_and_what_to_do() {
    let error = planes().failed(Plane::Control, &Status::unavailable("connection refused")).to_string();
    assert!(error.contains("control plane at `127.0.0.1:2`") && error.contains("tessera dev"), "{error}");
}

#[tokio::test]
async fn the_error_says_what_helps_where_one_end_speaks_tls_and_the_other_does_not() {
    let said = |address: &str, status: &Status| {
        let addresses = Addresses { data: address.into(), control: "127.0.0.1:2".into(), http: String::new() };
        let planes = Planes::new(addresses, &Credentials::default(), Duration::from_secs(1)).unwrap();
        planes.failed(Plane::Data, status).to_string()
    };
    let plain = Status::internal("connection error detected: frame with invalid size");
    for (address, status, expected) in [
        ("127.0.0.1:1", &plain, "say https://127.0.0.1:1"),
        ("http://a:1", &plain, "say https://a:1"),
        ("a:1", &Status::unavailable("broken pipe"), "say https://a:1"),
        ("https://a:1", &Status::unavailable("received corrupt message of type InvalidContentType"), "say http://a:1"),
        ("https://a:1", &Status::unavailable("invalid peer certificate: UnknownIssuer"), "that --ca-file names"),
        ("https://a:1", &Status::unavailable("invalid peer certificate: certificate not valid for name"), "for that name"),
    ] {
        let said = said(address, status);
        assert!(said.contains(expected) && said.contains(address) && !said.contains("tessera dev"), "{said}");
    }
    assert!(!said("https://a:1", &Status::unavailable("broken pipe")).contains("speaks TLS"));
    let ours = Failure::invalid_field("plan_id", "frame with invalid size");
    assert!(!said("a:1", &ours.into()).contains("TLS"));
}

#[test]
fn a_file_says_where_and_flags_win() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "data_addr = \"10.0.0.1:1\"\ncontrol_addr = \"10.0.0.1:2\"\n").unwrap();
    let place = Where { config: Some(file.path().to_owned()), control_addr: Some("127.0.0.1:9".into()), ..Where::default() };
    let addresses = place.addresses().unwrap();
    assert_eq!((addresses.data.as_str(), addresses.control.as_str()), ("10.0.0.1:1", "127.0.0.1:9"));
    assert_eq!(addresses.http, "127.0.0.1:7402");
    std::fs::write(file.path(), "data_adr = \"10.0.0.1:1\"\n").unwrap();
    let error = format!("{:#}", place.addresses().unwrap_err());
    assert!(error.contains("data_adr") && error.contains("data_addr"), "{error}");
}

#[test]
fn waits_have_bounds() {
    assert_eq!(parse_timeout("500ms"), Ok(Timeout(Duration::from_millis(500))));
    assert_eq!(parse_timeout("10s"), Ok(Timeout(Duration::from_secs(10))));
    for bad in ["0s", "2h", "soon", "", "ms"] {
        assert!(parse_timeout(bad).is_err(), "{bad}");
    }
}
