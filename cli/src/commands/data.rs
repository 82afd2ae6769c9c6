//! `migrate`, `digest` and `restore`: the store itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use tessera_backends::{Migrated, Opening, Present, Purpose, Restore, RestorePlan, SchemaVersions, TopicMigration};
use tessera_core::stream::Epoch;
use tessera_runtime::clock::{SystemClock, SystemIds};

use super::store;
use crate::connection::Where;
use crate::console::{Console, facts};
use crate::pages;

/// Which store.
#[derive(Debug, Args)]
pub struct MigrateArguments {
    /// The data directory [default: `backends.data_dir` of the settings, or .tessera]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings that name the store and, in a cluster, the feed: keyspace and topic are made if they are not there [default: the
    /// file that `TESSERA_SETTINGS` names]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    settings: Option<PathBuf>,
    /// The epoch of a keyspace that is made now [default: 1; after a restore the next]
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = clap::value_parser!(u64).range(1..))]
    epoch: Option<Epoch>,
}

/// Of which store.
#[derive(Debug, Args)]
pub struct DigestArguments {
    /// The data directory of a process that is not running [default: the store of the running process is asked for]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings that name the store of a cluster, which is asked itself
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    settings: Option<PathBuf>,
}

/// From which file, into which data directory.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The backup: one file, as `VACUUM INTO` writes it; it is only read
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The data directory of a process that is not running; made if it is not there [default: `backends.data_dir` of the
    /// settings, or .tessera]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings that name the data directory [default: the file that `TESSERA_SETTINGS` names]
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    settings: Option<PathBuf>,
    /// The epoch that begins, greater than the backup's and that of the database in place [default: the next of both]
    #[arg(long, value_name = "N")]
    epoch: Option<Epoch>,
    /// Go ahead without asking; needed where there is no terminal
    #[arg(short, long)]
    yes: bool,
}

/// How the command line opens backends: it moves nowhere.
pub(super) fn opening() -> Opening {
    Opening { purpose: Purpose::Loading, ids: Arc::new(SystemIds), clock: Arc::new(SystemClock) }
}

/// `tessera migrate`.
pub async fn migrate(console: &Console, arguments: MigrateArguments) -> anyhow::Result<()> {
    let MigrateArguments { data, settings, epoch } = arguments;
    let config = store::config(settings.as_deref(), data.as_deref())?;
    if epoch.is_some() && !config.is_shared() {
        bail!(
            "--epoch is of a keyspace that is made now, and this is {}; there `tessera restore` begins epochs",
            store::named(&config)
        );
    }
    let Migrated { identity, schema, topic, events_topic } = tessera_backends::migrate(&config, &opening(), epoch).await?;
    let mut value = serde_json::json!({
        "database": identity.store,
        "epoch": identity.epoch,
        "software": env!("CARGO_PKG_VERSION"),
        "schemaBefore": schema.found,
        "schema": schema.now,
    });
    let mut told = vec![
        ("database", identity.store.clone()),
        ("epoch", identity.epoch.to_string()),
        ("software", env!("CARGO_PKG_VERSION").to_owned()),
        ("schema", schema_in_words(schema)),
    ];
    if let Some(data) = config.data_dir() {
        value["data"] = data.display().to_string().into();
        told.insert(0, ("data", data.display().to_string()));
    }
    for (name, label, topic) in [("topic", "topic", topic), ("eventsTopic", "events topic", events_topic)] {
        if let Some(topic) = topic {
            let said = topic_in_words(&topic);
            value[name] = said.clone().into();
            told.push((label, said));
        }
    }
    console.answer(&value, || facts(&told))
}

fn topic_in_words(topic: &TopicMigration) -> String {
    match topic {
        TopicMigration::Created { partitions, replication_factor } => {
            format!("just made, {partitions} partitions, {replication_factor} copies")
        }
        TopicMigration::Present { differences } if differences.is_empty() => "was there".to_owned(),
        TopicMigration::Present { differences } => format!("was there; {}", differences.join("; ")),
    }
}

fn schema_in_words(SchemaVersions { found, now }: SchemaVersions) -> String {
    match found {
        0 => format!("version {now}, just made"),
        _ if found == now => format!("version {now}, was up to date"),
        _ => format!("version {now}, migrated from version {found}"),
    }
}

