//! Hostile clients on raw sockets against the real process: each attack ends as docs/OPERATING.md says, memory stays bounded, and
//! a client that behaves gets right answers all the while.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use tempfile::TempDir;
use tessera_e2e::authority::Authority;
use tessera_e2e::commands::{Change, Command};
use tessera_e2e::hostile::{Hostile, PREFACE, call, flag, frame, header, kind};
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Dev, Launch, Planes, shop};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where the attackers call from: another peer than the clients that behave.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Connections that one peer may have here.
const PER_PEER: usize = 100;
/// Streams that one connection may have here.
const STREAMS: usize = 100;
/// Beyond what it had when it was ready, a process under attack needs no more: the connections and streams that it allows, at
/// their worst, and what an allocator keeps.
const GROWTH_MAX: u64 = 96 << 20;
/// A unary call and a stream that need no message of ours.
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
/// Calls with many checks in a message, and its longest.
const BATCH: &str = "/tessera.v1.EntitlementService/BatchCheckEntitlement";
const CHECKS: &str = "/tessera.v1.EntitlementService/StreamCheckEntitlement";
const MESSAGE_MAX: usize = 2 << 20;
/// Calls to health that a connection may have under way.
const HEALTH_CALLS_MAX: u32 = 8;
/// A message without fields, as gRPC frames it.
const EMPTY: [u8; 5] = [0; 5];
/// The status 431, plain and in the code of RFC 7541, 5.2.
const STATUS_431: [&[u8]; 2] = [b"431", &[0x69, 0x90, 0xff]];
/// Codes of HTTP/2.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A process under attack, and a client that behaves.
struct Attacked {
    dev: Dev,
    resident: u64,
    stop: Arc<AtomicBool>,
    client: JoinSet<anyhow::Result<usize>>,
    _folder: TempDir,
}

impl Attacked {
    async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_behind(None, settings).await
    }

    /// With TLS, for which that authority signs.
    async fn start_behind(tls: Option<&Authority>, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (per_peer, streams) = (PER_PEER.to_string(), STREAMS.to_string());
        let usual = [
            ("CONNECTIONS_PER_PEER_MAX", per_peer.as_str()),
            ("STREAMS_PER_CONNECTION_MAX", &streams),
            ("PENDING_RESETS_MAX", "20"),
        ];
        let mut launch = Launch::over(&folder.path().join("data"))?;
        if let Some(authority) = tls {
            let signed = authority.server(&["127.0.0.1"])?;
            for (name, text) in [("CERTIFICATE", signed.certificate), ("KEY", signed.key)] {
                let path = folder.path().join(name);
                std::fs::write(&path, text)?;
                launch = launch.env(&format!("TESSERA_LISTENER__TLS__{name}"), &path.display().to_string());
            }
        }
        for (name, value) in usual.iter().chain(settings) {
            launch = launch.env(&format!("TESSERA_LISTENER__{name}"), value);
        }
        let dev = launch.ready().await?;
        let planes = match tls {
            Some(authority) => Planes::connect_over_tls(dev.addresses(), &authority.pem, None).await?,
            None => dev.planes().await?,
        };
        shop::open(&planes).await?;
        let create = Command { tenant: "acme".into(), request_id: "acme".into(), change: Change::Create };
        create.send(&planes, false).await?;
        anyhow::ensure!(planes.check("acme", shop::SERVICE, shop::FEATURE).await?.entitled);
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = JoinSet::new();
        client.spawn(behave(planes, Arc::clone(&stop)));
        let resident = dev.resident_bytes()?;
        Ok(Self { dev, resident, stop, client, _folder: folder })
    }

    async fn begin(&self) -> anyhow::Result<Hostile> {
        Hostile::begin(ATTACKER, self.dev.addresses().data, &[]).await
    }

    /// Waits until as many connections have ended so.
    async fn ended(&self, cause: &str, count: usize) -> anyhow::Result<()> {
        let series = format!("tessera_connections_ended_total{{cause=\"{cause}\"}}");
        self.dev.metric_reaches(&series, f64::from(u32::try_from(count)?)).await
    }

    /// Waits until as many connections have ended in one of these ways.
    async fn ended_by(&self, causes: &[&str], count: u32) -> anyhow::Result<()> {
        let reached = async || {
            let mut ended = 0.0;
            for cause in causes {
                let series = format!("tessera_connections_ended_total{{cause=\"{cause}\"}}");
                ended += self.dev.metric(&series).await?.unwrap_or_default();
            }
            anyhow::ensure!(ended >= f64::from(count), "{ended} have ended by {causes:?}");
            Ok(())
        };
        eventually("ends of connections", reached).await
    }

    /// The attack is over, or under way: nothing has grown, nobody else has noticed.
    async fn unharmed(mut self) -> anyhow::Result<()> {
        let resident = self.dev.resident_bytes()?;
        let grown = resident.saturating_sub(self.resident);
        anyhow::ensure!(grown <= GROWTH_MAX, "it has grown by {grown} bytes to {resident}");
        self.stop.store(true, Ordering::Relaxed);
        let answers = tokio::time::timeout(PATIENCE, self.client.join_next()).await.context("the client gets no answer")?;
        let answers = answers.context("there is one client")???;
        anyhow::ensure!(answers >= 10, "the client had {answers} answers only");
        anyhow::ensure!(self.dev.page("/readyz").await?.status == 200, "it is not ready any more");
        // Errors in the log are failures, too.
        self.dev.stop()
    }
}

