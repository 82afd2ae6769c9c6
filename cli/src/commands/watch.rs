//! `watch`: prints a tenant's document when it changes, until it is stopped or nobody reads on.
//!
//! The Rust client watches too, and better; but it has no answers as they came, which `-o json` prints, and other credentials.

use std::time::Duration;

use clap::Args;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use tessera_core::shown::shown;
use tessera_proto::v1;
use tessera_proto::v1::watch_entitlements_response::Event;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use super::check::show_document;
use crate::connection::{Plane, Planes, may_pass};
use crate::console::Console;
use crate::{failure, json};

/// Shortest pause before a watch that ended is begun again, and before a tenant that could not be served is subscribed again.
const PAUSE: Duration = Duration::from_secs(1);
/// Silence after which a watch is given up for another: four heartbeats of a server's default pace.
const SILENCE_MAX: Duration = Duration::from_secs(20);

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

/// `tessera watch`. Begins again when the server ends the watch or falls silent, from the last revisions seen.
pub async fn watch(planes: &Planes, console: &Console, arguments: WatchArguments) -> anyhow::Result<()> {
    let mut client = planes.entitlements();
    let mut watch = Watch::new(arguments);
    let say = |said: Said<'_>| match said {
        Said::Document(answer, document) => {
            let table = || format!("{}\n", show_document(document));
            console.one_of_many(&json::of("WatchEntitlementsResponse", answer)?, table)
        }
        Said::Note(text) => {
            console.note(&text);
            Ok(())
        }
    };
    let open = async |asked| client.watch_entitlements(asked).await.map(Response::into_inner);
    tokio::select! {
        ended = watch.run(planes, open, say) => ended,
        // Somebody who stops reading (`| head`) is no error.
        () = console.abandoned() => Ok(()),
    }
}

/// What a watch has to say.
enum Said<'a> {
    /// A document, and the answer that it came in.
    Document(&'a v1::WatchEntitlementsResponse, &'a v1::TenantEntitlements),
    /// Something for people.
    Note(String),
}

struct Watch {
    watched: Vec<Watched>,
    /// How many documents are still wanted.
    left: Option<usize>,
    /// Whether a server was ever heard.
    connected: bool,
}

struct Watched {
    tenant: String,
    /// Nothing older; empty for whatever is there.
    revision: Vec<u8>,
    /// When the server is told again, since it could not serve the tenant.
    again_at: Option<Instant>,
    /// Whether that was said since the last document.
    told: bool,
}

enum Ended {
    Enough,
    Status(Status),
}

type Asked = ReceiverStream<v1::WatchEntitlementsRequest>;

impl Watch {
    fn new(arguments: WatchArguments) -> Self {
        let mut tenants = arguments.tenants;
        tenants.sort();
        tenants.dedup();
        let watched = |tenant| Watched { tenant, revision: Vec::new(), again_at: None, told: false };
        Self { watched: tenants.into_iter().map(watched).collect(), left: arguments.count, connected: false }
    }

