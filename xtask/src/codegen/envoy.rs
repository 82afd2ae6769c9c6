//! The descriptors of Envoy's `Authorization`, from which reflection answers who wants to call it by hand. They are compiled from
//! the .proto files in the crate that the tests hold our reading of Envoy's messages against, as the lock file pins it. No message
//! is generated: reading and writing them is the server's own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::workspace::Workspace;

/// The crate, and where the files of its sources are.
const PACKAGE: &str = "envoy-types";
const SOURCES: [&str; 4] = ["proto/data-plane-api", "proto/googleapis", "proto/protoc-gen-validate", "proto/xds"];
/// What is served.
const AUTHORIZATION: &str = "envoy/service/auth/v3/external_auth.proto";

/// The set of all files that describe the service, encoded.
pub(super) fn descriptors() -> Result<Vec<u8>> {
    let package = Workspace::load()?.folder_of(PACKAGE)?;
    let mut compiler = protox::Compiler::new(SOURCES.map(|source| package.join(source)))?;
    compiler.include_imports(true);
    compiler.open_file(AUTHORIZATION).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let set = without_options(compiler.file_descriptor_set())?;
    let encoded = set.encode_to_vec();
    prost_reflect::DescriptorPool::decode(encoded.as_slice()).context("what is left describes itself")?;
    Ok(encoded)
}

/// Without options that are extensions (rules of validation, marks of versions), which the types do not hold, and without the
/// files that only declare these: most of the bytes say nothing to a caller.
fn without_options(mut set: FileDescriptorSet) -> Result<FileDescriptorSet> {
    let dropped: BTreeSet<String> =
        set.file.iter().filter(|file| !file.extension.is_empty()).map(|file| file.name().to_owned()).collect();
    for file in &mut set.file {
        // They count the imports, which change.
        ensure!(file.public_dependency.is_empty() && file.weak_dependency.is_empty(), "`{}` passes imports on", file.name());
        file.dependency.retain(|import| !dropped.contains(import));
    }
    let mut waiting = vec![AUTHORIZATION.to_owned()];
    let mut needed = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if let Some(file) = set.file.iter().find(|file| file.name() == name)
            && needed.insert(name)
        {
            waiting.extend(file.dependency.iter().cloned());
        }
    }
    set.file.retain(|file| needed.contains(file.name()));
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_described_and_nothing_that_it_does_not_need() {
        let set = FileDescriptorSet::decode(descriptors().unwrap().as_slice()).unwrap();
        let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(set.clone()).unwrap();
        let service = pool.get_service_by_name("envoy.service.auth.v3.Authorization").unwrap();
        let check = service.methods().next().unwrap();
        assert_eq!(check.input().full_name(), "envoy.service.auth.v3.CheckRequest");
        for file in &set.file {
            assert!(file.extension.is_empty() && file.source_code_info.is_none(), "{}", file.name());
            assert!(!file.name().starts_with("validate/"), "{}", file.name());
        }
    }
}
