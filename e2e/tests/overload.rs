//! More is asked of a process than it can do: it has a quarter of a core, and whoever asks has another. What can be served is, the
//! rest is told so at once, nobody gets a wrong answer, memory stays bounded, and whoever asks little is served.
//!
//! Ratios are asserted with a factor of three to spare, and waits with what else a machine may do meanwhile: the build is not
//! optimized. The real figures are rows of the benches.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tessera_benches::flood::Flood;
use tessera_benches::place::{asking_core, pinned};
use tessera_benches::quota::{MemoryLimit, QuarterCore};
use tessera_e2e::binary;
use tessera_e2e::commands::{Change, Command};
use tessera_e2e::generator::{TENANTS, deployment, run};
use tessera_e2e::{Dev, Launch, Planes, shop};
use tessera_loadtest::report::Report;
use tessera_proto::v1;
use tokio::time::MissedTickBehavior;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Counts whom the server has told that more is asked than it can do.
const REFUSED: &str = "tessera_calls_refused_total{cause=\"wait\"}";
/// What ratios are allowed to miss their goals by.
const SLACK: f64 = 3.0;
/// What the machine may do meanwhile adds so much to a wait.
const OTHER_WORK: Duration = Duration::from_millis(100);
/// Most calls have to be late for three tenths of a second before anything is done about it.
const UNTIL_NOTICED: Duration = Duration::from_millis(500);
/// What an attacker asks for, and takes back, in a second: several times what can be served.
const RESETS_PER_SECOND: u32 = 4_000;
/// Beyond what it had before, a process needs no more under any load.
const GROWTH_MAX: u64 = 96 << 20;

/// What a process with a quarter of a core does at its best, in messages a second: it is asked for more, but never for much at
/// once, and everything has its answer in the end.
fn peak(dev: &Dev) -> anyhow::Result<f64> {
    let words = "--rate 4k --in-flight 16 --connections 8 --deadline 60s --warm-up 0s --duration 1s --give-up-after 60s";
    let (report, _) = run(dev, words)?;
    let step = report.steps.first().context("a step")?;
    anyhow::ensure!(report.wrong == 0 && step.answered > 0, "{step:?}");
    Ok(f64::from(u32::try_from(step.answered)?) / step.elapsed_seconds)
}

/// What asks for three times that much.
fn three_times(peak: f64) -> String {
    let rate = (3.0 * peak).round();
    format!("--rate {rate} --in-flight 128 --connections 8 --deadline 10s --give-up-after 60s")
}

/// Asks for three times that much, for some seconds.
fn overload(dev: &Dev, peak: f64) -> anyhow::Result<Report> {
    Ok(run(dev, &format!("{} --warm-up 1s --duration 4s", three_times(peak)))?.0)
}

/// Others who ask for three times that much, until they are stopped.
struct Others(Child);

impl Others {
    fn begin(dev: &Dev, peak: f64) -> anyhow::Result<Self> {
        let data = dev.addresses().data;
        let words =
            format!("run --data-addr {data} --tenants {TENANTS} --json - --warm-up 0s --duration 5m {}", three_times(peak));
        let mut command = pinned(&binary::loadtest()?, asking_core());
        command.args(words.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Self(command.spawn().context("start the load generator")?))
    }

