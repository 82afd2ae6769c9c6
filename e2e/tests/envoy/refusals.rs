//! Settings by which requests would be judged wrongly, or not at all: no process starts with them, and it says what is wrong by field,
//! value and what is allowed.

use std::path::Path;
use std::process::Command;

use tessera_e2e::binary;

/// Below `[server.ext_authz]`, and what has to be said of it.
const WRONG: [(&str, &[&str]); 16] = [
    ("service = [{ from = 'fixed', value = 'reporting' }]", &["`ext_authz.tenant` has no source", "one at least"]),
    ("tenant = [{ from = 'header', name = 'x-tenant-id' }]", &["`ext_authz.service` has no source", "one at least"]),
    ("tenant = [{ from = 'cookie', name = 'tenant' }]", &["unknown variant `cookie`", "`header`", "`principal`"]),
    ("tenant = [{ from = 'header', name = 'X-Tenant-Id' }]", &["`ext_authz.tenant.name` is `X-Tenant-Id`", "in lower case"]),
    ("tenant = [{ from = 'header', nam = 'x-tenant-id' }]", &["unknown field `nam`", "`name`"]),
    ("tenant = [{ from = 'principal', prefix = '' }]", &["`ext_authz.tenant.prefix` is ``", "not empty"]),
    ("tenant = [{ from = 'sni', names = { 'A.example' = 'acme' } }]", &["`A.example`", "names in lower case"]),
    ("tenant = [{ from = 'host', names = { 'a.example' = 'no good' } }]", &["`ext_authz.tenant.names` is `no good`"]),
    ("tenant = [{ from = 'metadata', namespace = 'n', path = [] }]", &["`ext_authz.tenant.path`", "one name at least"]),
    ("tenant = [{ from = 'route' }]", &["`ext_authz.tenant.from` is `route`", "any other source"]),
    ("dry_run = 'perhaps'", &["dry_run", "boolean"]),
    ("allow = true", &["unknown field `allow`", "`dry_run`"]),
    (
        "tenant = [{ from = 'header', name = 't' }]\nservice = [{ from = 'route' }]\n\
         routes = [{ method = 'GET', path = '/a/{x}', service = 's' }, { method = 'POST', path = '/a/{y}', service = 's' }]",
        &["`ext_authz.routes.path` is `/a/{y}`", "the names that `/a/{x}` has", "for the same paths"],
    ),
    (
        "tenant = [{ from = 'header', name = 't' }]\nservice = [{ from = 'route' }]\n\
         routes = [{ method = 'GET', path = '/a//b', service = 's' }]",
        &["`ext_authz.routes.path` is `/a//b`", "a normal path"],
    ),
    (
        "tenant = [{ from = 'header', name = 't' }]\nservice = [{ from = 'route' }]\n\
         routes = [{ method = 'GET', path = '/a', service = 's', feature = 'exports' }]",
        &["`ext_authz.routes.feature of `GET /a`` is `exports`", "a source `route` of `ext_authz.feature`"],
    ),
    (
        "tenant = [{ from = 'header', name = 't' }]\nservice = [{ from = 'route' }]\n\
         routes = [{ method = 'GET', path = '/a', service = 's', limit = 'max_users' }]",
        &["`ext_authz.routes.limit of `GET /a`` is `max_users`", "a source `route` of `ext_authz.limit`"],
    ),
];

/// What a program says that has to refuse these settings.
fn refusal(mut command: Command, settings: &Path, text: &str) -> anyhow::Result<String> {
    std::fs::write(settings, text)?;
    command.arg("--settings").arg(settings).args(["--data-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    let refused = binary::run(&mut command)?;
    anyhow::ensure!(refused.code == Some(1), "{text}: {refused:?}");
    Ok(refused.stderr)
}

#[test]
fn no_process_starts_with_settings_that_judge_wrongly() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (settings, data) = (folder.path().join("settings.toml"), folder.path().join("data"));
    for (wrong, expected) in WRONG {
        let section = format!("[server.ext_authz]\n{wrong}\n");
        let mut dev = Command::new(binary::tessera()?);
        dev.arg("dev").arg("--data").arg(&data).args(["--control-listen", "127.0.0.1:0"]);
        let by_dev = refusal(dev, &settings, &section)?;
        let backends = format!("[backends]\nkind = \"sqlite\"\ndata_dir = \"{}\"\n", data.display());
        let by_server = refusal(Command::new(binary::server()?), &settings, &format!("{backends}{section}"))?;
        for said in [by_dev, by_server] {
            assert!(expected.iter().all(|words| said.contains(words)), "{wrong}: {said}");
        }
        assert!(!data.exists(), "`{wrong}` is refused before anything is opened");
    }
    Ok(())
}
