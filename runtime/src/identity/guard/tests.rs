//! Who gets through, with a service behind the guard that tells what it sees of its caller.

use std::sync::Mutex;

use tessera_core::time::Timestamp;
use tessera_ports::clock::ManualClock;
use tonic::Code;

use super::super::Principal;
use super::super::settings::IdentityConfig;
use super::super::tokens::{FreshToken, TokenFile};
use super::*;

/// Notes the actor of each call that reaches it.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Vec<Option<String>>>>);

impl Service<http::Request<Body>> for Seen {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let actor = request.extensions().get::<Principal>().map(|principal| principal.actor().to_string());
        self.0.lock().unwrap().push(actor);
        std::future::ready(Ok(http::Response::new(Body::empty())))
    }
}

fn access(path: &str) -> Access {
    match path {
        "/health" => Access::Open,
        "/write" => Access::Scope(Scope::WriteTenants),
        "/check" => Access::Scope(Scope::Decide),
        _ => Access::Known,
    }
}

fn refusal(refused: &Refused) -> Status {
    let code = if matches!(refused, Refused::Lacking(_)) { Code::PermissionDenied } else { Code::Unauthenticated };
    Status::new(code, refused.to_string())
}

async fn answer(guarded: &mut Guarded<Seen>, path: &str, token: Option<&str>) -> Result<(), (Code, String)> {
    let mut request = http::Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = guarded.call(request.body(Body::empty()).unwrap()).await.unwrap();
    Status::from_header_map(response.headers()).map_or(Ok(()), |status| Err((status.code(), status.message().to_owned())))
}

#[tokio::test]
async fn scopes_are_looked_at_before_the_service_is_called() {
    let token = FreshToken::new([3; 32]);
    let now = Timestamp::from_seconds(1_767_225_600).unwrap();
    let entry = TokenFile::entry("shop", &token, &[Scope::Decide], None, (now, Timestamp::from_seconds(1_767_229_200).unwrap()));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TokenFile { tokens: vec![entry.unwrap()] }.text().unwrap()).unwrap();
    let config = IdentityConfig { tokens_file: Some(file.path().to_owned()), ..IdentityConfig::default() };
    let authenticator = Arc::new(Authenticator::new(config, Arc::new(ManualClock::new(now))).unwrap());
    let seen = Seen::default();
    let mut guarded = Guarded::new(seen.clone(), Some(Rules { authenticator, access, is_stream: |_| false, refusal }));
    let said = || std::mem::take(&mut *seen.0.lock().unwrap());

    let good = Some(token.reveal());
    assert_eq!(answer(&mut guarded, "/check", good).await, Ok(()));
    assert_eq!(answer(&mut guarded, "/anything", good).await, Ok(()));
    assert_eq!(said(), [Some("token:shop".to_owned()), Some("token:shop".to_owned())]);
    for (path, token) in [("/health", None), ("/health", good), ("/health", Some("tessera_bad"))] {
        assert_eq!(answer(&mut guarded, path, token).await, Ok(()));
        assert_eq!(said(), [None]);
    }
    let lacking = answer(&mut guarded, "/write", good).await.unwrap_err();
    assert_eq!(lacking.0, Code::PermissionDenied);
    assert!(lacking.1.contains("`write:tenants`"), "{lacking:?}");
    for (path, token) in [("/check", None), ("/anything", None), ("/check", Some("tessera_bad")), ("/write", Some("a.b.c"))] {
        assert_eq!(answer(&mut guarded, path, token).await.unwrap_err().0, Code::Unauthenticated, "{path}");
    }
    assert_eq!(said(), [] as [Option<String>; 0], "nobody who was refused came through");
}

#[tokio::test]
async fn without_rules_everybody_is_let_in_and_nobody_is_known() {
    let seen = Seen::default();
    let mut guarded = Guarded::new(seen.clone(), None);
    assert_eq!(answer(&mut guarded, "/write", Some("tessera_bad")).await, Ok(()));
    assert_eq!(*seen.0.lock().unwrap(), [None]);
}
