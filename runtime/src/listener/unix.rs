//! A Unix socket to listen on: nobody but its owner can connect unless told otherwise, what a dead process left is replaced, and
//! what a living one uses is not touched.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::Error;

/// Longest path of a socket; the system has room for 108 bytes, the last of which is zero, and we bind beside it first.
const PATH_LEN_MAX: usize = 90;

/// A Unix socket that is listened on. Its file goes when this does.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file, by which it is known from a successor's.
    file: (u64, u64),
}

impl UnixSocket {
    /// Takes `path`; its file gets that mode before anybody can connect.
    ///
    /// It is bound beside its place and moved there, so that clients find the old socket or the new one, and never one that is
    /// open to more than it should be.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Unix { path: path.to_owned(), source };
        let len = path.as_os_str().len();
        if len > PATH_LEN_MAX {
            let problem = format!("the path has {len} bytes; allowed are at most {PATH_LEN_MAX}");
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, problem)));
        }
        make_room(path)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        // What a process of our number left behind when it was killed.
        drop(std::fs::remove_file(&beside));
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        let placed = std::fs::set_permissions(&beside, Permissions::from_mode(mode))
            .and_then(|()| std::fs::symlink_metadata(&beside))
            .and_then(|file| std::fs::rename(&beside, path).map(|()| file));
        match placed {
            Ok(file) => Ok(Self { listener, path: path.to_owned(), file: (file.dev(), file.ino()) }),
            Err(error) => {
                drop(std::fs::remove_file(&beside));
                Err(failed(error))
            }
        }
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // A successor may have taken the place.
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.file);
        if is_ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Sees to it that what is at `path`, if anything, may be replaced: a socket that nobody listens on.
fn make_room(path: &Path) -> Result<(), Error> {
    let failed = |source: io::Error| Error::Unix { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => {
            let problem = "there is a file that is no socket; it is not touched";
            return Err(failed(io::Error::new(io::ErrorKind::AlreadyExists, problem)));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(failed(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &Path) -> String {
        // As whoever starts a process is told.
        let error = anyhow::Error::from(UnixSocket::bind(path, 0o600).unwrap_err());
        let text = format!("{error:#}");
        assert_eq!(text.matches(&error.root_cause().to_string()).count(), 1, "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
        text
    }

    #[tokio::test]
    async fn the_file_has_its_mode_and_goes_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.sock");
        for mode in [0o600, 0o660, 0o777] {
            let socket = UnixSocket::bind(&path, mode).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            drop(socket);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_a_living_one_uses_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.sock");
        // Std does not remove the file: so it stands after a kill.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert!(problem(&path).contains("another process listens there"));
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok(), "the living one goes on");
        drop(socket);
    }

    #[tokio::test]
    async fn other_files_are_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        std::fs::write(&path, "dear").unwrap();
        assert!(problem(&path).contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "dear");
        assert!(problem(&folder.path().join("missing/data.sock")).contains("cannot listen on"));
        assert!(problem(&folder.path().join("x".repeat(120))).contains("at most 90"));
    }

    #[tokio::test]
    async fn a_successor_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.sock");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = UnixSocket::bind(&path, 0o600).unwrap();
        drop(first);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(second);
        assert!(!path.exists());
    }
}
