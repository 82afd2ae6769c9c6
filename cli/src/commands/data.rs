//! `migrate` and `digest`: the store itself.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tessera_backends::SqliteConfig;
use tessera_runtime::clock::SystemIds;

use crate::connection::Addresses;
use crate::console::{Console, facts};
use crate::pages;

/// Whose database.
#[derive(Debug, Args)]
pub struct MigrateArguments {
    /// The data directory
    #[arg(long, value_name = "DIR", default_value = ".tessera")]
    data: PathBuf,
}

/// Of which store.
#[derive(Debug, Args)]
pub struct DigestArguments {
    /// The data directory of a process that is not running [default: the store of the running process is asked for]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Takes the data directory for this process, and brings its database up to date.
fn open(folder: &Path) -> anyhow::Result<tessera_backends::Backends> {
    let config = tessera_backends::Config::Sqlite(SqliteConfig::new(folder));
    Ok(tokio::task::block_in_place(|| tessera_backends::open(&config, &SystemIds))?)
}

/// `tessera migrate`.
pub async fn migrate(console: &Console, arguments: MigrateArguments) -> anyhow::Result<()> {
    let backends = open(&arguments.data)?;
    let identity = backends.store.identity().await?;
    let value = serde_json::json!({
        "data": arguments.data.display().to_string(),
        "database": identity.store,
        "epoch": identity.epoch,
        "software": env!("CARGO_PKG_VERSION"),
    });
    console.answer(&value, || {
        facts(&[
            ("data", arguments.data.display().to_string()),
            ("database", identity.store.clone()),
            ("epoch", identity.epoch.to_string()),
            ("software", env!("CARGO_PKG_VERSION").to_owned()),
            ("schema", "up to date".to_owned()),
        ])
    })
}

/// `tessera digest`.
pub async fn digest(addresses: &Addresses, console: &Console, arguments: DigestArguments) -> anyhow::Result<()> {
    let digest = if let Some(folder) = arguments.data {
        tessera_runtime::digest::of_store(&*open(&folder)?.store).await?
    } else {
        let body = pages::get(&addresses.http, "/digest/store").await?;
        serde_json::from_str(&body).with_context(|| format!("the page at `{}` has no digest: {body}", addresses.http))?
    };
    console.answer(&digest, || show(&digest))
}

fn show(digest: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = Vec::new();
    for (name, value) in digest.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(parts) => lines.extend(parts.iter().map(|(part, value)| (format!("{name}: {part}"), text(value)))),
            None => lines.push((name.clone(), text(value))),
        }
    }
    let lines: Vec<(&str, String)> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts(&lines)
}
