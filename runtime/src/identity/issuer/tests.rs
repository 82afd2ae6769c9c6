//! An issuer over real HTTP: keys are found, change, go away and come back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use jsonwebtoken::Algorithm;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tessera_ports::clock::ManualClock;

use super::super::jwt::tests::{Signer, claims, now, set_of};
use super::*;
use crate::lifecycle::Tasks;

/// What the issuer answers with, and how often it was asked for keys.
#[derive(Debug, Default)]
struct Served {
    keys: Mutex<Vec<u8>>,
    asked: AtomicUsize,
}

/// An issuer on a port of its own, and where it is.
async fn serving(tasks: &Tasks, served: &Arc<Served>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", listener.local_addr().unwrap());
    let keys_at = format!("{issuer}/keys");
    let discovery = json!({ "issuer": issuer, "jwks_uri": keys_at }).to_string();
    let keys = async |State(served): State<Arc<Served>>| {
        served.asked.fetch_add(1, Ordering::SeqCst);
        let keys = served.keys.lock().unwrap().clone();
        if keys.is_empty() { StatusCode::INTERNAL_SERVER_ERROR.into_response() } else { keys.into_response() }
    };
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(async move || discovery.clone()))
        .route("/keys", get(keys))
        .with_state(Arc::clone(served));
    tasks.spawn("test.issuer", async move { Ok(axum::serve(listener, router).await?) });
    issuer
}

fn config(issuer: &str) -> IssuerConfig {
    let text = format!("name = \"corp\"\nissuer = \"{issuer}\"\naudiences = [\"tessera\"]\nkeys_interval_s = 10");
    toml::from_str(&text).unwrap()
}

fn token(signer: &Signer, issuer: &str) -> String {
    let mut claims = claims();
    claims["iss"] = json!(issuer);
    signer.sign(&claims)
}

fn verified(issuer: &Issuer, token: &str) -> Result<(), Refused> {
    issuer.verify(&Unverified::read(token)?, issuer.clock.now()).map(|_| ())
}

/// Waits until the keys were read once more, or could not be.
async fn tried(issuer: &Issuer) {
    issuer.tried.subscribe().changed().await.unwrap();
}

