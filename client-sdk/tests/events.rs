//! What the client tells `tracing`: enough to find a call in the servers' logs, and no tenant.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use http::Request;
use tessera_client::fake::{Fake, FakeError};
use tessera_client::layer::{Gate, Question, RequireFeature, Tenant};
use tessera_client::local::Answer;
use tessera_client::{Check, Error};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const TENANT: &str = "globex-7";

/// Everything that spans and events of this crate say.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Said {
    fn has(&self, words: &str) -> bool {
        self.0.lock().unwrap().contains(words)
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}: {value:?}").unwrap();
    }
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tessera_client")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// A gate that never has an answer.
struct Failing(Error);

impl Gate for Failing {
    fn at_hand(&self, _question: &Question<'_>) -> Option<Answer> {
        None
    }

    fn ask(&self, _question: &Question<'_>) -> BoxFuture<'static, Result<Answer, Error>> {
        ready(Err(self.0.clone())).boxed()
    }
}

/// Lets time pass until it was said.
async fn until_said(said: &Said, words: &str) -> anyhow::Result<()> {
    for _ in 0..10_000 {
        if said.has(words) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("it was never said: {words}")
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_said_names_a_tenant() -> anyhow::Result<()> {
    let said = Said::default();
    let _collected = tracing::subscriber::set_default(said.clone());
    let fake = Fake::new();
    let tessera = fake.client();

    let unknown = tessera.list(TENANT).await.unwrap_err();
    assert!(unknown.to_string().contains(TENANT), "{unknown}");
    assert!(said.has("an attempt failed") && said.has("NOT_FOUND TENANT_NOT_FOUND, endpoint `fake`, request `"), "{said:?}");
    assert!(said.has(unknown.request_id().unwrap()));

    let mut request = Request::new(());
    request.extensions_mut().insert(Tenant::new(TENANT));
    let inner = service_fn(|_: Request<()>| async { Ok::<_, Error>(http::Response::new(bytes::Bytes::new())) });
    let guarded = RequireFeature::new(Failing(unknown), "reporting", "exports").layer(inner);
    assert_eq!(guarded.oneshot(request).await?.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert!(said.has("a request is refused"), "{said:?}");

    let local = tessera.local().preload([TENANT]).start()?;
    let no_tenant_id = format!("{TENANT} and others");
    assert!(!local.check(&no_tenant_id, "reporting", "exports").await?.is_entitled());
    until_said(&said, "a tenant is left to the wire").await?;

    let checker = tessera.checker();
    assert!(!checker.check(Check::new(TENANT, "reporting", "exports")).await?.is_entitled());
    fake.fail_always(FakeError::NotAllowed);
    fake.break_streams();
    assert!(checker.check(Check::new(TENANT, "reporting", "exports")).await.is_err());
    until_said(&said, "a watch is not let in").await?;
    fake.fail_always(FakeError::NotReady);
    assert!(!local.check(TENANT, "reporting", "exports").await?.is_entitled());
    for words in ["a stream of a checker ended", "a watch broke", "neither memory nor the wire has an answer"] {
        assert!(said.has(words), "{words}: {said:?}");
    }
    assert!(!said.has(TENANT), "{said:?}");
    Ok(())
}
