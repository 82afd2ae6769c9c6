//! The bare echo beside a server (`bin/echo-twin.rs`): it says over and over what the server said once.

use std::process::Command;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use prost::Message as _;
use tessera_ports::memory::SplitMix64;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tonic::transport::Channel;

use crate::child::Running;
use crate::envoy;
use crate::scenario::Question;
use crate::stores::Workshop;

/// Starts `command`, which runs `echo-twin`, with answers of that server.
pub fn of(server: &Running, mut command: Command, workshop: &Workshop) -> anyhow::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let samples = runtime.block_on(sample(server))?;
    command.args(samples.map(|answer| STANDARD.encode(answer)));
    Running::start(command, &workshop.path("echo-twin.log"))
}

/// An answer as it is given to a call of its own, as it is given among many, and as it is given to an Envoy.
async fn sample(server: &Running) -> anyhow::Result<[Vec<u8>; 3]> {
    let channel = Channel::from_shared(format!("http://{}", server.address("data")?))?.connect().await?;
    let mut client = EntitlementServiceClient::new(channel.clone());
    let mut random = SplitMix64::new(1);
    let question = std::iter::repeat_with(|| Question::draw(&mut random, 1_000)).find(|question| question.entitled);
    let question = question.context("a question with a good answer")?;
    let message = question.message();
    let held = AuthorizationClient::new(channel).check(envoy::request(&question)).await?.into_inner();
    let alone = client.check_entitlement(message.clone()).await?.into_inner();
    let batch = v1::BatchCheckEntitlementRequest { checks: vec![message], ..Default::default() };
    let batch = client.batch_check_entitlement(batch).await?.into_inner();
    match batch.results.into_iter().next().and_then(|result| result.result) {
        Some(v1::check_result::Result::Response(among_many)) => {
            Ok([alone.encode_to_vec(), among_many.encode_to_vec(), held.encode_to_vec()])
        }
        other => anyhow::bail!("a batch was answered {other:?}"),
    }
}
