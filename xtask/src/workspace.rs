//! What cargo knows of the workspace: members, their features, targets and edges. Reads only; builds nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, PackageId, TargetKind};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// The feature behind which guard switches and fail points stand.
const TEST_HOOKS: &str = "test-hooks";

/// The workspace as `cargo metadata` describes it.
pub(crate) struct Workspace(Metadata);

impl Workspace {
    pub(crate) fn load() -> anyhow::Result<Self> {
        let mut command = MetadataCommand::new();
        command.manifest_path(root().join("Cargo.toml")).features(CargoOpt::AllFeatures);
        Ok(Self(command.exec().context("read cargo metadata")?))
    }

    /// `crate/test-hooks` of every member that has it: one feature set for all suites, so that one build serves them.
    pub(crate) fn test_hooks(&self) -> String {
        let members = self.0.workspace_packages();
        let with_hooks = members.iter().filter(|package| package.features.contains_key(TEST_HOOKS));
        with_hooks.map(|package| format!("{}/{TEST_HOOKS}", package.name)).collect::<Vec<_>>().join(",")
    }

    /// Integration test targets as (crate, target), sorted.
    pub(crate) fn test_targets(&self) -> Vec<(String, String)> {
        let mut targets = Vec::new();
        for package in self.0.workspace_packages() {
            for target in package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Test)) {
                targets.push((package.name.to_string(), target.name.clone()));
            }
        }
        targets.sort();
        targets
    }

    /// Where the sources of a package are, as the lock file pins it.
    pub(crate) fn folder_of(&self, name: &str) -> anyhow::Result<PathBuf> {
        let package = self.0.packages.iter().find(|package| package.name.as_str() == name);
        let manifest = &package.with_context(|| format!("no package `{name}`"))?.manifest_path;
        Ok(manifest.parent().with_context(|| format!("`{manifest}` is in no folder"))?.as_std_path().to_path_buf())
    }

    /// Member → members it depends on outside its tests.
    pub(crate) fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let members = self.0.workspace_packages();
        let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
        let mut edges = BTreeMap::new();
        for package in &members {
            let outside_tests = package.dependencies.iter().filter(|edge| edge.kind != DependencyKind::Development);
            let ours = outside_tests.filter(|edge| names.contains(edge.name.as_str())).map(|edge| edge.name.clone());
            edges.insert(package.name.to_string(), ours.collect());
        }
        edges
    }

    /// The names of all packages that a member is built from, tests excepted.
    pub(crate) fn tree(&self, member: &str) -> anyhow::Result<BTreeSet<String>> {
        let resolve = self.0.resolve.as_ref().context("cargo metadata without a dependency graph")?;
        let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
        let start = self.0.workspace_packages().into_iter().find(|package| package.name.as_str() == member);
        let mut waiting = vec![&start.with_context(|| format!("no member `{member}`"))?.id];
        let mut seen = BTreeSet::new();
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(node) = nodes.get(id) else { continue };
            for edge in &node.deps {
                if edge.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development) {
                    waiting.push(&edge.pkg);
                }
            }
        }
        Ok(seen.into_iter().map(|id| self.0[id].name.to_string()).collect())
    }
}
