//! A Tessera that is too late, or dies, while Envoys wait for it. What was not answered to its end is no answer: nobody gets in by it
//! who would not have got in anyway, unless Envoy is told to let requests pass that nobody judged, and then they are marked.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use rustix::process::Signal;
use tessera_e2e::proxy::{Proxy, Way};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Dev, binary};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::exchange::{Answer, Request};
use super::proxy::{Envoy, Settings};
use super::service::Service;
use super::{envoys, tessera};

/// May use `/exports`.
const ENTITLED: &str = "acme";
/// May not.
const DENIED: &str = "no-exports";
/// Requests that wait for an answer that never comes.
const WAITING: u64 = 16;
/// Bytes within which Tessera has begun a connection and answered one call.
const ANSWER_BYTES_MAX: usize = 4_096;

async fn dev(folder: &Path) -> anyhow::Result<Dev> {
    tessera(&binary::repository().join("deploy/envoy/tessera.toml"), folder).await
}

/// How a request fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was let in by a judgement of ours, for the tenant that sent it.
    LetIn,
    /// It was denied by a judgement of ours.
    Denied,
    /// Nobody judged it, and it was not let in.
    Refused,
    /// Nobody judged it, and it was let in with the mark that says so.
    Passed,
}

fn fate(tenant: &str, answer: &Answer) -> anyhow::Result<Fate> {
    if answer.status == 503 {
        return Ok(Fate::Refused);
    }
    if answer.status != 200 {
        let denied = answer.denied()?;
        anyhow::ensure!(tenant == DENIED && denied.0 == 403, "{tenant}: {denied:?}");
        return Ok(Fate::Denied);
    }
    let seen = answer.seen()?;
    if seen.contains_key("x-envoy-auth-failure-mode-allowed") {
        anyhow::ensure!(!seen.keys().any(|name| name.starts_with("x-tessera-")), "{seen:?}");
        return Ok(Fate::Passed);
    }
    let ours = seen.get("x-tessera-tenant");
    anyhow::ensure!(tenant == ENTITLED && ours.is_some_and(|ours| ours == &[ENTITLED]), "{tenant}: {seen:?}");
    Ok(Fate::LetIn)
}

async fn ask(ingress: SocketAddr, tenant: &str) -> anyhow::Result<Fate> {
    let answer = Request::get("/exports").of(tenant).with("x-tessera-tenant: acme").send(ingress).await?;
    fate(tenant, &answer)
}

/// An error unless both are judged as they have to be.
async fn are_judged(ingress: SocketAddr) -> anyhow::Result<()> {
    let fates = (ask(ingress, ENTITLED).await?, ask(ingress, DENIED).await?);
    anyhow::ensure!(fates == (Fate::LetIn, Fate::Denied), "{fates:?}");
    Ok(())
}

/// Returns when the process stands still: whoever asks it now waits.
async fn stand_still(dev: &Dev) -> anyhow::Result<()> {
    dev.signal(Signal::STOP)?;
    let still = async || {
        anyhow::ensure!(dev.stands_still()?, "it runs");
        Ok(())
    };
    eventually("a process that stands still", still).await
}

/// By a process that stands still, requests are under way for certain when it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_when_tessera_is_killed_goes_by_the_failure_mode() -> anyhow::Result<()> {
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    for program in &envoys()? {
        for fails_open in [false, true] {
            let dev = dev(folder.path()).await?;
            let settings = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?;
            let settings = if fails_open { settings.failing_open()? } else { settings };
            let envoy = Envoy::begin(program, &settings).await?;
            assert_eq!(ask(envoy.ingress, ENTITLED).await?, Fate::LetIn);
            assert_eq!(ask(envoy.ingress, DENIED).await?, Fate::Denied);
            service.reached();

            stand_still(&dev).await?;
            let mut waiting = JoinSet::new();
            for place in 0..WAITING {
                let tenant = if place % 2 == 0 { ENTITLED } else { DENIED };
                waiting.spawn(ask(envoy.ingress, tenant));
            }
            let under_way = async || {
                let count = envoy.count("cluster.tessera.upstream_rq_active").await?;
                anyhow::ensure!(count == WAITING, "{count} calls are under way");
                Ok(())
            };
            eventually("calls under way", under_way).await?;
            assert_eq!(dev.kill()?, Some(Signal::KILL.as_raw()));
            let expected = if fails_open { Fate::Passed } else { Fate::Refused };
            while let Some(fate) = waiting.join_next().await {
                assert_eq!(fate??, expected, "{}", program.display());
            }
            assert_eq!(service.reached().is_empty(), !fails_open);
        }
    }
    Ok(())
}