    /// What they were answered. They must have gone on until now.
    fn stop(mut self) -> anyhow::Result<Report> {
        let ended = self.0.try_wait()?;
        anyhow::ensure!(ended.is_none(), "they have ended by themselves: {ended:?}");
        kill_process(Pid::from_child(&self.0), Signal::INT).context("interrupt the load generator")?;
        let (mut report, mut said) = (Vec::new(), String::new());
        self.0.stdout.take().context("its standard output")?.read_to_end(&mut report)?;
        self.0.stderr.take().context("its standard error")?.read_to_string(&mut said)?;
        serde_json::from_slice(&report).with_context(|| format!("no report: {said}"))
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// With the wait that is allowed where nothing is said of it: other suites allow more.
fn shipped(data: &Path) -> anyhow::Result<Launch> {
    Ok(Launch::over(data)?.env("TESSERA_LISTENER__WAIT_TARGET_MS", "5"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_too_much_is_served_as_far_as_can_be_and_refused_beyond() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(shipped(data.path())?).await?;
    let before = dev.resident_bytes()?;
    let mut quarter = QuarterCore::of(dev.pid())?;
    let peak = peak(&dev)?;
    let report = overload(&dev, peak)?;
    let step = report.steps.first().context("a step")?;
    println!("peak {peak:.0}/s, at three times as much {:.0}/s: {:?} {:?}", step.answered_per_second, step.latency, step.errors);
    assert_eq!(report.wrong, 0, "{:?}", report.wrong_answers);
    let goodput = step.answered_per_second / peak;
    assert!(goodput >= 0.8 / SLACK, "{goodput:.2} of the peak: {step:?}");
    let refused = step.errors.iter().find(|error| error.code == "RESOURCE_EXHAUSTED" && error.reason == "OVERLOADED");
    assert!(refused.is_some_and(|refused| refused.count > 0), "nobody was told: {step:?}");
    let kinds = ["OVERLOADED", "NO_ANSWER_IN_TIME", "DEADLINE_EXCEEDED", ""];
    assert!(step.errors.iter().all(|error| kinds.contains(&error.reason.as_str())), "{:?}", step.errors);
    assert!(step.broken.is_empty(), "who is refused keeps the connection: {:?}", step.broken);
    let grown = dev.resident_bytes()?.saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{grown} bytes");
    dev.metric_reaches(REFUSED, 1.0).await?;
    quarter.lift();
    // It is as good as new.
    let (report, finished) = run(&dev, "--rate 100 --deadline 10s --warm-up 0s --duration 1s")?;
    assert_eq!((finished.code, report.failed, report.wrong), (Some(0), 0, 0), "{report:?}");
    // Others have their quarter of the same core only now.
    drop(quarter);
    dev.stop()
}

/// What all but two calls of twenty wait no longer than, of somebody who asks five times a second over a connection of its own; and
/// how many calls of how many were refused.
async fn modest(planes: &Planes) -> anyhow::Result<(Duration, usize, usize)> {
    const CALLS: usize = 20;
    let (mut waits, mut refused) = (Vec::new(), 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..CALLS {
        let due = ticks.tick().await;
        match planes.entitlements().check_entitlement(ask("acme")).await {
            Ok(answer) => anyhow::ensure!(answer.get_ref().entitled, "{answer:?}"),
            Err(status) => {
                anyhow::ensure!(reason_of(&status).1 == "OVERLOADED", "{status:?}");
                refused += 1;
            }
        }
        waits.push(due.elapsed());
    }
    waits.sort();
    let most = waits.get(CALLS - 3).copied().context("twenty waits")?;
    Ok((most, refused, CALLS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_little_is_served_whatever_others_do() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(shipped(data.path())?).await?;
    let planes = dev.planes().await?;
    create(&planes, "acme").await?;
    let quarter = QuarterCore::of(dev.pid())?;
    let peak = peak(&dev)?;
    let (quiet, ..) = modest(&planes).await?;
    // The search for the peak may have been refused something.
    let refused_before = dev.metric(REFUSED).await?.unwrap_or(0.0);
    let others = Others::begin(&dev, peak)?;
    // They are at it by then.
    dev.metric_reaches(REFUSED, refused_before + 1.0).await?;
    let (beside, refused, calls) = modest(&planes).await?;
    let attack = tokio::task::block_in_place(|| others.stop())?;
    println!(
        "at most {quiet:?} quiet, {beside:?} beside others who ask for three times what can be done; refused {refused} of {calls}"
    );
    assert!(attack.interrupted && attack.wrong == 0, "{attack:?}");
    let told: u64 = attack.steps.iter().flat_map(|step| &step.errors).map(|error| error.count).sum();
    assert!(told > 0, "{attack:?}");
    assert!(refused * 10 <= calls, "{refused} of {calls}, though others ask for far more");
    // Those who flood wait for seconds.
    let allowed = quiet.mul_f64(2.0 * SLACK) + OTHER_WORK;
    assert!(beside <= allowed, "{beside:?}, and {quiet:?} when it is quiet");
    // Nor is it by one who takes back what it asks.
    let flood = Flood::start(dev.addresses().data, RESETS_PER_SECOND);
    let attacked = modest(&planes).await;
    let taken_back = tokio::task::block_in_place(|| flood.stop())?;
    let (attacked, refused, calls) = attacked?;
    println!("at most {attacked:?} beside an attacker who took back {taken_back} calls; refused {refused} of {calls}");
    assert!(taken_back > u64::from(RESETS_PER_SECOND), "there was no attack: {taken_back}");
    assert!(refused * 10 <= calls, "{refused} of {calls}, though others ask for far more");
    let allowed = allowed + UNTIL_NOTICED;
    assert!(attacked <= allowed, "{attacked:?}, and {quiet:?} when it is quiet");
    drop(quarter);
    dev.stop()
}

async fn create(planes: &Planes, tenant: &str) -> anyhow::Result<()> {
    shop::open(planes).await?;
    let create = Command { tenant: tenant.to_owned(), request_id: tenant.to_owned(), change: Change::Create };
    create.send(planes, false).await?;
    Ok(())
}

fn ask(tenant: &str) -> v1::CheckEntitlementRequest {
    let (service, feature) = (shop::SERVICE.to_owned(), shop::FEATURE.to_owned());
    v1::CheckEntitlementRequest { tenant_id: tenant.to_owned(), service, feature, ..Default::default() }
}

async fn batch(planes: &Planes, tenants: &[&str]) -> Result<Vec<Option<bool>>, Status> {
    let checks = tenants.iter().map(|tenant| ask(tenant)).collect();
    let request = v1::BatchCheckEntitlementRequest { checks, ..Default::default() };
    let answer = planes.entitlements().batch_check_entitlement(request).await?.into_inner();
    let entitled = |result: v1::CheckResult| match result.result {
        Some(v1::check_result::Result::Response(answer)) => Some(answer.entitled),
        _ => None,
    };
    Ok(answer.results.into_iter().map(entitled).collect())
}

fn reason_of(status: &Status) -> (Code, String, bool) {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    (status.code(), reason, delay.is_some_and(|delay| delay > Duration::ZERO))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_a_bucket_and_so_has_a_caller() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    // So little runs in that none does while this is running.
    let settings = [("TENANT_CHECKS_PER_SECOND", "1"), ("TENANT_CHECKS_BURST", "600"), ("CALLER_CHECKS_PER_SECOND", "1")];
    let mut launch = Launch::over(data.path())?.env("TESSERA_SERVER__CALLER_CHECKS_BURST", "5000");
    for (name, value) in settings {
        launch = launch.env(&format!("TESSERA_SERVER__{name}"), value);
    }
    let dev = launch.ready().await?;
    let planes = dev.planes().await?;
    create(&planes, "acme").await?;
    create(&planes, "globex").await?;
    // Of a thousand, what is left of the bucket is answered; and others have their own.
    let mixed: Vec<&str> = (0..1_000).map(|number| if number % 10 == 0 { "globex" } else { "acme" }).collect();
    let answers = batch(&planes, &mixed).await?;
    let refused = |tenant| mixed.iter().zip(&answers).filter(|(of, answer)| **of == tenant && answer.is_none()).count();
    assert_eq!(refused("globex"), 0);
    assert!((200..=300).contains(&refused("acme")), "{}", refused("acme"));
    let exhausted = planes.entitlements().check_entitlement(ask("acme")).await.err().context("the bucket is empty")?;
    assert_eq!(reason_of(&exhausted), (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), true), "{exhausted:?}");
    assert!(planes.check("globex", shop::SERVICE, shop::FEATURE).await?.entitled);
    // What the caller asks for is charged even where a tenant's bucket is empty.
    for _ in 0..3 {
        batch(&planes, &mixed).await?;
    }
    batch(&planes, &vec!["initech"; 990]).await?;
    let exhausted = batch(&planes, &["globex"; 500]).await.err().context("the caller's bucket is empty")?;
    assert_eq!(reason_of(&exhausted), (Code::ResourceExhausted, "RATE_LIMITED".to_owned(), true), "{exhausted:?}");
    assert!(exhausted.message().contains("`1` checks a second and `5000` at once"), "{exhausted:?}");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_its_memory_limit_a_process_answers_single_checks_alone() -> anyhow::Result<()> {
    let Some(limit) = MemoryLimit::of(1 << 30) else {
        println!("skipped: no control groups can be made here");
        return Ok(());
    };
    let data = tempfile::tempdir()?;
    let settings = data.path().join("tessera.toml");
    // Whatever it needs is more than that, and far less than two thirds of the rest.
    std::fs::write(&settings, "[listener]\nmemory_percent_max = 10\n")?;
    let mut launch = Launch::limited(&limit, &data.path().join("data"))?;
    launch.command().arg("--settings").arg(&settings);
    let dev = launch.ready().await?;
    let planes = dev.planes().await?;
    let ballast = limit.fill(200 << 20)?;
    dev.metric_reaches("tessera_memory_used_ratio", 0.15).await?;
    let refused = batch(&planes, &["acme"]).await.err().context("a batch is refused")?;
    assert_eq!(reason_of(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned(), true), "{refused:?}");
    let refused = shop::open(&planes).await.err().context("a command is refused")?;
    assert!(format!("{refused:#}").contains("more is asked than can be served"), "{refused:#}");
    assert!(!planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled, "nobody is there, which is an answer");
    dev.metric_reaches("tessera_calls_refused_total{cause=\"memory\"}", 2.0).await?;
    drop(ballast);
    tessera_e2e::waiting::eventually("calls are served again", async || {
        batch(&planes, &["acme"]).await?;
        Ok(())
    })
    .await?;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_out_of_bounds_is_refused_at_the_start() -> anyhow::Result<()> {
    for (name, value, said) in [
        ("LISTENER__WAIT_TARGET_MS", "0", "`wait_target_ms` is `0`; allowed are 1 to 1000"),
        ("LISTENER__MEMORY_PERCENT_MAX", "101", "`memory_percent_max` is `101`; allowed are 10 to 100"),
        ("SERVER__TENANT_CHECKS_BURST", "0", "`tenant_checks_burst` is `0`; allowed are 1 to 1000000000"),
        (
            "SERVER__CALLER_CHECKS_PER_SECOND",
            "1000000001",
            "`caller_checks_per_second` is `1000000001`; allowed are 0 to 1000000000",
        ),
    ] {
        let data = tempfile::tempdir()?;
        let mut command = std::process::Command::new(binary::tessera()?);
        command.args(["dev", "--data"]).arg(data.path()).env(format!("TESSERA_{name}"), value);
        let finished = binary::run(&mut command)?;
        assert_ne!(finished.code, Some(0), "{name}");
        assert!(finished.stderr.contains(said), "{name}: {}", finished.stderr);
    }
    Ok(())
}
