//! `export`: everything as documents that `apply` and `import` read, or, with `--history`, the store itself.
//!
//! Documents are no backup: of plans and add-ons it has the newest version only, of archived ones and kill switches nothing but a
//! comment, and it has no history. Tenants that are pinned to an older version say so, and need that version where they are
//! imported.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use tessera_proto::v1;

use super::{catalog, data, offer, store, tenant};
use crate::connection::Planes;
use crate::console::Console;
use crate::document::{Document, wire};
use crate::history;
use crate::offers::{self, OfferKind};
use crate::replacement::Replacement;

/// Where to write to.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// File to write; what it was before is replaced when all is written, and not before [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Without tenants
    #[arg(long, conflicts_with = "history")]
    no_tenants: bool,
    /// The store itself, with every event and request id, for `tessera import --history`; nobody may write to it meanwhile
    #[arg(long)]
    history: bool,
    /// The data directory of a process that is not running [default: `backends.data_dir` of the settings, or .tessera]
    #[arg(long, value_name = "DIR", requires = "history")]
    data: Option<PathBuf>,
    /// Settings that name the store, in place of a data directory [default: the file that `TESSERA_SETTINGS` names]
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
    let config = store::config(arguments.settings.as_deref(), arguments.data.as_deref())?;
    let store = tessera_backends::open_store(&config, &data::opening()).await?;
    let mut out = Out::open(arguments.out)?;
    let bar = console.progress(None, "exporting streams");
    let moved = history::export(&*store, &mut *out.writer, |streams| bar.set_position(streams)).await?;
    out.finish()?;
    bar.finish_and_clear();
    let history::Moved { streams, events, requests } = moved;
    console.note(&format!("{}: {streams} streams, {events} events, {requests} request ids", store::named(&config)));
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
    if unreadable == 0 {
        return out.finish();
    }
    let kept = match &out.replacement {
        Some(file) => {
            format!("; `{}` is left as it was, and without --out what can be read is printed", file.path().display())
        }
        None => String::new(),
    };
    out.flush()?;
    bail!(
        "this export is not whole: {unreadable} plans, add-ons or tenants cannot be read; the log of the loader names them{kept}"
    )
}

/// An export on its way to where it is to be.
struct Out {
    writer: Box<dyn std::io::Write>,
    /// The file that `writer` writes, where that is one: it has its place when the export is whole. Others read as it is written.
    replacement: Option<Replacement>,
    first: bool,
}

impl Out {
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::to(std::io::stdout(), None)) };
        let cannot_write = || format!("write `{}`", path.display());
        match File::options().write(true).open(&path) {
            // A pipe or a device.
            Ok(there) if !there.metadata().with_context(cannot_write)?.is_file() => return Ok(Self::to(there, None)),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(cannot_write),
            // What is there may be the last good export.
            _ => {}
        }
        let replacement = Replacement::one_of_many(&path)?;
        Ok(Self::to(replacement.file().try_clone().with_context(cannot_write)?, Some(replacement)))
    }

    fn to(writer: impl std::io::Write + 'static, replacement: Option<Replacement>) -> Self {
        Self { writer: Box::new(std::io::BufWriter::new(writer)), replacement, first: true }
    }

    fn write(&mut self, comment: &str, yaml: &str) -> anyhow::Result<()> {
        let separator = if std::mem::take(&mut self.first) { "" } else { "---\n" };
        match write!(self.writer, "{separator}{comment}{yaml}") {
            // Somebody who stops reading (`| head`) is no error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.context("write the export"),
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match self.writer.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            flushed => flushed.context("write the export"),
        }
    }

    /// The export is whole.
    fn finish(mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.replacement.map_or(Ok(()), Replacement::put)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn an_export_that_is_not_whole_leaves_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.yaml");
        std::fs::write(&path, "yesterday's\n").unwrap();
        let mut out = Out::open(Some(path.clone())).unwrap();
        out.write("", "plan: p\n").unwrap();
        out.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "yesterday's\n");
        out.write("", "plan: q\n").unwrap();
        out.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "plan: p\n---\nplan: q\n");
    }

    #[test]
    fn a_pipe_is_written_to_as_it_is() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut out = Out::open(Some(format!("/proc/self/fd/{}", writer.as_raw_fd()).into())).unwrap();
        drop(writer);
        out.write("", "plan: p\n").unwrap();
        out.finish().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "plan: p\n");
        Out::open(Some("/dev/null".into())).unwrap().finish().unwrap();
    }
}