/// The sample as it is: Envoy waits a quarter of a second for a judgement, and no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_late_goes_by_the_failure_mode() -> anyhow::Result<()> {
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    let dev = dev(folder.path()).await?;
    for program in &envoys()? {
        for fails_open in [false, true] {
            let settings = Settings::before(service.address)?.asks(dev.addresses().data)?;
            let (settings, expected) =
                if fails_open { (settings.failing_open()?, Fate::Passed) } else { (settings, Fate::Refused) };
            let envoy = Envoy::begin(program, &settings).await?;
            // A busy machine may be too late as well, which is not what this is about.
            eventually("requests that are judged", async || are_judged(envoy.ingress).await).await?;
            let before = envoy.count("cluster.tessera.upstream_rq_timeout").await?;

            stand_still(&dev).await?;
            service.reached();
            for tenant in [ENTITLED, DENIED] {
                assert_eq!(ask(envoy.ingress, tenant).await?, expected, "{tenant}: {}", program.display());
            }
            assert_eq!(service.reached().is_empty(), !fails_open);
            assert_eq!(envoy.count("cluster.tessera.upstream_rq_timeout").await?, before + 2);
            dev.signal(Signal::CONT)?;
            eventually("requests that are judged again", async || are_judged(envoy.ingress).await).await?;
        }
    }
    dev.stop()
}

/// Whatever the moment at which an answer breaks off, it is not taken for one that allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_at_any_byte_is_none() -> anyhow::Result<()> {
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    let dev = dev(folder.path()).await?;
    let way = Proxy::to(dev.addresses().data).await?;
    let settings = Settings::before(service.address)?.asks(way.address)?.patient()?;
    for program in &envoys()? {
        let envoy = Envoy::begin(program, &settings).await?;
        for (tenant, whole) in [(ENTITLED, Fate::LetIn), (DENIED, Fate::Denied)] {
            let mut refused = 0;
            loop {
                anyhow::ensure!(refused < ANSWER_BYTES_MAX, "no answer in {refused} bytes");
                way.set(Way::Open, Way::Until(refused));
                service.reached();
                let fate = ask(envoy.ingress, tenant).await.with_context(|| format!("{refused} bytes of an answer"))?;
                if fate == whole {
                    break;
                }
                assert_eq!(fate, Fate::Refused, "{tenant} by {refused} bytes of an answer");
                assert!(service.reached().is_empty(), "{tenant} by {refused} bytes of an answer");
                refused += 1;
            }
            // It would be no test if answers came at once.
            assert!(refused > 200, "{tenant}: {refused}");
            way.set(Way::Open, Way::Open);
            way.cut();
        }
    }
    dev.stop()
}

/// Asks again and again until it is told to stop: what became of each request, in order.
async fn asks_on(
    ingress: SocketAddr,
    tenant: &'static str,
    stop: Arc<AtomicBool>,
    count: watch::Sender<u64>,
) -> anyhow::Result<Vec<Fate>> {
    let mut fates = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        fates.push(ask(ingress, tenant).await?);
        count.send_modify(|count| *count += 1);
    }
    Ok(fates)
}

/// At full speed, killed at a moment that nobody picks, and started again: everybody is judged again as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_slips_in_while_tessera_is_killed_and_comes_back() -> anyhow::Result<()> {
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    for program in &envoys()? {
        for fails_open in [false, true] {
            let killed = dev(folder.path()).await?;
            let way = Proxy::to(killed.addresses().data).await?;
            let settings = Settings::before(service.address)?.asks(way.address)?.patient()?;
            let settings = if fails_open { settings.failing_open()? } else { settings };
            let envoy = Envoy::begin(program, &settings).await?;
            service.reached();

            let (stop, (count, mut counted)) = (Arc::new(AtomicBool::new(false)), watch::channel(0_u64));
            let mut clients = JoinSet::new();
            for tenant in [ENTITLED, DENIED, ENTITLED, DENIED] {
                clients.spawn(asks_on(envoy.ingress, tenant, Arc::clone(&stop), count.clone()));
            }
            drop(count);
            counted.wait_for(|count| *count >= 100).await.context("clients that are judged")?;
            killed.kill()?;
            let before = *counted.borrow();
            counted.wait_for(|count| *count >= before + 100).await.context("clients that nobody judges")?;
            let again = dev(folder.path()).await?;
            way.leads_to(again.addresses().data);
            eventually("requests that are judged again", async || are_judged(envoy.ingress).await).await?;
            stop.store(true, Ordering::SeqCst);
            let mut fates = Vec::new();
            while let Some(of_client) = clients.join_next().await {
                fates.extend(of_client?.with_context(|| program.display().to_string())?);
            }
            let times = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
            assert!(times(Fate::LetIn) > 0 && times(Fate::Denied) > 0, "{fates:?}");
            let (unjudged, never) = if fails_open { (Fate::Passed, Fate::Refused) } else { (Fate::Refused, Fate::Passed) };
            assert!(times(unjudged) > 0 && times(never) == 0, "{fates:?}");
            // What the service saw, whatever its clients heard of it.
            for head in service.reached() {
                let ours = head.contains("x-tessera-tenant: acme\r\n");
                let marked = head.contains("x-envoy-auth-failure-mode-allowed: true\r\n");
                assert!(ours != marked && (fails_open || ours), "{head}");
            }
            again.stop()?;
        }
    }
    Ok(())
}
