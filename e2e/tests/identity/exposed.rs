//! Beyond loopback, and encrypted: what does not start and why, and what does and how it is reached.

use std::process::Command;

use tessera_e2e::authority::{Authority, Signed};
use tessera_e2e::{Start, binary};

use super::Place;

pub(super) fn write(place: &Place, name: &str, signed: &Signed) {
    place.write(&format!("{name}.crt"), &signed.certificate);
    place.write(&format!("{name}.key"), &signed.key);
}

/// Settings with TLS and, in `identity`, what is written.
pub(super) fn settings(place: &Place, identity: &str) -> String {
    let at = |name| place.path(name).display().to_string();
    format!(
        "[listener.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\nclient_certificates = \"optional\"\n{identity}",
        at("server.crt"),
        at("server.key"),
        at("clients.pem")
    )
}

#[test]
fn nothing_is_exposed_to_everybody() {
    let place = Place::new();
    place.create(&["shop", "--scope", "decide"]);
    let tokens = format!("[identity]\ntokens_file = \"{}\"\n", place.path("tokens.toml").display());
    for (settings, flag, expected) in [
        (String::new(), "--data-listen", &["--data-listen", "`0.0.0.0:0`", "without `[identity]`", "127.0.0.1:7400"][..]),
        (String::new(), "--control-listen", &["--control-listen", "`0.0.0.0:0`", "without `[identity]`"]),
        (tokens.clone(), "--data-listen", &["without `[listener.tls]`", "identity.allow_plaintext"]),
        ("[identity]\n".to_owned(), "--data-listen", &["names nobody", "`tokens_file`"]),
        (
            "[identity]\n[[identity.issuers]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\naudiences = []\n".to_owned(),
            "--data-listen",
            &["identity.issuers[0].audiences"],
        ),
        (
            "[identity]\n[[identity.workloads]]\nspiffe_id = \"spiffe://example.org/a\"\nscopes = [\"decide\"]\n".to_owned(),
            "--data-listen",
            &["identity.workloads", "listener.tls.client_ca"],
        ),
        ("[identity]\ntoken_file = \"x\"\n".to_owned(), "--data-listen", &["token_file", "tokens_file"]),
    ] {
        let refused = binary::run(place.command(&settings).args([flag, "0.0.0.0:0", "--http-listen", "127.0.0.1:0"])).unwrap();
        assert_eq!(refused.code, Some(1), "{settings} {flag}: {refused:?}");
        assert!(expected.iter().all(|word| refused.stderr.contains(word)), "{settings} {flag}: {}", refused.stderr);
    }
    let missing = "[identity]\ntokens_file = \"/nonexistent/tokens.toml\"\n";
    let (status, log) = place.launch(missing).until_it_ends().unwrap();
    assert!(status.code() == Some(1) && log.contains("/nonexistent/tokens.toml"), "{log}");
    place.write("tokens.toml", "[[token]]\nname = \"shop\"\nsha256 = \"tessera_pasted\"\n");
    let (status, log) = place.launch(&tokens).until_it_ends().unwrap();
    assert!(status.code() == Some(1) && log.contains("tokens.toml") && !log.contains("tessera_pasted"), "{log}");
}

#[test]
fn the_processes_of_one_plane_refuse_alike() {
    let place = Place::new();
    let settings = place
        .write("settings.toml", &format!("[backends]\nkind = \"sqlite\"\ndata_dir = \"{}\"\n", place.path("data").display()));
    for (program, flag) in [(binary::server().unwrap(), "--data-listen"), (binary::loader().unwrap(), "--control-listen")] {
        let mut command = Command::new(program);
        command.arg("--settings").arg(&settings).args([flag, "[::]:0", "--http-listen", "127.0.0.1:0"]);
        let refused = binary::run(&mut command).unwrap();
        assert_eq!(refused.code, Some(1), "{flag}");
        assert!(refused.stderr.contains("`[::]:0`") && refused.stderr.contains("without `[identity]`"), "{}", refused.stderr);
    }
}

