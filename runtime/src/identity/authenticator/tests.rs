//! Which headers make whom.

use std::path::PathBuf;
use std::sync::mpsc;

use metrics_exporter_prometheus::PrometheusBuilder;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tessera_core::access::Scope;
use tessera_ports::clock::ManualClock;
use tokio::sync::oneshot;
use tonic::codegen::http::HeaderValue;

use super::super::tokens::{FreshToken, TokenFile};
use super::*;
use crate::lifecycle::{Ending, Signals};

struct Place {
    authenticator: Authenticator,
    token: FreshToken,
    clock: Arc<ManualClock>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn written(path: &Path, token: &FreshToken, name: &str, from: Timestamp) {
    let times = (from, from.saturating_add(Duration::from_hours(1)));
    let entry = TokenFile::entry(name, token, &[Scope::Decide], None, times).unwrap();
    std::fs::write(path, TokenFile { tokens: vec![entry] }.text().unwrap()).unwrap();
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("tokens.toml"), FreshToken::new([9; 32]));
    let now = Timestamp::from_seconds(1_767_225_600).unwrap();
    written(&path, &token, "shop", now);
    let text = format!(
        "tokens_file = \"{}\"\n[[workloads]]\nspiffe_id = \"spiffe://example.org/checkout\"\nscopes = [\"decide\"]\n\
         [[issuers]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\naudiences = [\"tessera\"]\n\
         jwks_uri = \"http://127.0.0.1:9/keys\"",
        path.display()
    );
    let config: IdentityConfig = toml::from_str(&text).unwrap();
    config.validate(true).unwrap();
    let clock = Arc::new(ManualClock::new(now));
    let authenticator = Authenticator::new(config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    Place { authenticator, token, clock, path, _folder: folder }
}

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
}

fn certificate(spiffe_id: &str, ends: Option<Timestamp>) -> PeerCertificate {
    PeerCertificate { spiffe_id: Some(spiffe_id.to_owned()), uri_names: Vec::new(), ends }
}

const CHECKOUT: &str = "spiffe://example.org/checkout";

#[test]
fn tokens_and_certificates_name_their_callers() {
    let place = place();
    let checkout = certificate(CHECKOUT, None);
    let actor = |values: &[&str], certificate| {
        place.authenticator.identify(&headers(values), certificate).map(|known| known.principal.actor().to_string())
    };
    let token = place.token.reveal();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(actor(&[&format!("{scheme} {token}")], None), Ok("token:shop".to_owned()));
    }
    assert_eq!(actor(&[], Some(&checkout)), Ok("spiffe://example.org/checkout".to_owned()));
    assert_eq!(actor(&[&format!("Bearer {token}")], Some(&checkout)), Ok("token:shop".to_owned()), "the token goes first");
}

#[test]
fn whoever_is_not_known_is_refused_and_nothing_is_fallen_back_to() {
    let place = place();
    let refused = |values: &[&str], workload: Option<&str>| {
        let certificate = workload.map(|workload| certificate(workload, None));
        place.authenticator.identify(&headers(values), certificate.as_ref()).unwrap_err()
    };
    let token = place.token.reveal();
    assert_eq!(refused(&[], None), Refused::Missing);
    let nameless = PeerCertificate::default();
    assert_eq!(place.authenticator.identify(&headers(&[]), Some(&nameless)), Err(Refused::Missing));
    assert_eq!(refused(&[], Some("spiffe://example.org/checkout/")), Refused::Unknown);
    assert_eq!(refused(&["Bearer tessera_nobody"], None), Refused::Unknown);
    assert_eq!(refused(&["Bearer tessera_nobody"], Some(CHECKOUT)), Refused::Unknown);
    for values in [
        &["Basic dXNlcjpwYXNz"][..],
        &["Bearer"],
        &["Bearer "],
        &[token],
        &[&format!("Bearer {token}"), &format!("Bearer {token}")],
        &[&format!("Bearer {token}"), ""],
        &["Bearer a.b.c"],
    ] {
        assert!(matches!(refused(values, Some(CHECKOUT)), Refused::Malformed(_)), "{values:?}");
    }
    // Nothing of the token is in what is said of it.
    let said = format!("{:?} {}", refused(&["Bearer tessera_nobody"], None), refused(&["Bearer a.b.c"], None));
    assert!(!said.contains("nobody") && !said.contains("a.b.c"), "{said}");
    let others = "Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyLmV4YW1wbGUuY29tIn0.c2ln";
    assert_eq!(refused(&[others], None), Refused::Unknown, "another issuer");
    place.clock.set(place.clock.now().saturating_add(Duration::from_hours(1)));
    assert_eq!(refused(&[&format!("Bearer {token}")], None), Refused::Expired);
}