/// Asks on and on, and insists on right answers; says how many there were.
async fn behave(planes: Planes, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let mut answers = 0;
    // At least a few even if the attack is short.
    while !stop.load(Ordering::Relaxed) || answers < 10 {
        let asks = async {
            let granted = planes.check("acme", shop::SERVICE, shop::FEATURE).await?;
            let denied = planes.check("acme", shop::SERVICE, "share").await?;
            let unknown = planes.check("nobody", shop::SERVICE, shop::FEATURE).await?;
            anyhow::Ok([granted.entitled, denied.entitled, unknown.entitled])
        };
        let entitled = tokio::time::timeout(Duration::from_secs(30), asks).await.context("no answer in time")??;
        anyhow::ensure!(entitled == [true, false, false], "wrong answers: {entitled:?}");
        answers += entitled.len();
    }
    Ok(answers)
}

fn begins(stream: u32, path: &str, flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, &call(path))
}

/// A whole call without fields in its message.
fn asks(stream: u32, path: &str) -> Vec<u8> {
    [begins(stream, path, 0), frame(kind::DATA, flag::END_STREAM, stream, &EMPTY)].concat()
}

/// A whole call with that message, however long.
fn sends(stream: u32, path: &str, message: &[u8]) -> anyhow::Result<Vec<u8>> {
    let framed = [&[0], &u32::try_from(message.len())?.to_be_bytes()[..], message].concat();
    let parts = framed.chunks(1 << 14).flat_map(|part| frame(kind::DATA, 0, stream, part));
    let ends = frame(kind::DATA, flag::END_STREAM, stream, &[]);
    Ok(begins(stream, path, 0).into_iter().chain(parts).chain(ends).collect())
}

