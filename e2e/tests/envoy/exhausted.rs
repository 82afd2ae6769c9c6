//! A Tessera that refuses to judge since too much is asked about a tenant: to an Envoy that is nobody who could judge, and its
//! failure mode says what becomes of the request. It is no denial.

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
