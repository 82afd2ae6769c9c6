//! Generates the protobuf code: `cargo xtask codegen [--check]`.
//!
//! Compiles `proto/proto/**.proto` with protox (no protoc) into `proto/src/generated/`, which is checked in, and a descriptor
//! set beside it, which reflection and `buf lint` read. The protos of google.api and google.rpc come from a Python package at
//! this moment and are not ours to keep. With `--check` nothing is written: it fails when what is checked in is stale.
//!
//! - `codegen/envoy.rs`: the descriptors of Envoy's service that we serve, beside ours.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;

use crate::workspace;

mod envoy;

/// The package that carries google/api/*.proto and google/rpc/*.proto, pinned.
const GOOGLE_PROTOS: &str = "googleapis-common-protos==1.75.0";
/// What our own folders of protos are called.
const PACKAGES: [&str; 2] = ["tessera/v1", "tessera/storage/v1"];
/// Not imported by ours, but clients that decode our errors by reflection need it.
const ERROR_DETAILS: &str = "google/rpc/error_details.proto";
/// The generated code, a file per package.
const CODE: [&str; 2] = ["tessera.v1.rs", "tessera.storage.v1.rs"];
/// Which scope each method needs, as code.
const SCOPES: &str = "scopes.rs";
/// The option of a method that names its scope.
const SCOPE_OPTION: &str = "tessera.v1.scope";
/// The descriptors of everything, beside the code.
const DESCRIPTORS: &str = "descriptor.bin";
/// The descriptors of what we serve to Envoys.
const ENVOY_DESCRIPTORS: &str = "envoy.bin";

/// Generates, or with `check` compares.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = workspace::root();
    let fresh = root.join("target/xtask/generated");
    generate(&root, &fresh)?;
    let kept = root.join("proto/src/generated");
    for name in CODE.into_iter().chain([SCOPES, DESCRIPTORS, ENVOY_DESCRIPTORS]) {
        let (from, to) = (fresh.join(name), kept.join(name));
        if !check {
            fs::create_dir_all(&kept).context("create proto/src/generated")?;
            fs::copy(&from, &to).with_context(|| format!("write {name}"))?;
        } else if fs::read(&from)? != fs::read(&to).unwrap_or_default() {
            bail!("proto/src/generated/{name} is stale; run `cargo xtask codegen` and commit what it writes");
        }
    }
    Ok(())
}

fn generate(root: &Path, out: &Path) -> Result<()> {
    let ours = root.join("proto/proto");
    let google = google_protos(root)?;
    let mut files = vec![PathBuf::from(ERROR_DETAILS)];
    for package in PACKAGES {
        for entry in fs::read_dir(ours.join(package)).with_context(|| format!("read {package}"))? {
            files.push(Path::new(package).join(entry?.file_name()));
        }
    }
    files.sort();
    let mut compiler = protox::Compiler::new([ours.as_path(), google.as_path()])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    fs::create_dir_all(out).context("create the folder for generated code")?;
    let descriptors = without_google_comments(&compiler.encode_file_descriptor_set())?;
    fs::write(out.join(DESCRIPTORS), descriptors).context("write descriptor.bin")?;
    fs::write(out.join(ENVOY_DESCRIPTORS), envoy::descriptors()?).context("write envoy.bin")?;
    fs::write(out.join(SCOPES), scopes(&compiler.descriptor_pool())?).context("write the scopes of methods")?;
    tonic_prost_build::configure()
        .out_dir(out)
        .btree_map(".")
        .bytes(".tessera.v1")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(compiler.file_descriptor_set())
        .context("generate code")?;
    for name in CODE {
        let file = out.join(name);
        let code = fs::read_to_string(&file).with_context(|| format!("read generated {name}"))?;
        fs::write(&file, without_allows(&code)).with_context(|| format!("write generated {name}"))?;
    }
    Ok(())
}

/// The scope of every method of ours, and whether it answers with a stream, as functions; refuses a method that names no scope.
fn scopes(pool: &prost_reflect::DescriptorPool) -> Result<String> {
    let option = pool.get_extension_by_name(SCOPE_OPTION).context("the option that names a method's scope")?;
    let scope = pool.get_enum_by_name("tessera.v1.Scope").context("the scopes")?;
    let mut code = String::from(
        "/// The scope that a caller of the method at `path` needs; `None` where there is no such method of ours.\n\
         pub fn of(path: &str) -> Option<Scope> {\n    Some(match path {\n",
    );
    let mut streams = Vec::new();
    for service in pool.services().filter(|service| service.full_name().starts_with("tessera.")) {
        for method in service.methods() {
            let number = method.options().get_extension(&option).as_enum_number().unwrap_or_default();
            let named = scope.get_value(number).filter(|_| number != 0);
            let named = named.with_context(|| {
                format!("{} names no scope; allowed is an `option (scope)` other than SCOPE_UNSPECIFIED", method.full_name())
            })?;
            let variant = camel_case(named.name().trim_start_matches("SCOPE_"));
            let path = format!("\"/{}/{}\"", service.full_name(), method.name());
            writeln!(code, "        {path} => Scope::{variant},")?;
            if method.is_server_streaming() {
                streams.push(path);
            }
        }
    }
    code.push_str("        _ => return None,\n    })\n}\n");
    writeln!(code, "\n/// Whether the method at `path` is one of ours that answers with a stream.")?;
    writeln!(code, "pub fn is_stream(path: &str) -> bool {{\n    matches!(path, {})\n}}", streams.join(" | "))?;
    Ok(code)
}

