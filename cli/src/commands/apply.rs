//! `apply`: shows what differs, asks, and makes it so.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use futures::StreamExt as _;
use tessera_ports::Clock as _;
use tessera_runtime::clock::SystemClock;

use super::import;
use crate::apply::{self, Action, Registered, Step};
use crate::connection::Planes;
use crate::console::Console;
use crate::document::{Kind, Located};
use crate::{difference, files};

/// Most tenants that are compared and stated one by one; more are imported.
const TENANTS_ONE_BY_ONE_MAX: usize = 1_000;
/// How many tenants are stated at a time.
const AT_ONCE: usize = 16;
/// Most documents at fault that are named, and most features that stay.
const SHOWN_MAX: usize = 20;

/// What to apply.
#[derive(Debug, Args)]
pub struct ApplyArguments {
    /// Files, directories (their *.yaml) or - for standard input
    #[arg(short, long, value_name = "FILES", required = true, num_args = 1..)]
    file: Vec<PathBuf>,
    /// Show what would be done, and do nothing; fails where a document names what is neither there nor in the documents
    #[arg(long)]
    dry_run: bool,
    /// Go ahead without asking; needed where there is no terminal
    #[arg(short, long)]
    yes: bool,
}

/// `tessera apply`.
pub async fn run(planes: &Planes, console: &Console, arguments: ApplyArguments) -> anyhow::Result<()> {
    let documents = files::read_all(&arguments.file)?;
    anyhow::ensure!(!documents.is_empty(), "there are no documents in what was given");
    let tenants = documents.iter().filter(|located| located.document.kind() == Kind::Tenant).count();
    let (documents, many) = if tenants > TENANTS_ONE_BY_ONE_MAX {
        documents.into_iter().partition(|located| located.document.kind() != Kind::Tenant)
    } else {
        (documents, Vec::new())
    };
    let now = SystemClock.now();
    let steps = apply::compare(planes, documents, now).await?;
    if let Some(step) = steps.iter().find(|step| step.action == Action::Deleted) {
        let Located { source, line, document } = &step.located;
        anyhow::bail!("{source}:{line}: {document}: it was deleted, for ever; take the document out, or give it another id");
    }
    let registered = Registered::read(planes).await?;
    let refused = apply::refused(planes, &registered, &steps, &many, now).await?;
    if !refused.is_empty() {
        let count = refused.len();
        anyhow::bail!("nothing is applied, since {count} of the documents would be refused:\n{}", first_lines(refused));
    }
    console.answer(&outline(&steps, many.len()), || preview(&steps, &many, console.colours()))?;
    let left_out = registered.left_out(&steps);
    if !left_out.is_empty() {
        console.note(&first_lines(left_out));
    }
    let changes = steps.iter().filter(|step| step.changes()).count();
    if arguments.dry_run || changes + many.len() == 0 {
        return Ok(());
    }
    console.confirm(arguments.yes, "apply this?")?;
    perform(planes, console, &steps, many.len()).await?;
    if !many.is_empty() {
        let imported = import::located(planes, console, many).await;
        imported.with_context(|| format!("the {changes} documents before the tenants are applied"))?;
    }
    console.note("applied");
    Ok(())
}

/// What will be done, for programs.
fn outline(steps: &[Step], many: usize) -> serde_json::Value {
    let one = |step: &Step| {
        let document = &step.located.document;
        serde_json::json!({ "kind": document.kind().key(), "id": document.id(), "action": step.verb() })
    };
    serde_json::json!({ "documents": steps.iter().map(one).collect::<Vec<_>>(), "tenantsToImport": many })
}

/// Does what the steps say, catalog, plans and add-ons one after the other, tenants several at a time. `more` documents are to
/// follow; where it stops the error counts them, too.
pub async fn perform(planes: &Planes, console: &Console, steps: &[Step], more: usize) -> anyhow::Result<Vec<apply::Done>> {
    let mut all = Vec::new();
    let todo: Vec<&Step> = steps.iter().filter(|step| step.changes()).collect();
    let bar = console.progress(Some(todo.len() as u64), "applying");
    let (tenants, first): (Vec<&Step>, Vec<&Step>) =
        todo.into_iter().partition(|step| step.located.document.kind() == Kind::Tenant);
    for (done, step) in first.iter().enumerate() {
        let outcome = apply::execute(planes, step).await;
        if outcome.is_err() {
            bar.finish_and_clear();
        }
        let left = first.len() - done - 1 + tenants.len() + more;
        all.extend(outcome.with_context(|| format!("{done} of the documents are applied, {left} after this one are not"))?);
        bar.inc(1);
    }
    let mut failures = Vec::new();
    let mut done = futures::stream::iter(tenants).map(|step| apply::execute(planes, step)).buffer_unordered(AT_ONCE);
    while let Some(outcome) = done.next().await {
        bar.inc(1);
        match outcome {
            Ok(done) => all.extend(done),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bar.finish_and_clear();
    if failures.is_empty() {
        return Ok(all);
    }
    let count = failures.len();
    failures.sort();
    anyhow::bail!("{count} of the tenants could not be stated, everything else is applied:\n{}", first_lines(failures))
}

/// So many that they fit a screen.
fn first_lines(mut lines: Vec<String>) -> String {
    let more = lines.len().saturating_sub(SHOWN_MAX);
    lines.truncate(SHOWN_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// What will be done, for people.
fn preview(steps: &[Step], many: &[Located], colours: bool) -> String {
    let mut text = String::new();
    for step in steps.iter().filter(|step| step.changes()) {
        let shown = difference::show(step.before.as_deref().unwrap_or_default(), &step.after, colours);
        writeln!(text, "{}: {}\n{shown}", step.located.document, step.verb()).unwrap_or_default();
    }
    let changes = steps.iter().filter(|step| step.changes()).count();
    let created = steps.iter().filter(|step| step.changes() && step.before.is_none()).count();
    let unchanged = steps.len() - changes;
    write!(text, "{created} to create, {} to change, {unchanged} unchanged", changes - created).unwrap_or_default();
    if !many.is_empty() {
        write!(text, ", and {} tenants to state without comparing them one by one", many.len()).unwrap_or_default();
    }
    text.push('\n');
    text
}
