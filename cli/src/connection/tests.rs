//! Addresses and repeated calls. The other side is a closure.

use std::cell::RefCell;

use tessera_proto::status::Failure;

use super::*;

fn planes() -> Planes {
    let addresses = Addresses { data: "127.0.0.1:1".into(), control: "127.0.0.1:2".into(), http: String::new() };
    Planes::new(addresses, &Credentials::default(), Duration::from_secs(1)).unwrap()
}

/// What each attempt carried in `tessera-retry`, and the answer.
async fn sent(answers: Vec<Result<i32, Status>>, changes: bool) -> (Vec<bool>, Result<i32, Status>) {
    let marks = RefCell::new(Vec::new());
    let mut answers = answers.into_iter();
    let call = async |request: Request<()>| {
        marks.borrow_mut().push(request.metadata().get("tessera-retry").is_some_and(|mark| mark == "1"));
        answers.next().unwrap_or_else(|| Err(Status::unavailable("for ever"))).map(Response::new)
    };
    let answer = planes().attempt((), call, changes).await;
    (marks.into_inner(), answer)
}

#[tokio::test(start_paused = true)]
async fn a_command_of_unknown_fate_is_sent_again_and_says_so() {
    let lost = || Err(Status::deadline_exceeded("too late"));
    let unknown = || Err(Failure::outcome_unknown("r").into());
    let (marks, answer) = sent(vec![lost(), unknown(), Ok(7)], true).await;
    assert_eq!((marks, answer.unwrap()), (vec![false, true, true], 7));
    let (marks, answer) = sent(vec![Err(Failure::not_ready().into()), Ok(7)], false).await;
    assert_eq!((marks, answer.unwrap()), (vec![false, false], 7), "reads carry no mark");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_and_refusals_are_believed() {
    let (marks, answer) = sent(Vec::new(), true).await;
    assert_eq!(marks.len(), 6);
    assert!(fate_is_unknown(&answer.unwrap_err()));
    for refusal in [Failure::invalid_field("plan_id", "x"), Failure::disk_full(), Failure::request_id_reused("r")] {
        let (marks, answer) = sent(vec![Err(refusal.clone().into())], true).await;
        assert_eq!(marks.len(), 1, "{refusal:?}");
        assert!(!fate_is_unknown(&answer.unwrap_err()));
    }
}

#[tokio::test]
async fn the_error_says_where_nobody_was_and_what_to_do() {
    let error = planes().failed(Plane::Control, &Status::unavailable("connection refused")).to_string();
    assert!(error.contains("control plane at `127.0.0.1:2`") && error.contains("tessera dev"), "{error}");
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