/// Streams of clients have odd numbers.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_begin_is_closed() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[("FIRST_BYTES_TIMEOUT_S", "3")]).await?;
    let beginning = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat();
    let mut peers = Vec::new();
    for number in 0..PER_PEER {
        let mut peer = Hostile::connect(ATTACKER, attacked.dev.addresses().data).await?;
        // Nothing, and every part of a beginning but the whole.
        peer.say(&beginning[..number % (beginning.len() - 1)]).await?;
        peers.push(peer);
    }
    for mut peer in peers {
        peer.is_closed().await?;
    }
    attacked.ended("preface", PER_PEER).await?;
    let mut other = Hostile::connect(ATTACKER, attacked.dev.addresses().data).await?;
    other.say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    other.is_closed().await?;
    attacked.ended("protocol", 1).await?;
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_at_once_end_their_connection() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    for round in 1..=5 {
        let peer = attacked.begin().await?;
        let cancel = CANCEL.to_be_bytes();
        let resets = streams(5_000).flat_map(|id| [begins(id, CHECK, 0), frame(kind::RST_STREAM, 0, id, &cancel)].concat());
        peer.flood(&resets.collect::<Vec<u8>>()).await?;
        attacked.ended("excess", round).await?;
    }
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_end_their_connection() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    let mut peer = attacked.begin().await?;
    peer.say(&frame(kind::HEADERS, 0, 1, &call(CHECK))).await?;
    // Frames with nothing in them, and frames with as much as they hold.
    peer.flood(&frame(kind::CONTINUATION, 0, 1, &[]).repeat(1_000)).await?;
    attacked.ended("excess", 1).await?;
    let mut peer = attacked.begin().await?;
    peer.say(&frame(kind::HEADERS, 0, 1, &call(CHECK))).await?;
    let more = header("x-filler", &"y".repeat(16_000));
    peer.flood(&frame(kind::CONTINUATION, 0, 1, &more).repeat(10)).await?;
    attacked.ended("excess", 2).await?;
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_are_too_long_are_refused() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[("HEADER_LIST_BYTES_MAX", "16384")]).await?;
    let mut peer = attacked.begin().await?;
    // Over two frames, and a little more than is allowed.
    let block = [call(CHECK), header("x-filler", &"y".repeat(17_000))].concat();
    let (first, rest) = block.split_at(16_000);
    peer.say(&frame(kind::HEADERS, flag::END_STREAM, 1, first)).await?;
    peer.say(&frame(kind::CONTINUATION, flag::END_HEADERS, 1, rest)).await?;
    // Request Header Fields Too Large.
    let refused = peer.next_of(kind::HEADERS).await?;
    anyhow::ensure!(refused.stream == 1, "{refused:?}");
    let says = STATUS_431.iter().any(|status| refused.payload.windows(3).any(|bytes| bytes == *status));
    anyhow::ensure!(says, "{refused:?}");
    // The connection goes on.
    peer.say(&asks(3, CHECK)).await?;
    loop {
        let answer = peer.next_of(kind::DATA).await?;
        if answer.stream == 3 {
            break;
        }
    }
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_what_means_nothing_end_their_connection() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    let table_size = [0, 1, 0, 0, 16, 0];
    let floods = [
        frame(kind::PING, 0, 0, b"flooding"),
        // Answers to what was never asked.
        frame(kind::PING, flag::ACK, 0, b"flooding"),
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::SETTINGS, 0, 0, &table_size),
        // PRIORITY of a stream that is not there, and a kind that nobody knows.
        frame(2, 0, 1, &[0; 5]),
        frame(99, 0, 0, b"?"),
    ];
    for (ended, flood) in floods.iter().enumerate() {
        attacked.begin().await?.flood(&flood.repeat(1_000)).await?;
        attacked.ended("chatter", ended + 1).await?;
    }
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_nothing_end_their_connection() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    for (round, payload) in [(1, &[][..]), (2, &[0])] {
        let mut peer = attacked.begin().await?;
        for id in streams(10) {
            peer.say(&begins(id, BATCH, 0)).await?;
        }
        peer.flood(&streams(10).flat_map(|id| frame(kind::DATA, 0, id, payload)).collect::<Vec<u8>>()).await?;
        // The tiny ones are either unread too long or belong to no call any more.
        attacked.ended_by(&["excess", "chatter"], round).await?;
    }
    attacked.unharmed().await
}

/// Who heeds GOAWAY answers the PING that comes with it, and calls no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_told_to_go_and_does_not_holds_up_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = Launch::over(folder.path())?.ready().await?;
    // No room for a byte of any answer.
    let mut peer = Hostile::begin(ATTACKER, dev.addresses().data, &[(4, 0)]).await?;
    peer.say(&asks(1, CHECK)).await?;
    peer.next_of(kind::HEADERS).await?;
    dev.signal(Signal::TERM)?;
    peer.dribble(streams(200).map(|id| asks(id + 2, CHECK)), Duration::from_secs(2)).await?;
    dev.finished_well()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_streams_than_allowed_are_open() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    let mut peer = attacked.begin().await?;
    let allowed = u32::try_from(STREAMS)?;
    let opens = |id| [begins(id, CHECKS, 0), frame(kind::DATA, 0, id, &EMPTY)].concat();
    let more: Vec<u8> = streams(allowed + 10).flat_map(opens).collect();
    peer.say(&more).await?;
    let mut refused = BTreeSet::new();
    while refused.len() < 10 {
        let reset = peer.next_of(kind::RST_STREAM).await?;
        // The messages of those that were refused come for no stream.
        let is_new = refused.insert(reset.stream);
        anyhow::ensure!(!is_new || reset.payload == REFUSED_STREAM.to_be_bytes(), "{reset:?}");
    }
    // Who goes on and on is sent away.
    let thousands: Vec<u8> = streams(5_000).map(|id| id + 2 * (allowed + 10)).flat_map(|id| begins(id, CHECKS, 0)).collect();
    peer.flood(&thousands).await?;
    attacked.ended("excess", 1).await?;
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_leave_room_for_others() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[("IDLE_MAX_S", "10")]).await?;
    let mut kept = Vec::new();
    for _ in 0..PER_PEER {
        kept.push(attacked.begin().await?);
    }
    let mut closed = 0;
    while closed < 2_000 {
        // Not all at once: this process has no more than so many files, too.
        let mut peers = Vec::new();
        for _ in 0..200 {
            peers.push(Hostile::connect(ATTACKER, attacked.dev.addresses().data).await?);
        }
        for mut peer in peers {
            peer.is_closed().await?;
            closed += 1;
        }
    }
    let refused = attacked.dev.metric("tessera_connections_refused_total{cause=\"peer\"}").await?;
    anyhow::ensure!(refused == Some(2_000.0), "{refused:?}");
    // Another peer gets in, and those that do nothing are told to go.
    let mut other = Hostile::begin(Ipv4Addr::new(127, 0, 0, 3), attacked.dev.addresses().data, &[]).await?;
    other.say(&asks(1, CHECK)).await?;
    other.next_of(kind::DATA).await?;
    for peer in &mut kept {
        let goaway = peer.next_of(kind::GOAWAY).await?;
        anyhow::ensure!(goaway.payload.get(4..8) == Some(&[0; 4]), "without an error: {goaway:?}");
    }
    attacked.ended("idle", PER_PEER).await?;
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_takes_are_reset() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[("SLOW_READER_TIMEOUT_S", "1")]).await?;
    let allowed = u32::try_from(STREAMS)?;
    // No room for a byte of any answer.
    let mut peer = Hostile::begin(ATTACKER, attacked.dev.addresses().data, &[(4, 0)]).await?;
    for round in 0..3 {
        let first = 2 * allowed * round;
        peer.say(&streams(allowed).flat_map(|id| asks(first + id, BATCH)).collect::<Vec<u8>>()).await?;
        for _ in 0..allowed {
            let reset = peer.next_of(kind::RST_STREAM).await?;
            anyhow::ensure!(reset.payload == ENHANCE_YOUR_CALM.to_be_bytes(), "{reset:?}");
        }
    }
    attacked.dev.metric_reaches("tessera_slow_readers_total", f64::from(3 * allowed)).await?;
    attacked.unharmed().await
}

