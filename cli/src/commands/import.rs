//! `tenant import` and `import`: many tenants over one stream, with a bar, resumable under one import id.

use std::fmt::Write as _;
use std::io::BufRead;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tessera_backends::Ports;
use tessera_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::apply::perform;
use super::data;
use crate::connection::{Plane, Planes};
use crate::console::{Console, facts};
use crate::document::{Document, Kind, Located, wire};
use crate::{apply, files, history, json};

/// Rows on their way before the reader of the files waits.
const ROWS_WAITING_MAX: usize = 1_024;
/// How often an import that broke off is taken up again without any progress in between.
const RESUMPTIONS_MAX: u32 = 5;
/// Pause before that.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
/// Most failed rows that are named.
const FAILURES_SHOWN_MAX: usize = 20;

/// Which tenants to import, and how.
#[derive(Debug, Args)]
pub struct TenantImport {
    /// Files, directories (their *.yaml) or - for standard input, with tenant documents only
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    /// How to meet tenants that exist
    #[arg(long, value_enum, default_value_t = Mode::Upsert)]
    mode: Mode,
    #[command(flatten)]
    common: Common,
}

/// A whole export to import.
#[derive(Debug, Args)]
pub struct WholeImport {
    /// What `tessera export` wrote; with --history one file, or - for standard input, which it is by itself
    #[arg(required_unless_present = "history", value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// What `tessera export --history` wrote, into a store that has nothing else, while nobody writes to it
    #[arg(long, conflicts_with = "import_id")]
    history: bool,
    /// The data directory of a process that is not running; made if it is not there [default: .tessera]
    #[arg(long, value_name = "DIR", requires = "history")]
    data: Option<PathBuf>,
    /// Settings that name the store, in place of a data directory; `tessera migrate` has made its keyspace
    #[arg(long, value_name = "FILE", requires = "history", conflicts_with = "data")]
    settings: Option<PathBuf>,
}

impl WholeImport {
    /// Whether the store itself is meant, which no process is asked for.
    pub fn is_history(&self) -> bool {
        self.history
    }
}

/// `tessera import --history`.
pub async fn history(console: &Console, arguments: WholeImport) -> anyhow::Result<()> {
    let config = data::backends(arguments.settings.as_deref(), arguments.data.as_deref())?;
    let lines: Box<dyn BufRead> = match &arguments.files[..] {
        [] => Box::new(std::io::stdin().lock()),
        [dash] if dash.as_os_str() == "-" => Box::new(std::io::stdin().lock()),
        [file] => {
            let open = std::fs::File::open(file).with_context(|| format!("open `{}`", file.display()))?;
            Box::new(std::io::BufReader::new(open))
        }
        files => bail!("FILES names {} files; a history is one", files.len()),
    };
    let opening = data::opening();
    let backends = tessera_backends::open(&config, &opening).await?;
    let Ports { store, hints, publisher, .. } = &backends.ports;
    let question = format!("write the history into store `{}`?", store.identity().await?.store);
    console.confirm(arguments.common.yes, &question)?;
    let bar = console.progress(None, "importing streams");
    let target = history::Target { store: &**store, hints: &**hints, publisher: &**publisher, clock: &*opening.clock };
    let moved = history::import(target, lines, |streams| bar.set_position(streams)).await?;
    bar.finish_and_clear();
    let value = serde_json::json!({ "streams": moved.streams, "events": moved.events, "requests": moved.requests });
    console.answer(&value, || {
        facts(&[
            ("streams", moved.streams.to_string()),
            ("events", moved.events.to_string()),
            ("request ids", moved.requests.to_string()),
        ])
    })
}

/// What both take.
#[derive(Debug, Args)]
struct Common {
    /// Name of the import: run again under the same name, rows that are done are not done again [default: a fresh one]
    #[arg(long, value_name = "ID")]
    import_id: Option<String>,
    /// Go ahead without asking; needed where there is no terminal
    #[arg(short, long)]
    yes: bool,
}

