//! The pages over a real socket, spoken to in plain HTTP/1.1.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::lifecycle::Tasks;

async fn page(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
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
            if seen.load(Ordering::Relaxed) { Ok(()) } else { Err(missing()) }
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
