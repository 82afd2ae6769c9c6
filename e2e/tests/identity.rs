//! Who calls, seen from outside: tokens, tenants that callers are bound to, encryption, and what refuses to start. The example
//! documents are what callers ask about.

#[path = "identity/authorities.rs"]
mod authorities;
#[path = "identity/bound.rs"]
mod bound;
#[path = "identity/exposed.rs"]
mod exposed;
#[path = "identity/issued.rs"]
mod issued;
#[path = "identity/late.rs"]
mod late;
#[path = "identity/processes.rs"]
mod processes;
#[path = "identity/streams.rs"]
mod streams;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;
use tessera_e2e::binary::{self, Finished};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Dev, Launch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

/// A folder with a file of tokens and settings that name it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// `tessera token <arguments>` on the file.
    fn token(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(binary::tessera().unwrap());
        command.arg("token").args(arguments).arg("--tokens-file").arg(self.path("tokens.toml"));
        binary::run(&mut command).unwrap()
    }

    /// A new token.
    fn create(&self, arguments: &[&str]) -> String {
        let made = self.token(&[&["create"], arguments].concat()).success().unwrap();
        made.trim().to_owned()
    }

    /// `tessera dev` with the example documents and these settings.
    fn launch(&self, settings: &str) -> Launch {
        let settings = self.write("settings.toml", settings);
        let mut launch = Launch::over(&self.path("data")).unwrap().apply(&binary::repository().join("examples/quickstart"));
        launch.command().arg("--settings").arg(settings);
        launch
    }

    /// `tessera dev` with these settings; where it listens is for the caller to say.
    fn command(&self, settings: &str) -> Command {
        let settings = self.write("settings.toml", settings);
        let mut command = Command::new(binary::tessera().unwrap());
        command.arg("dev").arg("--data").arg(self.path("data")).arg("--settings").arg(settings);
        command
    }

    /// With the file of tokens as the one way to be known.
    async fn dev(&self) -> Dev {
        let settings = format!("[identity]\ntokens_file = \"{}\"\n", self.path("tokens.toml").display());
        self.launch(&settings).ready().await.unwrap()
    }
}

/// `tessera <arguments>` by whoever has the token.
fn tessera(dev: &Dev, token: &str, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary::tessera().unwrap());
    let addresses = dev.addresses();
    command.args(arguments).env("TESSERA_DATA_ADDR", addresses.data.to_string());
    command.env("TESSERA_CONTROL_ADDR", addresses.control.to_string()).env("TESSERA_TOKEN", token);
    binary::run(&mut command).unwrap()
}

/// Shows a token with every call.
#[derive(Debug, Clone)]
struct Shows(MetadataValue<Ascii>);

impl Shows {
    fn token(token: &str) -> Self {
        Self(format!("Bearer {token}").parse().unwrap())
    }
}

impl Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// For what is waited for.
fn is(so: bool) -> anyhow::Result<()> {
    anyhow::ensure!(so, "not yet");
    Ok(())
}

/// The reason of an error of ours.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map_or_else(|| format!("{status:?}"), |info| info.reason)
}

#[tokio::test]
async fn a_token_says_who_calls_and_what_it_may_do() {
    let place = Place::new();
    let operator = place.create(&["operator", "--scope", "read,write:tenants,audit"]);
    let shop = place.create(&["shop", "--scope", "decide"]);
    let dev = place.dev().await;
    let check = ["check", "acme", "entity-management", "role-permissions"];

    assert_eq!(tessera(&dev, &shop, &check).code, Some(0));
    let refused = tessera(&dev, &operator, &check);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("`decide`") && refused.stderr.contains("SCOPE_MISSING"), "{}", refused.stderr);
    for nobody in ["", "tessera_bad", "a.b.c"] {
        let refused = tessera(&dev, nobody, &check);
        assert_eq!(refused.code, Some(1), "{nobody}");
        assert!(refused.stderr.contains("TOKEN_INVALID") && !refused.stderr.contains("tessera_bad"), "{}", refused.stderr);
    }

    let suspend = ["tenant", "suspend", "acme", "--reason", "payment", "--yes"];
    assert_ne!(tessera(&dev, &shop, &suspend).code, Some(0));
    tessera(&dev, &operator, &suspend).success().unwrap();
    let events = tessera(&dev, &operator, &["audit", "list", "--tenant", "acme"]).success().unwrap();
    assert!(events.lines().any(|line| line.contains("Suspended") && line.contains("token:operator")), "{events}");
    let metrics = tessera_e2e::http::get(dev.addresses().http, "/metrics").await.unwrap();
    assert!(metrics.body.contains("tessera_identity_refused_total{reason=\"scope_missing\"}"), "{}", metrics.body);

    // Nothing that could be used is in a log.
    let log = dev.account();
    assert!(!log.contains(&operator) && !log.contains(&shop) && !log.contains("tessera_bad"), "{log}");
    dev.stop().unwrap();
}

