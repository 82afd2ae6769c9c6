//! A Tessera that refuses to judge since too much is asked about a tenant: to an Envoy that is nobody who could judge, and its
//! failure mode says what becomes of the request, also in a dry run. It is no denial. A limit of a plan that is reached is one.

use anyhow::Context as _;
use tessera_e2e::binary;
use tessera_e2e::waiting::eventually;

use super::exchange::{Answer, Request};
use super::proxy::{Envoy, Settings};
use super::service::Service;
use super::{envoys, tessera};

/// May not use `/exports`: whoever lets it in has not asked.
const DENIED: &str = "no-exports";
/// About one tenant, a check a second, once those are made that come with the documents.
const BUCKET: &str = "[server]\ntenant_checks_per_second = 1\ntenant_checks_burst = 30\n";
/// What of the settings of the sample says for which feature, and which limit beside it.
const FEATURE: &str = r#"feature = [{ from = "context_extension", key = "feature" }]"#;
const LIMIT: &str = r#"limit = [{ from = "context_extension", key = "limit" }]
amount = [{ from = "header", name = "x-amount" }]"#;
/// What of the sample says how an Envoy refuses when it could not ask.
const STATUS: &str = "status_on_error: { code: 503 }";

/// Asks until the answer is no judgement of ours: what was judged before has to be a denial.
async fn unjudged(envoy: &Envoy) -> anyhow::Result<Answer> {
    let asks = async || {
        let answer = Request::get("/exports").of(DENIED).send(envoy.ingress).await?;
        match answer.denied() {
            // The bucket had something in it.
            Ok((403, reason)) if reason == "DENIED_BY_OVERRIDE" => anyhow::bail!("it was judged"),
            _ => Ok(answer),
        }
    };
    eventually("an empty bucket", asks).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_bucket_is_an_error_and_no_judgement() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("tessera.toml");
    let sample = std::fs::read_to_string(binary::repository().join("deploy/envoy/tessera.toml"))?;
    std::fs::write(&written, format!("{BUCKET}{sample}"))?;
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let dev = tessera(&written, folder.path()).await?;
    let closed = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
    let mut asked = 0;
    for (settings, status) in [(closed.clone(), 503), (closed.with(STATUS, "")?, 403)] {
        for program in &envoys {
            let envoy = Envoy::begin(program, &settings).await?;
            service.reached();
            let refused = unjudged(&envoy).await.with_context(|| program.display().to_string())?;
            anyhow::ensure!(refused.status == status, "{}: {}", refused.status, refused.body);
            // Envoy's own answer, with nothing of ours.
            anyhow::ensure!(!refused.headers.contains_key("x-tessera-reason"), "{:?}", refused.headers);
            anyhow::ensure!(service.reached().is_empty(), "it was let in");
            // Who has asked for nothing before is judged all the while.
            asked += 1;
            let other = Request::get("/exports").of(&format!("nobody-{asked}")).send(envoy.ingress).await?;
            assert_eq!(other.denied()?, (403, "TENANT_UNKNOWN".to_owned()));
        }
    }
    for program in &envoys {
        let envoy = Envoy::begin(program, &closed.failing_open()?).await?;
        let passed = unjudged(&envoy).await.with_context(|| program.display().to_string())?;
        anyhow::ensure!(passed.status == 200, "{}: {}", passed.status, passed.body);
        let seen = passed.seen()?;
        assert_eq!(seen["x-envoy-auth-failure-mode-allowed"], ["true"]);
        anyhow::ensure!(!seen.keys().any(|name| name.starts_with("x-tessera-")), "{seen:?}");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_allows_what_is_judged_and_nothing_else() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("tessera.toml");
    let sample = std::fs::read_to_string(binary::repository().join("deploy/envoy/tessera.toml"))?;
    let dry_run = sample.replace("[server.ext_authz]", "[server.ext_authz]\ndry_run = true");
    anyhow::ensure!(dry_run != sample, "{sample}");
    std::fs::write(&written, format!("{BUCKET}{dry_run}"))?;
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let dev = tessera(&written, folder.path()).await?;
    let closed = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
    for program in &envoys {
        let envoy = Envoy::begin(program, &closed).await?;
        let asks = async || {
            let answer = Request::get("/exports").of(DENIED).send(envoy.ingress).await?;
            if answer.status == 200 {
                let seen = answer.seen()?;
                assert_eq!(seen["x-tessera-reason"], ["DENIED_BY_OVERRIDE"]);
                anyhow::bail!("it was judged");
            }
            Ok(answer)
        };
        let refused = eventually("an empty bucket", asks).await.with_context(|| program.display().to_string())?;
        anyhow::ensure!(refused.status == 503, "{}: {}", refused.status, refused.body);
        anyhow::ensure!(!refused.headers.contains_key("x-tessera-reason"), "{:?}", refused.headers);
    }
    dev.stop()
}

/// Acme may have 1,000 users by its plan, and 100 more for each of two packs of seats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_reached_is_a_denial() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let written = folder.path().join("tessera.toml");
    let sample = std::fs::read_to_string(binary::repository().join("deploy/envoy/tessera.toml"))?;
    let limited = sample.replace(FEATURE, &format!("{FEATURE}\n{LIMIT}"));
    anyhow::ensure!(limited != sample, "{sample}");
    std::fs::write(&written, limited)?;
    let (service, envoys) = (Service::begin().await?, envoys()?);
    let dev = tessera(&written, folder.path()).await?;
    let settings = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
    let exports = "context_extensions: { feature: exports }";
    let settings = settings.with(exports, "context_extensions: { feature: exports, limit: max_users }")?;
    for program in &envoys {
        // Nobody takes it for one that could not judge.
        let envoy = Envoy::begin(program, &settings.failing_open()?).await?;
        let ask = async |target: &str, tenant: &str, amount: &str| {
            Request::get(target).of(tenant).with(&format!("x-amount: {amount}")).send(envoy.ingress).await
        };
        let seen = ask("/exports", "acme", "1200").await?.seen().with_context(|| program.display().to_string())?;
        assert_eq!(seen["x-tessera-tenant"], ["acme"]);
        service.reached();
        for (tenant, amount, status, reason) in [
            ("acme", "1201", 429, "LIMIT_EXCEEDED"),
            ("acme", "many", 403, "AMOUNT_INVALID"),
            ("corner-shop", "1", 402, "FEATURE_NOT_IN_PLAN"),
        ] {
            let denied = ask("/exports", tenant, amount).await?.denied()?;
            assert_eq!(denied, (status, reason.to_owned()), "{tenant} {amount}");
        }
        assert!(service.reached().is_empty(), "somebody was let in");
        // Another route has no limit.
        assert_eq!(ask("/custom-reports", "acme", "1201").await?.status, 200);
    }
    dev.stop()
}
