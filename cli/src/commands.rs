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
pub mod tenant;
pub mod token;
pub mod watch;

use clap::Args;

use crate::connection::Planes;
use crate::console::Console;

/// What every command that changes something takes.
#[derive(Debug, Clone, Default, Args)]
pub struct Change {
    /// Go ahead without asking; needed where there is no terminal
    #[arg(short, long)]
    pub yes: bool,
    /// Name of this change, so that doing it again does it once [default: a fresh one]
    #[arg(long, value_name = "ID")]
    pub request_id: Option<String>,
}

impl Change {
    /// The request id that was given, or a fresh one.
    pub fn request_id(&self, planes: &Planes) -> String {
        self.request_id.clone().unwrap_or_else(|| planes.request_id())
    }
}

/// `tessera completions`.
pub fn completions(console: &Console, shell: clap_complete::Shell, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tessera", &mut script);
    console.print(&String::from_utf8_lossy(&script))
}
