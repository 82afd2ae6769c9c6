//! The HTTP pages of a process, asked in the plainest HTTP/1.1: one request, one connection.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest page that is read.
const PAGE_LEN_MAX: u64 = 1 << 20;
/// How long a page may take: a digest reads the whole store, for which a process has ten minutes.
const PATIENCE: Duration = Duration::from_mins(11);

/// The body of a page that is answered with 200.
pub async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let whole = tokio::time::timeout(PATIENCE, ask(address, path)).await;
    let whole = whole.with_context(|| format!("the page `{path}` at `{address}` takes too long"))??;
    let (head, body) = whole.split_once("\r\n\r\n").context("this is not HTTP")?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("the page `{path}` at `{address}` answers {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

async fn ask(address: &str, path: &str) -> anyhow::Result<String> {
    let unreachable = || {
        format!("cannot reach the pages at `{address}`; start a process with `tessera dev`, or say where it is with --http-addr")
    };
    let mut stream = TcpStream::connect(address).await.with_context(unreachable)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.with_context(unreachable)?;
    let mut answer = Vec::new();
    stream.take(PAGE_LEN_MAX).read_to_end(&mut answer).await.with_context(unreachable)?;
    String::from_utf8(answer).context("the page is not text")
}