    async fn run<S>(
        &mut self,
        planes: &Planes,
        mut open: impl AsyncFnMut(Asked) -> Result<S, Status>,
        say: impl Fn(Said<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()>
    where
        S: Stream<Item = Result<v1::WatchEntitlementsResponse, Status>> + Unpin,
    {
        loop {
            let status = match self.follow(&mut open, &say).await? {
                Ended::Enough => return Ok(()),
                Ended::Status(status) => status,
            };
            let somebody = self.connected || failure::reason(&status).is_some();
            if !(somebody && may_pass(&status)) {
                return Err(planes.failed(Plane::Data, &status));
            }
            say(Said::Note(format!("the watch ended, beginning again: {}", failure::explain(&status))))?;
            sleep(pause(&status)).await;
        }
    }

    /// One stream, to its end.
    async fn follow<S>(
        &mut self,
        open: &mut impl AsyncFnMut(Asked) -> Result<S, Status>,
        say: &impl Fn(Said<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ended>
    where
        S: Stream<Item = Result<v1::WatchEntitlementsResponse, Status>> + Unpin,
    {
        // The sender lives as long as the stream: the server takes its end for the end of all subscriptions. There is room for
        // all of them, and none is sent again before the server has answered it.
        let (sender, receiver) = mpsc::channel(self.watched.len().max(1));
        for watched in &mut self.watched {
            sender.try_send(watched.subscribe())?;
        }
        let silence = || Ended::Status(Status::unavailable(format!("nothing was heard for {SILENCE_MAX:?}")));
        let mut silent_until = Instant::now() + SILENCE_MAX;
        let mut answers = match timeout_at(silent_until, open(ReceiverStream::new(receiver))).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(status)) => return Ok(Ended::Status(status)),
            Err(_) => return Ok(silence()),
        };
        loop {
            let due = self.watched.iter().filter_map(|watched| watched.again_at).min();
            let heard = tokio::select! {
                heard = timeout_at(silent_until, answers.next()) => heard,
                () = sleep_until(due.unwrap_or(silent_until)), if due.is_some() => {
                    let now = Instant::now();
                    for watched in self.watched.iter_mut().filter(|watched| watched.again_at.is_some_and(|at| at <= now)) {
                        // Where nobody takes it, the stream has ended, which it says itself.
                        drop(sender.try_send(watched.subscribe()));
                    }
                    continue;
                }
            };
            let answer = match heard {
                Ok(Some(Ok(answer))) => answer,
                Ok(Some(Err(status))) => return Ok(Ended::Status(status)),
                Ok(None) => return Ok(Ended::Status(Status::unavailable("the server ended the watch"))),
                Err(_) => return Ok(silence()),
            };
            silent_until = Instant::now() + SILENCE_MAX;
            self.connected = true;
            match &answer.event {
                Some(Event::Document(document)) => {
                    if let Some(watched) = self.watched.iter_mut().find(|watched| watched.tenant == document.tenant_id) {
                        watched.revision = document.revision.to_vec();
                        watched.told = false;
                    }
                    say(Said::Document(&answer, document))?;
                    if let Some(left) = &mut self.left {
                        *left = left.saturating_sub(1);
                        if *left == 0 {
                            return Ok(Ended::Enough);
                        }
                    }
                }
                Some(Event::Error(error)) => self.refused(error, say)?,
                Some(Event::Heartbeat(_)) | None => {}
            }
        }
    }

    /// The server has ended a subscription.
    fn refused(&mut self, error: &v1::WatchError, say: &impl Fn(Said<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let status = status_of(error);
        let said = format!("{}: {}", error.tenant_id, failure::explain(&status));
        let Some(place) = self.watched.iter().position(|watched| watched.is(&error.tenant_id)) else {
            return say(Said::Note(said));
        };
        if let Some(watched) = self.watched.get_mut(place).filter(|_| may_pass(&status)) {
            watched.again_at = Some(Instant::now() + pause(&status));
            if !std::mem::replace(&mut watched.told, true) {
                say(Said::Note(format!("{said}; trying again")))?;
            }
        } else {
            self.watched.remove(place);
            say(Said::Note(said))?;
            anyhow::ensure!(!self.watched.is_empty(), "there is no tenant left to watch");
        }
        Ok(())
    }
}

impl Watched {
    fn subscribe(&mut self) -> v1::WatchEntitlementsRequest {
        self.again_at = None;
        let subscribe = v1::Subscribe { tenant_id: self.tenant.clone(), last_revision: self.revision.clone().into() };
        v1::WatchEntitlementsRequest { action: Some(v1::watch_entitlements_request::Action::Subscribe(subscribe)) }
    }

    /// Whether an error means this tenant. It repeats what is no tenant id escaped and cut.
    fn is(&self, named: &str) -> bool {
        self.tenant == named || shown(&self.tenant) == named
    }
}

fn status_of(error: &v1::WatchError) -> Status {
    error.status.as_ref().map_or_else(
        || Status::unknown("no reason given"),
        |status| Status::with_details(Code::from(status.code), status.message.clone(), status.encode_to_vec().into()),
    )
}

fn pause(status: &Status) -> Duration {
    status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default().max(PAUSE)
}

#[cfg(test)]
mod tests;