#[test]
fn credentials_are_good_until_they_end() {
    let place = place();
    let token = format!("Bearer {}", place.token.reveal());
    let now = place.clock.now();
    let checkout = certificate(CHECKOUT, Some(now.saturating_add(Duration::from_mins(10))));
    let good_for = |values: &[&str]| place.authenticator.identify(&headers(values), Some(&checkout)).map(|known| known.good_for);
    assert_eq!(good_for(&[&token]), Ok(Duration::from_hours(1)));
    assert_eq!(good_for(&[]), Ok(Duration::from_mins(10)));
    place.clock.advance(Duration::from_mins(10) - Duration::from_nanos(1));
    assert_eq!(good_for(&[]), Ok(Duration::from_nanos(1)));
    place.clock.advance(Duration::from_nanos(1));
    assert_eq!(good_for(&[]), Err(Refused::Expired));
    assert_eq!(good_for(&[&token]), Ok(Duration::from_mins(50)));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_forgotten_without_any_call() {
    let Place { authenticator, clock, _folder, .. } = place();
    let (authenticator, tasks) = (Arc::new(authenticator), Tasks::new());
    authenticator.start(&tasks);
    let until = clock.now().saturating_add(PROVEN_FOR);
    for number in 0..100 {
        authenticator.proven.remember(hash_of(&number.to_string()), Principal::local().unwrap(), until);
    }
    tokio::time::sleep(2 * PROVEN_INTERVAL).await;
    assert_eq!(authenticator.proven.len(), 100, "all stand");
    clock.set(until);
    tokio::time::sleep(2 * PROVEN_INTERVAL).await;
    assert_eq!(authenticator.proven.len(), 0);
}

#[test]
fn a_changed_file_is_taken_over_and_a_bad_one_is_not() {
    let place = place();
    let (path, tokens) = place.authenticator.tokens.as_ref().unwrap();
    let known =
        |token: &FreshToken| place.authenticator.identify(&headers(&[&format!("Bearer {}", token.reveal())]), None).is_ok();
    let (other, mut told) = (FreshToken::new([10; 32]), None);
    written(&place.path, &other, "shop", place.clock.now());
    assert!(known(&place.token) && !known(&other));
    look(path, tokens, &mut told);
    assert!(!known(&place.token) && known(&other), "the old secret is revoked");
    for bad in ["[[token]]", "token = 1", "\u{0}", "", "# API tokens of Tessera\n"] {
        std::fs::write(&place.path, bad).unwrap();
        look(path, tokens, &mut told);
        assert!(known(&other) && told.is_some(), "{bad}");
    }
    std::fs::remove_file(&place.path).unwrap();
    look(path, tokens, &mut told);
    assert!(known(&other), "the file is gone");
    written(&place.path, &place.token, "shop", place.clock.now());
    look(path, tokens, &mut told);
    assert!(known(&place.token) && !known(&other) && told.is_none());
}

#[tokio::test(start_paused = true)]
async fn while_the_process_drains_the_file_is_followed() {
    let Place { authenticator, clock, path, _folder, .. } = place();
    let (authenticator, tasks, other) = (Arc::new(authenticator), Tasks::new(), FreshToken::new([10; 32]));
    authenticator.start(&tasks);
    tasks.shutdown().drain();
    written(&path, &other, "shop", clock.now());
    let shown = headers(&[&format!("Bearer {}", other.reveal())]);
    let known = async {
        while authenticator.identify(&shown, None).is_err() {
            tokio::time::sleep(FILE_INTERVAL).await;
        }
    };
    tokio::time::timeout(3 * FILE_INTERVAL, known).await.expect("it is known");
}

#[tokio::test(start_paused = true)]
async fn a_file_whose_read_hangs_holds_nobody_up() {
    let Place { authenticator, path, _folder, .. } = place();
    // Whoever reads a pipe waits for somebody who writes.
    std::fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let ((reading, is_read), (over, is_over)) = (oneshot::channel(), mpsc::channel());
    let writer = std::thread::spawn(move || {
        let _pipe = std::fs::File::options().write(true).open(path).unwrap();
        reading.send(()).unwrap();
        // Nobody waits longer than this for the test to fail.
        is_over.recv_timeout(Duration::from_secs(20))
    });
    let tasks = Tasks::new();
    Arc::new(authenticator).start(&tasks);
    is_read.await.unwrap();
    let (_sender, signals) = tokio::sync::mpsc::channel(1);
    tasks.shutdown().drain();
    let ending = tasks.run_until_stopped(Signals::of_channel(signals)).await;
    let unheard = over.send(());
    assert_eq!((writer.join().unwrap(), unheard, ending), (Ok(()), Ok(()), Ending::Drained));
}

#[test]
fn the_first_file_that_cannot_be_read_is_one_more_than_before() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let place = ::metrics::with_local_recorder(&recorder, place);
    let failed = || {
        let page = recorder.handle().render();
        page.lines()
            .find_map(|line| line.strip_prefix("tessera_identity_token_file_read_total{result=\"failed\"} ")?.parse().ok())
    };
    assert_eq!(failed(), Some(0_u64));
    std::fs::write(&place.path, "tokens = 7").unwrap();
    let (path, tokens) = place.authenticator.tokens.as_ref().unwrap();
    ::metrics::with_local_recorder(&recorder, || look(path, tokens, &mut None));
    assert_eq!(failed(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_stays_unusable_is_told_again_and_again() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let place = ::metrics::with_local_recorder(&recorder, place);
    let (path, tokens) = place.authenticator.tokens.as_ref().unwrap();
    std::fs::remove_file(path).unwrap();
    let mut told = None;
    let mut told_after_a_look = || {
        ::metrics::with_local_recorder(&recorder, || look(path, tokens, &mut told));
        let page = recorder.handle().render();
        let line = page.lines().find(|line| line.contains("token_file_read_total{result=\"failed\"}")).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    assert_eq!((told_after_a_look(), told_after_a_look()), ("1".to_owned(), "1".to_owned()), "not with each look");
    tokio::time::advance(TELL_INTERVAL).await;
    assert_eq!(told_after_a_look(), "2", "whoever was told may have forgotten");
}
