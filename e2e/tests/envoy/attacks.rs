//! Clients of an Envoy that lets requests pass when nobody can judge them: whatever they write, it is judged. A message that Tessera
//! refused to read would be a door that stands open to whoever knows how to write one.

use std::net::SocketAddr;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tessera_e2e::binary;
use tessera_e2e::waiting::PATIENCE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::exchange::Request;
use super::proxy::{Envoy, Settings};
use super::service::Service;
use super::{envoys, tessera};

/// Requests of a run for each Envoy.
const REQUESTS: usize = 400;
/// An Envoy takes headers of 60 KiB altogether.
const LARGE: usize = 55 << 10;

/// Everything that a client can write is a source.
const SETTINGS: &str = r#"
[server.ext_authz]
tenant = [{ from = "header", name = "x-tenant-id" }, { from = "host", names = { "shut-down.example" = "shut-down" } }]
service = [{ from = "route" }]
feature = [{ from = "route" }, { from = "header", name = "x-feature" }]
limit = [{ from = "header", name = "x-limit" }]
amount = [{ from = "header", name = "x-amount" }]

[[server.ext_authz.routes]]
method = "*"
path = "/{*rest}"
service = "reporting"
feature = "exports"
"#;

/// What the sample says of who asks, and a header beside it.
const CLAIM: &str = r#"path = ["payload", "tenant"] }]"#;
const CLAIM_AND_HEADER: &str = r#"path = ["payload", "tenant"] }, { from = "header", name = "x-tenant-id" }]"#;

/// The tracing of an Envoy, which hands on what clients say of their traces.
const TRACING: &str = r#"stat_prefix: ingress
tracing:
  random_sampling: { value: 100 }
  provider:
    name: envoy.tracers.opentelemetry
    typed_config:
      "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
      grpc_service: { envoy_grpc: { cluster_name: service } }"#;

