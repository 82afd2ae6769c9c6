//! The HTTP pages of a process, asked in the plainest HTTP/1.1: one request, one connection.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::connection::TIMEOUT;

/// Longest page that is read.
const PAGE_LEN_MAX: u64 = 1 << 20;
/// How long a page may take where nobody says it: a digest reads the whole store, for which a process has ten minutes.
const PATIENCE: Duration = Duration::from_mins(11);

/// The body of a page that is answered with 200. With a `timeout` that is how long it is waited for, and for the connection.
pub async fn get(address: &str, path: &str, timeout: Option<Duration>) -> anyhow::Result<String> {
    let stream = connect(address, timeout.unwrap_or(TIMEOUT)).await.with_context(|| unreachable(address))?;
    let patience = timeout.unwrap_or(PATIENCE);
    let whole = tokio::time::timeout(patience, ask(stream, address, path)).await;
    let whole =
        whole.with_context(|| format!("the page `{path}` at `{address}` takes longer than {patience:?} (--timeout)"))??;
    let (head, body) = whole.split_once("\r\n\r\n").context("this is not HTTP")?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "404" {
        bail!(
            "the process at `{address}` has no page `{path}`; ask a loader (or `tessera dev`), or the store itself with --settings"
        );
    }
    if status != "200" {
        bail!("the page `{path}` at `{address}` answers {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

fn unreachable(address: &str) -> String {
    format!("cannot reach the pages at `{address}`; start a process with `tessera dev`, or say where it is with --http-addr")
}

async fn connect(address: &str, patience: Duration) -> anyhow::Result<TcpStream> {
    let connected = tokio::time::timeout(patience, TcpStream::connect(address)).await;
    Ok(connected.with_context(|| format!("there is no connection after {patience:?} (--timeout)"))??)
}

async fn ask(mut stream: TcpStream, address: &str, path: &str) -> anyhow::Result<String> {
    let unreachable = || unreachable(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.with_context(unreachable)?;
    let mut answer = Vec::new();
    stream.take(PAGE_LEN_MAX).read_to_end(&mut answer).await.with_context(unreachable)?;
    String::from_utf8(answer).context("the page is not text")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;
    use tokio::time::Instant;

    use super::*;

    /// Somebody who takes one connection and never looks at it: a second one is not made.
    fn silent() -> (tokio::net::TcpListener, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    /// How long nobody answered, and what was said then.
    async fn waited(address: &str, timeout: Option<Duration>) -> (Duration, String) {
        let begun = Instant::now();
        let error = get(address, "/digest/store", timeout).await.unwrap_err();
        (begun.elapsed(), format!("{error:#}"))
    }

    /// Of a paused clock, timers are whole milliseconds.
    fn about(waited: Duration, expected: Duration) -> bool {
        waited >= expected && waited <= expected + Duration::from_millis(10)
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_is_waited_for_as_long_as_was_said_and_otherwise_as_long_as_a_digest_takes() {
        for (timeout, expected) in [(Some(Duration::from_secs(3)), Duration::from_secs(3)), (None, PATIENCE)] {
            let (_listener, address) = silent();
            let (waited, error) = waited(&address, timeout).await;
            assert!(about(waited, expected), "{timeout:?}: {waited:?}");
            assert!(error.contains("the page `/digest/store`") && error.contains("--timeout"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_process_without_that_page_is_said_to_be_the_wrong_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (answer, _stream) = tokio::join!(get(&address, "/digest/store", None), answering);
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("no page `/digest/store`") && error.contains("--settings"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_waited_for_as_long_as_was_said_and_otherwise_as_long_as_one_to_a_plane() {
        for (timeout, expected) in [(Some(Duration::from_secs(3)), Duration::from_secs(3)), (None, TIMEOUT)] {
            let (_listener, address) = silent();
            let _first = TcpStream::connect(&address).await.unwrap();
            let (waited, error) = waited(&address, timeout).await;
            assert!(about(waited, expected), "{timeout:?}: {waited:?}");
            assert!(error.contains("cannot reach the pages") && error.contains("no connection"), "{error}");
        }
    }
}
