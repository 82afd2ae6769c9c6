//! `audit`: who did what, and whether the log is what was written.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp};
use tessera_proto::v1;

use crate::connection::{Plane, Planes};
use crate::console::{Console, table};
use crate::{json, values};

/// How many events are asked for at a time.
const PAGE_SIZE: i32 = 500;
/// Most characters of the facts of an event in a table.
const FACTS_LEN_MAX: usize = 80;

/// What of the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List events, each stream's from the oldest on; -o json has all facts of each
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
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on where a list with the same filters was cut off: its `nextPageToken`, as in -o json
        #[arg(long, value_name = "TOKEN")]
        page_token: Option<String>,
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
        AuditCommand::List { stream, actor, since, until, limit, page_token } => {
            let filter = v1::ListAuditEventsRequest {
                stream: stream.stream(),
                actor: actor.unwrap_or_default(),
                start_time: since,
                end_time: until,
                page_token: page_token.unwrap_or_default(),
                ..Default::default()
            };
            list(planes, console, filter, usize::try_from(limit)?).await
        }
        AuditCommand::Verify { stream } => verify(planes, console, stream.stream()).await,
    }
}

async fn list(planes: &Planes, console: &Console, mut asked: v1::ListAuditEventsRequest, limit: usize) -> anyhow::Result<()> {
    let mut whole = v1::ListAuditEventsResponse::default();
    loop {
        // No page is greater than what is still wanted, so that the token of the last one says where the list ends.
        let wanted = limit.saturating_sub(whole.events.len());
        asked.page_size = i32::try_from(wanted).map_or(PAGE_SIZE, |wanted| wanted.min(PAGE_SIZE));
        let mut client = planes.audit();
        let page = planes.read(Plane::Control, asked.clone(), async |request| client.list_audit_events(request).await).await?;
        whole.events.extend(page.events);
        whole.unreadable_count = whole.unreadable_count.saturating_add(page.unreadable_count);
        asked.page_token.clone_from(&page.next_page_token);
        whole.next_page_token = page.next_page_token;
        if whole.next_page_token.is_empty() || whole.events.len() >= limit {
            break;
        }
    }
    console.answer(&json::of("ListAuditEventsResponse", &whole)?, || {
        let rows = whole.events.iter().map(|event| {
            let stream = event.stream.as_ref().map(show_stream).unwrap_or_default();
            let time = values::show_time(event.time.as_ref());
            let facts = event.payload.as_ref().map(show_facts).unwrap_or_default();
            [time, stream, event.seq.to_string(), event.r#type.clone(), facts, event.actor.clone(), event.request_id.clone()]
        });
        table(["TIME", "STREAM", "SEQ", "EVENT", "FACTS", "ACTOR", "REQUEST"], rows)
    })?;
    console.note_unreadable("events of a stream", whole.unreadable_count);
    if !whole.next_page_token.is_empty() {
        console.note_more(limit);
    }
    Ok(())
}

/// What an event says, in short: its names and values, of lists how long they are.
fn show_facts(payload: &Struct) -> String {
    let mut facts = Vec::new();
    push_facts(&mut facts, payload);
    // What is cut off is the end, and the longest say the least.
    facts.sort_by_key(|fact| ["title=", "reason=", "description="].iter().any(|name| fact.starts_with(name)));
    let text = facts.join(" ");
    match text.char_indices().nth(FACTS_LEN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default().trim_end()),
        None => text,
    }
}

fn push_facts(facts: &mut Vec<String>, payload: &Struct) {
    for (name, value) in &payload.fields {
        let shown = match &value.kind {
            None | Some(Kind::NullValue(_)) => continue,
            // What a thing consists of is as good without the name of the thing: `target` is a service and a feature.
            Some(Kind::StructValue(inner)) => {
                push_facts(facts, inner);
                continue;
            }
            Some(Kind::BoolValue(value)) => value.to_string(),
            Some(Kind::NumberValue(value)) => value.to_string(),
            Some(Kind::StringValue(value)) => value.clone(),
            Some(Kind::ListValue(list)) => list.values.len().to_string(),
        };
        // An event that is one value has no better name for it.
        facts.push(if name == "value" { shown } else { format!("{name}={shown}") });
    }
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

#[cfg(test)]
mod tests {
    use prost_types::{ListValue, Value};

    use super::*;

    fn facts(kinds: impl IntoIterator<Item = (&'static str, Kind)>) -> Struct {
        let fields = kinds.into_iter().map(|(name, kind)| (name.to_owned(), Value { kind: Some(kind) }));
        Struct { fields: fields.collect() }
    }

    #[test]
    fn events_say_in_short_what_happened() {
        let text = |text: &str| Kind::StringValue(text.to_owned());
        assert_eq!(show_facts(&facts([("plan", text("silver"))])), "plan=silver");
        assert_eq!(show_facts(&facts([("value", Kind::NumberValue(2.0))])), "2");
        let target = facts([("service", text("s")), ("feature", text("f"))]);
        let disabled = facts([("reason", text("broken")), ("target", Kind::StructValue(target))]);
        assert_eq!(show_facts(&disabled), "feature=f service=s reason=broken");
        let features = ListValue { values: vec![Value::default(); 7] };
        let service = facts([("description", text("long")), ("features", Kind::ListValue(features)), ("id", text("s"))]);
        assert_eq!(show_facts(&service), "features=7 id=s description=long");
        let long = show_facts(&facts([("title", text(&"ä".repeat(100)))]));
        assert!(long.chars().count() == FACTS_LEN_MAX + 1 && long.ends_with("ä…"), "{long}");
    }
}
