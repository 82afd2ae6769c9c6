//! Where programs stand that are not part of a Rust toolchain. Finds them; installs nothing (that is `.ci/run`).

use std::path::PathBuf;

use crate::workspace;

/// Looks for a program in `target/tools/bin`, where `.ci/run` puts it, then on PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let ours = workspace::root().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(ours).chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}
