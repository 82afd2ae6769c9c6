//! The pages over a real socket, spoken to in plain HTTP/1.1.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connections::{CONNECTIONS_MAX, HEAD_MAX, PER_PEER_MAX};
use super::*;
use crate::lifecycle::Tasks;

async fn page(address: std::net::SocketAddr, path: &str) -> String {
    page_from(1, address, path).await
}

async fn said(address: std::net::SocketAddr, request: &str) -> String {
    said_from(1, address, request).await
}

/// Of the peer 127.0.0.n; nothing, if it is not let in.
async fn page_from(peer: u8, address: std::net::SocketAddr, path: &str) -> String {
    said_from(peer, address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")).await
}

async fn said_from(peer: u8, address: std::net::SocketAddr, request: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, peer], 0).into()).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn plain_pages() -> Pages {
    Pages {
        metrics: Arc::new(|| "tessera_up 1\n".to_owned()),
        ready: Arc::new(|| Ok(Vec::new())),
        started: Arc::new(|| true),
        digest: Some(Arc::new(|| Box::pin(async { Ok(serde_json::json!({"epoch": 1})) }))),
        store_digest: None,
    }
}

/// Serves these pages for as long as the first lives.
async fn serving(pages: Pages) -> (Tasks, std::net::SocketAddr) {
    let tasks = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn_behind("pages", serve(listener, pages, tasks.shutdown()));
    (tasks, address)
}

