//! The way to a plane for what is not load: looking whether the scenario is there, putting it there, changing tenants.

use std::time::Duration;

use tessera_proto::status::code_name;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::credentials::{Bearer, Way};
use crate::failure::Failed;

/// A channel that shows who calls.
pub type Plane = InterceptedService<Channel, Bearer>;

/// Connects, and says which option names the address when that fails.
pub async fn connect(way: &Way, option: &str, patience: Duration) -> anyhow::Result<Plane> {
    let endpoint = way.endpoint().connect_timeout(patience).timeout(patience);
    let connected = endpoint.connect().await.map_err(|error| {
        anyhow::anyhow!(
            "{option}: cannot reach `{way}`: {}; start a deployment with `tessera dev`, or say where it is with {option}",
            root_cause(&error)
        )
    });
    Ok(InterceptedService::new(connected?, way.bearer()))
}

/// Connects when it is used; calls take as long as they take.
pub fn connect_lazily(way: &Way, patience: Duration) -> Plane {
    InterceptedService::new(way.endpoint().connect_timeout(patience).connect_lazy(), way.bearer())
}

/// A status for people: the sentence, the code, the stable reason.
pub fn explain(status: &Status) -> String {
    let reason = Failed::status(status).cause.reason;
    let said = match std::error::Error::source(status) {
        Some(source) => root_cause(source),
        None if status.message().is_empty() && status.code() == Code::Unimplemented => "it knows no such call".to_owned(),
        None if status.message().is_empty() => "no reason given".to_owned(),
        None => status.message().to_owned(),
    };
    let gap = if reason.is_empty() { "" } else { " " };
    let hint = match status.code() {
        Code::Unauthenticated => "; --token-file or TESSERA_TOKEN gives a token to show, --client-certificate a certificate",
        _ => "",
    };
    format!("{said} ({}{gap}{reason}){hint}", code_name(status.code()))
}

/// The cause of a failed connection is the last of a chain of sentences.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