/// `tessera check` over TLS, with what else is on its command line.
fn check(port: u16, place: &Place, arguments: &[&str]) -> binary::Finished {
    let mut command = Command::new(binary::tessera().unwrap());
    command.args(["check", "acme", "entity-management", "role-permissions", "--timeout", "5s"]).args(arguments);
    command.env("TESSERA_DATA_ADDR", format!("https://localhost:{port}"));
    command.env("TESSERA_CA_FILE", place.path("servers.pem"));
    binary::run(&mut command).unwrap()
}

#[tokio::test]
async fn whoever_has_a_certificate_or_a_token_is_served_beyond_loopback_over_tls_alone() {
    let place = Place::new();
    let [servers, clients, strangers] = [(); 3].map(|()| Authority::new().unwrap());
    write(&place, "server", &servers.server(&["localhost"]).unwrap());
    place.write("servers.pem", &servers.pem);
    place.write("clients.pem", &clients.pem);
    place.write("strangers.pem", &strangers.pem);
    write(&place, "checkout", &clients.workload("spiffe://example.org/checkout").unwrap());
    write(&place, "other", &clients.workload("spiffe://example.org/other").unwrap());
    write(&place, "stranger", &strangers.workload("spiffe://example.org/checkout").unwrap());
    let token = place.create(&["shop", "--scope", "decide"]);
    place.write("shop.token", &token);
    let identity = format!(
        "[identity]\ntokens_file = \"{}\"\n[[identity.workloads]]\nspiffe_id = \"spiffe://example.org/checkout\"\nscopes = [\"decide\"]\n",
        place.path("tokens.toml").display()
    );
    let mut command = place.command(&settings(&place, &identity));
    command.arg("--apply").arg(binary::repository().join("examples/quickstart")).args(["--data-listen", "0.0.0.0:0"]);
    let dev = Start::new(command, &["control", "http"]).ready().await.unwrap();
    let port = dev.address("data").unwrap().port();

    let path = |name: &str| place.path(name).display().to_string();
    let pair = |name: &str| {
        let (certificate, key) = (path(&format!("{name}.crt")), path(&format!("{name}.key")));
        ["--client-certificate".to_owned(), certificate, "--client-key".to_owned(), key]
    };
    let asked = |pair: [String; 4]| check(port, &place, &pair.each_ref().map(String::as_str));
    assert_eq!(asked(pair("checkout")).code, Some(0), "{:?}", asked(pair("checkout")));
    let token_file = path("shop.token");
    assert_eq!(check(port, &place, &["--token-file", &token_file]).code, Some(0));
    let unknown = asked(pair("other"));
    assert!(unknown.stderr.contains("TOKEN_INVALID"), "{}", unknown.stderr);
    for refused in [asked(pair("stranger")), check(port, &place, &["--ca-file", &path("strangers.pem")])] {
        assert_eq!(refused.code, Some(1));
        assert!(!refused.stderr.contains("TOKEN_INVALID"), "there is no call without a handshake: {}", refused.stderr);
    }
    let strange = check(port, &place, &["--ca-file", &path("strangers.pem")]);
    assert!(strange.stderr.contains("--ca-file names"), "{}", strange.stderr);
    let nobody = check(port, &place, &[]);
    assert!(nobody.stderr.contains("credentials are needed"), "{}", nobody.stderr);

    // Plain text gets no answer at all, and whoever asked hears why.
    let mut plain = Command::new(binary::tessera().unwrap());
    plain.args(["check", "acme", "entity-management", "--timeout", "2s"]);
    plain.env("TESSERA_DATA_ADDR", format!("http://127.0.0.1:{port}")).env("TESSERA_TOKEN", &token);
    let plain = binary::run(&mut plain).unwrap();
    assert!(plain.code == Some(1) && plain.stderr.contains(&format!("say https://127.0.0.1:{port}")), "{}", plain.stderr);
    dev.stop().unwrap();
}
