//! The client against the shipped `tessera dev`: every call, a restart of the server under a watch and a checker, and the
//! client's examples as programs of their own.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tessera_client::{Allowance, Check, CheckerOptions, Error, Reason, Revision, Staleness, Tessera, WatchEvent};
use tessera_e2e::proxy::Proxy;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, binary};
use tessera_proto::v1;

async fn quickstart(data: &std::path::Path) -> anyhow::Result<Dev> {
    Launch::over(data)?.apply("examples/quickstart".as_ref()).ready().await
}

async fn client(dev: &Dev) -> anyhow::Result<Tessera> {
    client_of(dev.addresses().data).await
}

async fn client_of(address: SocketAddr) -> anyhow::Result<Tessera> {
    let builder = Tessera::builder().endpoint(format!("http://{address}"));
    Ok(builder.deadline(PATIENCE).connect_timeout(PATIENCE).connect().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_answered_as_the_examples_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let tessera = client(&dev).await?;

    let decision = tessera.check("acme", "reporting", "custom-reports").explain().await?;
    assert_eq!((decision.is_entitled(), decision.reason), (true, Reason::GRANTED_BY_OVERRIDE));
    assert_eq!(decision.familiarity.basis_points, 8_750);
    assert!(decision.detail.is_some() && decision.explanation.len() >= 10, "{decision:?}");
    assert!(decision.evaluated_at.is_some() && decision.staleness != Staleness::Unknown);
    let seats = tessera.check("acme", "reporting", "").limit("max_users", 1).used(1_200).await?;
    assert_eq!(seats.reason, Reason::LIMIT_EXCEEDED);
    assert_eq!(seats.limit.as_ref().map(|limit| limit.allowance), Some(Allowance::AtMost(1_200)));
    let late = tessera.check("late-payer", "reporting", "exports").at_least(&Revision::default()).await;
    assert!(matches!(late, Err(Error::Invalid(_))), "an empty revision: {late:?}");
    assert!(tessera.check("late-payer", "reporting", "exports").fully_consistent().await?.grace_until.is_some());

    let answer = tessera
        .batch(["exports", "no-such-feature", "No Feature"].map(|feature| Check::new("acme", "reporting", feature)))
        .with_revisions()
        .await?;
    assert_eq!(answer.results[0].as_ref().map(|decision| decision.reason).ok(), Some(Reason::GRANTED_BY_PLAN));
    assert_eq!(answer.results[1].as_ref().map(|decision| decision.reason).ok(), Some(Reason::FEATURE_UNKNOWN));
    let wrong = answer.results[2].as_ref().unwrap_err();
    assert_eq!(wrong.failure().context("no failure")?.violations()[0].field, "checks[2].feature");

    let document = tessera.list("acme").await?;
    assert!(document.is_entitled("reporting", "custom-reports") && !document.is_entitled("api-gateway", "bulk-api"));
    assert_eq!(document.limit("max_users"), Some(Allowance::AtMost(1_200)));
    assert!(tessera.list("acme").if_changed_from(&document.tag).await?.is_none());
    assert_eq!(tessera.list("nobody").await.unwrap_err().reason(), "TENANT_NOT_FOUND");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checker_says_what_single_checks_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let tessera = client(&dev).await?;
    let options = CheckerOptions { with_revisions: true, with_details: true, ..CheckerOptions::default() };
    let checker = tessera.checker_with(options)?;
    for tenant in ["acme", "globex", "shut-down", "no-exports", "waiting", "hooli", "nobody"] {
        for feature in ["exports", "dashboards", "custom-reports", "no-such-feature", ""] {
            let one = tessera.check(tenant, "reporting", feature).await?;
            let same = checker.check(Check::new(tenant, "reporting", feature)).await?;
            assert_eq!((one.entitled, one.reason, &one.plan), (same.entitled, same.reason, &same.plan), "{tenant} {feature}");
            assert_eq!((one.familiarity, &one.detail), (same.familiarity, &same.detail), "{tenant} {feature}");
            assert_eq!(one.revision, same.revision, "{tenant} {feature}");
        }
    }
    let wrong = checker.check(Check::new("not a tenant", "reporting", "exports")).await.unwrap_err();
    assert!(matches!(wrong, Error::Invalid(_)), "{wrong}");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_and_a_checker_outlive_a_restart_of_the_server() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let door = Proxy::to(dev.addresses().data).await?;
    let tessera = client_of(door.address).await?;
    let (mut watch, checker) = (tessera.watch(), tessera.checker());
    watch.subscribe("acme")?;
    let first = document(&mut watch).await?;
    assert!(checker.check(Check::new("acme", "reporting", "exports")).await?.is_entitled());
    dev.stop()?;
    let disconnected = tokio::time::timeout(PATIENCE, async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Disconnected { error, .. } = event {
                return Some(error);
            }
        }
        None
    });
    let error = disconnected.await?.context("the watch ended")?;
    assert!(error.is_transient(), "{error}");

    let dev = Launch::over(folder.path())?.ready().await?;
    door.leads_to(dev.addresses().data);
    let again = document(&mut watch).await?;
    assert_eq!((again.tag, again.tenant), (first.tag, first.tenant));
    eventually("the checker to be answered again", async || {
        let check = Check::new("acme", "reporting", "exports");
        let decision = checker.check_within(check, Duration::from_secs(2)).await?;
        anyhow::ensure!(decision.is_entitled(), "{decision:?}");
        Ok(())
    })
    .await?;
    // What is written afterwards is seen through the same watch.
    let suspend = v1::SuspendTenantRequest { tenant_id: "acme".to_owned(), reason: "payment".to_owned(), ..Default::default() };
    dev.planes().await?.tenants().suspend_tenant(suspend).await?;
    assert!(!document(&mut watch).await?.is_entitled("reporting", "exports"));
    dev.stop()
}