/// `WRITE_PLANS` as `WritePlans`.
fn camel_case(constant: &str) -> String {
    let word =
        |word: &str| word.split_at_checked(1).map_or_else(String::new, |(first, rest)| first.to_owned() + &rest.to_lowercase());
    constant.split('_').map(word).collect()
}

/// The generator's own `allow` attributes give no reasons, which the house rules ask for; `proto/src/generated.rs` states
/// once, with the reason, what all generated code is excused from.
fn without_allows(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut inside = false;
    for line in code.lines() {
        let text = line.trim_start();
        let starts = text.starts_with("#[allow(") || text.starts_with("#![allow(");
        if starts || inside {
            inside = !text.ends_with(")]");
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// A descriptor set whose files stay bytes: decoded as the types know them they would lose every option that is an extension,
/// which the REST bindings (`google.api.http`) are.
#[derive(Clone, PartialEq, prost::Message)]
struct EncodedFiles {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// Our comments are part of what reflection shows; the comments of google's files are not ours to ship. Those files use no
/// extensions, so that decoding them loses nothing.
fn without_google_comments(set: &[u8]) -> Result<Vec<u8>> {
    let mut set = EncodedFiles::decode(set).context("decode the descriptor set")?;
    for encoded in &mut set.file {
        let mut file = prost_types::FileDescriptorProto::decode(encoded.as_slice()).context("decode a file's descriptor")?;
        if file.name().starts_with("google/") {
            file.source_code_info = None;
            *encoded = file.encode_to_vec();
        }
    }
    Ok(set.encode_to_vec())
}

/// Unpacks the package of google's protos below `target/`, once per version.
fn google_protos(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/xtask").join(GOOGLE_PROTOS.replace("==", "-"));
    if !folder.join(ERROR_DETAILS).is_file() {
        let status = Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--root-user-action=ignore", "--upgrade"])
            .arg("--target")
            .args([folder.as_os_str(), GOOGLE_PROTOS.as_ref()])
            .status()
            .context("run python3 -m pip, which fetches the protos of google.api and google.rpc")?;
        ensure!(status.success(), "pip could not install {GOOGLE_PROTOS}");
    }
    ensure!(folder.join(ERROR_DETAILS).is_file(), "{GOOGLE_PROTOS} does not carry {ERROR_DETAILS}");
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::{camel_case, scopes, without_allows};

    #[test]
    fn a_method_without_a_scope_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = crate::workspace::root();
        let with = |scope: &str| {
            let text = format!(
                "syntax = \"proto3\"; package tessera.v9; import \"tessera/v1/scope.proto\"; message M {{}} \
                 service S {{ rpc Ask(M) returns (M) {{ {scope} }} }}"
            );
            std::fs::write(folder.path().join("s.proto"), text).unwrap();
            let mut compiler = protox::Compiler::new([folder.path(), &root.join("proto/proto")]).unwrap();
            compiler.include_imports(true);
            compiler.open_file("s.proto").unwrap();
            scopes(&compiler.descriptor_pool()).map_err(|error| error.to_string())
        };
        let code = with("option (tessera.v1.scope) = SCOPE_WRITE_PLANS;").unwrap();
        assert!(code.contains("\"/tessera.v9.S/Ask\" => Scope::WritePlans,"), "{code}");
        for without in ["", "option (tessera.v1.scope) = SCOPE_UNSPECIFIED;"] {
            let refused = with(without).unwrap_err();
            assert!(refused.contains("tessera.v9.S.Ask") && refused.contains("names no scope"), "{refused}");
        }
    }

    #[test]
    fn constants_become_variants() {
        assert_eq!(camel_case("WRITE_PLANS"), "WritePlans");
        assert_eq!(camel_case("READ"), "Read");
    }

    #[test]
    fn allows_are_left_out_and_nothing_else() {
        let code = "mod a {\n    #![allow(\n        dead_code,\n    )]\n    #[allow(non_camel_case_types)]\n    struct s;\n}\n";
        assert_eq!(without_allows(code), "mod a {\n    struct s;\n}\n");
    }
}
