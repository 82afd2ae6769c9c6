//! `export`: everything as documents that `apply` and `import` read, or, with `--history`, the store itself.
//!
//! Documents are no backup: of plans and add-ons it has the newest version only, of what is archived or disabled nothing but a
//! comment, and it has no history. An import publishes the first version of everything; tenants that are pinned to another one, or
//! to the first of several, get something else there, or are refused. All of this is said on standard error.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// Most things of a kind that are named.
const NAMED_MAX: usize = 5;

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
    let (mut out, mut unreadable, mut unsaid) = (Out::open(arguments.out)?, 0_i32, Unsaid::default());
    for service in catalog::services(planes, true).await? {
        let comment = unsaid.of_service(&service);
        out.write(&comment, &Document::Service(wire::service_document(&service)?).to_yaml())?;
    }
    for limit in catalog::limits(planes, true).await? {
        let comment = unsaid.archived(limit.archived, || format!("limit `{}`", limit.limit_id));
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
            let comment = unsaid.archived(found.archived, || format!("{} `{}`", kind.name(), found.id));
            if found.latest == 1 {
                unsaid.one_version.insert((kind.name(), found.id.clone()));
            }
            out.write(comment, &offer::document(kind, &found.id, &version.document)?.to_yaml())?;
        }
    }
    if !arguments.no_tenants {
        let bar = console.progress(None, "exporting tenants");
        // Listings have no order, and an export should have: all are held, about 300 bytes for a plain tenant.
        let mut tenants = BTreeMap::new();
        let each = tenant::each(planes, |tenant| {
            if unsaid.is_pinned(&tenant) {
                unsaid.pinned.insert(format!("`{}`", tenant.tenant_id));
            }
            let (id, document) = wire::tenant_document(tenant)?;
            let yaml = Document::Tenant(id.clone(), Box::new(document)).to_yaml();
            tenants.insert(id, yaml);
            bar.inc(1);
            Ok(())
        });
        unreadable = unreadable.saturating_add(each.await?);
        bar.finish_and_clear();
        for yaml in tenants.into_values() {
            out.write("", &yaml)?;
        }
    }
    unsaid.note(console);
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

/// What documents do not say, so that it is otherwise where they are imported.
#[derive(Debug, Default)]
struct Unsaid {
    archived: BTreeSet<String>,
    disabled: BTreeSet<String>,
    /// Tenants that are pinned to a version that another store does not have, or has with another meaning.
    pinned: BTreeSet<String>,
    /// Kinds and ids of plans and add-ons that have one version, which every store has as its first.
    one_version: HashSet<(&'static str, String)>,
}

impl Unsaid {
    /// Takes note of something that is archived. Returns its comment.
    fn archived(&mut self, archived: bool, name: impl FnOnce() -> String) -> &'static str {
        if !archived {
            return "";
        }
        self.archived.insert(name());
        "# archived\n"
    }

    fn of_service(&mut self, service: &v1::Service) -> String {
        let name = format!("service `{}`", service.service_id);
        let mut comment = self.archived(service.archived, || name.clone()).to_owned();
        if service.disabled {
            comment.push_str("# disabled\n");
            self.disabled.insert(name);
        }
        for feature in &service.features {
            let id = &feature.feature_id;
            for (is_so, word, all) in
                [(feature.archived, "archived", &mut self.archived), (feature.disabled, "disabled", &mut self.disabled)]
            {
                if is_so {
                    writeln!(comment, "# {word}: {id}").unwrap_or_default();
                    all.insert(format!("feature `{}/{id}`", service.service_id));
                }
            }
        }
        comment
    }

    fn is_pinned(&self, tenant: &v1::Tenant) -> bool {
        let subscription = tenant.subscription.iter();
        let plans = subscription.flat_map(|subscription| {
            let scheduled = subscription.scheduled.iter().map(|change| (&change.plan_id, change.version));
            std::iter::once((&subscription.plan_id, subscription.pinned_version)).chain(scheduled)
        });
        let plans = plans.map(|(id, version)| (OfferKind::Plan, id, version));
        let add_ons = tenant.add_ons.iter().map(|attached| (OfferKind::AddOn, &attached.add_on_id, attached.pinned_version));
        plans.chain(add_ons).any(|(kind, id, version)| version != 0 && !self.one_version.contains(&(kind.name(), id.clone())))
    }

    fn note(&self, console: &Console) {
        for (all, words) in [
            (&self.archived, "archived, and will not be where this is imported"),
            (&self.disabled, "disabled, and will be enabled where this is imported"),
            (&self.pinned, "pinned to versions of plans or add-ons that are not, or are others, where this is imported"),
        ] {
            if !all.is_empty() {
                let named: Vec<&str> = all.iter().take(NAMED_MAX).map(String::as_str).collect();
                let more = if all.len() > NAMED_MAX { ", …" } else { "" };
                console.note(&format!("{words} (--history keeps it): {}: {}{more}", all.len(), named.join(", ")));
            }
        }
    }
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
