//! Programs that are not ours: found in `target/tools/bin`, where `.ci/run` puts them, or on PATH.

use std::path::PathBuf;

use anyhow::bail;

use crate::binary;

/// Looks for a program. `None` means that the test has nothing to do, and says so; in CI, where nothing may be skipped, it is
/// an error.
pub fn find(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let ours = binary::repository().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::iter::once(ours).chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        absent(name)?;
    }
    Ok(found)
}

/// Says that a test is skipped for want of `what`; an error in CI.
pub fn absent(what: &str) -> anyhow::Result<()> {
    if tessera_engines::in_ci() {
        bail!("`{what}` is not to be had here, and CI skips nothing");
    }
    tessera_engines::tell_skip(format_args!("`{what}` is not to be had here; `.ci/run` installs what can be installed"));
    Ok(())
}