#[tokio::test]
async fn a_rotated_token_has_two_secrets_and_a_revoked_one_none() {
    let place = Place::new();
    let old = place.create(&["shop", "--scope", "decide"]);
    let taken = place.token(&["create", "shop", "--scope", "decide"]);
    assert!(taken.code == Some(1) && taken.stderr.contains("tessera token rotate shop"), "{}", taken.stderr);
    let dev = place.dev().await;
    let knows = |token: &str| tessera(&dev, token, &["check", "acme", "entity-management"]).code == Some(0);
    assert!(knows(&old));

    let new = place.token(&["rotate", "shop", "--keep", "1h"]).success().unwrap().trim().to_owned();
    eventually("the new secret is good", async || is(knows(&new))).await.unwrap();
    assert!(knows(&old), "it stays good for an hour");
    let listed = place.token(&["list", "-o", "json"]).success().unwrap();
    assert!(!listed.contains(&old) && !listed.contains(&new) && listed.matches("\"shop\"").count() == 2, "{listed}");
    place.token(&["rotate", "shop", "--keep", "0s"]).success().unwrap();
    eventually("both old secrets are refused", async || is(!knows(&old) && !knows(&new))).await.unwrap();

    place.token(&["revoke", "shop", "--yes"]).success().unwrap();
    let refused = place.token(&["revoke", "shop", "--yes"]);
    assert!(refused.stderr.contains("there is no token `shop`"), "{}", refused.stderr);
    // A file that cannot be read changes nothing.
    let last = place.create(&["last", "--scope", "decide"]);
    eventually("it is known", async || is(knows(&last))).await.unwrap();
    place.write("tokens.toml", "[[token]]\nname = 1\n");
    eventually("the log says so", async || is(dev.account().contains("the tokens that are known stay in use"))).await.unwrap();
    assert!(knows(&last));
    // That is an error in its log: nobody's token can be revoked until somebody has looked.
    dev.signal(rustix::process::Signal::TERM).unwrap();
    assert!(dev.ended().unwrap().success());
}

#[test]
fn what_tokens_may_not_be_is_said_when_they_are_made() {
    let place = Place::new();
    for (arguments, expected) in [
        (&["create", "Shop", "--scope", "decide"][..], &["`Shop`", "a-z 0-9"][..]),
        (&["create", "shop", "--scope", "all"], &["`all`", "write:tenants"]),
        (&["create", "shop"], &["--scope"]),
        (&["create", "shop", "--scope", "decide", "--tenant", "a b"], &["tenants", "`a b`"]),
        (&["create", "shop", "--scope", "write:plans", "--tenant", "acme"], &["tenants", "write:plans"]),
        (&["create", "shop", "--scope", "decide", "--expires", "0s"], &["expires", "3653d"]),
        (&["create", "shop", "--scope", "decide", "--expires", "4000d"], &["expires", "3653d"]),
        (&["rotate", "shop"], &["there is no token `shop`"]),
        (&["list"], &["tokens.toml"]),
    ] {
        let refused = place.token(arguments);
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        assert!(expected.iter().all(|word| refused.stderr.contains(word)), "{arguments:?}: {}", refused.stderr);
        assert_eq!(refused.stdout, "", "{arguments:?}");
    }
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0, "nothing is left");
}

/// What cannot be opened cannot be synced: a folder in which files may be made and replaced, and which may not be read.
#[test]
fn a_change_that_a_loss_of_power_may_undo_is_reported() {
    let place = Place::new();
    let folder = place.path("tokens");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, Permissions::from_mode(0o300)).unwrap();
    // Another user may not be let in where the program is.
    let mut command = Command::new(binary::for_everybody(place.folder.path()).unwrap());
    // Root may read everything, and is nobody else's business.
    if chown(&folder, Some(12_345), Some(12_345)).is_ok() {
        command.uid(12_345).gid(12_345);
    }
    command.args(["token", "create", "shop", "--scope", "decide", "--tokens-file"]).arg(folder.join("tokens.toml"));
    let finished = binary::run(&mut command).unwrap();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("is changed") && finished.stderr.contains("loss of power"), "{}", finished.stderr);
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
}
