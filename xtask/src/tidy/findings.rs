//! What a rule reads and what it says.

use std::fmt;
use std::path::Path;

/// A file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// 1 for the first line; 0 when the file as a whole is meant.
    line: usize,
    message: String,
}

impl SourceFile {
    #[cfg(test)]
    pub(crate) fn for_test(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    pub(crate) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    pub(crate) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Something about the file as a whole.
    pub(crate) fn finding(&self, message: impl Into<String>) -> Finding {
        self.finding_at(0, message)
    }

    /// Something about a line, 1 for the first.
    pub(crate) fn finding_at(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// The file at `path`, or the finding that there is none.
pub(crate) fn wanted<'a>(files: &'a [SourceFile], path: &str) -> Result<&'a SourceFile, Finding> {
    let missing = || Finding { path: path.to_owned(), line: 0, message: "the file is missing".to_owned() };
    files.iter().find(|file| file.path == path).ok_or_else(missing)
}

/// Asserts on messages, so that a test reads as a list of what was found.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_found(findings: &[Finding], expected: &[&str]) {
    let found: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "`{found}` does not say `{expected}`");
    }
}
