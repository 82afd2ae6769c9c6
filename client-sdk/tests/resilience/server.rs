//! Servers on ports that the system picked, a record of what a client did, and waiting for conditions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tessera_client::fake::Fake;
use tessera_client::{Builder, Code, Keepalive, Method, Metrics, Tessera};
use tessera_proto::status::Failure;
use tessera_proto::v1::entitlement_service_server::EntitlementServiceServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;

/// How long anything may take on a machine that does other things besides.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What a call may take beyond its deadline on such a machine.
pub(crate) const SLACK: Duration = Duration::from_secs(5);

/// `tessera-request-id` and `grpc-timeout` of every call.
pub(crate) type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// A fake behind a listener. Dropping it closes everything.
pub(crate) struct Server {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    /// What came with every call.
    pub(crate) seen: Seen,
    /// The token that calls must show, if one.
    wanted: Arc<Mutex<Option<String>>>,
    tasks: JoinSet<()>,
}

impl Server {
    /// A server whose answers name `plan`, so that it is known who answered. `acme` may export.
    pub(crate) async fn start(plan: &str) -> Self {
        Self::with(plan, tonic::transport::Server::builder()).await
    }

    pub(crate) async fn with(plan: &str, mut builder: tonic::transport::Server) -> Self {
        let fake = Fake::new();
        fake.tenant("acme").plan(plan, 1).grant("reporting", "exports").limit("max_users", 100);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let record = Arc::clone(&seen);
        let wanted = Arc::new(Mutex::new(None));
        let token = Arc::clone(&wanted);
        let service = EntitlementServiceServer::with_interceptor(fake.clone(), move |request: tonic::Request<()>| {
            let text = |name: &str| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
            record.lock().unwrap().push((text("tessera-request-id").unwrap_or_default(), text("grpc-timeout")));
            let header = token.lock().unwrap().as_ref().map(|token: &String| format!("Bearer {token}"));
            if header.is_some() && header != text("authorization") {
                return Err(Failure::token_invalid("nobody has that token").into());
            }
            Ok(request)
        });
        let serving = builder.add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { serving.await.unwrap() });
        Self { fake, address, seen, wanted, tasks }
    }

    /// Lets in who shows this token, from now on and nobody else.
    pub(crate) fn want(&self, token: &str) {
        *self.wanted.lock().unwrap() = Some(token.to_owned());
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Nobody listens at its address any more; connections that are there stay.
    pub(crate) async fn stop_listening(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Settings that fit tests: everything is found out soon.
pub(crate) fn client(endpoints: &[String]) -> Builder {
    let keepalive = Keepalive { interval: Duration::from_secs(20), timeout: Duration::from_secs(10) };
    Tessera::builder().endpoints(endpoints.to_vec()).deadline(PATIENCE).keepalive(keepalive)
}

/// An endpoint at which nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// An endpoint that takes connections, as far as the system does that by itself, and never says a word.
pub(crate) fn mute() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    (listener, endpoint)
}

/// Asks again and again until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        looks.tick().await;
    }
}

/// What a client told of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    calls: Vec<(Method, Code, u32)>,
    attempts: Vec<(String, Code)>,
    refused: u32,
    aside: u32,
}

impl Record {
    pub(crate) fn calls(&self) -> Vec<(Method, Code, u32)> {
        self.0.lock().unwrap().calls.clone()
    }

    pub(crate) fn attempts_at(&self, endpoint: &str) -> usize {
        self.0.lock().unwrap().attempts.iter().filter(|(asked, _)| asked == endpoint).count()
    }

    pub(crate) fn retries_refused(&self) -> u32 {
        self.0.lock().unwrap().refused
    }

    /// How often an endpoint was put aside.
    pub(crate) fn put_aside(&self) -> u32 {
        self.0.lock().unwrap().aside
    }
}

impl Metrics for Record {
    fn call_ended(&self, method: Method, code: Code, attempts: u32, _took: Duration) {
        self.0.lock().unwrap().calls.push((method, code, attempts));
    }

    fn attempt_ended(&self, _method: Method, endpoint: &str, code: Code, _took: Duration) {
        self.0.lock().unwrap().attempts.push((endpoint.to_owned(), code));
    }

    fn retry_refused(&self, _method: Method) {
        self.0.lock().unwrap().refused += 1;
    }

    fn endpoint_put_aside(&self, _endpoint: &str, _time: Duration) {
        self.0.lock().unwrap().aside += 1;
    }
}
