//! The terminal: what is printed where, in which form, with or without colour; questions.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::event::{PollFd, PollFlags};

/// The form of answers on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The proto3 JSON of the response.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Where answers go.
#[derive(Debug, Clone)]
pub struct Console {
    /// The form of answers.
    pub format: Format,
}

impl Console {
    /// Prints text to standard output. Somebody who stops reading (`| head`) is no error.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write to standard output"),
            _ => Ok(()),
        }
    }

    /// Prints an answer: `value` for programs, `table` for people.
    pub fn answer(&self, value: &serde_json::Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Table => self.print(&table()),
            Format::Json => self.print(&format!("{value:#}\n")),
            Format::Yaml => self.print(&crate::document::yaml_of(value)),
        }
    }

    /// Prints one of many answers, each on a line of its own where the form allows it.
    pub fn one_of_many(&self, value: &serde_json::Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Table => self.print(&table()),
            Format::Json => self.print(&format!("{value}\n")),
            Format::Yaml => self.print(&format!("---\n{}", crate::document::yaml_of(value))),
        }
    }

    /// Waits until nobody reads standard output any more: for ever where that cannot be told, as of a file.
    pub async fn abandoned(&self) {
        let told = tokio::task::spawn_blocking(|| {
            let out = std::io::stdout();
            // An end that nobody holds is told without being asked for, and nothing else is.
            let mut out = [PollFd::new(&out, PollFlags::empty())];
            rustix::io::retry_on_intr(|| rustix::event::poll(&mut out, None))
        });
        if !matches!(told.await, Ok(Ok(_))) {
            std::future::pending::<()>().await;
        }
    }

    /// Says something to people that is no answer; goes to standard error.
    pub fn note(&self, text: &str) {
        say(text);
    }

    /// Says how many of that kind a listing left out, if it did.
    pub fn note_unreadable(&self, kind: &str, count: i32) {
        if count > 0 {
            self.note(&format!("left out since it cannot be read: {count} × {kind}; the log of the loader names them"));
        }
    }

    /// Says that a listing was cut off, and how to see the rest.
    pub fn note_more(&self, limit: usize) {
        self.note(&format!(
            "there may be more than these {limit}; ask for more with --limit, or go on with --page-token and the `nextPageToken` \
             that -o json shows"
        ));
    }

    /// Whether standard output is a terminal that wants colour.
    pub fn colours(&self) -> bool {
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
    }

    /// Asks whether to go on. Without a terminal there is nobody to ask, and `--yes` is needed.
    pub fn confirm(&self, yes: bool, question: &str) -> anyhow::Result<()> {
        if yes {
            return Ok(());
        }
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            anyhow::bail!("{question} there is no terminal to ask on; say --yes to go ahead without asking");
        }
        let mut screen = std::io::stderr();
        write!(screen, "{question} [y/N] ").and_then(|()| screen.flush()).context("write to standard error")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("read the answer")?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => anyhow::bail!("nothing was changed"),
        }
    }

    /// A bar on standard error that shows how far something long has come; hidden when nobody looks on.
    pub fn progress(&self, total: Option<u64>, what: &'static str) -> indicatif::ProgressBar {
        if !std::io::stderr().is_terminal() || self.format != Format::Table {
            return indicatif::ProgressBar::hidden();
        }
        let bar = total.map_or_else(indicatif::ProgressBar::no_length, indicatif::ProgressBar::new);
        let form = if total.is_some() { "{msg} {wide_bar} {pos}/{len} {eta}" } else { "{msg} {spinner} {pos} {per_sec}" };
        let style = indicatif::ProgressStyle::with_template(form).unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
        bar.with_style(style).with_message(what)
    }
}

/// Says something on standard error. That nobody reads it there does not undo what was done, and is no error.
pub fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// A table without lines: a head and rows.
pub fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one to a line; those without a value are left out.
pub fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().filter(|(_, value)| !value.is_empty());
    let mut text = String::new();
    for (name, value) in lines {
        writeln!(text, "{name:<width$}  {value}").unwrap_or_default();
    }
    text
}
