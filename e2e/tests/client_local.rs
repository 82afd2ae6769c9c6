//! The client's local mode against the shipped `tessera dev`: the same answers as over the wire, through changes, a kill and a
//! new start; and its examples as programs of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tessera_client::local::{Answer, FailPolicy, Local, Source};
use tessera_client::{Check, Decision, Error, Reason, Tessera};
use tessera_e2e::lines::Lines;
use tessera_e2e::proxy::Proxy;
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, binary};
use tessera_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// More than two heartbeats of a server.
const MAX_STALENESS: Duration = Duration::from_secs(11);
const TENANTS: [&str; 7] = ["acme", "globex", "shut-down", "no-exports", "waiting", "hooli", "late-payer"];

async fn quickstart(data: &Path) -> anyhow::Result<Dev> {
    Launch::over(data)?.apply("examples/quickstart".as_ref()).ready().await
}

async fn client_of(address: SocketAddr) -> anyhow::Result<Tessera> {
    let builder = Tessera::builder().endpoint(format!("http://{address}"));
    Ok(builder.deadline(Duration::from_secs(5)).connect_timeout(PATIENCE).connect().await?)
}

async fn loaded(tessera: &Tessera) -> anyhow::Result<Local> {
    let builder = tessera.local().max_staleness(MAX_STALENESS).preload(TENANTS);
    let local = builder.fail_open("reporting", "dashboards").last_known("reporting", "exports").start()?;
    tokio::time::timeout(PATIENCE, local.loaded()).await?;
    Ok(local)
}

/// Without what answers out of memory do not carry, and what no two answers share.
fn comparable(decision: Decision) -> Decision {
    let mut decision = decision;
    (decision.detail, decision.explanation) = (None, Vec::new());
    (decision.evaluated_at, decision.valid_until) = (None, None);
    decision.staleness = tessera_client::Staleness::Unknown;
    decision
}

