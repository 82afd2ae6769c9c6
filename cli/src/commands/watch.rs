//! `watch`: prints a tenant's document when it changes, until it is stopped.

use std::time::Duration;

use clap::Args;
use tessera_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::check::show_document;
use crate::connection::{Plane, Planes};
use crate::console::Console;
use crate::{failure, json};

/// Pause before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whom to watch.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// The tenants
    #[arg(required = true)]
    tenants: Vec<String>,
    /// Stop after so many documents
    #[arg(long, value_name = "N")]
    count: Option<usize>,
}

/// `tessera watch`. Begins again when the server ends the watch, from the last revisions seen.
pub async fn watch(planes: &Planes, console: &Console, arguments: WatchArguments) -> anyhow::Result<()> {
    let mut seen: Vec<(String, Vec<u8>)> = arguments.tenants.into_iter().map(|tenant| (tenant, Vec::new())).collect();
    let mut left = arguments.count;
    let mut connected = false;
    loop {
        let status = match follow(planes, console, &mut seen, &mut left, &mut connected).await? {
            Ended::Enough => return Ok(()),
            Ended::Status(status) => status,
        };
        let draining = failure::reason(&status).is_some() && status.code() == tonic::Code::Unavailable;
        if !(draining || connected && failure::unreachable(&status)) {
            return Err(planes.failed(Plane::Data, &status));
        }
        console.note(&format!("the watch ended, beginning again: {}", failure::explain(&status)));
        tokio::time::sleep(PAUSE).await;
    }
}

enum Ended {
    Enough,
    Status(tonic::Status),
}

async fn follow(
    planes: &Planes,
    console: &Console,
    seen: &mut [(String, Vec<u8>)],
    left: &mut Option<usize>,
    connected: &mut bool,
) -> anyhow::Result<Ended> {
    use v1::watch_entitlements_response::Event;
    // The sender lives as long as the watch: the server takes its end for the end of all subscriptions.
    let (sender, receiver) = mpsc::channel(seen.len().max(1));
    for (tenant, revision) in seen.iter() {
        let subscribe = v1::Subscribe { tenant_id: tenant.clone(), last_revision: revision.clone().into() };
        let action = v1::watch_entitlements_request::Action::Subscribe(subscribe);
        sender.send(v1::WatchEntitlementsRequest { action: Some(action) }).await?;
    }
    let mut events = match planes.entitlements().watch_entitlements(ReceiverStream::new(receiver)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Ended::Status(status)),
    };
    loop {
        let answer = match events.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(Ended::Status(tonic::Status::unavailable("the server ended the watch"))),
            Err(status) => return Ok(Ended::Status(status)),
        };
        *connected = true;
        match &answer.event {
            Some(Event::Document(document)) => {
                if let Some((_, revision)) = seen.iter_mut().find(|(tenant, _)| *tenant == document.tenant_id) {
                    *revision = document.revision.to_vec();
                }
                let table = || format!("{}\n", show_document(document));
                console.one_of_many(&json::of("WatchEntitlementsResponse", &answer)?, table)?;
                if let Some(count) = left {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        return Ok(Ended::Enough);
                    }
                }
            }
            Some(Event::Error(error)) => {
                let said = error.status.as_ref().map_or("no reason given", |status| status.message.as_str());
                console.note(&format!("{}: {said}", error.tenant_id));
            }
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
}