/// How to meet tenants that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Make them what the document says
    Upsert,
    /// Refuse the row
    CreateOnly,
}

/// `tessera tenant import`.
pub async fn tenants(planes: &Planes, console: &Console, arguments: TenantImport) -> anyhow::Result<()> {
    let files = files::resolve(&arguments.files)?;
    console.confirm(arguments.common.yes, "import these tenants?")?;
    let import_id = arguments.common.import_id.unwrap_or_else(|| planes.request_id());
    let source = Source { files: &files, only_tenants: true };
    run(planes, console, &import_id, arguments.mode, || source.rows()).await
}

/// `tessera import`: the catalog, plans and add-ons as `apply` would, then the tenants.
pub async fn whole(planes: &Planes, console: &Console, arguments: WholeImport) -> anyhow::Result<()> {
    let files = files::resolve(&arguments.files)?;
    let first = files::read_all(&files, |kind| kind != Kind::Tenant)?;
    console.confirm(arguments.common.yes, &format!("import {} documents, and all tenants?", first.len()))?;
    let steps = apply::compare(planes, first).await?;
    perform(planes, console, &steps).await?;
    let import_id = arguments.common.import_id.unwrap_or_else(|| planes.request_id());
    let source = Source { files: &files, only_tenants: false };
    run(planes, console, &import_id, Mode::Upsert, || source.rows()).await
}

/// Tenants that were read already.
pub async fn located(planes: &Planes, console: &Console, documents: Vec<Located>) -> anyhow::Result<()> {
    run(planes, console, &planes.request_id(), Mode::Upsert, || {
        Ok(Box::new(documents.clone().into_iter().map(|located| message(&located.document))))
    })
    .await
}

type Rows = Box<dyn Iterator<Item = anyhow::Result<v1::TenantDocument>> + Send>;

struct Source<'a> {
    files: &'a [PathBuf],
    only_tenants: bool,
}

impl Source<'_> {
    /// All tenants of all files, in the order of the files.
    fn rows(&self) -> anyhow::Result<Rows> {
        let mut all: Rows = Box::new(std::iter::empty());
        for path in self.files {
            let only_tenants = self.only_tenants;
            let rows = files::read(path)?.filter_map(move |read| match read {
                Err(error) => Some(Err(error.into())),
                Ok(located) if located.document.kind() == Kind::Tenant => Some(message(&located.document)),
                Ok(located) if only_tenants => {
                    let (source, line, found) = (located.source, located.line, located.document);
                    Some(Err(anyhow::anyhow!(
                        "{source}:{line}: {found}: only tenants are imported; `tessera apply` takes the rest"
                    )))
                }
                Ok(_) => None,
            });
            all = Box::new(all.chain(rows));
        }
        Ok(all)
    }
}

fn message(document: &Document) -> anyhow::Result<v1::TenantDocument> {
    match document {
        Document::Tenant(id, tenant) => Ok(wire::tenant_message(id, tenant)),
        other => anyhow::bail!("{other} is not a tenant"),
    }
}

/// How far an import has come.
#[derive(Default)]
struct Progress {
    done_through: i64,
    unchanged: i64,
    failed: i64,
    shown: Vec<v1::ImportError>,
}

