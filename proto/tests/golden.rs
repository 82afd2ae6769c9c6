//! Stored bytes are for ever: every file in `proto/golden/` was written once and must decode to the same value, and that value
//! encode to the same bytes, in every later version.
//!
//! `<kind>/<Variant>.bin` holds the bytes, `.txt` beside it the value in words. To add files for new variants, run this test
//! once with `TESSERA_GOLDEN_ADD=1` and commit what it writes; files that exist are never written again. A file that no longer
//! decodes the same is a change that old databases cannot survive: mend the code, not the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tessera_core::aggregate::Actor;
use tessera_core::catalog::Catalog;
use tessera_core::ids::RequestId;
use tessera_core::plan::{Kind, PlanState};
use tessera_core::tenant::TenantState;
use tessera_core::testing::{self, Names};
use tessera_proto::storage::{Stored, StoredEvent, decode_event, decode_state, encode_event, encode_state};

/// Samples drawn per kind when looking for variants; the rarest come up many times.
const SAMPLES: usize = 3_000;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(kind)
}

/// The name of an enum value's variant.
fn variant(value: &impl Debug) -> String {
    format!("{value:?}").chars().take_while(char::is_ascii_alphanumeric).collect()
}

fn draw<T: Debug>(strategy: &BoxedStrategy<T>) -> impl Iterator<Item = T> + '_ {
    let mut runner = TestRunner::deterministic();
    (0..SAMPLES).map(move |_| strategy.new_tree(&mut runner).expect("a value").current())
}

/// Checks every file of a kind, and that every variant has one.
fn check(kind: &str, wanted: &BTreeMap<String, (Vec<u8>, String)>, read: impl Fn(&[u8]) -> (Vec<u8>, String)) {
    let folder = folder(kind);
    if std::env::var_os("TESSERA_GOLDEN_ADD").is_some() {
        fs::create_dir_all(&folder).expect("create the folder");
        for (name, (bytes, text)) in wanted {
            let file = folder.join(name).with_extension("bin");
            if !file.exists() {
                fs::write(&file, bytes).expect("write bytes");
                fs::write(file.with_extension("txt"), text).expect("write text");
            }
        }
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(&folder).expect("read the folder of golden files") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|extension| extension != "bin") {
            continue;
        }
        let bytes = fs::read(&file).expect("read bytes");
        let (again, text) = read(&bytes);
        assert_eq!(text, fs::read_to_string(file.with_extension("txt")).expect("read text"), "{}", file.display());
        assert_eq!(again, bytes, "{} is encoded differently now", file.display());
        found.insert(file.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    let lacking: Vec<_> = wanted.keys().filter(|name| !found.contains(*name)).collect();
    assert!(lacking.is_empty(), "no golden file of {kind} for {lacking:?}; see the head of this test");
}

fn check_events<A: Stored>(kind: &str, strategy: &BoxedStrategy<A::Event>) {
    let mut wanted = BTreeMap::new();
    let recorded: Vec<_> = draw(&testing::recorded(Just(())).boxed()).take(SAMPLES).collect();
    for (event, recorded) in draw(strategy).zip(recorded) {
        wanted.entry(variant(&event)).or_insert_with(|| {
            let stored = StoredEvent::<A::Event> {
                previous_hash: [7; 32],
                request_id: RequestId::parse("golden").expect("a good id"),
                command_digest: [9; 32],
                actor: Actor::parse("an actor", "local").expect("a good actor"),
                recorded: tessera_core::aggregate::Recorded {
                    seq: recorded.seq,
                    at: recorded.at,
                    references: recorded.references,
                    event,
                },
            };
            (encode_event::<A>(&stored), format!("{stored:#?}\n"))
        });
    }
    check(kind, &wanted, |bytes| {
        let stored = decode_event::<A>(bytes).expect("a golden event decodes");
        (encode_event::<A>(&stored), format!("{stored:#?}\n"))
    });
}

fn check_state<A: Stored>(kind: &str, sample: impl Fn(usize) -> Option<A>) {
    let at = tessera_core::time::Timestamp::from_seconds(1_800_000_000).expect("a good time");
    let mut wanted = BTreeMap::new();
    for (name, position) in [("first", 0), ("second", 1), ("third", 2)] {
        let state = sample(position).expect("a sample");
        wanted.insert(name.to_owned(), (encode_state(&state, at), format!("{:#?}\n", (&state, at))));
    }
    check(kind, &wanted, |bytes| {
        let (state, at) = decode_state::<A>(bytes).expect("a golden state decodes");
        (encode_state(&state, at), format!("{:#?}\n", (&state, at)))
    });
}

/// The largest of many samples first: those use most fields.
fn nth_largest<T: Debug>(strategy: &BoxedStrategy<T>, position: usize) -> Option<T> {
    let mut samples: Vec<_> = draw(strategy).take(200).collect();
    samples.sort_by_key(|sample| std::cmp::Reverse(format!("{sample:?}").len()));
    samples.into_iter().nth(position)
}

#[test]
fn catalog_events() {
    check_events::<Catalog>("catalog-event", &testing::catalog_event(Names::Any));
}

#[test]
fn plan_events() {
    check_events::<PlanState>("plan-event", &testing::plan_event(Names::Any));
}

#[test]
fn tenant_events() {
    check_events::<TenantState>("tenant-event", &testing::tenant_event(Names::Any));
}

#[test]
fn catalogs() {
    check_state::<Catalog>("catalog-state", |position| nth_largest(&testing::catalog(Names::Any), position));
}

#[test]
fn plans() {
    let strategy = testing::plan(Names::Any, Kind::Plan, 1);
    check_state::<PlanState>("plan-state", |position| Some(PlanState(Some(nth_largest(&strategy, position)?))));
}

#[test]
fn tenants() {
    let strategy = testing::tenant(Names::Any);
    check_state::<TenantState>("tenant-state", |position| Some(TenantState(Some(nth_largest(&strategy, position)?))));
}