/// Whoever asks for health is not asked who they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_health_are_few_and_hold_little() -> anyhow::Result<()> {
    const REFUSED: &str = "tessera_calls_refused_total{cause=\"health\"}";
    // Not while they are looked at.
    let attacked = Attacked::start(&[("MESSAGE_TIMEOUT_S", "60")]).await?;
    let mut watcher = attacked.begin().await?;
    watcher.say(&streams(u32::try_from(STREAMS)?).flat_map(|id| asks(id, WATCH)).collect::<Vec<u8>>()).await?;
    attacked.dev.metric_reaches(REFUSED, f64::from(u32::try_from(STREAMS)? - HEALTH_CALLS_MAX)).await?;
    // Who is told that there are too many may ask again, elsewhere.
    let mut other = attacked.begin().await?;
    other.say(&asks(1, CHECK)).await?;
    other.next_of(kind::DATA).await?;

    // A header that is told once and then repeated, by its place in the table, 62 (RFC 7541, 6.2.1 and 6.1), and the message never.
    let told = [&[0x40][..], &header("x", "y")[1..]].concat();
    let block = [call(CHECK), told, vec![0x80 | 0x3e; 2_300]].concat();
    let mut peers = Vec::new();
    for _ in 0..80 {
        let mut peer = attacked.begin().await?;
        let calls = streams(HEALTH_CALLS_MAX + 2).flat_map(|id| frame(kind::HEADERS, flag::END_HEADERS, id, &block));
        peer.say(&calls.collect::<Vec<u8>>()).await?;
        peers.push(peer);
    }
    attacked.dev.metric_reaches(REFUSED, f64::from(u32::try_from(STREAMS)? - HEALTH_CALLS_MAX + 2 * 80)).await?;
    attacked.unharmed().await?;
    drop((watcher, peers));
    Ok(())
}

