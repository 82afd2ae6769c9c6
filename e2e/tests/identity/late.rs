//! Calls whose message comes late: what let them in may have been taken back by then.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tessera_e2e::hostile::{Hostile, call, flag, frame, header, kind};

use super::{Place, tessera};

/// The headers of a call that creates a tenant, and its message.
fn creates(stream: u32, token: &str, tenant: &str) -> [Vec<u8>; 2] {
    let headers = [call("/tessera.v1.TenantService/CreateTenant"), header("authorization", &format!("Bearer {token}"))].concat();
    // Its fields `tenant_id` and `plan_id`, as protobuf writes short texts.
    let field = |tag: u8, text: &str| [&[tag << 3 | 2, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let message = [field(1, tenant), field(4, "gold")].concat();
    let framed = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    [frame(kind::HEADERS, flag::END_HEADERS, stream, &headers), frame(kind::DATA, flag::END_STREAM, stream, &framed)]
}

#[tokio::test]
async fn a_call_whose_message_comes_after_its_token_was_revoked_does_nothing() -> anyhow::Result<()> {
    let place = Place::new();
    let stays = place.create(&["stays", "--scope", "read"]);
    let goes = place.create(&["goes", "--scope", "write:tenants"]);
    let settings =
        format!("[listener]\nmessage_timeout_s = 5\n[identity]\ntokens_file = \"{}\"\n", place.path("tokens.toml").display());
    let dev = place.launch(&settings).ready().await?;
    let knows = |tenant: &str| tessera(&dev, &stays, &["tenant", "show", tenant]).code == Some(0);

    let mut peer = Hostile::begin(Ipv4Addr::LOCALHOST, dev.addresses().control, &[]).await?;
    let [headers, message] = creates(1, &goes, "in-time");
    peer.say(&[headers, message].concat()).await?;
    let answer = peer.next_of(kind::HEADERS).await?;
    anyhow::ensure!(answer.flags & flag::END_STREAM == 0 && knows("in-time"), "{answer:?}");
    // What came with the answer.
    while peer.next_of(kind::HEADERS).await?.flags & flag::END_STREAM == 0 {}

    let [headers, message] = creates(3, &goes, "too-late");
    peer.say(&headers).await?;
    place.token(&["revoke", "goes", "--yes"]).success()?;
    let answer = peer.next_of(kind::HEADERS).await.context("nobody waits for the message for ever")?;
    anyhow::ensure!(answer.stream == 3 && answer.flags & flag::END_STREAM != 0, "{answer:?}");
    // The connection goes on, and nobody reads it.
    peer.say(&message).await?;
    peer.say(&frame(kind::PING, 0, 0, b"the end?")).await?;
    while peer.next_of(kind::PING).await?.payload != b"the end?" {}
    anyhow::ensure!(!knows("too-late"), "it was executed");
    dev.stop()
}
