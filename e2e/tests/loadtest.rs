//! The shipped load generator against the shipped `tessera dev`: every mode, what it reports, and what it says when something
//! is wrong. Figures say nothing here: the build is not optimized and the machine does other things.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tessera_e2e::binary;
use tessera_e2e::generator::{TENANTS, deployment, loadtest, prepare, run};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Dev, Launch};
use tessera_loadtest::report::Report;
use tessera_proto::v1;

/// All messages have their fate, and every answer was the right one.
fn sound(report: &Report) {
    assert_eq!((report.format, report.wrong, report.interrupted, report.gave_up), (1, 0, false, false));
    for step in &report.steps {
        let not_sent: u64 = step.not_sent.values().sum();
        assert_eq!(step.due, step.answered + step.failed + not_sent, "{step:?}");
        assert_eq!(step.checks + step.failed_checks, step.answered * report.settings.checks_per_message, "{step:?}");
        assert!(step.latency.p50_us > 0.0 && step.latency.p50_us <= step.latency.max_us, "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_finds_every_answer_right() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(Launch::over(data.path())?).await?;
    let again = prepare(&dev, "")?;
    assert_eq!(again.trim(), "0 plans published, 0 tenants created or changed, 1000 as they should be");

    // Deadlines are generous, so that a machine that does other things fails nothing.
    let common = "--deadline 30s --warm-up 200ms --duration 1s --give-up-after 60s";
    let (report, finished) = run(&dev, &format!("{common} --rate 200,400 --updates 50"))?;
    sound(&report);
    assert_eq!(finished.code, Some(0), "{report:?}");
    let due: Vec<u64> = report.steps.iter().map(|step| step.due).collect();
    assert_eq!(due, [200, 400], "rate × duration, however fast answers came");
    let updates = report.updates.as_ref().ok_or_else(|| anyhow::anyhow!("no updates"))?;
    assert!(updates.acknowledged > 0 && updates.failed == 0, "{updates:?}");
    assert_eq!(report.warm_up.map(|step| step.due), Some(40));

    let modes = [
        "--mode stream --rate 100 --streams 2 --zipf",
        "--mode stream --size 1 --rate 300..600 --arrivals poisson",
        "--mode batch --rate 10 --size 1000",
        "--mode batch --rate 20 --size 7 --zipf 0.8 --threads 2 --connections 3",
    ];
    for mode in modes {
        let (report, finished) = run(&dev, &format!("{common} {mode}"))?;
        sound(&report);
        assert_eq!(finished.code, Some(0), "{mode}: {report:?}");
        assert_eq!(report.steps.iter().map(|step| step.failed).sum::<u64>(), 0, "{mode}");
        assert!(report.steps.iter().all(|step| step.answered > 0), "{mode}");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_shows_who_asks_where_everybody_is_asked() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (tokens, settings, token_file) = (path("tokens.toml"), path("settings.toml"), path("token"));
    std::fs::write(&settings, format!("[identity]\ntokens_file = {tokens:?}\n"))?;
    let words = ["token", "create", "load", "--scope", "decide,read,write:plans,write:tenants", "--tokens-file", &tokens];
    let token = binary::run(Command::new(binary::tessera()?).args(words))?.success()?;
    std::fs::write(&token_file, &token)?;
    let mut launch = Launch::over(&folder.path().join("data"))?;
    launch.command().args(["--settings", &settings]);
    let dev = launch.ready().await?;

    let (data, control) = (dev.addresses().data, dev.addresses().control);
    for words in [format!("prepare --control {control} --tenants 10"), format!("run --data {data} --tenants 10")] {
        let refused = loadtest(&words)?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        for part in ["UNAUTHENTICATED TOKEN_INVALID", "--token-file"] {
            assert!(refused.stderr.contains(part), "{part} is not in: {}", refused.stderr);
        }
    }
    prepare(&dev, &format!("--token-file {token_file}"))?;
    let common = format!("--deadline 30s --warm-up 0 --duration 1s --give-up-after 60s --token-file {token_file}");
    for mode in ["--rate 100 --updates 20", "--mode stream --rate 20", "--mode batch --rate 5"] {
        let (report, finished) = run(&dev, &format!("{common} {mode}"))?;
        sound(&report);
        assert_eq!(finished.code, Some(0), "{mode}: {report:?}");
    }
    let mut by_variable = Command::new(binary::loadtest()?);
    by_variable.args(["run", "--data", &data.to_string(), "--tenants", TENANTS, "--duration", "1s", "--warm-up", "0"]);
    binary::run(by_variable.args(["--rate", "50", "--deadline", "30s"]).env("TESSERA_TOKEN", token.trim()))?.success()?;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_answers_are_found_and_printed() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(Launch::over(data.path())?).await?;
    change_a_plan(&dev).await?;

    let (data_addr, short) = (dev.addresses().data, "--duration 1s --warm-up 0 --deadline 30s --seed 1");
    let refused = loadtest(&format!("run --data-addr {data_addr} --tenants {TENANTS} {short}"))?;
    assert_eq!(refused.code, Some(1));
    for part in ["does not hold the scenario", "answers differ", "prepare --tenants 1000", "--skip-probe"] {
        assert!(refused.stderr.contains(part), "{part} is not in: {}", refused.stderr);
    }
    for mode in ["--mode unary --rate 300", "--mode stream --rate 20", "--mode batch --rate 5"] {
        let (report, finished) = run(&dev, &format!("{short} {mode} --skip-probe"))?;
        assert_eq!(finished.code, Some(3), "{mode}: {report:?}");
        // A third of the features, for a tenant of six.
        assert!(report.wrong > 0 && report.wrong < report.steps[0].checks / 5, "{mode}: {}", report.wrong);
        let first = report.wrong_answers.first().ok_or_else(|| anyhow::anyhow!("none is told"))?;
        assert!(first.answered.contains("plan_version 2"), "{first:?}");
        assert!(first.expected.contains("GRANTED_BY_PLAN") && first.answered.contains("FEATURE_NOT_IN_PLAN"), "{first:?}");
    }
    let shown = loadtest(&format!("run --data-addr {data_addr} --tenants {TENANTS} {short} --rate 300 --skip-probe"))?;
    assert!(shown.stdout.contains("WRONG ANSWERS: ") && shown.stdout.contains("expected: entitled true"), "{}", shown.stdout);

    // What differs is not changed without being asked for; then it is made good.
    let refused = loadtest(&format!("prepare --control-addr {} --tenants {TENANTS}", dev.addresses().control))?;
    assert!(refused.code == Some(1) && refused.stderr.contains("--overwrite"), "{}", refused.stderr);
    assert!(prepare(&dev, "--overwrite")?.starts_with("1 plans published, 0 tenants"));
    let (report, finished) = run(&dev, &format!("{short} --rate 200"))?;
    assert_eq!((report.wrong, finished.code), (0, Some(0)));
    dev.stop()
}

/// Leaves one feature of each service in one plan.
async fn change_a_plan(dev: &Dev) -> anyhow::Result<()> {
    let planes = dev.planes().await?;
    let plan_id = "plan-3".to_owned();
    let found = planes.plans().get_plan(v1::GetPlanRequest { plan_id: plan_id.clone() }).await?.into_inner().plan;
    let mut document = found.and_then(|plan| plan.draft).ok_or_else(|| anyhow::anyhow!("no draft"))?;
    document.services.values_mut().for_each(|grant| grant.features.truncate(1));
    let update = v1::UpdatePlanRequest { plan_id: plan_id.clone(), document: Some(document), ..Default::default() };
    planes.plans().update_plan(update).await?;
    planes.plans().publish_plan(v1::PublishPlanRequest { plan_id, ..Default::default() }).await?;
    Ok(())
}

/// A run in the background, which has begun to be answered.
async fn begun(dev: &Dev, words: &str) -> anyhow::Result<Child> {
    let data = dev.addresses().data;
    let words = format!("run --data-addr {data} --tenants {TENANTS} --json - --skip-probe --warm-up 0 --duration 10m {words}");
    let mut command = Command::new(binary::loadtest()?);
    command.args(words.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn()?;
    let answered = async || {
        let page = dev.page("/metrics").await?.body;
        let checks = page.lines().filter(|line| line.starts_with("tessera_checks_total"));
        let counts = checks.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        anyhow::ensure!(counts.sum::<f64>() > 0.0, "nothing was asked yet");
        Ok(())
    };
    eventually("load", answered).await?;
    Ok(child)
}

/// How a run in the background ended, and what it reported.
fn ended(child: Child) -> anyhow::Result<(Option<i32>, Report)> {
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Report = serde_json::from_slice(&output.stdout).map_err(|error| anyhow::anyhow!("{error}: {said}"))?;
    Ok((output.status.code(), report))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_run_reports_what_it_measured() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(Launch::over(data.path())?).await?;
    let child = begun(&dev, "--rate 100,200 --deadline 30s").await?;
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT)?;
    let (code, report) = ended(child)?;
    assert_eq!((code, report.interrupted, report.steps.len()), (Some(130), true, 1));
    assert!(report.steps[0].answered > 0 && report.steps[0].duration_seconds < 600.0, "{report:?}");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_vanishes_or_stands_still_ends_the_run() -> anyhow::Result<()> {
    for (mode, silent) in [("unary", true), ("stream", true), ("batch", false), ("stream", false)] {
        let data = tempfile::tempdir()?;
        let dev = deployment(Launch::over(data.path())?).await?;
        let child = begun(&dev, &format!("--mode {mode} --rate 50 --deadline 500ms --give-up-after 2s")).await?;
        // Half-open: connections stand and nothing comes back. Otherwise nobody listens any more.
        let dev = if silent {
            dev.signal(Signal::STOP)?;
            Some(dev)
        } else {
            dev.kill()?;
            None
        };
        let (code, report) = ended(child)?;
        assert_eq!((code, report.gave_up, report.wrong), (Some(4), true, 0), "{mode}: {report:?}");
        let step = &report.steps[0];
        assert!(step.duration_seconds < 500.0, "it did not wait for its end: {step:?}");
        assert!(step.failures() > 0, "{mode}: {step:?}");
        let named: Vec<&str> = step.errors.iter().chain(&step.broken).map(|error| error.reason.as_str()).collect();
        let expected = if silent { "NO_ANSWER_IN_TIME" } else { "CANNOT_CONNECT" };
        assert!(named.contains(&expected), "{mode}: {named:?}");
        if let Some(dev) = dev {
            dev.signal(Signal::CONT)?;
            dev.kill()?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_before_the_load() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = Launch::over(data.path())?.ready().await?;
    let (data_addr, control) = (dev.addresses().data, dev.addresses().control);
    let http = dev.addresses().http;
    let cases = [
        (format!("run --data-addr {data_addr}"), vec!["does not hold the scenario of 10000 tenants", "prepare --tenants 10000"]),
        (format!("run --data-addr {control}"), vec!["--data-addr", "knows no checks", "is it the control plane?"]),
        (format!("run --data-addr {http}"), vec!["--data-addr", "does not speak gRPC"]),
        ("run --data-addr 127.0.0.1:1".to_owned(), vec!["--data-addr", "cannot reach `127.0.0.1:1`", "tessera dev"]),
        ("run --mode stream --size 1001".to_owned(), vec!["--size", "`1001`", "1 to 1000"]),
        ("run --rate 0".to_owned(), vec!["--rate", "`0`", "0.1 to 10M"]),
        ("run --updates 1k..2k".to_owned(), vec!["--updates", "`1k..2k`", "one rate"]),
        (format!("prepare --tenants 10 --control {data_addr}"), vec!["is it the data plane?", "--control-addr"]),
        ("prepare --tenants 10 --control 127.0.0.1:1".to_owned(), vec!["--control-addr", "cannot reach"]),
        ("prepare --tenants 0".to_owned(), vec!["--tenants", "`0`", "1 to 100000000"]),
    ];
    for (words, parts) in cases {
        let finished = loadtest(&words)?;
        assert_eq!(finished.code, Some(1), "{words}: {}", finished.stderr);
        for part in parts {
            assert!(finished.stderr.contains(part), "{words}: {part} is not in: {}", finished.stderr);
        }
    }
    dev.stop()
}