async fn run(
    planes: &Planes,
    console: &Console,
    import_id: &str,
    mode: Mode,
    rows: impl Fn() -> anyhow::Result<Rows>,
) -> anyhow::Result<()> {
    let bar = console.progress(None, "importing");
    let mut progress = Progress::default();
    let mut idle = 0;
    loop {
        let before = progress.done_through;
        let ended = stream(planes, import_id, mode, rows()?, &mut progress, &bar).await;
        let status = match ended {
            Ok(()) => break,
            Err(Broken::Rows(error)) => {
                bar.finish_and_clear();
                let through = progress.done_through;
                return Err(error.context(format!("the import stopped; tenants up to number {through} are done")));
            }
            Err(Broken::Call(status)) => status,
        };
        idle = if progress.done_through > before { 0 } else { idle + 1 };
        let refused = matches!(status.code(), tonic::Code::InvalidArgument | tonic::Code::Unimplemented);
        if idle > RESUMPTIONS_MAX || refused {
            bar.finish_and_clear();
            let again = format!(
                "the import broke off after tenant number {}; take it up again with --import-id {import_id}",
                progress.done_through
            );
            return Err(planes.failed(Plane::Control, &status).context(again));
        }
        tokio::time::sleep(PAUSE).await;
    }
    bar.finish_and_clear();
    report(console, &progress)
}

enum Broken {
    /// A document cannot be read.
    Rows(anyhow::Error),
    /// The call failed.
    Call(tonic::Status),
}

async fn stream(
    planes: &Planes,
    import_id: &str,
    mode: Mode,
    rows: Rows,
    progress: &mut Progress,
    bar: &indicatif::ProgressBar,
) -> Result<(), Broken> {
    let (sender, receiver) = mpsc::channel(ROWS_WAITING_MAX);
    let after = progress.done_through;
    let mode = match mode {
        Mode::Upsert => v1::ImportMode::Upsert,
        Mode::CreateOnly => v1::ImportMode::CreateOnly,
    };
    let start = v1::ImportStart { import_id: import_id.to_owned(), mode: mode.into() };
    let feed = async move {
        let item = v1::import_tenants_request::Item::Start(start);
        if sender.send(v1::ImportTenantsRequest { item: Some(item) }).await.is_err() {
            return Ok(());
        }
        for (number, row) in (1..).zip(rows) {
            let tenant = Some(row?);
            if number <= after {
                continue;
            }
            let item = v1::import_tenants_request::Item::Row(v1::ImportRow { row: number, tenant });
            if sender.send(v1::ImportTenantsRequest { item: Some(item) }).await.is_err() {
                // The call is over; the other side says why.
                return Ok(());
            }
        }
        anyhow::Ok(())
    };
    let mut client = planes.tenants();
    let answers = async {
        let mut answers = client.import_tenants(ReceiverStream::new(receiver)).await?.into_inner();
        let unchanged_before = progress.unchanged;
        while let Some(answer) = answers.message().await? {
            progress.done_through = progress.done_through.max(answer.applied_through_row);
            progress.unchanged = unchanged_before + answer.unchanged;
            for error in answer.errors {
                progress.failed += 1;
                if progress.shown.len() < FAILURES_SHOWN_MAX {
                    progress.shown.push(error);
                }
            }
            bar.set_position(u64::try_from(progress.done_through).unwrap_or(0));
        }
        Ok::<(), tonic::Status>(())
    };
    let (rows, call) = tokio::join!(feed, answers);
    rows.map_err(Broken::Rows)?;
    call.map_err(Broken::Call)
}

fn report(console: &Console, progress: &Progress) -> anyhow::Result<()> {
    let whole = v1::ImportTenantsResponse {
        applied_through_row: progress.done_through,
        unchanged: progress.unchanged,
        errors: progress.shown.clone(),
    };
    console.answer(&json::of("ImportTenantsResponse", &whole)?, || {
        let changed = progress.done_through - progress.unchanged - progress.failed;
        let mut text = format!("{changed} created or changed, {} unchanged, {} refused\n", progress.unchanged, progress.failed);
        for error in &progress.shown {
            let said = error.status.as_ref().map_or("no reason given", |status| status.message.as_str());
            writeln!(text, "  tenant {} `{}`: {said}", error.row, error.tenant_id).unwrap_or_default();
        }
        text
    })?;
    if progress.failed > 0 {
        return Err(anyhow::anyhow!("{} tenants were refused", progress.failed)).context("import");
    }
    Ok(())
}