/// `tessera restore`.
pub fn restore(console: &Console, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let RestoreArguments { from, data, settings, epoch, yes } = arguments;
    let config = store::config(settings.as_deref(), data.as_deref())?;
    let data = config.data_dir().with_context(|| {
        format!(
            "the settings name {}, and this is for the database of `tessera dev`; a cluster is filled by `tessera import --history`",
            store::named(&config)
        )
    })?;
    let restore = tokio::task::block_in_place(|| Restore::prepare(data, from, *epoch))?;
    let plan = restore.plan().clone();
    console.confirm(*yes, &question(&plan, from, data))?;
    let restored = tokio::task::block_in_place(|| restore.perform(&SystemIds))?;
    let kept = restored.kept.as_ref().map(|path| path.display().to_string());
    let value = serde_json::json!({
        "data": data.display().to_string(),
        "database": restored.identity.store,
        "epoch": restored.identity.epoch,
        "backup": { "file": from.display().to_string(), "epoch": plan.backup.epoch, "streams": plan.streams },
        "replaced": kept,
    });
    console.answer(&value, || {
        facts(&[
            ("data", data.display().to_string()),
            ("database", restored.identity.store.clone()),
            ("epoch", restored.identity.epoch.to_string()),
            ("streams", plan.streams.to_string()),
            ("replaced", kept.map_or_else(|| "nothing".to_owned(), |kept| format!("kept as {kept}"))),
        ])
    })
}

/// What is going to happen, in a sentence that ends in a question.
fn question(plan: &RestorePlan, from: &Path, data: &Path) -> String {
    let RestorePlan { backup, streams, epoch, .. } = plan;
    let replaced = match (&plan.present, &plan.kept_as) {
        (_, None) => "no database is there now".to_owned(),
        (Present::Epoch(epoch), Some(name)) => format!("the database there now (epoch {epoch}) is kept as `{name}`"),
        (_, Some(name)) => format!("what is there now is kept as `{name}`"),
    };
    format!(
        "restore `{}` (epoch {}, {streams} streams) into `{}` as epoch {epoch}; {replaced}?",
        from.display(),
        backup.epoch,
        data.display()
    )
}

/// `tessera digest`.
pub async fn digest(place: &Where, console: &Console, arguments: DigestArguments) -> anyhow::Result<()> {
    let DigestArguments { data, settings } = arguments;
    let digest = if data.is_some() || settings.is_some() {
        let config = store::config(settings.as_deref(), data.as_deref())?;
        let store = tessera_backends::open_store(&config, &opening()).await?;
        tessera_runtime::digest::of_store(&*store).await?
    } else {
        let http = place.addresses()?.http;
        let body = pages::get(&http, "/digest/store", place.timeout()).await?;
        serde_json::from_str(&body).with_context(|| format!("the page at `{http}` has no digest: {body}"))?
    };
    console.answer(&digest, || show(&digest))
}

fn show(digest: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = Vec::new();
    for (name, value) in digest.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(parts) => lines.extend(parts.iter().map(|(part, value)| (format!("{name}: {part}"), text(value)))),
            None => lines.push((name.clone(), text(value))),
        }
    }
    let lines: Vec<(&str, String)> = lines.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    facts(&lines)
}

#[cfg(test)]
mod tests {
    use tessera_ports::event_store::StoreIdentity;

    use super::*;

    #[test]
    fn a_migration_says_from_where_to_where() {
        let said = |found, now| schema_in_words(SchemaVersions { found, now });
        assert_eq!(said(3, 3), "version 3, was up to date");
        assert_eq!(said(1, 3), "version 3, migrated from version 1");
        assert_eq!(said(0, 3), "version 3, just made");
    }

    #[test]
    fn a_restore_says_what_it_is_going_to_do() {
        let plan = |present, kept_as: Option<&str>| RestorePlan {
            backup: StoreIdentity { epoch: 1, store: "b".to_owned() },
            streams: 7,
            present,
            epoch: 3,
            kept_as: kept_as.map(str::to_owned),
        };
        let asked = |plan| question(&plan, Path::new("b.db"), Path::new("data"));
        let begin = "restore `b.db` (epoch 1, 7 streams) into `data` as epoch 3; ";
        assert_eq!(asked(plan(Present::None, None)), format!("{begin}no database is there now?"));
        let kept = "the database there now (epoch 2) is kept as `old.db`?";
        assert_eq!(asked(plan(Present::Epoch(2), Some("old.db"))), format!("{begin}{kept}"));
        let unreadable = Present::Unreadable("noise".to_owned());
        assert_eq!(asked(plan(unreadable, Some("old.db"))), format!("{begin}what is there now is kept as `old.db`?"));
    }
}
