//! `plan` and `add-on`: the same commands for both.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use tessera_core::ids::{AddOnId, PlanId};
use tessera_core::plan::Document as OfferDocument;

use super::Change;
use crate::connection::Planes;
use crate::console::{Console, facts, table};
use crate::document::Document;
use crate::offers::{self, Changed, Offer, OfferKind};
use crate::{difference, values};

/// What of a plan or add-on.
#[derive(Debug, Subcommand)]
pub enum OfferCommand {
    /// List them
    List {
        /// Archived ones too
        #[arg(long)]
        archived: bool,
    },
    /// Show one as it stands: its draft and its versions
    Show {
        /// Its id; with `@3` that version
        #[arg(value_parser = values::choice)]
        id: values::Choice,
    },
    /// Show what differs between two versions, or between a version and the draft
    Diff {
        /// Its id
        id: String,
        /// The older version; 0 is nothing [default: the newest published one]
        #[arg(long, value_name = "VERSION")]
        from: Option<i32>,
        /// The newer version; 0 is the draft [default: the draft]
        #[arg(long, value_name = "VERSION")]
        to: Option<i32>,
    },
    /// Publish the draft as the next version
    Publish(One),
    /// Take no new tenants; those that have it keep it
    Archive(One),
}

/// One of them, to be changed.
#[derive(Debug, Args)]
pub struct One {
    /// Its id
    id: String,
    #[command(flatten)]
    change: Change,
}

/// `tessera plan` and `tessera add-on`.
pub async fn run(planes: &Planes, console: &Console, kind: OfferKind, command: OfferCommand) -> anyhow::Result<()> {
    match command {
        OfferCommand::List { archived } => {
            let listed = offers::list(planes, kind, archived).await?;
            console.answer(&listed.json, || list_table(kind, &listed.items))?;
            console.note_unreadable(kind.name(), listed.unreadable);
            Ok(())
        }
        OfferCommand::Show { id } if id.version > 0 => {
            let (version, json) = offers::version(planes, kind, &id.id, id.version).await?;
            console.answer(&json, || {
                let head = facts(&[
                    ("version", version.version.to_string()),
                    ("published", values::show_time(version.published.as_ref())),
                ]);
                format!("{head}\n{}", yaml(kind, &id.id, &version.document))
            })
        }
        OfferCommand::Show { id } => {
            let (offer, json) = found(planes, kind, &id.id).await?;
            let versions = offers::versions(planes, kind, &id.id).await?;
            console.answer(&json, || show(kind, &offer, &versions.items))
        }
        OfferCommand::Diff { id, from, to } => diff(planes, console, kind, &id, from, to).await,
        OfferCommand::Publish(One { id, change }) => {
            let (offer, _) = found(planes, kind, &id).await?;
            let next = offer.latest + 1;
            console.confirm(change.yes, &format!("publish the draft of {} `{id}` as version {next}?", kind.name()))?;
            let command = change.command_id(planes);
            // With a request id of the caller's own this may be a replay, whose etag was an earlier one.
            let etag = if change.request_id.is_some() { "" } else { &offer.etag };
            let changed = offers::publish(planes, kind, &id, etag, &command).await?;
            answer(console, kind, &changed)
        }
        OfferCommand::Archive(One { id, change }) => {
            let question = format!("archive {} `{id}`? it will take no new tenants, those on it keep it;", kind.name());
            console.confirm(change.yes, &question)?;
            let changed = offers::archive(planes, kind, &id, &change.command_id(planes)).await?;
            answer(console, kind, &changed)
        }
    }
}

async fn found(planes: &Planes, kind: OfferKind, id: &str) -> anyhow::Result<(Offer, serde_json::Value)> {
    offers::get(planes, kind, id).await?.with_context(|| format!("there is no {} `{id}`", kind.name()))
}

fn answer(console: &Console, kind: OfferKind, changed: &Changed) -> anyhow::Result<()> {
    console.answer(&changed.json, || list_table(kind, std::slice::from_ref(&changed.offer)))
}

fn list_table(kind: OfferKind, offers: &[Offer]) -> String {
    let head = match kind {
        OfferKind::Plan => "PLAN",
        OfferKind::AddOn => "ADD-ON",
    };
    let rows = offers.iter().map(|offer| {
        let version = if offer.latest == 0 { "draft only".to_owned() } else { offer.latest.to_string() };
        let draft = values::mark(offer.latest > 0 && offer.draft_differs, "draft differs");
        let state = [values::mark(offer.archived, "archived"), draft];
        let state: Vec<String> = state.into_iter().filter(|word| !word.is_empty()).collect();
        let updated = values::show_time(offer.updated.as_ref());
        [offer.id.clone(), offer.draft.title.to_string(), version, state.join(", "), updated]
    });
    table([head, "TITLE", "VERSION", "STATE", "UPDATED"], rows)
}

fn show(kind: OfferKind, offer: &Offer, versions: &[offers::OfferVersion]) -> String {
    let rows = versions.iter().map(|v| [v.version.to_string(), values::show_time(v.published.as_ref())]);
    let what = if offer.draft_differs { "draft (differs from the newest version)" } else { "draft" };
    let list = list_table(kind, std::slice::from_ref(offer));
    let versions = table(["VERSION", "PUBLISHED"], rows);
    format!("{list}\n{versions}\n# {what}\n{}", yaml(kind, &offer.id, &offer.draft))
}

/// A plan or add-on as its document.
pub fn document(kind: OfferKind, id: &str, document: &OfferDocument) -> anyhow::Result<Document> {
    Ok(match kind {
        OfferKind::Plan => Document::Plan(PlanId::parse(id)?, document.clone()),
        OfferKind::AddOn => Document::AddOn(AddOnId::parse(id)?, document.clone()),
    })
}

fn yaml(kind: OfferKind, id: &str, offer: &OfferDocument) -> String {
    document(kind, id, offer).map(|document| document.to_yaml()).unwrap_or_default()
}

async fn diff(
    planes: &Planes,
    console: &Console,
    kind: OfferKind,
    id: &str,
    from: Option<i32>,
    to: Option<i32>,
) -> anyhow::Result<()> {
    let (offer, _) = found(planes, kind, id).await?;
    let from = from.unwrap_or(offer.latest);
    let to = to.unwrap_or(0);
    let json = offers::diff(planes, kind, id, from, to).await?;
    // Version 0 is nothing on the older side, and the draft on the newer one.
    let side = async |version: i32, none: OfferDocument| -> anyhow::Result<OfferDocument> {
        if version == 0 { Ok(none) } else { Ok(offers::version(planes, kind, id, version).await?.0.document) }
    };
    let (old, new) = (side(from, OfferDocument::default()).await?, side(to, offer.draft).await?);
    console.answer(&json, || {
        if old == new {
            return "no difference\n".to_owned();
        }
        difference::show(&yaml(kind, id, &old), &yaml(kind, id, &new), console.colours())
    })
}
