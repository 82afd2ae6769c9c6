//! Where callers are asked who they are: the flags with which `examples/README.md` has grpcurl show a token.

use std::process::Command;

use anyhow::Context as _;
use tessera_e2e::binary;

use super::{Fixture, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_as_the_examples_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let mut create = Command::new(binary::tessera()?);
    create.args(["token", "create", "shop", "--scope", "decide", "--tokens-file"]).arg(at("tokens.toml"));
    let token = binary::run(&mut create)?.success()?;
    std::fs::write(at("settings.toml"), format!("[identity]\ntokens_file = \"{}\"\n", at("tokens.toml").display()))?;
    let settings = at("settings.toml").display().to_string();
    let Some(fixture) = Fixture::start_with(&["--settings", &settings]).await? else { return Ok(()) };

    let examples = binary::repository().join("examples");
    let readme = std::fs::read_to_string(examples.join("README.md"))?;
    let flags = readme.split('`').find(|code| code.starts_with("-expand-headers ")).context("the page names no flags")?;
    let script = std::fs::read_to_string(examples.join("grpcurl/check.sh"))?;
    let with_token = script.replacen("grpcurl ", &format!("grpcurl {flags} "), 1);
    let run = |script: &str| {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).env("TESSERA_DATA_ADDR", fixture.data()).env("TESSERA_TOKEN", token.trim());
        fixture.with_grpcurl(&mut command)
    };
    let refused = run(&script)?;
    assert!(refused.code != Some(0) && refused.stderr.contains("Unauthenticated"), "{refused:?}");
    let answer = json(&run(&with_token)?.success()?)?;
    assert_eq!(answer["reason"], "REASON_GRANTED_BY_OVERRIDE", "{answer}");
    fixture.dev.stop()
}
