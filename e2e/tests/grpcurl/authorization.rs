//! Envoy's `Authorization`, called by hand as `docs/ENVOY.md` tells: whoever asks why an Envoy lets nobody in has no Envoy at hand.

use serde_json::Value;
use tessera_e2e::binary;

use super::{Fixture, json};

const SERVICE: &str = "envoy.service.auth.v3.Authorization";

/// The commands of the page, one after the other.
fn commands(fixture: &Fixture) -> anyhow::Result<Vec<String>> {
    let page = std::fs::read_to_string(binary::repository().join("docs/ENVOY.md"))?;
    let block = page.split("```sh\n").skip(1).find(|block| block.starts_with("grpcurl ")).unwrap_or_default();
    let block = block.split("```").next().unwrap_or_default().replace("127.0.0.1:7400", &fixture.data());
    Ok(block.split("grpcurl ").skip(1).map(|arguments| format!("grpcurl {arguments}")).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization_can_be_described_and_called_by_hand() -> anyhow::Result<()> {
    let settings = ["--settings", "deploy/envoy/tessera.toml"];
    let Some(fixture) = Fixture::start_with(&settings).await? else { return Ok(()) };
    let listed = fixture.run(&[&fixture.data(), "list"])?.success()?;
    assert!(listed.lines().any(|line| line == SERVICE), "{listed}");
    for service in listed.lines() {
        assert!(fixture.run(&[&fixture.data(), "describe", service])?.success()?.contains("is a service"), "{service}");
    }
    // All that messages are made of is there, to the last.
    let template = fixture.run(&["-msg-template", &fixture.data(), "describe", "envoy.service.auth.v3.CheckResponse"])?;
    assert!(template.success()?.contains("dynamicMetadata"));

    let commands = commands(&fixture)?;
    let [describe, check] = commands.as_slice() else { anyhow::bail!("two commands are expected: {commands:?}") };
    assert!(fixture.shell(describe)?.success()?.contains("rpc Check"));
    let allowed = json(&fixture.shell(check)?.success()?)?;
    assert!(allowed["status"].is_object() && allowed["okResponse"].is_object(), "{allowed}");
    let set = |name: &str| {
        let headers = allowed["okResponse"]["headers"].as_array().into_iter().flatten();
        headers.map(|option| &option["header"]).find(|header| header["key"] == name).map(|header| header["value"].clone())
    };
    assert_eq!((set("x-tessera-tenant"), set("x-tessera-plan")), (Some(Value::from("acme")), Some(Value::from("gold"))));
    let denied = json(&fixture.shell(&check.replace("acme", "no-exports"))?.success()?)?;
    assert_eq!(denied["deniedResponse"]["status"]["code"], "Forbidden", "{denied}");
    assert_eq!(denied["dynamicMetadata"]["reason"], "DENIED_BY_OVERRIDE", "{denied}");

    let health = ["-d", &format!("{{\"service\":\"{SERVICE}\"}}"), &fixture.data(), "grpc.health.v1.Health/Check"];
    assert_eq!(json(&fixture.run(&health)?.success()?)?["status"], "SERVING");
    fixture.dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorization_is_not_told_of_where_it_is_not_served() -> anyhow::Result<()> {
    let Some(fixture) = Fixture::start().await? else { return Ok(()) };
    for arguments in [&[&fixture.data(), "list"][..], &[&fixture.control(), "list"]] {
        assert!(!fixture.run(arguments)?.success()?.contains("envoy"), "{arguments:?}");
    }
    let described = fixture.run(&[&fixture.data(), "describe", SERVICE])?;
    anyhow::ensure!(described.code != Some(0), "{}", described.stdout);
    let health = ["-d", &format!("{{\"service\":\"{SERVICE}\"}}"), &fixture.data(), "grpc.health.v1.Health/Check"];
    let unknown = fixture.run(&health)?;
    assert!(unknown.stderr.contains("NotFound"), "{}", unknown.stderr);
    fixture.dev.stop()
}
