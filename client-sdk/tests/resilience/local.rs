//! Local mode over several servers: what was held is not undone by one that lags behind.

use std::time::Duration;

use futures::FutureExt as _;
use tessera_client::fake::FakeError;
use tessera_client::local::{FailPolicy, Source};
use tessera_client::{Error, Revision};
use tessera_core::revision::RevisionError;
use tessera_proto::status::Failure;

use crate::scripted::{Scripted, entitled};
use crate::server::{Server, client, eventually};

#[tokio::test]
async fn what_is_held_is_not_followed_by_something_older_over_the_wire() {
    let (ahead, behind) = (Server::start("ahead").await, Server::start("behind").await);
    ahead.fake.tenant("acme").deny("reporting", "exports");
    behind.fake.fail_always(FakeError::NotReady);
    let tessera = client(&[ahead.endpoint(), behind.endpoint()]).connect().await.unwrap();
    // As good as always too old: checks go over the wire.
    let builder = tessera.local().max_staleness(Duration::from_millis(1)).preload(["acme"]);
    let local = builder.last_known("reporting", "exports").start().unwrap();
    local.loaded().await;
    // Now only the one that lags behind is there, where the feature is granted still.
    behind.fake.recover();
    ahead.fake.fail_always(FakeError::NotReady);
    ahead.fake.break_streams();
    let exports = || local.check("acme", "reporting", "exports");
    eventually("the end of what memory may say", async || exports().at_hand().is_none()).await;
    let answer = exports().await.unwrap();
    assert_eq!((answer.source(), answer.is_entitled()), (Source::Policy(FailPolicy::LastKnown), false), "{answer:?}");
    let unstated = local.check("acme", "reporting", "").explain().await.unwrap();
    assert_eq!((unstated.source(), unstated.is_entitled()), (Source::Policy(FailPolicy::Closed), false), "{unstated:?}");
    assert_eq!(unstated.error().map(Error::reason), Some("REVISION_NOT_REACHED"));
    // Whoever makes a demand gets what they asked for, and a tenant that is not held what there is.
    assert!(exports().fully_consistent().await.unwrap().is_entitled());
    assert_eq!(local.check("globex", "reporting", "exports").await.unwrap().source(), Source::Wire);
    // It catches up.
    behind.fake.tenant("acme").deny("reporting", "exports");
    let bridged = exports().await.unwrap();
    assert!(!bridged.is_entitled() && matches!(bridged.source(), Source::Wire | Source::Local), "{bridged:?}");
}

#[tokio::test]
async fn a_revision_that_the_caller_did_not_ask_for_is_no_error_of_theirs() {
    let ours = Server::start("ours").await;
    // It knows nobody else's revisions.
    let of_another_world = Scripted::start(|checks| {
        let wrong = || Failure::invalid_revision("consistency.at_least.revision", b"r", RevisionError::Malformed).into();
        let demanding = checks.iter().any(|check| check.consistency.is_some());
        futures::future::ready(if demanding { Err(wrong()) } else { Ok(checks.iter().map(|_| entitled()).collect()) }).boxed()
    })
    .await;
    let tessera = client(&[ours.endpoint(), of_another_world.endpoint.clone()]).connect().await.unwrap();
    let local = tessera.local().max_staleness(Duration::from_millis(1)).preload(["acme"]).start().unwrap();
    local.loaded().await;
    ours.fake.fail_always(FakeError::NotReady);
    ours.fake.break_streams();
    let exports = || local.check("acme", "reporting", "exports");
    eventually("the end of what memory may say", async || exports().at_hand().is_none()).await;
    let answer = exports().await.unwrap();
    assert_eq!((answer.source(), answer.is_entitled()), (Source::Policy(FailPolicy::Closed), false), "{answer:?}");
    assert_eq!(answer.error().map(Error::reason), Some("INVALID_REVISION"));
    let theirs = Revision::from_bytes("no revision");
    assert!(matches!(exports().at_least(&theirs).await, Err(Error::Invalid(_))));
    assert_eq!(local.check("globex", "reporting", "exports").await.unwrap().source(), Source::Wire);
}