async fn local_answer(local: &Local, check: &Check) -> anyhow::Result<Answer> {
    eventually("an answer out of memory", async || local.ask(check).at_hand().context("nothing")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_says_what_the_wire_says() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let tessera = client_of(dev.addresses().data).await?;
    let local = loaded(&tessera).await?;
    let mut compared = 0;
    for tenant in TENANTS {
        for service in ["reporting", "api-gateway", "no-such-service"] {
            for feature in ["exports", "dashboards", "custom-reports", "bulk-api", "no-such-feature", ""] {
                for limit in [None, Some(("max_users", 1, 999)), Some(("max_users", 500, 999)), Some(("no-such-limit", 1, 0))] {
                    let mut check = Check::new(tenant, service, feature);
                    if let Some((name, amount, used)) = limit {
                        check = check.limit(name, amount).used(used);
                    }
                    let ours = local_answer(&local, &check).await?;
                    assert_eq!(ours.source(), Source::Local);
                    let wire = tessera.ask(check.clone()).await?;
                    let ours = ours.decision().context("a decision")?;
                    assert!(wire.valid_until.is_none_or(|exact| ours.valid_until.is_some_and(|ours| ours <= exact)), "{check:?}");
                    assert_eq!(comparable(ours), comparable(wire), "{check:?}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 7 * 3 * 6 * 4);
    for wrong in [Check::new("acme", "Reporting", ""), Check::new("acme", "reporting", "exports").limit("max_users", -1)] {
        assert!(matches!(local.ask(&wrong).await, Err(Error::Invalid(_))), "{wrong:?}");
    }
    assert!(matches!(local.check("no tenant", "reporting", "").await, Err(Error::Invalid(_))));
    let unknown = local.check("nobody", "reporting", "exports").await?;
    assert_eq!((unknown.source(), unknown.reason()), (Source::Wire, Some(Reason::TENANT_UNKNOWN)));
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_seen_in_memory_and_at_once_by_who_demands_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let tessera = client_of(dev.addresses().data).await?;
    let local = loaded(&tessera).await?;
    assert!(local.check("acme", "reporting", "exports").await?.is_entitled());
    let suspend = v1::SuspendTenantRequest { tenant_id: "acme".to_owned(), reason: "payment".to_owned(), ..Default::default() };
    let written = dev.planes().await?.tenants().suspend_tenant(suspend).await?.into_inner();
    let revision = tessera_client::Revision::from_bytes(written.revision);
    let demanding = local.check("acme", "reporting", "exports").at_least(&revision).await?;
    assert_eq!(demanding.reason(), Some(Reason::TENANT_SUSPENDED));
    eventually("the suspension in memory", async || {
        let answer = local.check("acme", "reporting", "exports").at_hand().context("nothing")?;
        anyhow::ensure!(answer.reason() == Some(Reason::TENANT_SUSPENDED), "{answer:?}");
        Ok(())
    })
    .await?;
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_server_memory_answers_then_the_policy_and_after_a_new_start_memory_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let door = Proxy::to(dev.addresses().data).await?;
    let local = loaded(&client_of(door.address).await?).await?;
    let exports = || local.check("acme", "reporting", "exports");
    let before = local_answer(&local, &Check::new("acme", "reporting", "exports")).await?;
    dev.kill()?;

    // Nothing is ever told out of memory that is older than allowed, and then nothing is.
    let mut told = 0;
    eventually("the end of what memory may say", async || {
        let Some(answer) = exports().at_hand() else { return Ok(()) };
        assert!(answer.staleness().is_within(MAX_STALENESS) && answer.is_entitled(), "{answer:?}");
        told += 1;
        anyhow::bail!("{:?}", answer.staleness())
    })
    .await?;
    assert!(told > 0, "memory said nothing while the server was away");
    let table = [
        ("exports", Source::Policy(FailPolicy::LastKnown), true),
        ("dashboards", Source::Policy(FailPolicy::Open), true),
        ("custom-reports", Source::Policy(FailPolicy::Closed), false),
    ];
    for (feature, source, entitled) in table {
        let answer = local.check("acme", "reporting", feature).await?;
        assert_eq!((answer.source(), answer.is_entitled()), (source, entitled), "{feature}");
        assert!(!answer.staleness().is_within(MAX_STALENESS), "{feature} is told as fresh: {:?}", answer.staleness());
    }

    let dev = Launch::over(folder.path())?.ready().await?;
    let suspend = v1::SuspendTenantRequest { tenant_id: "acme".to_owned(), reason: "payment".to_owned(), ..Default::default() };
    dev.planes().await?.tenants().suspend_tenant(suspend).await?;
    door.leads_to(dev.addresses().data);
    eventually("memory to answer again", async || {
        let answer = exports().at_hand().context("nothing")?;
        anyhow::ensure!(answer.reason() == Some(Reason::TENANT_SUSPENDED), "{answer:?}");
        Ok(())
    })
    .await?;
    assert_eq!(before.reason(), Some(Reason::GRANTED_BY_PLAN));
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let mut command = Command::new(binary::example("local")?);
    command.env("TESSERA_DATA_ADDR", dev.addresses().data.to_string());
    let output = binary::run(&mut command)?.success()?;
    for line in ["exports: true (Some(", "from Local", "20 more seats: false, left Some(10)", "100000 checks out of memory"] {
        assert!(output.contains(line), "`{line}` is not in:\n{output}");
    }

    let mut command = Command::new(binary::example("axum")?);
    command.env("TESSERA_DATA_ADDR", dev.addresses().data.to_string()).env("LISTEN", "127.0.0.1:0");
    let mut service = Service(command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?);
    let lines = Lines::follow(service.0.stdout.take().context("no output")?);
    let address = lines.wait_for(PATIENCE, |line| line.strip_prefix("listening on ")?.parse().ok()).context("no address")?;
    for (path, key, wanted) in [
        ("/export", "acme-key", "HTTP/1.1 200 OK"),
        ("/dashboards", "acme-key", "HTTP/1.1 200 OK"),
        ("/export", "shut-down-key", "x-tessera-reason: TENANT_SUSPENDED"),
        ("/dashboards", "shut-down-key", "HTTP/1.1 403 Forbidden"),
        ("/export", "no-key", "HTTP/1.1 401 Unauthorized"),
    ] {
        let answer = get(address, path, key).await?;
        assert!(answer.contains(wanted), "{path} with {key}: `{wanted}` is not in\n{answer}");
    }
    dev.stop()
}

/// A process that is killed when it is not needed any more.
struct Service(std::process::Child);

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The answer, head and body.
async fn get(address: SocketAddr, path: &str, key: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    Ok(answer)
}