#[tokio::test]
async fn what_is_no_page_and_what_is_no_get_is_refused_and_the_pages_stay() {
    let tasks = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn_behind("pages", serve(listener, plain_pages(), tasks.shutdown()));
    let long = format!("/{}", "x".repeat(60_000));
    for path in
        ["/", "/nothing", "/metrics/", "/livez/x", "/../etc/passwd", "/%00", "/%2e%2e/livez", "/livez%20", "//livez", &long]
    {
        let answer = page(address, path).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path:.20}: {answer:.60}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"] {
        for path in ["/metrics", "/livez", "/readyz", "/startupz", "/digest", "/digest/store", "/version"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            let answer = said(address, &request).await;
            assert!(answer.starts_with("HTTP/1.1 405"), "{method} {path}: {answer:.60}");
            assert!(answer.to_ascii_lowercase().contains("allow: get,head"), "{method} {path} names what is allowed: {answer}");
        }
    }
    for garbage in ["nonsense\r\n\r\n", "GET /livez\r\n\r\n", "GET /li vez HTTP/1.1\r\n\r\n"] {
        let answer = said(address, garbage).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{garbage:?}: {answer:.60}");
    }
    assert!(page(address, "/livez?whatever=1").await.starts_with("HTTP/1.1 200"), "alive after all that");
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_then_draining() {
    let tasks = Tasks::new();
    let shutdown = tasks.shutdown();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ready = Arc::new(AtomicBool::new(false));
    let (seen, started) = (Arc::clone(&ready), Arc::clone(&ready));
    let pages = Pages {
        metrics: Arc::new(|| "tessera_up 1\n".to_owned()),
        ready: Arc::new(move || {
            let missing = || vec!["hydrating tenants".to_owned(), "feed partition 0".to_owned()];
            if seen.load(Ordering::Relaxed) { Ok(Vec::new()) } else { Err(missing()) }
        }),
        started: Arc::new(move || started.load(Ordering::Relaxed)),
        digest: Some(Arc::new(|| Box::pin(async { Ok(serde_json::json!({"epoch": 1})) }))),
        store_digest: None,
    };
    tasks.spawn_behind("pages", serve(listener, pages, shutdown.clone()));

    let answer = page(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("hydrating tenants\nfeed partition 0\n"), "{answer}");
    assert!(page(address, "/startupz").await.starts_with("HTTP/1.1 503"));
    assert!(page(address, "/livez").await.starts_with("HTTP/1.1 200"), "alive whatever is missing");

    ready.store(true, Ordering::Relaxed);
    assert!(page(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(page(address, "/startupz").await.starts_with("HTTP/1.1 200"));
    assert!(page(address, "/metrics").await.ends_with("tessera_up 1\n"));
    assert!(page(address, "/digest").await.ends_with("{\"epoch\":1}\n"));
    assert!(page(address, "/tenants").await.starts_with("HTTP/1.1 404"));
    assert!(page(address, "/digest/store").await.starts_with("HTTP/1.1 404"), "this process answers for no store");

    shutdown.drain();
    let answer = page(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("draining\n"), "{answer}");
}

/// The log filter is the process's, so that this is the one test that sets it.
#[tokio::test]
async fn the_log_filter_is_shown_changed_and_refused_by_name() {
    let tasks = Tasks::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn_behind("pages", serve(listener, plain_pages(), tasks.shutdown()));
    assert!(page(address, "/version").await.contains(&format!("\"version\":\"{VERSION}\"")));
    assert!(page(address, "/log-filter").await.starts_with("HTTP/1.1 404"), "nothing is logged yet");

    crate::telemetry::init_logs(crate::telemetry::LogFormat::Text, "warn,tessera=info").unwrap();
    assert!(page(address, "/log-filter").await.ends_with("\r\n\r\nwarn,tessera=info\n"));
    let put = |headers: &str, body: &str| {
        let (headers, length) = (headers.to_owned(), body.len());
        let request = format!(
            "PUT /log-filter HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        async move { said(address, &request).await }
    };
    let answer = put("", "warn,tessera_runtime=debug\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nwarn,tessera_runtime=debug\n"), "{answer}");
    assert!(tracing::enabled!(target: "tessera_runtime::x", tracing::Level::DEBUG), "it is in force");
    assert!(!tracing::enabled!(target: "elsewhere", tracing::Level::INFO));

    for (headers, body, status, named) in [
        ("", "tessera=loud", "400", "`tessera=loud`"),
        ("", "inof", "400", "`inof`"),
        ("", "", "400", "``"),
        ("", &*"x".repeat(2_000), "413", "at most 1024 bytes"),
        ("X-Forwarded-For: 203.0.113.7\r\n", "info", "403", "`x-forwarded-for`"),
        ("Origin: http://example.com\r\n", "info", "403", "`origin`"),
    ] {
        let answer = put(headers, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(named), "{headers}{body:.20}: {answer}");
    }
    let answer = said(address, "POST /log-filter HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(
        page(address, "/log-filter").await.ends_with("\r\n\r\nwarn,tessera_runtime=debug\n"),
        "what was refused changed nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let (_tasks, address) = serving(plain_pages()).await;
    let asked = "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n";
    for (sent, is_answered) in [("", false), ("GET /livez HTTP/1.1\r\nHost:", false), (asked, true)] {
        let began = Instant::now();
        let answer = tokio::time::timeout(SCAN_MAX, said(address, sent)).await.expect("closed");
        assert_eq!(answer.starts_with("HTTP/1.1 200"), is_answered, "{sent:?}: {answer}");
        let took = began.elapsed();
        assert!((HEAD_MAX..REQUEST_MAX).contains(&took), "{sent:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut_short_and_a_scan_of_the_store_later() {
    let never: Digest = Arc::new(|| Box::pin(std::future::pending()));
    let pages = Pages { digest: Some(Arc::clone(&never)), store_digest: Some(never), ..plain_pages() };
    let (_tasks, address) = serving(pages).await;
    for (path, time) in [("/digest", REQUEST_MAX), ("/digest/store", SCAN_MAX)] {
        let began = Instant::now();
        let answer = tokio::time::timeout(2 * SCAN_MAX, page(address, path)).await.expect("closed");
        let took = began.elapsed();
        assert_eq!(answer, "", "{path}");
        assert!((time..time + REQUEST_MAX).contains(&took), "{path}: {took:?}");
    }
}

/// A digest that waits until it is told to go.
fn held(gone: watch::Receiver<bool>, begun: impl Fn() + Send + Sync + 'static) -> Digest {
    Arc::new(move || {
        begun();
        let mut gone = gone.clone();
        Box::pin(async move {
            gone.wait_for(|gone| *gone).await?;
            Ok(serde_json::json!({"epoch": 1}))
        })
    })
}

#[tokio::test]
async fn no_more_connections_than_allowed_are_open_at_a_time() {
    let (go, gone) = watch::channel(false);
    let under_way = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&under_way);
    let digest = held(gone, move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let (_tasks, address) = serving(Pages { digest: Some(digest), ..plain_pages() }).await;
    let mut asking = JoinSet::new();
    for number in 0..CONNECTIONS_MAX + 6 {
        asking.spawn(page_from(u8::try_from(1 + number / PER_PEER_MAX).unwrap(), address, "/digest"));
    }
    while under_way.load(Ordering::Relaxed) < CONNECTIONS_MAX {
        tokio::task::yield_now().await;
    }
    // The others would come in meanwhile if they could.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(under_way.load(Ordering::Relaxed), CONNECTIONS_MAX);
    go.send(true).unwrap();
    for answer in asking.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_peer_has_its_share_of_the_connections_and_others_see_that_the_process_lives() {
    let (go, gone) = watch::channel(false);
    let (sender, mut begun) = mpsc::unbounded_channel();
    let digest = held(gone, move || sender.send(()).unwrap());
    let (_tasks, address) = serving(Pages { digest: Some(digest), ..plain_pages() }).await;
    let mut asking = JoinSet::new();
    for _ in 0..PER_PEER_MAX {
        asking.spawn(page_from(2, address, "/digest"));
        begun.recv().await.unwrap();
    }
    for _ in 0..CONNECTIONS_MAX {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut more = socket.connect(address).await.unwrap();
        // At once, and not since it asks for nothing.
        let closed = tokio::time::timeout(HEAD_MAX / 2, more.read(&mut [0; 1])).await.expect("closed");
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    assert!(page_from(3, address, "/livez").await.starts_with("HTTP/1.1 200"));
    go.send(true).unwrap();
    for answer in asking.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn the_store_is_scanned_for_one_request_at_a_time() {
    let (go, gone) = watch::channel(false);
    let (sender, mut begun) = mpsc::unbounded_channel();
    let digest = held(gone, move || sender.send(()).unwrap());
    let (_tasks, address) = serving(Pages { store_digest: Some(digest), ..plain_pages() }).await;
    let second = async {
        begun.recv().await.unwrap();
        let answer = tokio::time::timeout(REQUEST_MAX, page(address, "/digest/store")).await.expect("an answer meanwhile");
        go.send(true).unwrap();
        answer
    };
    let (first, second) = tokio::join!(page(address, "/digest/store"), second);
    assert!(second.starts_with("HTTP/1.1 503") && second.contains("retry-after: 5\r\n"), "{second}");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    assert!(page(address, "/digest/store").await.starts_with("HTTP/1.1 200"), "nobody scans any more");
}
