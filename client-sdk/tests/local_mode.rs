//! Local mode over a scripted server, in paused time: memory, wire and policy, each when it must be.

use std::future::IntoFuture as _;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use tessera_client::fake::{Fake, FakeError};
use tessera_client::local::{Answer, FailPolicy, Local, Source};
use tessera_client::{Check, Code, Error, Reason, Staleness};

const MAX_STALENESS: Duration = Duration::from_secs(20);

fn fake() -> Fake {
    let fake = Fake::new();
    fake.tenant("acme").plan("gold", 3).grant("reporting", "exports").grant("reporting", "charts").limit("max_users", 100);
    fake
}

async fn loaded(fake: &Fake) -> anyhow::Result<Local> {
    let builder = fake.client().local().max_staleness(MAX_STALENESS).preload(["acme"]);
    let local = builder.fail_open("reporting", "charts").last_known("reporting", "exports").start()?;
    local.loaded().await;
    Ok(local)
}

async fn ask(local: &Local, tenant: &str, feature: &str) -> Result<Answer, Error> {
    local.check(tenant, "reporting", feature).await
}

/// Lets time pass until it is so.
async fn until(what: &str, mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    for _ in 0..10_000 {
        if holds() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("it never came: {what}")
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_held_from_its_first_question_on() -> anyhow::Result<()> {
    let fake = fake();
    let local = fake.client().local().start()?;
    let first = ask(&local, "acme", "exports").await?;
    assert_eq!((first.source(), first.is_entitled()), (Source::Wire, true));
    until("the document", || local.holds("acme")).await?;
    let asked = fake.checks().len();
    let second = ask(&local, "acme", "exports").await?;
    assert_eq!((second.source(), second.is_entitled(), second.reason()), (Source::Local, true, Some(Reason::GRANTED_BY_PLAN)));
    assert_eq!(fake.checks().len(), asked, "nothing goes over the wire");
    // Written out, it is what the wire says, but for what a document does not carry.
    let (first, second) = (first.decision().context("one")?, second.decision().context("another")?);
    assert_eq!((first.plan, first.familiarity, first.revision), (second.plan, second.familiarity, second.revision));
    assert_eq!(local.status().tenants, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_without_asking() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    assert!(ask(&local, "acme", "exports").await?.is_entitled());
    fake.tenant("acme").deny("reporting", "exports");
    let denied = || local.check("acme", "reporting", "exports").at_hand().is_some_and(|answer| !answer.is_entitled());
    until("the denial", denied).await
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_how_old_it_is_and_is_never_older_than_allowed() -> anyhow::Result<()> {
    let fake = fake();
    fake.set_staleness(Some(Duration::from_secs(3)));
    let local = loaded(&fake).await?;
    assert!(!ask(&local, "acme", "exports").await?.staleness().is_within(Duration::from_millis(2_999)));
    fake.set_staleness(None);
    fake.fail_always(FakeError::NotReady);
    fake.break_streams();
    let mut told = 0;
    while let Some(answer) = local.check("acme", "reporting", "exports").at_hand() {
        told += 1;
        assert!(answer.staleness().is_within(MAX_STALENESS));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Three of twenty seconds were over from the beginning.
    assert!((160..=171).contains(&told), "{told} answers, one each tenth of a second");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn when_neither_memory_nor_wire_has_an_answer_the_stated_policy_has() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    fake.fail_always(FakeError::NotReady);
    fake.break_streams();
    // Memory goes on for a while.
    assert_eq!(ask(&local, "acme", "exports").await?.source(), Source::Local);
    until("its end", || local.check("acme", "reporting", "exports").at_hand().is_none()).await?;
    let table = [
        ("exports", Source::Policy(FailPolicy::LastKnown), true, Some(Reason::GRANTED_BY_PLAN)),
        ("charts", Source::Policy(FailPolicy::Open), true, None),
        ("mail", Source::Policy(FailPolicy::Closed), false, None),
        ("", Source::Policy(FailPolicy::Closed), false, None),
    ];
    for (feature, source, entitled, reason) in table {
        let answer = ask(&local, "acme", feature).await?;
        assert_eq!((answer.source(), answer.is_entitled(), answer.reason()), (source, entitled, reason), "`{feature}`");
        assert!(!answer.staleness().is_within(MAX_STALENESS), "`{feature}` is not told as fresh: {:?}", answer.staleness());
        assert_eq!(answer.error().is_some(), reason.is_none(), "`{feature}`");
    }
    // Of a tenant that was never held nothing is known.
    assert!(!ask(&local, "globex", "exports").await?.is_entitled());
    assert!(ask(&local, "globex", "charts").await?.is_entitled());
    // What demands more than what is known is not answered by it.
    let demanding = local.check("acme", "reporting", "exports").fully_consistent().await?;
    assert_eq!((demanding.is_entitled(), demanding.staleness()), (false, Staleness::Unknown));

    fake.recover();
    until("the stream", || local.check("acme", "reporting", "exports").at_hand().is_some()).await?;
    assert!(local.status().connected);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_stream_alone_is_bridged_by_the_wire() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    fake.break_streams();
    // Each attempt at a stream fails, until memory is too old. Nobody else asks meanwhile.
    while local.check("acme", "reporting", "exports").at_hand().is_some() {
        let calls = fake.calls();
        fake.fail_next(FakeError::Draining);
        until("the next attempt", || fake.calls() > calls).await?;
    }
    fake.tenant("acme").deny("reporting", "exports");
    let bridged = ask(&local, "acme", "exports").await?;
    assert_eq!((bridged.source(), bridged.is_entitled()), (Source::Wire, false));
    assert!(!local.status().connected);
    let denied = || local.check("acme", "reporting", "exports").at_hand().is_some_and(|answer| !answer.is_entitled());
    until("the denial over a new stream", denied).await
}

/// Asks while the wire is silent, and meanwhile lets something happen that memory comes to know.
async fn meanwhile(fake: &Fake, local: &Local, feature: &str, happens: impl FnOnce()) -> anyhow::Result<Answer> {
    fake.fail_next(FakeError::Silence);
    let calls = fake.calls();
    let mut asked = local.check("acme", "reporting", feature).into_future();
    until("the question on the wire", || (&mut asked).now_or_never().is_none() && fake.calls() > calls).await?;
    happens();
    until("the document", || local.check("acme", "reporting", feature).at_hand().is_some()).await?;
    assert!((&mut asked).now_or_never().is_none(), "the wire is silent");
    Ok(asked.await?)
}

#[tokio::test(start_paused = true)]
async fn what_memory_came_to_know_while_the_wire_was_silent_goes_before_the_policy() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    // The server lags behind, until memory is too old; then it has caught up, and denies.
    fake.set_staleness(None);
    until("its end", || local.check("acme", "reporting", "exports").at_hand().is_none()).await?;
    let catch_up = || {
        fake.set_staleness(Some(Duration::ZERO));
        fake.tenant("acme").deny("reporting", "exports");
    };
    let answer = meanwhile(&fake, &local, "exports", catch_up).await?;
    assert_eq!((answer.source(), answer.is_entitled()), (Source::Local, false));
    assert!(answer.staleness().is_within(MAX_STALENESS));

    // The first question about a tenant, which is subscribed by it; the policy would say otherwise.
    for (feature, entitled) in [("exports", false), ("charts", true)] {
        let local = fake.client().local().fail_open("reporting", "exports").start()?;
        until("a stream", || local.status().connected).await?;
        let answer = meanwhile(&fake, &local, feature, || {}).await?;
        assert_eq!((answer.source(), answer.is_entitled()), (Source::Local, entitled), "{feature}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn unknown_tenants_are_denied_by_the_wire_alone() -> anyhow::Result<()> {
    let fake = fake();
    let local = fake.client().local().unknown_for(Duration::from_mins(1)).start()?;
    for _ in 0..3 {
        let answer = ask(&local, "nobody", "exports").await?;
        assert_eq!((answer.source(), answer.reason()), (Source::Wire, Some(Reason::TENANT_UNKNOWN)));
        until("the refusal", || local.status().connected).await?;
    }
    // It comes to be: known at once by the wire, and held when it is asked for again.
    fake.tenant("nobody").grant("reporting", "exports");
    assert!(ask(&local, "nobody", "exports").await?.is_entitled());
    assert!(!local.holds("nobody"));
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(ask(&local, "nobody", "exports").await?.source(), Source::Wire);
    until("the document", || local.holds("nobody")).await
}

#[tokio::test(start_paused = true)]
async fn demands_go_over_the_wire_unless_that_very_revision_is_held() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    let held = ask(&local, "acme", "exports").await?.decision().context("a decision")?.revision;
    let check = || local.check("acme", "reporting", "exports");
    assert_eq!(check().at_least(&held).await?.source(), Source::Local);
    assert_eq!(check().fully_consistent().await?.source(), Source::Wire);
    let explained = check().explain().await?;
    assert_eq!(explained.source(), Source::Wire);
    fake.tenant("acme").limit("max_users", 101);
    let newer = fake.client().check("acme", "reporting", "exports").await?.revision;
    assert_ne!(newer, held);
    assert_eq!(check().at_least(&newer).at_hand().map(|answer| answer.source()), None);
    assert_eq!(check().at_least(&newer).await?.source(), Source::Wire);
    let asked = Check::new("acme", "reporting", "exports").at_least(&newer);
    until("the newer document", || local.ask(&asked).at_hand().is_some()).await?;
    assert_eq!(local.ask(&asked).await?.source(), Source::Local);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_only_a_server_can_say_is_asked_and_errors_of_the_caller_are_errors() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    assert!(local.check("acme", "reporting", "NO FEATURE").at_hand().is_none());
    assert!(local.check("acme", "reporting", "exports").limit("max_users", -1).at_hand().is_none());
    fake.fail_always(FakeError::NotAllowed);
    let refused = local.check("acme", "reporting", "charts").fully_consistent().await;
    assert!(matches!(refused, Err(Error::NotAllowed(_))), "{refused:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_holds_up_a_question_no_longer_than_its_deadline() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    fake.fail_always(FakeError::Silence);
    fake.break_streams();
    let begun = tokio::time::Instant::now();
    let check = local.check("globex", "reporting", "exports").deadline(Duration::from_millis(300));
    let answer = tokio::time::timeout(Duration::from_secs(5), check.into_future()).await??;
    assert_eq!((answer.source(), answer.is_entitled()), (Source::Policy(FailPolicy::LastKnown), false));
    assert!(begun.elapsed() <= Duration::from_millis(400), "{:?}", begun.elapsed());
    // Silence may pass: it is no trouble that waits for somebody to mend it.
    let silence = |error: Error| error.code() == Some(Code::DeadlineExceeded) && error.is_transient();
    until("the silence", || local.trouble().is_some_and(silence)).await
}

#[tokio::test(start_paused = true)]
async fn a_document_whose_time_has_passed_is_no_answer() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    let evaluated_at = |answer: &Answer| answer.decision().and_then(|decision| decision.evaluated_at);
    let now = evaluated_at(&ask(&local, "acme", "exports").await?).context("a time")?;
    fake.tenant("acme").valid_until(now);
    until("its end", || local.check("acme", "reporting", "exports").at_hand().is_none()).await?;
    assert_eq!(ask(&local, "acme", "exports").await?.source(), Source::Wire);
    fake.tenant("acme").valid_until(now + Duration::from_mins(10));
    until("the next document", || local.check("acme", "reporting", "exports").at_hand().is_some()).await
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_last_handle_is_the_end_of_the_stream() -> anyhow::Result<()> {
    let fake = fake();
    let local = loaded(&fake).await?;
    let other = local.clone();
    drop(local);
    assert_eq!(ask(&other, "acme", "exports").await?.source(), Source::Local);
    // While there is a handle, there is a stream again.
    let calls = fake.calls();
    fake.break_streams();
    until("a new stream", || fake.calls() > calls && other.status().connected).await?;
    drop(other);
    let calls = fake.calls();
    fake.break_streams();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(fake.calls(), calls, "nobody wants one any more");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn settings_are_checked_before_anything_is_subscribed() {
    let client = fake().client();
    let wrong = [
        client.local().max_staleness(Duration::ZERO).start(),
        client.local().tenants_max(0).start(),
        client.local().tenants_max(10_001).start(),
        client.local().preload(["no tenant"]).start(),
    ];
    for result in wrong {
        assert!(matches!(result, Err(Error::Setting { .. } | Error::Invalid(_))), "{result:?}");
    }
}
