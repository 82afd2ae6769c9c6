//! Where snapshots are kept: the two newest generations, each written beside them under another name, made durable, and renamed
//! in one step. A power cut at any instant leaves the generations as they were, or with the new one complete.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tessera_ports::hooks::{self, Guard, fail_point};
use tracing::warn;

/// How many generations are kept.
pub(crate) const KEPT: usize = 2;
const LOCK_FILE: &str = "snapshot.lock";
const PREFIX: &str = "matrix-";
const SUFFIX: &str = ".snapshot";
/// What ends the name of a file that is being written.
const UNFINISHED: &str = ".unfinished";

/// A folder of snapshots. Calls block.
pub trait SnapshotFolder: fmt::Debug + Send + Sync + 'static {
    /// The numbers of the generations that are there, newest first.
    fn generations(&self) -> io::Result<Vec<u64>>;

    /// One of them.
    fn open(&self, generation: u64) -> io::Result<Box<dyn SnapshotReader>>;

    /// Begins the next one. Nothing is to be seen of it until it is finished.
    fn begin(&self) -> io::Result<Box<dyn SnapshotWriter>>;

    /// What it is called in messages.
    fn name(&self, generation: u64) -> String;

    /// Set in simulations, where everything happens on one thread and nothing blocks: writing then pauses for so long after each
    /// of its steps, and loading is done at once.
    fn pause(&self) -> Option<Duration> {
        None
    }
}

/// A snapshot to be read, by several threads at once.
pub trait SnapshotReader: fmt::Debug + Send + Sync {
    /// How many bytes it has.
    fn length(&self) -> u64;

    /// Fills `bytes` with what is there from byte `from` on.
    fn read_at(&self, from: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// A snapshot in the making; dropped before it is finished it never was.
pub trait SnapshotWriter: fmt::Debug + Send {
    /// Appends.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes it the newest generation, durably, and forgets those that are one too many.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// Held once this process has written here, or has tidied up.
    lock: Mutex<Option<File>>,
}

impl Directory {
    /// The folder at `path`, which is made (mode 0700) when the first snapshot is written. Files that an earlier process left
    /// unfinished are removed, unless another process is at work here.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let directory = Self(Arc::new(Inner { path: path.into(), lock: Mutex::new(None) }));
        if directory.0.path.is_dir()
            && let Err(error) = directory.0.take()
        {
            warn!(folder = %directory.0.path.display(), %error, "no snapshots can be written at present");
        }
        directory
    }
}

impl Inner {
    /// Makes the folder and locks it, unless that is done; the first time it removes what was left unfinished.
    fn take(&self) -> io::Result<()> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_some() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(self.path.join(LOCK_FILE))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::Error::other("another process writes its snapshots here")),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        for name in names(&self.path)? {
            if name.starts_with(PREFIX) && name.ends_with(UNFINISHED) {
                std::fs::remove_file(self.path.join(name))?;
            }
        }
        *lock = Some(file);
        Ok(())
    }

    fn file(&self, generation: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{generation:012}{SUFFIX}"))
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(path)?;
    // A name that is not text is none of ours.
    entries.filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose()).collect()
}

fn generations_in(path: &Path) -> io::Result<Vec<u64>> {
    let names = match names(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?,
    };
    let number = |name: &String| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok();
    let mut generations: Vec<u64> = names.iter().filter_map(number).collect();
    generations.sort_unstable_by(|left, right| right.cmp(left));
    Ok(generations)
}

impl SnapshotFolder for Directory {
    fn generations(&self) -> io::Result<Vec<u64>> {
        generations_in(&self.0.path)
    }

    fn open(&self, generation: u64) -> io::Result<Box<dyn SnapshotReader>> {
        let file = File::open(self.0.file(generation))?;
        let length = file.metadata()?.len();
        Ok(Box::new(Reading { file, length }))
    }

    fn begin(&self) -> io::Result<Box<dyn SnapshotWriter>> {
        self.0.take()?;
        let newest = self.generations()?.first().copied().unwrap_or(0);
        let place = self.0.file(newest.saturating_add(1));
        let mut beside = place.clone().into_os_string();
        beside.push(UNFINISHED);
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if !hooks::holds(Guard::SnapshotWrittenBeside) {
            // Without the guard: over the newest one.
            let place = self.0.file(newest);
            let file = options.create(true).truncate(true).open(&place)?;
            return Ok(Box::new(Writing { file, beside: None, place, inner: Arc::clone(&self.0) }));
        }
        let file = options.create_new(true).open(&beside)?;
        Ok(Box::new(Writing { file, beside: Some(beside.into()), place, inner: Arc::clone(&self.0) }))
    }

    fn name(&self, generation: u64) -> String {
        self.0.file(generation).display().to_string()
    }
}

#[derive(Debug)]
struct Reading {
    file: File,
    length: u64,
}

impl SnapshotReader for Reading {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, from)
    }
}

#[derive(Debug)]
struct Writing {
    file: File,
    /// Under which name it is written; `None` once it is renamed.
    beside: Option<PathBuf>,
    place: PathBuf,
    inner: Arc<Inner>,
}

impl SnapshotWriter for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        fail_point("snapshot.block");
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.sync_all()?;
        fail_point("snapshot.renaming");
        if let Some(beside) = &self.beside {
            std::fs::rename(beside, &self.place)?;
            self.beside = None;
        }
        File::open(&self.inner.path)?.sync_all()?;
        fail_point("snapshot.renamed");
        for old in generations_in(&self.inner.path)?.into_iter().skip(KEPT) {
            std::fs::remove_file(self.inner.file(old))?;
        }
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside
            && let Err(error) = std::fs::remove_file(beside)
        {
            warn!(file = %beside.display(), %error, "an unfinished snapshot stays behind; the next start removes it");
        }
    }
}