/// Two bytes of a message are a check that says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_a_million_checks_takes_little_memory() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    let before = attacked.dev.resident_peak_bytes()?;
    for (path, key, mode) in [(BATCH, 0x0a, "batch"), (CHECKS, 0x12, "stream")] {
        let good = [key, 0].repeat(MESSAGE_MAX / 2);
        // Whoever wants to know what is wrong with its last byte has read all of it.
        let bad = [&good[..MESSAGE_MAX - 1], &[0xff]].concat();
        for message in [good, bad] {
            let mut peer = attacked.begin().await?;
            // There is room for a message once both know their settings.
            peer.next_of(kind::SETTINGS).await?;
            peer.say(&frame(kind::SETTINGS, flag::ACK, 0, &[])).await?;
            peer.say(&sends(1, path, &message)?).await?;
            while peer.next_of(kind::HEADERS).await?.flags & flag::END_STREAM == 0 {}
        }
        attacked.dev.metric_reaches(&format!("tessera_check_errors_total{{mode=\"{mode}\",cause=\"TOO_LARGE\"}}"), 1.0).await?;
    }
    let grown = attacked.dev.resident_peak_bytes()?.saturating_sub(before);
    anyhow::ensure!(grown <= GROWTH_MAX, "it had grown by {grown} bytes");
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goaway_says_why() -> anyhow::Result<()> {
    let attacked = Attacked::start(&[]).await?;
    let mut peer = attacked.begin().await?;
    // Few enough that all of it is read before the connection is closed, so that the last words arrive.
    let cancel = CANCEL.to_be_bytes();
    let resets = streams(60).flat_map(|id| [begins(id, CHECK, 0), frame(kind::RST_STREAM, 0, id, &cancel)].concat());
    peer.say(&resets.collect::<Vec<u8>>()).await?;
    let goaway = peer.next_of(kind::GOAWAY).await?;
    anyhow::ensure!(goaway.payload.get(4..8) == Some(&ENHANCE_YOUR_CALM.to_be_bytes()), "{goaway:?}");
    attacked.unharmed().await
}

/// The beginning of a record of TLS with as much in it as there may be (RFC 8446, 5.1), of which it has a hello that is as long as a
/// hello can be told to be (4).
fn endless_hello() -> Vec<u8> {
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, 3, 3];
    record.resize(5 + (1 << 14), 0);
    record
}

/// Addresses that attackers call from, each of which may have as many connections as one peer may.
fn attackers() -> impl Iterator<Item = Ipv4Addr> {
    (2..6).flat_map(|last| std::iter::repeat_n(Ipv4Addr::new(127, 0, 0, last), PER_PEER))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_finish_a_handshake_is_closed() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let attacked = Attacked::start_behind(Some(&authority), &[("HANDSHAKE_TIMEOUT_S", "3")]).await?;
    let (hello, address) = (Arc::new(endless_hello()), attacked.dev.addresses().data);
    let (mut peers, mut count) = (JoinSet::new(), 0);
    for (number, attacker) in attackers().enumerate() {
        let (mut peer, hello) = (Hostile::connect(attacker, address).await?, Arc::clone(&hello));
        count += 1;
        peers.spawn(async move {
            match number % 3 {
                // Nothing; a part of a hello; and a byte of it now and then, which is no more.
                0 => peer.is_closed().await,
                1 => {
                    peer.say(&hello[..number]).await?;
                    peer.is_closed().await
                }
                _ => peer.dribble(hello.chunks(1), Duration::from_millis(20)).await,
            }
        });
    }
    while let Some(closed) = peers.join_next().await {
        closed??;
    }
    attacked.ended("handshake_timeout", count).await?;
    // Who says more than any hello has in it is not listened to for so long.
    for round in 1..=5 {
        Hostile::connect(ATTACKER, address).await?.flood(&hello).await?;
        attacked.ended("handshake", round).await?;
    }
    attacked.unharmed().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_connects_again_and_again_has_few_handshakes() -> anyhow::Result<()> {
    const PER_SECOND: u32 = 10;
    let authority = Authority::new()?;
    let per_second = PER_SECOND.to_string();
    let settings = [("CONNECTIONS_PER_PEER_PER_SECOND", per_second.as_str())];
    let attacked = Attacked::start_behind(Some(&authority), &settings).await?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes())?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (connector, name) = (TlsConnector::from(Arc::new(config)), ServerName::try_from("127.0.0.1")?);

    let (begun, address) = (Instant::now(), attacked.dev.addresses().data);
    let stop = Arc::new(AtomicBool::new(false));
    let mut attackers = JoinSet::new();
    for _ in 0..8 {
        let (connector, name, stop) = (connector.clone(), name.clone(), Arc::clone(&stop));
        attackers.spawn(async move {
            let mut handshakes = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let stream = TcpStream::from(Hostile::connect(ATTACKER, address).await?);
                handshakes += u32::from(connector.connect(name.clone(), stream).await.is_ok());
            }
            anyhow::Ok(handshakes)
        });
    }
    attacked.dev.metric_reaches("tessera_connections_refused_total{cause=\"rate\"}", 1_000.0).await?;
    stop.store(true, Ordering::Relaxed);
    let mut handshakes = 0;
    while let Some(counted) = attackers.join_next().await {
        handshakes += counted??;
    }
    let allowed = u32::try_from(PER_PEER)? + PER_SECOND * (u32::try_from(begun.elapsed().as_secs())? + 1);
    anyhow::ensure!(handshakes <= allowed, "{handshakes} handshakes; allowed are {allowed}");
    attacked.unharmed().await
}
