//! `/log-filter`: what the process logs, and changing it.
//!
//! The pages may listen beyond loopback, and whoever reaches them may read. Changing is for whoever is on this machine (in a pod:
//! in its network): the peer's address must be loopback, and the request must not have come through a proxy or a browser, both
//! of which speak from loopback for somebody who is not here.

use std::net::SocketAddr;

use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::telemetry::{FILTER_LEN_MAX, LogFilter};

/// What only somebody else's request has.
const OF_OTHERS: [&str; 5] = ["forwarded", "x-forwarded-for", "via", "origin", "sec-fetch-site"];

/// Shows the filter.
pub(super) async fn show() -> Response {
    match LogFilter::of_process() {
        Some(filter) => format!("{}\n", filter.shown()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Changes it to what the body says.
pub(super) async fn change(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let Some(filter) = LogFilter::of_process() else { return StatusCode::NOT_FOUND.into_response() };
    if let Err(why) = permit(peer, request.headers()) {
        return (StatusCode::FORBIDDEN, format!("{why}\n")).into_response();
    }
    // A newline at the end is what files and `echo` have.
    let Ok(body) = to_bytes(request.into_body(), FILTER_LEN_MAX + 1).await else {
        let allowed = format!("the filter is too long; allowed are at most {FILTER_LEN_MAX} bytes\n");
        return (StatusCode::PAYLOAD_TOO_LARGE, allowed).into_response();
    };
    let Ok(given) = str::from_utf8(&body) else {
        return (StatusCode::BAD_REQUEST, "the filter is not UTF-8\n").into_response();
    };
    match filter.change(given.trim_end(), peer) {
        Ok(()) => format!("{}\n", filter.shown()).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

/// Whether somebody at `peer` may change what is logged.
fn permit(peer: SocketAddr, headers: &HeaderMap) -> Result<(), String> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(format!("`{}` may not change the log filter; allowed is only loopback, on the machine itself", peer.ip()));
    }
    match OF_OTHERS.into_iter().find(|name| headers.contains_key(*name)) {
        Some(name) => Err(format!("a request with `{name}` comes from a proxy or a browser; allowed are only direct ones")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_requests_from_loopback_may_change_anything() {
        let none = HeaderMap::new();
        for good in ["127.0.0.1:5", "127.9.9.9:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
            assert_eq!(permit(good.parse().unwrap(), &none), Ok(()), "{good}");
        }
        for bad in ["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "[fe80::1]:5", "0.0.0.0:5", "[::]:5", "128.0.0.1:5"] {
            let why = permit(bad.parse().unwrap(), &none).unwrap_err();
            assert!(why.contains("only loopback"), "{bad}: {why}");
        }
        for name in OF_OTHERS {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x".parse().unwrap());
            let why = permit("127.0.0.1:5".parse().unwrap(), &headers).unwrap_err();
            assert!(why.contains(name), "{why}");
        }
    }
}
