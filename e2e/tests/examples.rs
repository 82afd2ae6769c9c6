//! Every file below `examples/` is good for something: documents apply, requests are answered, configurations run. A file of a
//! kind that is not known here fails the suite, so that none is shipped untried.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tessera_e2e::{Dev, Launch, binary};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_is_used() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.apply("examples/quickstart".as_ref()).ready().await?;
    let files = files_below(&binary::repository().join("examples"))?;
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        try_out(&dev, &file).with_context(|| file.display().to_string())?;
    }
    dev.stop()
}

fn try_out(dev: &Dev, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let folder = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let extension = file.extension().unwrap_or_default().to_string_lossy();
    match (folder.as_ref(), extension.as_ref()) {
        (_, "md") => Ok(()),
        (_, "yaml") => {
            let path = file.to_str().context("a path that is not text")?;
            dev.tessera(&["apply", "-f", path, "--dry-run"])?.success()?;
            schema_of(file, &text)
        }
        // Requests and configurations are run by the suites of their tools; here is only what needs no tool.
        ("grpcurl", "sh") => {
            let executable = std::fs::metadata(file)?.permissions().mode() & 0o111 != 0;
            anyhow::ensure!(executable, "not executable");
            Ok(())
        }
        ("schema", "json") => serde_json::from_str::<serde_json::Value>(&text).map(drop).context("not JSON"),
        _ => bail!("a kind of example that no suite tries out"),
    }
}

/// A document names the schema that editors check it with, and that file is there.
fn schema_of(file: &Path, text: &str) -> anyhow::Result<()> {
    let first = text.lines().next().unwrap_or_default();
    let schema = first.strip_prefix("# yaml-language-server: $schema=").context("does not name its schema")?;
    let path = file.parent().context("a file without a folder")?.join(schema);
    anyhow::ensure!(path.is_file(), "`{}` does not exist", path.display());
    Ok(())
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_applied_is_not_applied_again() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.apply("examples/quickstart".as_ref()).ready().await?;
    let planes = dev.planes().await?;
    let before = planes.verify_audit().await?;
    dev.tessera(&["apply", "-f", "examples/quickstart", "--yes"])?.success()?;
    assert_eq!(planes.verify_audit().await?, before);
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_applies_to_an_empty_store_and_gives_the_same_export() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(&folder.path().join("first"))?.apply("examples/quickstart".as_ref()).ready().await?;
    let exported = dev.tessera(&["export"])?.success()?;
    dev.stop()?;
    let file = folder.path().join("export.yaml");
    std::fs::write(&file, &exported)?;
    let dev = Launch::over(&folder.path().join("second"))?.apply(&file).ready().await?;
    let again = dev.tessera(&["export"])?.success()?;
    // Listings promise no order.
    let sorted = |text: &str| {
        let mut documents: Vec<String> = text.split("---\n").map(str::to_owned).collect();
        documents.sort();
        documents
    };
    assert_eq!(sorted(&exported), sorted(&again));
    dev.stop()
}
