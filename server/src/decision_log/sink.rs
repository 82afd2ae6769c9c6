//! Where lines go: a file that may be renamed away at any time, the standard output, or the log of the process.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tracing::info;

use super::{Refused, is_stdout};

/// Most lines per second in the log of the process: clients cause them, and it has other readers.
pub(super) const LOG_LINES_PER_SECOND_MAX: u32 = 100;

/// Takes lines.
#[derive(Debug)]
pub(super) enum Sink {
    File(Rotated),
    Stdout,
    /// The second that was written in last, and how many lines so far.
    ProcessLog {
        second: i64,
        lines: u32,
    },
}

/// A file, by its path. Whoever renames it away gets what was written so far, and the next line makes a new one.
#[derive(Debug)]
pub(super) struct Rotated {
    path: PathBuf,
    /// `None` after an error: the next lines open it again.
    file: Option<File>,
    /// Whether the last line may be torn.
    torn: bool,
}

impl Sink {
    /// A file, or the standard output.
    pub(super) fn open(path: &Path) -> Result<Self, Refused> {
        if is_stdout(path) {
            return Ok(Self::Stdout);
        }
        let file = append_to(path).map_err(|source| Refused::File { path: path.to_owned(), source })?;
        Ok(Self::File(Rotated { path: path.to_owned(), file: Some(file), torn: false }))
    }

    /// The log of the process, with a limit.
    pub(super) fn process_log() -> Self {
        Self::ProcessLog { second: 0, lines: 0 }
    }

    /// Whether a line of that second is taken.
    pub(super) fn takes(&mut self, now: i64) -> bool {
        let Self::ProcessLog { second, lines } = self else { return true };
        if *second != now {
            (*second, *lines) = (now, 0);
        }
        *lines = lines.saturating_add(1);
        *lines <= LOG_LINES_PER_SECOND_MAX
    }

    /// Writes whole lines, each with its end.
    pub(super) fn write(&mut self, lines: &str) -> io::Result<()> {
        match self {
            Self::File(file) => file.write(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines.as_bytes())?;
                out.flush()
            }
            Self::ProcessLog { .. } => {
                for line in lines.lines() {
                    info!(decision = line, "a dry run has allowed what is to be denied");
                }
                Ok(())
            }
        }
    }
}

impl Rotated {
    fn write(&mut self, lines: &str) -> io::Result<()> {
        let mut file = match self.file.take().filter(|file| self.is_in_place(file)) {
            Some(file) => file,
            None => append_to(&self.path)?,
        };
        // Until all of it is there.
        if std::mem::replace(&mut self.torn, true) {
            file.write_all(b"\n")?;
        }
        file.write_all(lines.as_bytes())?;
        self.torn = false;
        self.file = Some(file);
        Ok(())
    }

    /// Whether the path still leads to it.
    fn is_in_place(&self, file: &File) -> bool {
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let (Ok(there), Ok(ours)) = (std::fs::metadata(&self.path), file.metadata()) else { return false };
        id(there) == id(ours)
    }
}

/// What is in it is of tenants: for its owner alone.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
