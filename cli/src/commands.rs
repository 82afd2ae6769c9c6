//! The commands, a file for each group: its arguments, its calls, its table for people.

pub mod apply;
pub mod audit;
pub mod catalog;
pub mod check;
pub mod data;
pub mod dev;
pub mod export;
pub mod import;
pub mod offer;
mod store;
pub mod tenant;
pub mod token;
pub mod watch;

use clap::Args;

use crate::connection::{CommandId, Planes};
use crate::console::Console;

/// What every command that changes something takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Go ahead without asking; needed where there is no terminal
    #[arg(short, long)]
    pub yes: bool,
    /// Name of this change, so that doing it again does it once; a refusal, too, is final under its name [default: a fresh one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

impl Change {
    /// The request id that was given, or a fresh one.
    pub fn command_id(&self, planes: &Planes) -> CommandId {
        self.request_id.clone().map_or_else(|| CommandId::Fresh(planes.request_id()), CommandId::Given)
    }
}

/// `tessera version`.
pub fn version(console: &Console) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    console.answer(&serde_json::json!({ "version": version }), || format!("tessera {version}\n"))
}

/// `tessera completions`.
pub fn completions(console: &Console, shell: clap_complete::Shell, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tessera", &mut script);
    console.print(&String::from_utf8_lossy(&script))
}