#[tokio::test]
async fn keys_are_found_change_and_outlive_their_issuer_for_a_while() {
    let (tasks, served, clock) = (Tasks::new(), Arc::new(Served::default()), Arc::new(ManualClock::new(now())));
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::EdDSA));
    *served.keys.lock().unwrap() = set_of(&[old.public()]);
    let at = serving(&tasks, &served).await;
    let issuer = Arc::new(Issuer::new(config(&at), Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
    assert_eq!(verified(&issuer, &token(&old, &at)), Err(Refused::KeyUnknown), "nobody has asked yet");
    let first = tried(&issuer);
    tasks.spawn_behind("test.follow", Arc::clone(&issuer).follow());
    first.await;
    assert_eq!(verified(&issuer, &token(&old, &at)), Ok(()));

    // A new key is signed with at once; the keys were read a moment ago, so that nobody waits for it.
    *served.keys.lock().unwrap() = set_of(&[new.public()]);
    let asked = served.asked.load(Ordering::SeqCst);
    issuer.read_anew().await;
    assert_eq!(served.asked.load(Ordering::SeqCst), asked, "a flood of unknown keys is not passed on");
    tokio::time::pause();
    tokio::time::advance(UNKNOWN_INTERVAL).await;
    tokio::time::resume();
    issuer.read_anew().await;
    assert_eq!(verified(&issuer, &token(&new, &at)), Ok(()));
    assert_eq!(verified(&issuer, &token(&old, &at)), Err(Refused::KeyUnknown), "it was taken back");

    // The issuer breaks down: what is known stays good, but not for ever.
    served.keys.lock().unwrap().clear();
    let failing = tried(&issuer);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    tokio::time::resume();
    failing.await;
    assert_eq!(verified(&issuer, &token(&new, &at)), Ok(()));
    clock.set(now().saturating_add(issuer.config.keys_age_max() + Duration::from_secs(1)));
    assert_eq!(verified(&issuer, &token(&new, &at)), Err(Refused::KeyUnknown));
}

#[tokio::test]
async fn what_an_issuer_may_not_answer_with_is_named() {
    let (tasks, served) = (Tasks::new(), Arc::new(Served::default()));
    let at = serving(&tasks, &served).await;
    let read = async |config: IssuerConfig| {
        let issuer = Issuer::new(config, Arc::new(ManualClock::new(now()))).unwrap();
        issuer.fetch().await.map(|keys| keys.len())
    };
    let refused = read(config(&at)).await.unwrap_err();
    assert!(refused.contains("/keys") && refused.contains("500"), "{refused}");
    *served.keys.lock().unwrap() = vec![b' '; ANSWER_LEN_MAX + 1];
    let refused = read(config(&at)).await.unwrap_err();
    assert!(refused.contains("262144 bytes"), "{refused}");
    *served.keys.lock().unwrap() = set_of(&[Signer::new("k", Algorithm::RS256).public()]);
    assert_eq!(read(config(&at)).await, Ok(1));
    // Whoever answers there is another: with the slash it is not to the letter.
    let refused = read(config(&format!("{at}/"))).await.unwrap_err();
    assert!(refused.contains("another issuer"), "{refused}");
    let missing = IssuerConfig { jwks_uri: Some(format!("{at}/nothing")), ..config(&at) };
    let refused = read(missing).await.unwrap_err();
    assert!(refused.contains("404"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn keys_grow_old_though_the_clock_is_set_back_and_while_the_machine_is_suspended() {
    let signer = Signer::new("one", Algorithm::ES256);
    let at = "https://id.example.com";
    for suspended in [true, false] {
        let clock = Arc::new(ManualClock::new(now()));
        let issuer = Issuer::new(config(at), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        issuer.note(Keys::read(&set_of(&[signer.public()])));
        let is_good = || issuer.is_good(&issuer.keys.load(), clock.now());
        assert!(is_good());
        let too_long = issuer.config.keys_age_max() + Duration::from_secs(1);
        if suspended {
            clock.advance(too_long);
        } else {
            tokio::time::advance(too_long).await;
        }
        assert!(!is_good(), "{suspended}");
    }
}

#[test]
fn keys_that_are_too_old_or_were_never_read_count_as_none() {
    let clock = Arc::new(ManualClock::new(now()));
    let issuer = Issuer::new(config("https://id.example.com"), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let recorder = PrometheusBuilder::new().build_recorder();
    let told = |read: Result<Keys, String>| {
        ::metrics::with_local_recorder(&recorder, || issuer.note(read));
        let page = recorder.handle().render();
        let line = page.lines().find(|line| line.starts_with("tessera_identity_issuer_keys{")).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let unreachable = || Err("it cannot be reached".to_owned());
    assert_eq!(told(unreachable()), "0", "none were read yet");
    assert_eq!(told(Keys::read(&set_of(&[Signer::new("one", Algorithm::ES256).public()]))), "1");
    assert_eq!(told(unreachable()), "1", "those that are known are good for a while");
    assert_eq!(issuer.pause(), issuer.config.keys_interval());
    clock.set(now().saturating_add(issuer.config.keys_age_max() + Duration::from_secs(1)));
    assert_eq!(told(unreachable()), "0");
    assert_eq!(issuer.pause(), WITHOUT_KEYS_INTERVAL, "others are tried for");
}

#[test]
fn an_issuer_that_answers_without_keys_has_withdrawn_them() {
    let signer = Signer::new("k", Algorithm::ES256);
    let mut encrypting = signer.public();
    encrypting["use"] = json!("enc");
    for withdrawn in [set_of(&[]), set_of(&[encrypting])] {
        let at = "https://id.example.com";
        let issuer = Issuer::new(config(at), Arc::new(ManualClock::new(now()))).unwrap();
        issuer.note(Keys::read(&set_of(&[signer.public()])));
        assert_eq!(verified(&issuer, &token(&signer, at)), Ok(()));
        let recorder = PrometheusBuilder::new().build_recorder();
        ::metrics::with_local_recorder(&recorder, || issuer.note(Keys::read(&withdrawn)));
        assert_eq!(verified(&issuer, &token(&signer, at)), Err(Refused::KeyUnknown));
        let page = recorder.handle().render();
        assert!(page.contains("tessera_identity_issuer_keys{issuer=\"corp\"} 0"), "{page}");
        assert_eq!(issuer.pause(), WITHOUT_KEYS_INTERVAL, "others are tried for");
        issuer.note(Err("it cannot be reached".to_owned()));
        assert_eq!(verified(&issuer, &token(&signer, at)), Err(Refused::KeyUnknown), "they do not come back");
    }
}

#[test]
fn authorities_that_cannot_be_used_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.crt");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (contents, expected) in
        [(None, "No such file"), (Some("nothing"), "no certificate in it"), (Some(broken), "cannot be used")]
    {
        if let Some(contents) = contents {
            std::fs::write(&path, contents).unwrap();
        }
        let config = IssuerConfig { ca_file: Some(path.clone()), ..config("https://id.example.com") };
        let (field, problem) = Issuer::new(config, Arc::new(ManualClock::new(now()))).map(drop).unwrap_err();
        assert_eq!(field, "ca_file");
        let named = format!("`{}`", path.display());
        assert!(problem.contains(&named) && problem.contains(expected) && problem.contains("PEM"), "{problem}");
    }
}
