//! The pages for machines, asked for with the smallest client that works: one request, one connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A page that takes longer does not come.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// Everything after the headers.
    pub body: String,
}

/// `GET path`.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Page> {
    ask(address, "GET", path, "").await
}

/// `PUT path` with a body.
pub async fn put(address: SocketAddr, path: &str, body: &str) -> anyhow::Result<Page> {
    ask(address, "PUT", path, body).await
}

async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Page> {
    let answer = tokio::time::timeout(ANSWER_MAX, exchange(address, method, path, body)).await;
    answer.with_context(|| format!("no answer to `{method} {path}` within {ANSWER_MAX:?}"))?
}

/// HTTP/1.0, so that the body ends with the connection.
async fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Page> {
    let mut connection = TcpStream::connect(address).await.context("connect")?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    connection.write_all(request.as_bytes()).await.context("send the request")?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.context("read the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without headers")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    Ok(Page { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_answer_is_not_waited_for() {
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = get(deaf.local_addr().unwrap(), "/readyz").await.unwrap_err();
        assert_eq!(error.to_string(), "no answer to `GET /readyz` within 30s");
    }
}
