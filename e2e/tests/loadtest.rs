//! The shipped load generator against the shipped `tessera dev`: every mode, what it reports, and what it says when something
//! is wrong. Figures say nothing here: the build is not optimized and the machine does other things.

use std::path::Path;
use std::process::Command;

use tessera_e2e::binary::{self, Finished};
use tessera_e2e::{Dev, Launch};
use tessera_loadtest::report::Report;
use tessera_proto::v1;

const TENANTS: &str = "1000";

fn loadtest(words: &str) -> anyhow::Result<Finished> {
    binary::run(Command::new(binary::loadtest()?).args(words.split_whitespace()))
}

/// Runs against `dev`; the report, and how it ended.
fn run(dev: &Dev, words: &str) -> anyhow::Result<(Report, Finished)> {
    let (data, control) = (dev.addresses().data, dev.addresses().control);
    let finished = loadtest(&format!("run --data-addr {data} --control-addr {control} --tenants {TENANTS} --json - {words}"))?;
    anyhow::ensure!(!finished.stdout.is_empty(), "no report: {}", finished.stderr);
    let report = serde_json::from_str(&finished.stdout)?;
    Ok((report, finished))
}

fn prepare(dev: &Dev, words: &str) -> anyhow::Result<String> {
    let finished = loadtest(&format!("prepare --control {} --tenants {TENANTS} {words}", dev.addresses().control))?;
    anyhow::ensure!(finished.code == Some(0), "{}", finished.stderr);
    Ok(finished.stderr)
}

async fn deployment(data: &Path) -> anyhow::Result<Dev> {
    let dev = Launch::over(data)?.ready().await?;
    let said = prepare(&dev, "")?;
    assert_eq!(said.trim(), "6 plans published, 1000 tenants created or changed, 0 as they should be");
    Ok(dev)
}

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
    let dev = deployment(data.path()).await?;
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
async fn wrong_answers_are_found_and_printed() -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let dev = deployment(data.path()).await?;
    change_a_plan(&dev).await?;

    let (data_addr, short) = (dev.addresses().data, "--duration 1s --warm-up 0 --deadline 30s");
    let refused = loadtest(&format!("run --data-addr {data_addr} --tenants {TENANTS} {short}"))?;
    assert_eq!(refused.code, Some(1));
    for part in ["does not hold the scenario", "answers differ", "prepare --tenants 1000", "--skip-probe"] {
        assert!(refused.stderr.contains(part), "{part} is not in: {}", refused.stderr);
    }
    for mode in ["--mode unary --rate 300", "--mode stream --rate 20", "--mode batch --rate 5"] {
        let (report, finished) = run(&dev, &format!("{short} {mode} --skip-probe"))?;
        assert_eq!(finished.code, Some(3), "{mode}: {report:?}");
        // A feature of forty, for a tenant of six.
        assert!(report.wrong > 0 && report.wrong < report.steps[0].checks / 20, "{mode}: {}", report.wrong);
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

/// Takes one feature out of one plan.
async fn change_a_plan(dev: &Dev) -> anyhow::Result<()> {
    let planes = dev.planes().await?;
    let plan_id = "plan-3".to_owned();
    let found = planes.plans().get_plan(v1::GetPlanRequest { plan_id: plan_id.clone() }).await?.into_inner().plan;
    let mut document = found.and_then(|plan| plan.draft).ok_or_else(|| anyhow::anyhow!("no draft"))?;
    let grant = document.services.values_mut().find(|grant| grant.features.len() > 1);
    grant.ok_or_else(|| anyhow::anyhow!("nothing is granted"))?.features.pop();
    let update = v1::UpdatePlanRequest { plan_id: plan_id.clone(), document: Some(document), ..Default::default() };
    planes.plans().update_plan(update).await?;
    planes.plans().publish_plan(v1::PublishPlanRequest { plan_id, ..Default::default() }).await?;
    Ok(())
}
