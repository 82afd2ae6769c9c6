//! The layer and the extractor, over a scripted server: who gets through, and how the others are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::FromRef;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tessera_client::extract::{Entitled, Feature};
use tessera_client::fake::{Fake, FakeError};
use tessera_client::layer::{Access, Amount, Gate, RequireFeature, Tenant};
use tessera_client::local::{Answer, Source};
use tower::{Layer as _, ServiceExt as _, service_fn};

fn fake() -> Fake {
    let fake = Fake::new();
    fake.tenant("acme").plan("gold", 3).grant("reporting", "exports").limit("max_users", 100);
    fake.tenant("poor").grant("reporting", "charts").deny("reporting", "exports").limit("max_users", 100);
    fake.tenant("gone").grant("reporting", "exports").suspended(true);
    fake
}

fn request(tenant: Option<&str>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    if let Some(tenant) = tenant {
        request.extensions_mut().insert(Tenant::new(tenant));
    }
    request
}

/// Asks the layer round a service that says where the answer comes from.
async fn through(required: RequireFeature, request: Request<Body>) -> anyhow::Result<Response<Body>> {
    let inner = service_fn(|request: Request<Body>| async move {
        let answer = request.extensions().get::<Answer>().context("an answer in the extensions")?;
        let said = format!("{:?} {}", answer.source(), answer.is_entitled());
        Ok::<_, anyhow::Error>(Response::new(Body::from(said)))
    });
    required.layer(inner).oneshot(request).await
}

async fn text(response: Response<Body>) -> anyhow::Result<String> {
    Ok(String::from_utf8(to_bytes(response.into_body(), 1 << 16).await?.to_vec())?)
}

fn reason(response: &Response<Body>) -> &str {
    response.headers().get("x-tessera-reason").map_or("", |value| value.to_str().unwrap_or("not a text"))
}

