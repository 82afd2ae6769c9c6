//! `tenant import` and `import`: many tenants over one stream, with a bar, resumable under one import id.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, ValueEnum};
use futures::{Stream, TryStreamExt as _};
use tessera_backends::Ports;
use tessera_ports::Clock as _;
use tessera_proto::v1;
use tessera_runtime::clock::SystemClock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::apply::perform;
use super::{data, store};
use crate::connection::{Plane, Planes, RUN_AGAIN, mark_retry, may_pass};
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
    /// Files, directories (their *.yaml) or - for standard input, with tenant documents only; standard input and pipes are read
    /// to their end first, into a temporary file (in TMPDIR)
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
#[command(group(ArgGroup::new("source").required(true).multiple(true).args(["files", "history"])))]
pub struct WholeImport {
    /// What `tessera export` wrote: files, directories (their *.yaml) or - for standard input, which with pipes is read to its end
    /// first, into a temporary file (in TMPDIR); with --history one file, or - for standard input, which it is by itself
    #[arg(value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// What `tessera export --history` wrote, into a store that has nothing else, while nobody writes to it. Nothing is written into
    /// one that has other streams and not the catalog of the history; other streams beside that catalog are found at the end only
    #[arg(long, conflicts_with = "import_id")]
    history: bool,
    /// The data directory of a process that is not running; made if it is not there, in the epoch of the history [default:
    /// `backends.data_dir` of the settings, or .tessera]
    #[arg(long, value_name = "DIR", requires = "history")]
    data: Option<PathBuf>,
    /// Settings that name the store, in place of a data directory; `tessera migrate` has made its keyspace [default: the file that
    /// `TESSERA_SETTINGS` names]
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
    let config = store::config(arguments.settings.as_deref(), arguments.data.as_deref())?;
    let file = match &arguments.files[..] {
        [] => None,
        [dash] if dash.as_os_str() == "-" => None,
        [file] => Some(File::open(file).with_context(|| format!("open `{}`", file.display()))?),
        files => bail!("FILES names {} files; a history is one", files.len()),
    };
    // It is where the answer to the question comes from, and nobody types a history.
    if file.as_ref().map_or_else(|| std::io::stdin().is_terminal(), File::is_terminal) {
        bail!("the history would be read from the terminal; name the file that has it, or pipe it in");
    }
    // Before the store is opened, which may make it; and before standard input is locked, from which the answer comes.
    console.confirm(arguments.common.yes, &format!("write the history into {}?", store::named(&config)))?;
    let lines: Box<dyn BufRead> = match file {
        Some(file) => Box::new(BufReader::new(file)),
        None => Box::new(std::io::stdin().lock()),
    };
    let history = history::History::begin(lines)?;
    let opening = data::opening();
    let backends = tessera_backends::open_in_epoch(&config, &opening, history.epoch()).await?;
    let Ports { store, hints, publisher, .. } = &backends.ports;
    let bar = console.progress(None, "importing streams");
    let target = history::Target { store: &**store, hints: &**hints, publisher: &**publisher, clock: &*opening.clock };
    let moved = history::import(target, history, |streams| bar.set_position(streams)).await?;
    bar.finish_and_clear();
    let into = store::named(&config);
    let value = serde_json::json!({ "into": into, "streams": moved.streams, "events": moved.events, "requests": moved.requests });
    console.answer(&value, || {
        facts(&[
            ("into", into),
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
    /// An import of that name broke off, and some of its rows may still be on their way: what this run says of a row is final, a
    /// refusal too, and written down even where it changes nothing
    #[arg(long, requires = "import_id")]
    again: bool,
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
    let source = Source::open(&files, true)?;
    run(planes, console, Import::new(planes, arguments.common, arguments.mode), || Ok(source.rows())).await
}

/// `tessera import`: the catalog, plans and add-ons as `apply` would, then the tenants.
pub async fn whole(planes: &Planes, console: &Console, arguments: WholeImport) -> anyhow::Result<()> {
    let source = Source::open(&files::resolve(&arguments.files)?, false)?;
    let first = files::gather(source.files.iter().map(|file| Ok(file.documents())), |kind| kind != Kind::Tenant)?;
    console.confirm(arguments.common.yes, &format!("import {} documents, and all tenants?", first.len()))?;
    let steps = apply::compare(planes, first, SystemClock.now()).await?;
    perform(planes, console, &steps, 0).await.context("no tenant is imported")?;
    run(planes, console, Import::new(planes, arguments.common, Mode::Upsert), || Ok(source.rows())).await
}

/// Tenants that were read already.
pub async fn located(planes: &Planes, console: &Console, documents: Vec<Located>) -> anyhow::Result<()> {
    let (id, advice) = (planes.request_id(), RUN_AGAIN.to_owned());
    let import = Import { id, mode: Mode::Upsert, again: false, advice };
    run(planes, console, import, || Ok(Box::new(documents.clone().into_iter().map(|located| message(&located.document))))).await
}

type Rows = Box<dyn Iterator<Item = anyhow::Result<v1::TenantDocument>> + Send>;

struct Source {
    files: Vec<files::Source>,
    only_tenants: bool,
}

impl Source {
    /// Opens all files. Rows are read again by every stream that takes an import up.
    fn open(paths: &[PathBuf], only_tenants: bool) -> anyhow::Result<Self> {
        let files = paths.iter().map(|path| files::Source::open(path)).collect::<anyhow::Result<_>>()?;
        Ok(Self { files, only_tenants })
    }

    /// All tenants of all files, in the order of the files.
    fn rows(&self) -> Rows {
        let mut all: Rows = Box::new(std::iter::empty());
        for file in &self.files {
            let only_tenants = self.only_tenants;
            let rows = file.documents().filter_map(move |read| match read {
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
        all
    }
}

fn message(document: &Document) -> anyhow::Result<v1::TenantDocument> {
    match document {
        Document::Tenant(id, tenant) => Ok(wire::tenant_message(id, tenant)),
        other => anyhow::bail!("{other} is not a tenant"),
    }
}

/// Which import it is.
struct Import {
    id: String,
    mode: Mode,
    /// Whether an earlier run may have sent rows of it.
    again: bool,
    /// How to go on when it has broken off.
    advice: String,
}

impl Import {
    fn new(planes: &Planes, common: Common, mode: Mode) -> Self {
        let id = common.import_id.unwrap_or_else(|| planes.request_id());
        let advice = format!("take it up again with --import-id {id} --again");
        Self { id, mode, again: common.again, advice }
    }
}

/// How far an import has come.
#[derive(Debug, Default)]
struct Progress {
    done_through: i64,
    /// Rows up to here may have been sent.
    sent_through: i64,
    unchanged: i64,
    failed: i64,
    shown: Vec<v1::ImportError>,
}

type Sent = Request<ReceiverStream<v1::ImportTenantsRequest>>;

async fn run(planes: &Planes, console: &Console, import: Import, rows: impl Fn() -> anyhow::Result<Rows>) -> anyhow::Result<()> {
    let bar = console.progress(None, "importing");
    let mut client = planes.tenants();
    let done = carry_out(planes, &import, &bar, rows, async |sent| client.import_tenants(sent).await).await;
    bar.finish_and_clear();
    report(console, &done?)
}

/// Sends all rows, over as many streams as it takes.
async fn carry_out<S>(
    planes: &Planes,
    import: &Import,
    bar: &indicatif::ProgressBar,
    rows: impl Fn() -> anyhow::Result<Rows>,
    mut call: impl AsyncFnMut(Sent) -> Result<Response<S>, Status>,
) -> anyhow::Result<Progress>
where
    S: Stream<Item = Result<v1::ImportTenantsResponse, Status>> + Unpin,
{
    let mut progress = Progress { sent_through: if import.again { i64::MAX } else { 0 }, ..Progress::default() };
    let mut idle = 0;
    loop {
        let before = progress.done_through;
        let status = match stream(import, rows()?, &mut progress, bar, &mut call).await {
            Ok(Ended::AllRows) => return Ok(progress),
            Ok(Ended::RowsSentBefore) => {
                idle = 0;
                continue;
            }
            Err(Broken::Rows(error)) => {
                let through = progress.done_through;
                return Err(error.context(format!("the import stopped; tenants up to number {through} are done")));
            }
            Err(Broken::Call(status)) => status,
        };
        idle = if progress.done_through > before { 0 } else { idle + 1 };
        let refused = !may_pass(&status);
        if idle > RESUMPTIONS_MAX || refused {
            let mut said = format!("the import broke off after tenant number {}", progress.done_through);
            // What is wrong with the import itself is wrong again. Anything else may be mended, which is of use where some is done.
            let hopeless = matches!(status.code(), Code::InvalidArgument | Code::Unimplemented);
            if !refused || progress.done_through > 0 && !hopeless {
                write!(said, "; {}", import.advice).unwrap_or_default();
            }
            return Err(planes.failed(Plane::Control, &status).context(said));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a stream that went well has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There are no more rows.
    AllRows,
    /// The rows that come next were never sent, and go in a stream that does not say that they were.
    RowsSentBefore,
}

enum Broken {
    /// A document cannot be read.
    Rows(anyhow::Error),
    /// The call failed.
    Call(Status),
}

/// Sends rows that are not done. Those that an earlier stream took without answering may still be on their way: they go in a
/// stream of their own that says so, since everything on such a stream is written down, even what changes nothing.
async fn stream<S>(
    import: &Import,
    rows: Rows,
    progress: &mut Progress,
    bar: &indicatif::ProgressBar,
    call: &mut impl AsyncFnMut(Sent) -> Result<Response<S>, Status>,
) -> Result<Ended, Broken>
where
    S: Stream<Item = Result<v1::ImportTenantsResponse, Status>> + Unpin,
{
    let (sender, receiver) = mpsc::channel(ROWS_WAITING_MAX);
    let after = progress.done_through;
    let (again, through) = if progress.sent_through > after { (true, progress.sent_through) } else { (false, i64::MAX) };
    let mode = match import.mode {
        Mode::Upsert => v1::ImportMode::Upsert,
        Mode::CreateOnly => v1::ImportMode::CreateOnly,
    };
    let start = v1::ImportStart { import_id: import.id.clone(), mode: mode.into() };
    let mut sent = after;
    let feed = async {
        // Its end is the end of the rows.
        let sender = sender;
        let item = v1::import_tenants_request::Item::Start(start);
        if sender.send(v1::ImportTenantsRequest { item: Some(item) }).await.is_err() {
            return Ok(None);
        }
        for (number, row) in (1..).zip(rows) {
            if number > through {
                return Ok(Some(Ended::RowsSentBefore));
            }
            let tenant = Some(row?);
            if number <= after {
                continue;
            }
            let item = v1::import_tenants_request::Item::Row(v1::ImportRow { row: number, tenant });
            if sender.send(v1::ImportTenantsRequest { item: Some(item) }).await.is_err() {
                // The call is over; the other side says why.
                return Ok(None);
            }
            sent = number;
        }
        anyhow::Ok(Some(Ended::AllRows))
    };
    let mut request = Request::new(ReceiverStream::new(receiver));
    if again {
        mark_retry(&mut request);
    }
    let answers = async {
        let mut answers = call(request).await?.into_inner();
        let unchanged_before = progress.unchanged;
        while let Some(answer) = answers.try_next().await? {
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
        Ok::<(), Status>(())
    };
    let (rows, answered) = tokio::join!(feed, answers);
    progress.sent_through = progress.sent_through.max(sent);
    let ended = rows.map_err(Broken::Rows)?;
    answered.map_err(Broken::Call)?;
    match ended.filter(|_| progress.done_through >= sent) {
        Some(ended) => Ok(ended),
        None => Err(Broken::Call(Status::unknown("the import ended before its last row was answered"))),
    }
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

#[cfg(test)]
mod tests;
