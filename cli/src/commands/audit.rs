//! `audit`: who did what, and whether the log is what was written.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use tessera_proto::v1;

use crate::connection::{Plane, Planes};
use crate::console::{Console, table};
use crate::{json, values};

/// How many events are asked for at a time.
const PAGE_SIZE: usize = 500;

/// What of the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List events
    List {
        #[command(flatten)]
        stream: StreamArguments,
        /// Only by this actor
        #[arg(long)]
        actor: Option<String>,
        /// Only from this time on
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        since: Option<Timestamp>,
        /// Only before this time
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        until: Option<Timestamp>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Walk the hash chains and say what is not as it was written
    Verify {
        #[command(flatten)]
        stream: StreamArguments,
    },
}

/// Which streams; all of them if none is named.
#[derive(Debug, Args)]
pub struct StreamArguments {
    /// Only the catalog
    #[arg(long, group = "stream")]
    catalog: bool,
    /// Only this plan
    #[arg(long, value_name = "PLAN", group = "stream")]
    plan: Option<String>,
    /// Only this add-on
    #[arg(long, value_name = "ADD-ON", group = "stream")]
    add_on: Option<String>,
    /// Only this tenant
    #[arg(long, value_name = "TENANT", group = "stream")]
    tenant: Option<String>,
}

impl StreamArguments {
    fn stream(self) -> Option<v1::Stream> {
        let of = |kind: v1::StreamKind, id: String| Some(v1::Stream { kind: kind.into(), id });
        match self {
            Self { catalog: true, .. } => of(v1::StreamKind::Catalog, String::new()),
            Self { plan: Some(id), .. } => of(v1::StreamKind::Plan, id),
            Self { add_on: Some(id), .. } => of(v1::StreamKind::AddOn, id),
            Self { tenant: Some(id), .. } => of(v1::StreamKind::Tenant, id),
            _ => None,
        }
    }
}

/// `tessera audit`.
pub async fn run(planes: &Planes, console: &Console, command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::List { stream, actor, since, until, limit } => {
            let filter = v1::ListAuditEventsRequest {
                stream: stream.stream(),
                actor: actor.unwrap_or_default(),
                start_time: since,
                end_time: until,
                ..Default::default()
            };
            list(planes, console, filter, limit).await
        }
        AuditCommand::Verify { stream } => verify(planes, console, stream.stream()).await,
    }
}

async fn list(planes: &Planes, console: &Console, filter: v1::ListAuditEventsRequest, limit: usize) -> anyhow::Result<()> {
    let (mut events, mut page_token, mut unreadable_count) = (Vec::new(), String::new(), 0_i32);
    let more = loop {
        let page_size = i32::try_from(PAGE_SIZE.min(limit.saturating_sub(events.len()).max(1))).unwrap_or(1);
        let request = v1::ListAuditEventsRequest { page_size, page_token, ..filter.clone() };
        let mut client = planes.audit();
        let page = planes.read(Plane::Control, request, async |request| client.list_audit_events(request).await).await?;
        events.extend(page.events);
        unreadable_count = unreadable_count.saturating_add(page.unreadable_count);
        page_token = page.next_page_token;
        if page_token.is_empty() || events.len() >= limit {
            break !page_token.is_empty() || events.len() > limit;
        }
    };
    events.truncate(limit);
    let whole = v1::ListAuditEventsResponse { events: events.clone(), unreadable_count, ..Default::default() };
    console.answer(&json::of("ListAuditEventsResponse", &whole)?, || {
        let rows = events.iter().map(|event| {
            let stream = event.stream.as_ref().map(show_stream).unwrap_or_default();
            let time = values::show_time(event.time.as_ref());
            [time, stream, event.seq.to_string(), event.r#type.clone(), event.actor.clone(), event.request_id.clone()]
        });
        table(["TIME", "STREAM", "SEQ", "EVENT", "ACTOR", "REQUEST"], rows)
    })?;
    console.note_unreadable("events of a stream", unreadable_count);
    if more {
        console.note(&format!("there may be more than these {limit}; ask for more with --limit"));
    }
    Ok(())
}

fn show_stream(stream: &v1::Stream) -> String {
    let kind = v1::StreamKind::try_from(stream.kind).map_or("?", |kind| kind.as_str_name());
    let kind = values::show_name(kind, "STREAM_KIND_").to_lowercase().replace('_', "-");
    if stream.id.is_empty() { kind } else { format!("{kind}/{}", stream.id) }
}

async fn verify(planes: &Planes, console: &Console, stream: Option<v1::Stream>) -> anyhow::Result<()> {
    let bar = console.progress(None, "verifying streams");
    let mut whole = v1::VerifyAuditResponse::default();
    let mut page_token = String::new();
    loop {
        let request = v1::VerifyAuditRequest { stream: stream.clone(), page_token, ..Default::default() };
        let mut client = planes.audit();
        let page = planes.read(Plane::Control, request, async |request| client.verify_audit(request).await).await?;
        whole.streams += page.streams;
        whole.events += page.events;
        whole.problems.extend(page.problems);
        bar.set_position(u64::try_from(whole.streams).unwrap_or(0));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    console.answer(&json::of("VerifyAuditResponse", &whole)?, || {
        let mut text = format!("{} events of {} streams are verified\n", whole.events, whole.streams);
        for problem in &whole.problems {
            let stream = problem.stream.as_ref().map(show_stream).unwrap_or_default();
            writeln!(text, "{stream}, event {}: {}", problem.seq, problem.description).unwrap_or_default();
        }
        text
    })?;
    anyhow::ensure!(whole.problems.is_empty(), "{} streams are not as they were written", whole.problems.len());
    Ok(())
}
