//! A file that takes the place of another: it is written beside it, and renamed when it is whole and on the disk. Until then, and
//! whatever goes wrong, the old one is there as it was. For exports and files of tokens.
//!
//! Pipes and devices have no place to take. Who writes to one does not come here.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::NamedTempFile;

/// Letters of chance in a name, so that several can be written at a time.
const CHANCE_LEN: usize = 6;

/// The new file, beside the old one. It goes when it is dropped.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    new: NamedTempFile,
}

impl Replacement {
    /// Begins one, and keeps all others out: what is beside the file, from one that was broken off too, stands in their way. Where
    /// there was no file, only its owner can read the new one.
    pub fn alone(path: &Path) -> anyhow::Result<Self> {
        let path = behind_links(path)?;
        let new = beside(&path, 0, 0o600).map_err(|error| cannot_begin(&path, error))?;
        Self { path, new }.like_the_old()
    }

    /// Begins one, whoever else has: the last to be put in its place stays.
    pub fn one_of_many(path: &Path) -> anyhow::Result<Self> {
        let path = behind_links(path)?;
        let new = beside(&path, CHANCE_LEN, 0o666).with_context(|| format!("cannot write beside `{}`", path.display()))?;
        Self { path, new }.like_the_old()
    }

    /// Who may read and write the old file may do so with the new one.
    fn like_the_old(self) -> anyhow::Result<Self> {
        let old = match fs::metadata(&self.path) {
            Ok(old) => old,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self),
            Err(error) => bail!("cannot look at `{}`: {error}", self.path.display()),
        };
        let cannot_replace = || format!("cannot replace `{}`", self.path.display());
        keep_owner(self.file(), &old).with_context(cannot_replace)?;
        self.file().set_permissions(Permissions::from_mode(old.permissions().mode())).with_context(cannot_replace)?;
        Ok(self)
    }

    /// Where it is to be: behind links, if `path` was one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is to be written to.
    pub fn file(&self) -> &File {
        self.new.as_file()
    }

    /// Puts it in its place, and sees to it that a loss of power does not bring the old one back.
    pub fn put(self) -> anyhow::Result<()> {
        let Self { path, new } = self;
        new.as_file().sync_all().with_context(|| format!("cannot write beside `{}`", path.display()))?;
        let put = new.persist(&path).map_err(|failed| failed.error);
        put.with_context(|| format!("cannot put the new file in the place of `{}`", path.display()))?;
        File::open(folder_of(&path)).and_then(|folder| folder.sync_all()).with_context(|| {
            format!("`{}` is changed, but a loss of power may undo that: its folder cannot be synced", path.display())
        })
    }
}

/// Where the file itself is: in the place of a link nobody would look who reads what the link led to.
fn behind_links(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(real),
        // Not there yet; a link to nothing is there.
        Err(error) if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(path.to_owned()),
        Err(error) => bail!("cannot find the file that `{}` leads to: {error}", path.display()),
    }
}

fn beside(path: &Path, chance_len: usize, mode: u32) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "that is no name of a file"))?;
    let mut prefix: OsString = name.to_owned();
    if chance_len > 0 {
        prefix.push(".");
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).rand_bytes(chance_len).suffix(".new").permissions(Permissions::from_mode(mode));
    builder.tempfile_in(folder_of(path))
}

fn cannot_begin(path: &Path, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::AlreadyExists => "; if nobody else is at work on it, it was broken off: remove that file".to_owned(),
        ErrorKind::NotFound => format!(": the folder `{}` is not there; make it first", folder_of(path).display()),
        _ => String::new(),
    };
    anyhow::Error::from(error).context(format!("cannot write `{}.new`{advice}", path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Gives the new file to whom the old one belongs: a process that could not read it any more would go on with what it knows, with
/// tokens that were just taken away, too.
fn keep_owner(new: &File, old: &Metadata) -> anyhow::Result<()> {
    let made = new.metadata().context("cannot see whose the new one is")?;
    let (user, group) = (old.uid(), old.gid());
    if (made.uid(), made.gid()) == (user, group) {
        return Ok(());
    }
    fchown(new, Some(user), Some(group)).with_context(|| {
        format!(
            "it belongs to the user {user} and the group {group}, and a new one cannot be given to them; be that user, or root"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::chown;

    use super::*;

    /// What is in the folder, by name.
    fn files_in(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(folder).unwrap().map(name).collect()
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_put_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("export.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        // One is given up; of two at a time the last one stays.
        for (text, end) in [("half", None), ("new", Some("new")), ("newer", Some("newer"))] {
            let before = fs::read_to_string(&path).unwrap();
            let (replacement, other) = (Replacement::one_of_many(&path).unwrap(), Replacement::one_of_many(&path).unwrap());
            replacement.file().write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), before);
            assert_eq!(files_in(folder.path()).len(), 3);
            if end.is_some() {
                other.put().unwrap();
                replacement.put().unwrap();
            } else {
                drop((replacement, other));
            }
            assert_eq!(fs::read_to_string(&path).unwrap(), end.unwrap_or(&before));
            assert_eq!(files_in(folder.path()), ["export.yaml"], "nothing is left beside it");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "who may read it stays");
    }

    #[test]
    fn a_file_that_was_not_there_is_like_any_other_or_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (other, export, tokens) = (folder.path().join("a"), folder.path().join("b"), folder.path().join("c"));
        fs::write(&other, "").unwrap();
        Replacement::one_of_many(&export).unwrap().put().unwrap();
        Replacement::alone(&tokens).unwrap().put().unwrap();
        assert_eq!((mode(&export), mode(&tokens)), (mode(&other), 0o600));
    }

    #[test]
    fn what_stands_in_the_way_is_told_from_a_folder_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| format!("{:#}", Replacement::alone(path).unwrap_err());
        let path = folder.path().join("tokens.toml");
        let _other = Replacement::alone(&path).unwrap();
        let broken_off = refused(&path);
        assert!(
            broken_off.contains("tokens.toml.new`; if nobody else") && broken_off.contains("remove that file"),
            "{broken_off}"
        );
        let missing = refused(&folder.path().join("missing/tokens.toml"));
        assert!(missing.contains("missing` is not there") && !missing.contains("remove"), "{missing}");
    }

    #[test]
    fn a_file_that_cannot_be_given_to_its_owner_is_an_error() {
        let ours = tempfile::NamedTempFile::new().unwrap();
        drop(chown(ours.path(), Some(12_345), Some(12_346)));
        // These are root's, and not even root may change that.
        let theirs = File::open("/proc/sys/kernel/ostype").unwrap();
        let old = fs::metadata(ours.path()).unwrap();
        let refused = format!("{:#}", keep_owner(&theirs, &old).unwrap_err());
        assert!(refused.contains(&format!("the user {} and the group {}", old.uid(), old.gid())), "{refused}");
        assert!(refused.contains("not permitted"), "{refused}");
        assert!(keep_owner(&theirs, &theirs.metadata().unwrap()).is_ok(), "there is nothing to be done");
    }
}