/// The next document; whatever else comes is passed over.
async fn document(watch: &mut tessera_client::Watch) -> anyhow::Result<tessera_client::Entitlements> {
    let document = async {
        while let Some(event) = watch.next().await {
            if let WatchEvent::Document(document) = event {
                return Some(*document);
            }
        }
        None
    };
    tokio::time::timeout(PATIENCE, document).await?.context("the watch ended")
}

/// Examples that run to their end, and what each of them says.
const SAID: [(&str, &str); 5] = [
    ("check", "exports: true (GRANTED_BY_PLAN), shown at 87.5%"),
    ("checker", "500 entitled, 500 denied"),
    ("batch", "custom-reports: true (GRANTED_BY_OVERRIDE)"),
    ("watch", "nobody: TENANT_NOT_FOUND"),
    ("testing_with_the_fake", "the service does what it should"),
];

/// An example that asks this server.
fn example(name: &str, dev: &Dev) -> anyhow::Result<Command> {
    let mut command = Command::new(binary::example(name)?);
    command.env("TESSERA_DATA_ADDR", dev.addresses().data.to_string());
    Ok(command)
}

fn ends_well(name: &str, wanted: &str, command: &mut Command) -> anyhow::Result<()> {
    let output = binary::run(command)?.success().with_context(|| format!("example `{name}`"))?;
    anyhow::ensure!(output.contains(wanted), "`{name}` says:\n{output}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_client_run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    for (name, wanted) in SAID {
        ends_well(name, wanted, &mut example(name, &dev)?)?;
    }
    let folder = binary::repository().join("client-sdk/examples");
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // What they share is in a folder.
        let is_run = path.is_dir() || ELSEWHERE.contains(&name.as_str()) || SAID.iter().any(|(known, _)| *known == name);
        assert!(is_run, "`{name}` is not run");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_client_show_their_token() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut create = Command::new(binary::tessera()?);
    create.args(["token", "create", "shop", "--scope", "decide", "--tokens-file"]).arg(at("tokens.toml"));
    std::fs::write(at("token"), binary::run(&mut create)?.success()?)?;
    std::fs::write(at("settings.toml"), format!("[identity]\ntokens_file = \"{}\"\n", at("tokens.toml").display()))?;
    let mut launch = Launch::over(&at("data"))?.apply("examples/quickstart".as_ref());
    launch.command().arg("--settings").arg(at("settings.toml"));
    let dev = launch.ready().await?;
    for (name, wanted) in SAID.into_iter().filter(|(name, _)| *name != "testing_with_the_fake") {
        let refused = binary::run(&mut example(name, &dev)?)?;
        assert!(refused.code == Some(1) && refused.stderr.contains("not known to the servers"), "{name}: {refused:?}");
        ends_well(name, wanted, example(name, &dev)?.env("TESSERA_TOKEN_FILE", at("token")))?;
    }
    dev.stop()
}

/// Examples that another test runs.
const ELSEWHERE: [&str; 2] = ["axum", "local"];