/// A client, and a local mode that holds everybody.
async fn gates(fake: &Fake) -> anyhow::Result<[(Arc<dyn Gate>, &'static str); 2]> {
    let local = fake.client().local().preload(["acme", "poor", "gone"]).start()?;
    local.loaded().await;
    Ok([(Arc::new(fake.client()), "Wire"), (Arc::new(local), "Local")])
}

#[tokio::test]
async fn the_entitled_get_through_and_the_others_are_told_why() -> anyhow::Result<()> {
    let table = [
        (Some("acme"), StatusCode::OK, ""),
        (Some("poor"), StatusCode::PAYMENT_REQUIRED, "FEATURE_NOT_IN_PLAN"),
        (Some("gone"), StatusCode::FORBIDDEN, "TENANT_SUSPENDED"),
        (Some("nobody"), StatusCode::FORBIDDEN, "TENANT_UNKNOWN"),
        (Some(""), StatusCode::FORBIDDEN, "TENANT_NOT_GIVEN"),
        (None, StatusCode::FORBIDDEN, "TENANT_NOT_GIVEN"),
    ];
    for (gate, source) in gates(&fake()).await? {
        for (tenant, status, why) in table {
            let required = RequireFeature::of(Access::shared(Arc::clone(&gate)), "reporting", "exports");
            let response = through(required, request(tenant)).await?;
            assert_eq!((response.status(), reason(&response)), (status, why), "{tenant:?} by {source}");
            let body = text(response).await?;
            if why.is_empty() {
                assert_eq!(body, format!("{source} true"));
            } else {
                let words = [format!("\"status\":{}", status.as_u16()), format!("\"reason\":\"{why}\"")];
                assert!(words.iter().all(|word| body.contains(word)), "{body}");
                assert!(tenant.is_none_or(|tenant| tenant.is_empty() || !body.contains(tenant)), "{body} names the tenant");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_header_is_no_tenant_unless_it_is_said_to_be() -> anyhow::Result<()> {
    let fake = fake();
    let with_header = || {
        let mut request = request(None);
        request.headers_mut().insert("x-tenant-id", http::HeaderValue::from_static("acme"));
        request
    };
    let required = || RequireFeature::new(fake.client(), "reporting", "exports");
    let response = through(required(), with_header()).await?;
    assert_eq!((response.status(), reason(&response)), (StatusCode::FORBIDDEN, "TENANT_NOT_GIVEN"));
    let trusting = required().tenant_by(|request| request.headers.get("x-tenant-id")?.to_str().ok());
    assert_eq!(through(trusting, with_header()).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn a_limit_is_required_too() -> anyhow::Result<()> {
    for (gate, source) in gates(&fake()).await? {
        for (used, status) in [(95, StatusCode::OK), (96, StatusCode::TOO_MANY_REQUESTS)] {
            let required = RequireFeature::of(Access::shared(Arc::clone(&gate)), "reporting", "exports");
            let required = required.limit("max_users", move |_| Amount { amount: 5, used });
            assert_eq!(through(required, request(Some("acme"))).await?.status(), status, "{used} by {source}");
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decided_is_refused_unless_the_policy_lets_it_through() -> anyhow::Result<()> {
    let fake = fake();
    let local = fake.client().local().max_staleness(Duration::from_secs(1)).fail_open("reporting", "exports").start()?;
    fake.fail_always(FakeError::NotReady);
    let over_the_wire = RequireFeature::new(fake.client(), "reporting", "exports");
    let response = through(over_the_wire, request(Some("acme"))).await?;
    assert_eq!((response.status(), reason(&response)), (StatusCode::SERVICE_UNAVAILABLE, "UNDECIDED"));
    let closed = RequireFeature::new(local.clone(), "reporting", "charts");
    let response = through(closed, request(Some("acme"))).await?;
    assert_eq!((response.status(), reason(&response)), (StatusCode::SERVICE_UNAVAILABLE, "UNDECIDED"));
    let open = RequireFeature::new(local, "reporting", "exports");
    let response = through(open, request(Some("acme"))).await?;
    assert_eq!((response.status(), text(response).await?), (StatusCode::OK, "Policy(Open) true".to_owned()));
    Ok(())
}

#[tokio::test]
async fn bodies_are_of_whatever_kind_and_a_refused_request_reaches_nobody() -> anyhow::Result<()> {
    let called = Arc::new(AtomicUsize::new(0));
    let inner = {
        let called = Arc::clone(&called);
        service_fn(move |request: Request<u32>| {
            called.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, anyhow::Error>(Response::new(Bytes::from(request.into_body().to_string()))) }
        })
    };
    let service = RequireFeature::new(fake().client(), "reporting", "exports").layer(inner);
    for (tenant, status, calls) in [("poor", StatusCode::PAYMENT_REQUIRED, 0), ("acme", StatusCode::OK, 1)] {
        let mut request = Request::new(7_u32);
        request.extensions_mut().insert(Tenant::new(tenant));
        let response: Response<Bytes> = service.clone().oneshot(request).await?;
        assert_eq!((response.status(), called.load(Ordering::SeqCst)), (status, calls), "{tenant}");
    }
    Ok(())
}

struct Exports;

impl Feature for Exports {
    const SERVICE: &'static str = "reporting";
    const FEATURE: &'static str = "exports";
}

#[derive(Clone)]
struct Shop {
    access: Access,
}

impl FromRef<Shop> for Access {
    fn from_ref(shop: &Shop) -> Self {
        shop.access.clone()
    }
}

async fn export(entitled: Entitled<Exports>) -> String {
    format!("{:?} {}", entitled.source(), entitled.familiarity())
}

#[tokio::test]
async fn a_handler_that_requires_a_feature_runs_for_the_entitled_only() -> anyhow::Result<()> {
    for (gate, source) in gates(&fake()).await? {
        let shop = Shop { access: Access::shared(gate) };
        let router: Router = Router::new().route("/", get(export)).with_state(shop);
        let table = [
            (Some("acme"), StatusCode::OK, ""),
            (Some("poor"), StatusCode::PAYMENT_REQUIRED, "FEATURE_NOT_IN_PLAN"),
            (None, StatusCode::FORBIDDEN, "TENANT_NOT_GIVEN"),
        ];
        for (tenant, status, why) in table {
            let response = router.clone().oneshot(request(tenant)).await?;
            assert_eq!((response.status(), reason(&response)), (status, why), "{tenant:?} by {source}");
            if status == StatusCode::OK {
                assert_eq!(text(response).await?, format!("{source} 50%"));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_layer_guards_routes_of_a_router() -> anyhow::Result<()> {
    let local = fake().client().local().preload(["acme", "poor"]).start()?;
    local.loaded().await;
    let answer = |answer: axum::Extension<Answer>| async move { format!("{}", answer.source() == Source::Local) };
    let guarded = get(answer).layer(RequireFeature::new(local, "reporting", "exports"));
    let router: Router = Router::new().route("/export", guarded).route("/", get(|| async { "open" }));
    for (path, tenant, status) in [
        ("/export", Some("acme"), StatusCode::OK),
        ("/export", Some("poor"), StatusCode::PAYMENT_REQUIRED),
        ("/", None, StatusCode::OK),
    ] {
        let mut request = request(tenant);
        *request.uri_mut() = path.parse()?;
        assert_eq!(router.clone().oneshot(request).await?.status(), status, "{path} {tenant:?}");
    }
    Ok(())
}
