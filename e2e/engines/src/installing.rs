//! The jars of the engines, fetched once by plain `mvn` into `target/tools/engines`, and the archives of parsed classes that
//! halve every start. What an engine is told with them is the engines' own business.
//!
//! A folder with jars is complete: they are fetched beside it and it is renamed at the end. A lock keeps two from it at once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Reads the pom and copies what it names, and what that needs, into a folder.
const GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// What is to be fetched.
#[derive(Debug)]
pub(crate) struct Package {
    /// Name and version: the name of its folder.
    pub(crate) name: &'static str,
    /// Its `<dependency>` elements.
    pub(crate) dependencies: &'static str,
}

/// A package that is there.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    folder: PathBuf,
}

/// Fetches what both engines need, where it is not there yet, and makes their archives.
pub fn install() -> anyhow::Result<()> {
    crate::cassandra::install()?;
    crate::kafka::install()
}

/// Whether both engines are there already.
pub(crate) fn is_complete() -> bool {
    [&crate::cassandra::PACKAGE, &crate::kafka::PACKAGE].iter().all(|package| folder_of(package).is_dir())
}

fn engines() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    ours.ancestors().nth(2).unwrap_or(ours).join("target/tools/engines")
}

fn folder_of(package: &Package) -> PathBuf {
    engines().join(package.name)
}

/// The package, fetched now if it is not there. After the first fetching `train` runs once: it is to make the archive that
/// [`Installed::archive`] names.
pub(crate) fn package(package: &Package, train: impl FnOnce(&Installed) -> anyhow::Result<()>) -> anyhow::Result<Installed> {
    let installed = Installed { folder: folder_of(package) };
    if installed.trained().exists() {
        return Ok(installed);
    }
    std::fs::create_dir_all(engines()).context("make the folder of the engines")?;
    let lock = File::create(engines().join(format!("{}.lock", package.name))).context("make a lock")?;
    // Waits while another installs; the kernel releases it with the file, whatever becomes of us.
    lock.lock().context("lock the folder of the engines")?;
    if !installed.folder.is_dir() {
        fetch(package, &installed.folder)?;
    }
    if !installed.trained().exists() {
        eprintln!("{}: first start, which makes the archive of classes", package.name);
        train(&installed).with_context(|| format!("first start of {}", package.name))?;
        // Also when this Java made no archive: it would not do so the next time either.
        File::create(installed.trained()).context("note that the first start was made")?;
    }
    Ok(installed)
}

fn fetch(package: &Package, folder: &Path) -> anyhow::Result<()> {
    eprintln!("{}: fetching the jars", package.name);
    let beside = folder.with_file_name(format!("{}.part", package.name));
    if beside.exists() {
        std::fs::remove_dir_all(&beside).with_context(|| format!("remove `{}`", beside.display()))?;
    }
    std::fs::create_dir_all(&beside).with_context(|| format!("make `{}`", beside.display()))?;
    std::fs::write(beside.join("pom.xml"), pom(package)).context("write the pom")?;
    let output = Command::new("mvn")
        .args(["-q", "-B", GOAL, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", beside.join("lib").display()))
        .current_dir(&beside)
        .stdin(Stdio::null())
        .output()
        .context("start `mvn`")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("`mvn` could not fetch {}: {}\n{}", package.name, output.status, String::from_utf8_lossy(&said));
    }
    std::fs::rename(&beside, folder).with_context(|| format!("rename to `{}`", folder.display()))
}

fn pom(package: &Package) -> String {
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tessera.engines</groupId><artifactId>{}</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{}
  </dependencies>
</project>
"#,
        package.name, package.dependencies
    )
}

// === impl Installed ===

impl Installed {
    /// Arguments of Java that name the jars, and the archive where there is one. The class path is jars only and always the
    /// same string: an archive is of no use with another.
    pub(crate) fn class_path(&self) -> Vec<String> {
        let mut words = vec!["-cp".to_owned(), format!("{}/lib/*", self.folder.display())];
        if self.archive().exists() {
            words.push(format!("-XX:SharedArchiveFile={}", self.archive().display()));
        }
        words
    }

    /// The argument of Java that makes the archive when it ends; [`Self::adopt`] puts it to its place.
    pub(crate) fn archiving(&self) -> String {
        format!("-XX:ArchiveClassesAtExit={}", self.archive_in_the_making().display())
    }

    /// To be called after the end of a Java that was told to make an archive.
    pub(crate) fn adopt(&self) -> anyhow::Result<()> {
        if self.archive_in_the_making().exists() {
            std::fs::rename(self.archive_in_the_making(), self.archive()).context("rename the archive")?;
        }
        Ok(())
    }

    fn archive(&self) -> PathBuf {
        self.folder.join("classes.jsa")
    }

    fn archive_in_the_making(&self) -> PathBuf {
        self.folder.join("classes.part.jsa")
    }

    fn trained(&self) -> PathBuf {
        self.folder.join("first-start-made")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poms_name_the_versions_that_their_folders_promise() {
        for package in [&crate::cassandra::PACKAGE, &crate::kafka::PACKAGE] {
            let (_, version) = package.name.split_once('-').unwrap();
            let pom = pom(package);
            assert!(pom.contains(&format!("<version>{version}</version>")), "{pom}");
            assert_eq!(pom.matches("<dependency>").count(), pom.matches("</dependency>").count());
        }
    }

    #[test]
    fn jars_are_named_before_there_is_an_archive_and_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let installed = Installed { folder: folder.path().to_path_buf() };
        let jars = format!("{}/lib/*", folder.path().display());
        assert_eq!(installed.class_path(), ["-cp", &jars]);
        // Nothing was made, and that is no error.
        installed.adopt().unwrap();
        std::fs::write(folder.path().join("classes.part.jsa"), "archive").unwrap();
        installed.adopt().unwrap();
        assert_eq!(installed.class_path().len(), 3);
        assert!(!folder.path().join("classes.part.jsa").exists());
    }
}
