//! Streams whose callers are let in and would not be later, with a service behind the guard that never ends one by itself.

use std::path::PathBuf;

use http_body::Body as _;
use tessera_core::access::Scope;
use tessera_core::time::Timestamp;
use tessera_ports::Clock;
use tessera_ports::clock::ManualClock;
use tonic::Code;
use tonic::codegen::Service as _;

use super::super::super::authenticator::Authenticator;
use super::super::super::settings::IdentityConfig;
use super::super::super::tokens::{FreshToken, TokenEntry, TokenFile};
use super::super::{Access, Guarded};
use super::*;
use crate::lifecycle::Tasks;
use crate::listener::{Peer, PeerCertificate};

const SECOND: Duration = Duration::from_secs(1);
const WORKLOAD: &str = "spiffe://example.org/checkout";

/// A process with a file of tokens.
struct Place {
    guarded: Guarded<Streams>,
    clock: Arc<ManualClock>,
    path: PathBuf,
    token: FreshToken,
    /// Reads the file anew.
    _tasks: Tasks,
    _folder: tempfile::TempDir,
}

/// Answers with streams: that of `/silent` waits for ever, all others always have something to say.
#[derive(Debug, Clone)]
struct Streams;

impl tonic::codegen::Service<http::Request<Body>> for Streams {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_silent = request.uri().path() == "/silent";
        let body = if is_silent { Body::new(Says::Nothing) } else { Body::new(Says::Something) };
        std::future::ready(Ok(http::Response::new(body)))
    }
}

#[derive(Debug)]
enum Says {
    Nothing,
    Something,
}

impl http_body::Body for Says {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match *self {
            Self::Nothing => Poll::Pending,
            Self::Something => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more"))))),
        }
    }
}