/// The head of what comes back; nothing, when Envoy closes. It keeps a connection for a second after it has turned a request away,
/// which nobody has to wait for.
async fn send(ingress: SocketAddr, request: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(ingress).await.context("connect")?;
    // Envoy may have heard enough before its end.
    let _ = stream.write_all(request).await;
    let mut said = Vec::new();
    let head = async {
        while !said.windows(4).any(|bytes| bytes == b"\r\n\r\n") && stream.read_buf(&mut said).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(PATIENCE, head).await.context("wait for an answer")?;
    Ok(said)
}

fn request(target: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut request = [b"GET ", target, b" HTTP/1.1\r\nconnection: close\r\n"].concat();
    for (name, value) in headers {
        request.extend([name, &b": "[..], value, b"\r\n"].concat());
    }
    request.extend(b"\r\n");
    request
}

/// Requests that somebody may have thought of.
fn thought_of() -> Vec<Vec<u8>> {
    let large = vec![b'a'; LARGE];
    let bytes: Vec<u8> = (0x80..=0xff).collect();
    let host: (&[u8], &[u8]) = (b"host", b"shop.example");
    let denied: (&[u8], &[u8]) = (b"x-tenant-id", b"no-exports");
    let parent: (&[u8], &[u8]) = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let states = format!("a={}", "b".repeat(LARGE)).into_bytes();
    vec![
        request(b"/", &[host]),
        request(b"/", &[host, denied]),
        request(b"/", &[host, (b"x-tenant-id", &large)]),
        request(b"/", &[host, (b"x-tenant-id", &bytes)]),
        request(b"/", &[host, (b"x-anything", &bytes), denied]),
        request(b"/", &[host, (b"x-anything", &large), denied]),
        request(&[b"/", &large[..]].concat(), &[host, denied]),
        request(&[b"/", &bytes[..]].concat(), &[host, denied]),
        request(b"/?\xff=\xfe", &[host, denied]),
        request(b"*", &[host, denied]),
        request(b"http://shut-down.example/x", &[host]),
        request(b"/", &[(b"host", b"shut-down.example:1:2")]),
        request(b"/", &[(b"host", &large), denied]),
        request(b"/", &[host, denied, (b"x-amount", b"99999999999999999999"), (b"x-limit", b"max_users")]),
        request(b"/", &[host, denied, (b"grpc-timeout", b"0n"), (b"te", b"trailers"), (b"content-type", b"application/grpc")]),
        request(b"/", &[host, denied, (b"x-envoy-upstream-rq-timeout-ms", b"1"), (b"x-envoy-expected-rq-timeout-ms", b"1")]),
        request(b"/", &[host, denied, (b"x-envoy-auth-failure-mode-allowed", b"true"), (b"x-envoy-force-trace", b"1")]),
        request(b"/", &[host, denied, (b"authorization", b"Bearer tessera_forged"), (b"tessera-request-id", &large)]),
        request(b"/", &[host, denied, parent, (b"tracestate", &states)]),
        request(b"/", &[host, denied, parent, (b"tracestate", &bytes)]),
        request(b"/", &[host, denied, parent, (b"baggage", &states)]),
    ]
}

/// A request that nobody has thought of: parts of some, and bytes among them.
fn at_random(random: &mut StdRng) -> Vec<u8> {
    const PARTS: [&[u8]; 18] = [
        b"no-exports",
        b"/",
        b"//",
        b"..",
        b"%2e",
        b"%2F",
        b"%00",
        b";",
        b"\\",
        b"?",
        b"#",
        b",",
        b" ",
        b"\xff",
        b"\xc3\xa9",
        b"x",
        b"shut-down.example",
        b"1",
    ];
    let mut text = |most: usize| -> Vec<u8> {
        let count = random.random_range(0..=most);
        let mut text: Vec<u8> = (0..count).flat_map(|_| PARTS[random.random_range(0..PARTS.len())].iter().copied()).collect();
        if random.random_bool(0.02) {
            text.resize(random.random_range(0..LARGE), b'a');
        }
        text
    };
    let (target, host) = ([&b"/"[..], &text(6)].concat(), text(2));
    let values: Vec<(&[u8], Vec<u8>)> =
        [&b"x-tenant-id"[..], b"X-Tenant-Id", b"x-feature", b"x-limit", b"x-amount", b"tracestate", b"x-other"]
            .map(|name| (name, text(3)))
            .into();
    let mut headers: Vec<(&[u8], &[u8])> = vec![(b"host", &host)];
    headers.extend(values.iter().filter(|_| random.random_bool(0.5)).map(|(name, value)| (*name, value.as_slice())));
    request(&target, &headers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_client_writes_gets_past_an_envoy_that_fails_open() -> anyhow::Result<()> {
    let seed = tessera_e2e::seed()?;
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    let written = folder.path().join("tessera.toml");
    std::fs::write(&written, SETTINGS)?;
    let dev = tessera(&written, folder.path()).await?;
    let base = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?.failing_open()?;
    let base = base.without_tokens_of_users()?.with("normalize_path: true", "normalize_path: false")?;
    let base =
        base.with("path_with_escaped_slashes_action: REJECT_REQUEST", "path_with_escaped_slashes_action: KEEP_UNCHANGED")?;
    let traced = base.with_block("stat_prefix: ingress", TRACING)?;
    let joined = traced.with("encode_raw_headers: true", "encode_raw_headers: false")?;
    for program in &envoys()? {
        for settings in [&traced, &joined] {
            let mut random = StdRng::seed_from_u64(seed);
            let envoy = Envoy::begin(program, settings).await?;
            service.reached();
            let drawn = (0..REQUESTS).map(|_| at_random(&mut random));
            let mut answered = 0;
            for request in thought_of().into_iter().chain(drawn) {
                let said = send(envoy.ingress, &request).await?;
                answered += usize::from(said.starts_with(b"HTTP/1.1 403 "));
                let reached: Vec<String> =
                    service.reached().into_iter().filter(|head| !head.starts_with("post /opentel")).collect();
                let shown = |bytes: &[u8]| {
                    bytes.iter().take(400).flat_map(|byte| std::ascii::escape_default(*byte)).map(char::from).collect::<String>()
                };
                assert!(reached.is_empty(), "seed {seed}: {} got in:\n{}", shown(&request), shown(reached.concat().as_bytes()));
            }
            // Envoy turns many away by itself; it is our denials that this is about.
            assert!(answered > REQUESTS / 10, "seed {seed}: {answered} were judged");
        }
    }
    dev.stop()
}

/// Where tokens may be missing, no header stands in for one; and the rule of a route is not that of a path which another spelling
/// hides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_says_beside_its_token_is_only_compared_with_it() -> anyhow::Result<()> {
    let (folder, service) = (tempfile::tempdir()?, Service::begin().await?);
    let written = folder.path().join("tessera.toml");
    let sample = std::fs::read_to_string(binary::repository().join("deploy/envoy/tessera.toml"))?;
    anyhow::ensure!(sample.contains(CLAIM), "{sample}");
    std::fs::write(&written, sample.replace(CLAIM, CLAIM_AND_HEADER))?;
    let dev = tessera(&written, folder.path()).await?;
    let settings = Settings::before(service.address)?.asks(dev.addresses().data)?.patient()?.without_tokens_of_users()?;
    let settings = settings.with("normalize_path: true", "normalize_path: false")?;
    let settings = settings.with("merge_slashes: true", "merge_slashes: false")?;
    let kept = "path_with_escaped_slashes_action: KEEP_UNCHANGED";
    let settings = settings.with("path_with_escaped_slashes_action: REJECT_REQUEST", kept)?;
    for program in &envoys()? {
        let envoy = Envoy::begin(program, &settings).await?;
        let get = |target: &str| Request::get(target).with("x-tenant-id: acme");
        let seen = get("/exports").of("acme").send(envoy.ingress).await?.seen().with_context(|| program.display().to_string())?;
        assert_eq!(seen["x-tessera-tenant"], ["acme"]);
        service.reached();
        for (request, reason) in [
            (get("/exports"), "TENANT_MISSING"),
            (get("/exports").of(""), "TENANT_MISSING"),
            (get("/exports").of("corner-shop"), "SOURCES_CONFLICT"),
            (get("/exports/../custom-reports").of("acme"), "PATH_NOT_NORMAL"),
            (get("/custom-reports/..%2Fexports").of("acme"), "PATH_NOT_NORMAL"),
            (get("/custom-reports//exports").of("acme"), "PATH_NOT_NORMAL"),
        ] {
            let denied = request.send(envoy.ingress).await?.denied().with_context(|| request.target.clone())?;
            assert_eq!(denied, (403, reason.to_owned()), "{} {:?}", request.target, request.headers);
        }
        assert!(service.reached().is_empty(), "somebody was let in");
    }
    dev.stop()
}
