//! Requests as a client writes them, byte by byte, and what comes back.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The key in `deploy/envoy/envoy.yaml`.
const KEY: &[u8] = b"an-example-key-that-everybody-knows";

/// A request, written as it is told.
pub(crate) struct Request {
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<String>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn get(target: &str) -> Self {
        Self { target: target.to_owned(), host: "shop.example".to_owned(), headers: Vec::new() }
    }

    /// With a token for that tenant.
    pub(crate) fn of(self, tenant: &str) -> Self {
        self.with(&format!(
            "authorization: Bearer {}",
            token(&serde_json::json!({"iss": "https://idp.example", "tenant": tenant}))
        ))
    }

    /// With another name of a host.
    pub(crate) fn to(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// With another line.
    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    pub(crate) async fn send(&self, address: SocketAddr) -> anyhow::Result<Answer> {
        self.send_over(TcpStream::connect(address).await.context("connect")?).await
    }

    /// Over a connection that ends with it.
    pub(crate) async fn send_over(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> anyhow::Result<Answer> {
        let first = format!("GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close", self.target, self.host);
        let lines: Vec<&str> = std::iter::once(first.as_str()).chain(self.headers.iter().map(String::as_str)).collect();
        let request = format!("{}\r\n\r\n", lines.join("\r\n"));
        stream.write_all(request.as_bytes()).await.context("send")?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.context("receive")?;
        let said = String::from_utf8(said)?;
        let (head, body) = said.split_once("\r\n\r\n").context("no end of the headers")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
        let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = headers.collect();
        let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
        let body = if chunked { whole(body)? } else { body.to_owned() };
        Ok(Answer { status, headers, body })
    }
}

/// A body that came in chunks (RFC 9112, section 7.1).
fn whole(mut chunks: &str) -> anyhow::Result<String> {
    let mut body = String::new();
    loop {
        let (length, rest) = chunks.split_once("\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(length, 16).context("the length of a chunk")?;
        if length == 0 {
            return Ok(body);
        }
        let (chunk, rest) = rest.split_at_checked(length).context("a chunk that is cut short")?;
        body.push_str(chunk);
        chunks = rest.strip_prefix("\r\n").context("a chunk without an end")?;
    }
}

impl Answer {
    /// The headers that the service saw, if the request reached it.
    pub(crate) fn seen(&self) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        anyhow::ensure!(self.status == 200, "answered {}: {}", self.status, self.body);
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.body.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            seen.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
        }
        Ok(seen)
    }

    /// Status and reason of a denial, whose body says the same.
    pub(crate) fn denied(&self) -> anyhow::Result<(u16, String)> {
        let reason = self.headers.get("x-tessera-reason").with_context(|| format!("no reason: {} {}", self.status, self.body))?;
        anyhow::ensure!(
            self.headers.get("content-type").is_some_and(|kind| kind == "application/problem+json"),
            "{:?}",
            self.headers
        );
        let problem: serde_json::Value = serde_json::from_str(&self.body).with_context(|| self.body.clone())?;
        anyhow::ensure!(problem["status"] == self.status && problem["reason"] == **reason, "{problem}");
        Ok((self.status, reason.clone()))
    }
}

/// A JWT (RFC 7519) with those claims, signed with the key of the sample (HS256, RFC 2104).
pub(crate) fn token(claims: &serde_json::Value) -> String {
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(&serde_json::json!({"alg": "HS256", "kid": "example"})), part(claims));
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|place| KEY.get(place).unwrap_or(&0) ^ with).collect() };
    let inner = Sha256::digest([padded(0x36), signed.clone().into_bytes()].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(outer))
}
