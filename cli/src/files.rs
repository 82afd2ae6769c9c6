//! Documents out of files: which files a name stands for, and all that is wrong with them at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use crate::document::{self, DocumentError, Kind, Located};

/// Most faults that are shown at once.
const FAULTS_MAX: usize = 20;
/// What `-` is called.
const STANDARD_INPUT: &str = "standard input";

/// The files that `paths` stand for: a directory means its `*.yaml`, sorted, not those below; `-` is standard input.
pub fn resolve(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let shown = path.display();
        let entries = std::fs::read_dir(path).with_context(|| format!("read the directory `{shown}`"))?;
        let mut found = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("read the directory `{shown}`"))?.path();
            if file.is_file() && file.extension().is_some_and(|extension| extension == "yaml") {
                found.push(file);
            }
        }
        anyhow::ensure!(!found.is_empty(), "there is no *.yaml in the directory `{shown}`");
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// The documents of one file, one after the other.
pub type Documents = Box<dyn Iterator<Item = Result<Located, DocumentError>> + Send>;

/// Reads one file, once.
fn read(path: &Path) -> anyhow::Result<Documents> {
    if path.as_os_str() == "-" {
        let reader: Box<dyn BufRead + Send> = Box::new(BufReader::new(io::stdin()));
        return Ok(Box::new(document::read(STANDARD_INPUT, reader)));
    }
    let shown = path.display().to_string();
    let file = File::open(path).with_context(|| format!("open `{shown}`"))?;
    Ok(Box::new(document::read(&shown, BufReader::new(file))))
}

/// A file that can be read again and again. What cannot (standard input, a pipe) is put by in a temporary file without a name,
/// which ends with the process.
#[derive(Debug)]
pub struct Source {
    name: String,
    file: Arc<File>,
}

/// Reads a file from its beginning, whoever else reads it.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Source {
    /// The file that `path` names; `-` is standard input. Waits for the end of what is put by.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::put_by(STANDARD_INPUT.to_owned(), io::stdin());
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("open `{name}`"))?;
        if file.metadata().with_context(|| format!("open `{name}`"))?.is_file() {
            return Ok(Self { name, file: Arc::new(file) });
        }
        Self::put_by(name, file)
    }

    fn put_by(name: String, mut once: impl io::Read) -> anyhow::Result<Self> {
        let copied = tempfile::tempfile().and_then(|mut file| io::copy(&mut once, &mut file).map(|_| file));
        let file = copied.with_context(|| format!("put `{name}` by in a temporary file, to read it more than once"))?;
        Ok(Self { name, file: Arc::new(file) })
    }

    /// Its documents, from the first on.
    pub fn documents(&self) -> Documents {
        let reader = FromStart { file: Arc::clone(&self.file), at: 0 };
        Box::new(document::read(&self.name, BufReader::new(reader)))
    }
}

impl io::Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at = self.at.saturating_add(count as u64);
        Ok(count)
    }
}

/// All documents of all files, in the order in which they are applied; refuses them all when one cannot be read or two are
/// about the same thing.
pub fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Located>> {
    gather(resolve(paths)?.iter().map(|path| read(path)), |_| true)
}

/// The same of those that `keep` wants.
pub fn gather(
    files: impl IntoIterator<Item = anyhow::Result<Documents>>,
    keep: impl Fn(Kind) -> bool,
) -> anyhow::Result<Vec<Located>> {
    let (mut documents, mut faults) = (Vec::new(), Vec::new());
    let mut seen: HashMap<(Kind, String), String> = HashMap::new();
    for file in files {
        for read in file? {
            let located = match read {
                Ok(located) => located,
                Err(error) => {
                    faults.push(error.to_string());
                    continue;
                }
            };
            if !keep(located.document.kind()) {
                continue;
            }
            let place = format!("{}:{}", located.source, located.line);
            let key = (located.document.kind(), located.document.id().to_owned());
            if let Some(first) = seen.insert(key, place.clone()) {
                faults.push(format!("{place}: there is a document for {} already, at {first}", located.document));
            }
            documents.push(located);
        }
    }
    if !faults.is_empty() {
        let count = faults.len();
        faults.truncate(FAULTS_MAX);
        if count > FAULTS_MAX {
            faults.push(format!("… and {} more", count - FAULTS_MAX));
        }
        anyhow::bail!("{}", faults.join("\n"));
    }
    documents.sort_by_key(|located| located.document.kind());
    Ok(documents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_means_its_yaml_files_in_order_and_order_of_application_is_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", "tenant: t\nplan: p\n---\nplan: p\n");
        write("b.yaml", "service: s\n---\nlimit: l\n");
        write("c.yml", "not: read");
        write("d.txt", "not: read");
        std::fs::create_dir(folder.path().join("below.yaml")).unwrap();
        let all = read_all(&[folder.path().to_owned()]).unwrap();
        let names: Vec<String> = all.iter().map(|located| located.document.to_string()).collect();
        assert_eq!(names, ["service `s`", "limit `l`", "plan `p`", "tenant `t`"]);
    }

    #[test]
    fn everything_wrong_is_shown_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "plan: p\n---\nplan: P\n---\nplan: p\n---\nplan: q\nx: 1\n").unwrap();
        let error = read_all(std::slice::from_ref(&file)).unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(lines[0].contains("a.yaml:3:7: plan: `P` is not a plan id"), "{error}");
        assert!(lines[1].contains("a.yaml:5: there is a document for plan `p` already, at"), "{error}");
        assert!(lines[2].contains("a.yaml:8:1") && lines[2].contains('x'), "{error}");
    }

    #[test]
    fn missing_files_and_empty_directories_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = read_all(&[folder.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no *.yaml") && error.contains(&folder.path().display().to_string()), "{error}");
        let error = read_all(&[folder.path().join("x.yaml")]).unwrap_err().to_string();
        assert!(error.contains("x.yaml"), "{error}");
    }

    #[test]
    fn what_can_be_read_once_is_put_by_and_read_as_often_as_a_file() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;

        let (pipe, mut writer) = io::pipe().unwrap();
        writer.write_all(b"service: s\n---\ntenant: t\nplan: p\n").unwrap();
        drop(writer);
        let path = PathBuf::from(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
        let source = Source::open(&path).unwrap();
        let names = |documents: Documents| documents.map(|read| read.unwrap().document.to_string()).collect::<Vec<_>>();
        // A reader that has come half way disturbs no other.
        let mut halfway = source.documents();
        halfway.next().unwrap().unwrap();
        assert_eq!(names(source.documents()), ["service `s`", "tenant `t`"]);
        assert_eq!(names(source.documents()), ["service `s`", "tenant `t`"]);
        assert_eq!(names(halfway), ["tenant `t`"]);
    }
}
