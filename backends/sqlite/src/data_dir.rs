//! The data directory: made with modes that keep others out, on a local disk, and locked against a second process.
//!
//! The lock is an advisory one (`flock`) on the file `tessera.lock`; the system takes it back however the process ends. The
//! process id in that file is for the message alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation};

use crate::error::OpenError;

const LOCK_FILE: &str = "tessera.lock";
const DATABASE_FILE: &str = "tessera.db";

/// A data directory that belongs to this process as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let unusable = |reason: String| OpenError::DataDir { path: path.to_owned(), reason };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| unusable(if path.is_file() { "it is a file".to_owned() } else { error.to_string() }))?;
        let status = rustix::fs::statfs(path).map_err(|error| unusable(error.to_string()))?;
        if let Some(name) = network_file_system(i128::from(status.f_type)) {
            return Err(unusable(format!(
                "it is on a network file system ({name}), where locks and memory maps are not reliable"
            )));
        }
        // A lock that is there can be opened in a directory where nothing can be made.
        let may = rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK);
        may.map_err(|error| unusable(format!("cannot write in it: {}", std::io::Error::from(error))))?;
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path.join(LOCK_FILE));
        let mut lock = lock.map_err(|error| unusable(format!("cannot write in it: {error}")))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let process = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(OpenError::InUse { path: path.to_owned(), process });
            }
            Err(error) => return Err(unusable(format!("it cannot be locked: {error}"))),
        }
        leave_word(&mut lock);
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Whether there is a database in the directory, or something in its place.
    pub(crate) fn has_database(path: &Path) -> bool {
        path.join(DATABASE_FILE).exists()
    }

    /// Where the database is, whether or not it is there.
    pub(crate) fn database_path(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Makes everything that was done to the entries of the directory last.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// The database file, made here if need be so that its mode is right from the first moment; SQLite gives the files it
    /// makes beside it the same mode.
    pub(crate) fn database(&self) -> Result<PathBuf, OpenError> {
        let path = self.database_path();
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        // The entry itself must survive a power loss before anything in the file is promised.
        let kept = made.and_then(|_| self.sync());
        kept.map_err(|error| OpenError::DataDir {
            path: self.path.clone(),
            reason: format!("`{DATABASE_FILE}` in it: {error}"),
        })?;
        Ok(path)
    }
}

impl Drop for DataDir {
    /// Closing the file would do, were it not for children of this process that have it until they become another program.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the data directory stays locked until this process ends");
        }
    }
}

/// On a full disk there is no room for the process id; the lock itself needs none.
fn leave_word(lock: &mut File) {
    let word = format!("{}\n", std::process::id());
    let left = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(word.as_bytes()));
    if let Err(error) = left {
        tracing::warn!(%error, "the process id could not be left in the lock file");
    }
}

/// The name of a file system that is not local, by its magic number of statfs(2).
fn network_file_system(magic: i128) -> Option<&'static str> {
    match magic & 0xffff_ffff {
        0x6969 => Some("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
        0x5346_414f => Some("AFS"),
        0x00c3_6400 => Some("Ceph"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(i128::from(0xff53_4d42_u32)), Some("SMB"));
        assert_eq!(network_file_system(i128::from(i32::from_ne_bytes(0xff53_4d42_u32.to_ne_bytes()))), Some("SMB"));
        let (ext4, tmpfs) = (0xef53, 0x0102_1994);
        assert_eq!((network_file_system(ext4), network_file_system(tmpfs)), (None, None));
    }
}
