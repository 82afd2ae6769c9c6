//! The file: what is loaded is what was written, or nothing; and the folder that it is kept in.

mod files;
mod folders;

use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_core::tenant::{AccessOverride, Effect, Event};
use tessera_ports::clock::ManualClock;

use super::folder::SnapshotFolder;
use super::load::{self, Loaded};
use super::write::{Beginning, Draft, Ending};
use super::*;
use crate::matrix::early::Early;
use crate::matrix::writer::Writer;
use crate::matrix::{Found, Matrix};
use crate::metric_definitions::{Metrics, Source};
use crate::shared::Shared;
use crate::universe::{Universe, latest, pinned, start, target};

const DAY: Duration = Duration::from_hours(24);

fn shared() -> Shared {
    let (wishes, _) = tokio::sync::mpsc::channel(1);
    Shared::new(Arc::new(ManualClock::new(start())), wishes, crate::decision_log::DecisionLog::default())
}

/// A matrix with a bit of everything, and the ids of its tenants.
fn full(tenants: usize) -> (Writer, Vec<String>) {
    let (mut universe, mut changes) = Universe::usual();
    changes.push(universe.publish_add_on("extra", &[("reports", &["export"])], &[("seats", 5)]));
    changes.push(universe.publish("gold", &[("reports", &["view", "export"])], &[("seats", 20)]));
    let mut ids = Vec::new();
    for n in 0..tenants {
        let id = if n % 7 == 0 { format!("{n}-{}", "x".repeat(60)) } else { format!("tenant-{n}") };
        changes.push(match n % 5 {
            0 => universe.create(&id, pinned("gold", 1)),
            1 => universe.settle_nothing(&id),
            _ => universe.create(&id, latest("gold")),
        });
        match n % 5 {
            2 => changes.push(universe.attach(&id, "extra")),
            3 => {
                let access = AccessOverride {
                    effect: Effect::Deny,
                    until: Some(start()),
                    reason: tessera_core::value::Reason::parse("reason", "because").unwrap(),
                };
                let target = target("reports", "view");
                changes.push(universe.tenant_event(&id, Event::AccessOverridden(target, access)));
            }
            4 => changes.push(universe.tenant_event(&id, Event::Deleted)),
            _ => {}
        }
        ids.push(id);
    }
    let orphan = {
        let mut other = universe.clone();
        other.publish("silver", &[], &[]);
        other.create("orphan", latest("silver"))
    };
    let mut unreadable = universe.create("unreadable", latest("gold"));
    unreadable.state = ::bytes::Bytes::from_static(b"not a state");
    changes.extend([orphan, unreadable]);
    let mut writer = Writer::new(Arc::new(Matrix::new(1, "first", 10, Arc::default())), Metrics::new());
    for change in &changes {
        writer.apply(change, Early::decoded(change), Source::Feed);
    }
    writer.finish();
    ids.extend(["orphan", "unreadable", "nobody"].map(str::to_owned));
    (writer, ids)
}

fn standing() -> Standing {
    Standing { at: start(), positions: vec![17, 0, u64::MAX], heartbeats: vec![Some(start()), None, Some(Timestamp::MIN)] }
}

fn write(writer: &Writer, folder: &dyn SnapshotFolder) -> std::io::Result<()> {
    let topic = Topic { id: "topic".to_owned(), partitions: 3 };
    let beginning = Beginning {
        matrix: Arc::clone(writer.matrix()),
        origin: Origin { store: "first".to_owned(), epoch: 1, topic, tenants: 3 },
        standing: Some(standing()),
        parked: writer.parked_changes(),
        bad: writer.bad_streams(),
    };
    let mut draft = Draft::begin(folder, beginning)?;
    while draft.step()? {}
    draft.finish(&Ending { tables: writer.table_changes(), standing: None }).map(|_| ())
}

fn load(folder: &dyn SnapshotFolder) -> (Option<Loaded>, Vec<String>) {
    let mut refusals = Vec::new();
    let loaded = load::newest(folder, &shared(), DAY, |name, refusal| refusals.push(format!("{name} {refusal}")));
    (loaded, refusals)
}

/// Everything that answers are made from, in words.
fn told(writer: &Writer, ids: &[String]) -> Vec<String> {
    let matrix = writer.matrix();
    let tenants = ids.iter().map(|id| match matrix.tenant(id) {
        Found::Row(row) => format!("{id}: {row:?}"),
        other => format!("{id}: {other:?}"),
    });
    let mut told: Vec<String> = tenants.collect();
    told.extend(writer.table_changes().iter().map(|change| format!("{change:?}")));
    let mut parked: Vec<String> = writer.parked_changes().iter().map(|change| format!("{change:?}")).collect();
    parked.sort();
    told.extend(parked);
    told.push(format!("{:?} {} {}", writer.digest(), matrix.epoch(), matrix.store()));
    told
}
