//! The pages for machines, asked for with the smallest client that works: one request, one connection.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

/// HTTP/1.0, so that the body ends with the connection.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Page> {
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