fn refusal(refused: &Refused) -> Status {
    let code = match refused {
        Refused::Lacking(_) => Code::PermissionDenied,
        Refused::Changed => Code::Unavailable,
        _ => Code::Unauthenticated,
    };
    Status::new(code, refused.to_string())
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (path, token) = (folder.path().join("tokens.toml"), FreshToken::new([7; 32]));
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_767_225_600).unwrap()));
    write(&path, &[entry(&token, clock.now(), &[Scope::Decide], None)]);
    let workload = format!("[[workloads]]\nspiffe_id = \"{WORKLOAD}\"\nscopes = [\"decide\"]");
    let config: IdentityConfig = toml::from_str(&workload).unwrap();
    let config = IdentityConfig { tokens_file: Some(path.clone()), ..config };
    let authenticator = Arc::new(Authenticator::new(config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
    let tasks = Tasks::new();
    authenticator.start(&tasks);
    let access = |path: &str| if path == "/known" { Access::Known } else { Access::Scope(Scope::Decide) };
    let rules = Rules { authenticator, access, is_stream: |path| path != "/unary" && path != "/known", refusal };
    Place { guarded: Guarded::new(Streams, Some(rules)), clock, path, token, _tasks: tasks, _folder: folder }
}

/// Good for an hour.
fn entry(token: &FreshToken, now: Timestamp, scopes: &[Scope], tenants: Option<&str>) -> TokenEntry {
    let tenants = tenants.map(|tenant| vec![tenant.to_owned()]);
    TokenFile::entry("shop", token, scopes, tenants, (now, now.saturating_add(3_600 * SECOND))).unwrap()
}

fn write(path: &std::path::Path, entries: &[TokenEntry]) {
    std::fs::write(path, TokenFile { tokens: entries.to_vec() }.text().unwrap()).unwrap();
}

impl Place {
    /// A stream that was let in.
    async fn open(&mut self, path: &str, certificate: Option<PeerCertificate>) -> Body {
        let mut request = http::Request::builder().uri(path);
        if certificate.is_none() {
            request = request.header("authorization", format!("Bearer {}", self.token.reveal()));
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer { address: None, certificate: certificate.map(Arc::new) });
        let response = self.guarded.call(request).await.unwrap();
        assert!(Status::from_header_map(response.headers()).is_none(), "{path} is let in");
        response.into_body()
    }

    /// Time passes, a tenth of a second after the other, and not while the file is being read.
    async fn pass(&self, time: Duration) {
        let step = SECOND / 10;
        for _ in 0..time.as_millis() / step.as_millis() {
            self.clock.advance(step);
            tokio::time::sleep(step).await;
        }
    }
}

/// The end of a stream, if it is there by now.
fn end(body: &mut Body) -> Option<Status> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    // Whatever it has to say before is nothing to wait for.
    for _ in 0..100 {
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut cx) else { return None };
        let Ok(trailers) = frame.expect("it ends with a status").unwrap().into_trailers() else { continue };
        assert!(body.is_end_stream());
        assert!(matches!(Pin::new(body).poll_frame(&mut cx), Poll::Ready(None)), "nothing follows");
        return Status::from_header_map(&trailers);
    }
    None
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_token_it_was_opened_with_does() {
    let mut place = place();
    let [mut silent, mut talks] = [place.open("/silent", None).await, place.open("/talks", None).await];
    let mut beside = place.open("/known", None).await;
    place.pass(3_599 * SECOND).await;
    for body in [&mut silent, &mut talks, &mut beside] {
        assert!(end(body).is_none(), "it is good yet");
    }
    place.pass(SECOND).await;
    for body in [&mut silent, &mut talks, &mut beside] {
        let status = end(body).expect("it has ended");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("expired") && status.message().contains("come again"), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_certificate_it_was_opened_with_does() {
    let mut place = place();
    let ends = place.clock.now().saturating_add(7 * SECOND);
    let of = |ends| PeerCertificate { spiffe_id: Some(WORKLOAD.to_owned()), uri_names: Vec::new(), ends };
    let mut ending = place.open("/silent", Some(of(Some(ends)))).await;
    let mut endless = place.open("/talks", Some(of(None))).await;
    place.pass(Duration::from_millis(6_900)).await;
    assert!(end(&mut ending).is_none());
    place.pass(SECOND / 10).await;
    assert_eq!(end(&mut ending).expect("it has ended").code(), Code::Unauthenticated);
    place.pass(1_000 * SECOND).await;
    assert!(end(&mut endless).is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_let_in_any_more_or_as_somebody_else_has_seven_seconds_left() {
    let now = place().clock.now();
    let token = FreshToken::new([7; 32]);
    for (entries, code) in [
        (vec![], Code::Unauthenticated),
        (vec![entry(&token, now, &[Scope::Read], None)], Code::PermissionDenied),
        (vec![entry(&token, now, &[Scope::Decide], Some("acme"))], Code::Unavailable),
        (vec![entry(&token, now, &[Scope::Decide, Scope::Audit], None)], Code::Unavailable),
    ] {
        let mut place = place();
        let [mut silent, mut talks] = [place.open("/silent", None).await, place.open("/talks", None).await];
        place.pass(60 * SECOND).await;
        // What changes nothing for them.
        let other = TokenEntry { name: "other".to_owned(), ..entry(&FreshToken::new([8; 32]), now, &[Scope::Read], None) };
        write(&place.path, &[entry(&place.token, now, &[Scope::Decide], None), other]);
        place.pass(60 * SECOND).await;
        assert!(end(&mut silent).is_none() && end(&mut talks).is_none());
        write(&place.path, &entries);
        place.pass(7 * SECOND).await;
        for body in [&mut silent, &mut talks] {
            assert_eq!(end(body).map(|status| status.code()), Some(code), "{entries:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_stream_is_as_it_was() {
    let mut place = place();
    let mut unary = place.open("/unary", None).await;
    place.pass(4_000 * SECOND).await;
    assert!(end(&mut unary).is_none(), "its caller was let in");
}
