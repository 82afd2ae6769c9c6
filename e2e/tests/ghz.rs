//! The real ghz against the real binary, a short run of every configuration of `loadtest/ghz`: no call may fail. What it
//! measures says nothing: the build is not optimized and the machine does other things.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use tessera_e2e::{Launch, binary, tools};

/// Calls of one run, whatever the configuration says.
const CALLS: u64 = 50;
/// Tenants of the scenario that the configurations ask about.
const TENANTS: &str = "1000";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_configuration_runs_without_an_error() -> anyhow::Result<()> {
    let Some(ghz) = tools::find("ghz")? else { return Ok(()) };
    let data = tempfile::tempdir()?;
    let dev = Launch::over(data.path())?.ready().await?;
    let control = dev.addresses().control.to_string();
    let mut prepare = Command::new(binary::loadtest()?);
    binary::run(prepare.args(["prepare", "--control", &control, "--tenants", TENANTS]))?.success()?;
    let configurations = configurations()?;
    for mode in ["unary", "stream", "batch"] {
        assert!(configurations.iter().any(|path| path.ends_with(format!("{mode}.json"))), "no configuration for {mode}");
    }
    for path in configurations {
        let address = address_for(&path, &dev)?;
        run(&ghz, &path, &address).with_context(|| path.display().to_string())?;
    }
    dev.stop()
}

fn configurations() -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(binary::repository().join("loadtest/ghz")).context("list loadtest/ghz")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // What is asked stands in files beside.
        if name.ends_with(".json") && !name.ends_with(".data.json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The listener that the configuration means by its well-known port.
fn address_for(path: &Path, dev: &tessera_e2e::Dev) -> anyhow::Result<String> {
    let configuration: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let host = configuration["host"].as_str().context("a configuration names its `host`")?;
    let addresses = dev.addresses();
    match host.rsplit(':').next() {
        Some("7400") => Ok(addresses.data.to_string()),
        Some("7401") => Ok(addresses.control.to_string()),
        _ => anyhow::bail!("`{host}` is neither data nor control plane"),
    }
}

fn run(ghz: &Path, configuration: &Path, address: &str) -> anyhow::Result<()> {
    let calls = CALLS.to_string();
    let mut command = Command::new(ghz);
    command.arg("--config").arg(configuration).args(["--insecure", "--total", &calls, "--duration", "0", "--format", "json"]);
    let report = binary::run(command.arg(address))?.success()?;
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let codes = report["statusCodeDistribution"].as_object().context("no status codes")?;
    anyhow::ensure!(codes.keys().all(|code| code == "OK"), "calls failed: {codes:?} {}", report["errorDistribution"]);
    anyhow::ensure!(report["count"].as_u64() == Some(CALLS), "{} calls instead of {CALLS}", report["count"]);
    Ok(())
}
