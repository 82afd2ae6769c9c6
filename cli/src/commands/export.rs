//! `export`: everything as documents that `apply` and `import` read, or, with `--history`, the store itself.
//!
//! Documents are no backup: of plans and add-ons it has the newest version only, of archived ones and kill switches nothing but a
//! comment, and it has no history. Tenants that are pinned to an older version say so, and need that version where they are
//! imported.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use tessera_proto::v1;

use super::{catalog, data, offer, tenant};
use crate::connection::Planes;
use crate::console::Console;
use crate::document::{Document, wire};
use crate::history;
use crate::offers::{self, OfferKind};

/// Where to write to.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Without tenants
    #[arg(long, conflicts_with = "history")]
    no_tenants: bool,
    /// The store itself, with every event and request id, for `tessera import --history`; nobody may write to it meanwhile
    #[arg(long)]
    history: bool,
    /// The data directory of a process that is not running [default: .tessera]
    #[arg(long, value_name = "DIR", requires = "history")]
    data: Option<PathBuf>,
    /// Settings that name the store, in place of a data directory
    #[arg(long, value_name = "FILE", requires = "history", conflicts_with = "data")]
    settings: Option<PathBuf>,
}

impl ExportArguments {
    /// Whether the store itself is meant, which no process is asked for.
    pub fn is_history(&self) -> bool {
        self.history
    }
}

/// `tessera export --history`.
pub async fn history(console: &Console, arguments: ExportArguments) -> anyhow::Result<()> {
    let config = data::backends(arguments.settings.as_deref(), arguments.data.as_deref())?;
    let store = tessera_backends::open_store(&config, &data::opening()).await?;
    let mut out = Out::open(arguments.out)?;
    let bar = console.progress(None, "exporting streams");
    let moved = history::export(&*store, &mut *out.writer, |streams| bar.set_position(streams)).await?;
    bar.finish_and_clear();
    console.note(&format!("{} streams, {} events, {} request ids", moved.streams, moved.events, moved.requests));
    Ok(())
}

/// `tessera export`.
pub async fn run(planes: &Planes, console: &Console, arguments: ExportArguments) -> anyhow::Result<()> {
    let (mut out, mut unreadable) = (Out::open(arguments.out)?, 0_i32);
    for service in catalog::services(planes, true).await? {
        let archived = service.features.iter().filter(|feature| feature.archived).map(|feature| feature.feature_id.as_str());
        let mut comment = if service.archived { "# archived\n".to_owned() } else { String::new() };
        for id in archived {
            writeln!(comment, "# archived: {id}").unwrap_or_default();
        }
        out.write(&comment, &Document::Service(wire::service_document(&service)?).to_yaml())?;
    }
    for limit in catalog::limits(planes, true).await? {
        let comment = if limit.archived { "# archived\n" } else { "" };
        out.write(comment, &Document::Limit(wire::limit_document(&limit)?).to_yaml())?;
    }
    for kind in [OfferKind::Plan, OfferKind::AddOn] {
        let listed = offers::list(planes, kind, true).await?;
        unreadable = unreadable.saturating_add(listed.unreadable);
        for found in listed.items {
            if found.latest == 0 {
                console.note(&format!("{} `{}` was never published and is left out", kind.name(), found.id));
                continue;
            }
            let (version, _) = offers::version(planes, kind, &found.id, found.latest).await?;
            let comment = if found.archived { "# archived\n" } else { "" };
            out.write(comment, &offer::document(kind, &found.id, &version.document)?.to_yaml())?;
        }
    }
    if !arguments.no_tenants {
        let bar = console.progress(None, "exporting tenants");
        // Listings have no order, and an export should have: all are held, about 300 bytes for a plain tenant.
        let mut tenants = BTreeMap::new();
        let each = tenant::each(planes, v1::ListTenantsRequest::default(), async |tenant| {
            let (id, document) = wire::tenant_document(tenant)?;
            let yaml = Document::Tenant(id.clone(), Box::new(document)).to_yaml();
            tenants.insert(id, yaml);
            bar.inc(1);
            Ok(true)
        })
        .await?;
        unreadable = unreadable.saturating_add(each.unreadable);
        bar.finish_and_clear();
        for yaml in tenants.into_values() {
            out.write("", &yaml)?;
        }
    }
    out.finish()?;
    if unreadable > 0 {
        bail!(
            "this export is not whole: {unreadable} plans, add-ons or tenants cannot be read; the log of the loader names them"
        );
    }
    Ok(())
}

/// Documents on their way to a file.
struct Out {
    writer: Box<dyn std::io::Write>,
    first: bool,
}

impl Out {
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let writer: Box<dyn std::io::Write> = match path {
            Some(path) => {
                let file = std::fs::File::create(&path).with_context(|| format!("create `{}`", path.display()))?;
                Box::new(std::io::BufWriter::new(file))
            }
            None => Box::new(std::io::BufWriter::new(std::io::stdout())),
        };
        Ok(Self { writer, first: true })
    }

    fn write(&mut self, comment: &str, yaml: &str) -> anyhow::Result<()> {
        let separator = if std::mem::take(&mut self.first) { "" } else { "---\n" };
        match write!(self.writer, "{separator}{comment}{yaml}") {
            // Somebody who stops reading (`| head`) is no error.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("write the export"),
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        match self.writer.flush() {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed.context("write the export"),
        }
    }
}
