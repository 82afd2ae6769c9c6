//! The way to a plane for what is not load: looking whether the scenario is there, putting it there, changing tenants.

use std::time::Duration;

use anyhow::Context as _;
use tessera_proto::status::code_name;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::address::Address;
use crate::failure::Failed;

/// Connects, and says which option names the address when that fails.
pub async fn connect(address: &Address, option: &str, patience: Duration) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).with_context(|| format!("{option}: `{address}`"))?;
    let endpoint = endpoint.connect_timeout(patience).timeout(patience).tcp_nodelay(true);
    endpoint.connect().await.map_err(|error| {
        anyhow::anyhow!(
            "{option}: cannot reach `{address}`: {}; start a deployment with `tessera dev`, or say where it is with {option}",
            root_cause(&error)
        )
    })
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
    format!("{said} ({}{gap}{reason})", code_name(status.code()))
}

/// The cause of a failed connection is the last of a chain of sentences.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
