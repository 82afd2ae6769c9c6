//! What is held and for how long, as tables; and the promise about ages, against a model of a server that lags and coalesces.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use tessera_proto::convert::decision::Asked;
use tessera_proto::v1;

use super::super::document::tests::message;
use super::super::tenants::{Demand, Elsewhere, Question, Told};
use super::*;
use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Staleness;

const SECOND: u64 = 1_000_000_000;
const MAX_STALENESS: Duration = Duration::from_secs(10);

fn at(seconds: u64) -> Moment {
    Moment { wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds), steady_ns: seconds * SECOND, missed_ns: 0 }
}

fn keeper(settings: &Settings) -> (Keeper, Arc<Tenants>) {
    let tenants = Arc::new(Tenants::default());
    let (keeper, first) = Keeper::new(Arc::clone(&tenants), settings.clone(), at(0));
    assert_eq!(first, settings.preloaded.iter().map(|tenant| subscribe(tenant)).collect::<Vec<_>>());
    (keeper, tenants)
}

fn settings() -> Settings {
    Settings { max_staleness: MAX_STALENESS, ..Settings::default() }
}

fn ask(tenants: &Tenants, tenant: &str, demand: Demand<'_>, now: Moment) -> Result<Told, Elsewhere> {
    let asked = Asked { tenant_id: tenant, service: "reporting", feature: "exports", limit: None };
    tenants.tell(&Question { asked, demand }, now, MAX_STALENESS)
}

/// What a check of the tenant comes to, in a word.
fn outcome(tenants: &Tenants, tenant: &str, now: Moment) -> &'static str {
    match ask(tenants, tenant, Demand::None, now) {
        Ok(_) => "told",
        Err(Elsewhere::Wanted) => "wanted",
        Err(Elsewhere::NotHeld) => "not held",
        Err(Elsewhere::Outdated(_)) => "outdated",
        Err(Elsewhere::Undecided) => "undecided",
    }
}

fn event(message: v1::TenantEntitlements) -> WatchEvent {
    WatchEvent::Document(Box::new(Entitlements::of_wire(message)))
}

fn document(tenant: &str, revision: &'static [u8]) -> WatchEvent {
    event(v1::TenantEntitlements { revision: Bytes::from_static(revision), ..message(tenant) })
}

fn heartbeat(staleness_ms: Option<i64>) -> WatchEvent {
    WatchEvent::Heartbeat { staleness: Staleness::of_wire(staleness_ms) }
}

fn refused(tenant: &str, retry_in: Option<Duration>) -> WatchEvent {
    let error = Error::Unavailable(Failure::broken("for a test"));
    WatchEvent::Refused { tenant: tenant.to_owned(), error, retry_in }
}

fn connected() -> WatchEvent {
    WatchEvent::Connected { endpoint: String::new(), resumed: false }
}

fn disconnected() -> WatchEvent {
    WatchEvent::Disconnected { error: Error::Unavailable(Failure::broken("for a test")), retry_in: Duration::ZERO }
}

fn subscribe(tenant: &str) -> Action {
    Action::Subscribe(tenant.to_owned())
}

fn unsubscribe(tenant: &str) -> Action {
    Action::Unsubscribe(tenant.to_owned())
}

/// With `acme` held since second 1.
fn holding_acme() -> (Keeper, Arc<Tenants>) {
    let (mut keeper, tenants) = keeper(&settings());
    keeper.happened(&connected(), at(0));
    assert_eq!(outcome(&tenants, "acme", at(0)), "wanted");
    assert_eq!(keeper.wanted("acme", at(0)), [subscribe("acme")]);
    assert_eq!(outcome(&tenants, "acme", at(0)), "not held");
    // Many checks may have asked at once.
    assert_eq!(keeper.wanted("acme", at(0)), []);
    keeper.happened(&document("acme", b"r1"), at(1));
    assert_eq!(outcome(&tenants, "acme", at(1)), "told");
    (keeper, tenants)
}

#[test]
fn an_answer_grows_old_unless_the_stream_goes_on() {
    let (mut keeper, tenants) = holding_acme();
    // 40 ms of lag when the document came.
    assert_eq!(ask(&tenants, "acme", Demand::None, at(10)).unwrap().age, Some(Duration::from_millis(9_040)));
    assert_eq!(outcome(&tenants, "acme", at(11)), "outdated");
    keeper.happened(&heartbeat(Some(2_000)), at(12));
    assert_eq!(ask(&tenants, "acme", Demand::None, at(13)).unwrap().age, Some(Duration::from_secs(3)));
    // One that knows nothing proves nothing.
    keeper.happened(&heartbeat(None), at(19));
    assert_eq!(outcome(&tenants, "acme", at(20)), "told");
    assert_eq!(outcome(&tenants, "acme", at(21)), "outdated");
}

#[test]
fn a_document_without_any_proof_is_not_told_until_there_is_one() {
    let (mut keeper, tenants) = holding_acme();
    assert_eq!(keeper.wanted("globex", at(1)), [subscribe("globex")]);
    keeper.happened(&event(v1::TenantEntitlements { staleness_ms: None, ..message("globex") }), at(1));
    assert!(matches!(ask(&tenants, "globex", Demand::None, at(1)), Err(Elsewhere::Outdated(Told { age: None, .. }))));
    // What came with the other tenant's document proves nothing of this one.
    assert_eq!(outcome(&tenants, "acme", at(1)), "told");
    keeper.happened(&heartbeat(Some(0)), at(2));
    assert_eq!(outcome(&tenants, "globex", at(2)), "told");
}

#[test]
fn an_edge_in_time_ends_a_document_to_the_nanosecond() {
    let (mut keeper, tenants) = holding_acme();
    let until = at(5).wall;
    let valid_until = Some(prost_types::Timestamp::from(until));
    keeper.happened(&event(v1::TenantEntitlements { valid_until, ..message("acme") }), at(2));
    let just_before = Moment { wall: until - Duration::from_nanos(1), ..at(5) };
    assert_eq!(outcome(&tenants, "acme", just_before), "told");
    assert_eq!(outcome(&tenants, "acme", at(5)), "outdated");
    // The watch sends another at that time; who was set to an earlier one by the wall goes over the wire until then.
    assert_eq!(keeper.wanted("acme", at(5)), []);
    keeper.happened(&document("acme", b"r2"), at(6));
    assert_eq!(outcome(&tenants, "acme", at(6)), "told");
}

#[test]
fn demands_are_met_by_exactly_what_is_held() {
    let (_keeper, tenants) = holding_acme();
    let table = [
        (Demand::None, true),
        (Demand::AtLeast(b"r1"), true),
        (Demand::AtLeast(b"r0"), false),
        (Demand::AtLeast(b"r"), false),
        (Demand::AtLeast(b"r11"), false),
        (Demand::AtLeast(b""), false),
        (Demand::Server, false),
    ];
    for (demand, told) in table {
        let answer = ask(&tenants, "acme", demand, at(1));
        assert_eq!(answer.is_ok(), told, "{demand:?}");
        assert!(told || matches!(answer, Err(Elsewhere::Undecided)), "{demand:?}");
    }
}

#[test]
fn a_new_stream_proves_nothing_of_a_tenant_before_it_has_sent_its_document() {
    let (mut keeper, tenants) = holding_acme();
    keeper.happened(&disconnected(), at(2));
    // Nobody listens any more.
    keeper.happened(&document("acme", b"r9"), at(2));
    assert_eq!(ask(&tenants, "acme", Demand::None, at(3)).unwrap().held.document.revision().as_bytes(), b"r1");
    keeper.happened(&connected(), at(4));
    keeper.happened(&heartbeat(Some(0)), at(11));
    assert_eq!(outcome(&tenants, "acme", at(11)), "outdated");
    keeper.happened(&document("acme", b"r2"), at(12));
    let told = ask(&tenants, "acme", Demand::None, at(12)).unwrap();
    assert_eq!((told.held.document.revision().as_bytes(), told.age), (b"r2".as_ref(), Some(Duration::from_millis(40))));
}

#[test]
fn what_the_server_does_not_serve_for_now_grows_old() {
    let (mut keeper, tenants) = holding_acme();
    keeper.happened(&refused("acme", Some(Duration::from_secs(1))), at(2));
    keeper.happened(&heartbeat(Some(0)), at(2));
    assert_eq!(ask(&tenants, "acme", Demand::None, at(4)).unwrap().age, Some(Duration::from_millis(3_040)));
    keeper.happened(&document("acme", b"r2"), at(5));
    keeper.happened(&heartbeat(Some(0)), at(5));
    assert_eq!(ask(&tenants, "acme", Demand::None, at(6)).unwrap().age, Some(Duration::from_secs(1)));
}

#[test]
fn what_the_server_does_not_serve_at_all_is_left_to_the_wire_for_a_time() {
    let again_s = 2 + settings().unknown_for.as_secs();
    // Also when a document of it was held: it is an answer to nothing.
    for tenant in ["acme", "globex"] {
        let (mut keeper, tenants) = holding_acme();
        keeper.wanted(tenant, at(1));
        keeper.happened(&refused(tenant, None), at(2));
        assert_eq!(outcome(&tenants, tenant, at(2)), "not held");
        assert_eq!(keeper.wanted(tenant, at(2)), []);
        assert_eq!(outcome(&tenants, tenant, at(again_s - 1)), "not held");
        assert_eq!(outcome(&tenants, tenant, at(again_s)), "wanted");
        assert_eq!(keeper.wanted(tenant, at(again_s)), [subscribe(tenant)]);
        keeper.happened(&document(tenant, b"r2"), at(again_s));
        assert_eq!(outcome(&tenants, tenant, at(again_s)), "told");
    }
}

#[test]
fn a_document_that_cannot_be_used_is_no_answer() {
    let (mut keeper, tenants) = holding_acme();
    keeper.happened(&event(v1::TenantEntitlements { revision: Bytes::new(), ..message("acme") }), at(2));
    assert_eq!(outcome(&tenants, "acme", at(2)), "not held");
    keeper.happened(&document("acme", b"r2"), at(3));
    assert_eq!(outcome(&tenants, "acme", at(3)), "told");
}

#[test]
fn the_tenants_that_are_asked_about_least_recently_make_room() {
    let (mut keeper, tenants) = keeper(&Settings { tenants_max: 4, preloaded: ["kept".to_owned()].into(), ..settings() });
    keeper.happened(&connected(), at(0));
    for (second, tenant) in [(1, "a"), (2, "b"), (3, "c")] {
        assert_eq!(keeper.wanted(tenant, at(second)), [subscribe(tenant)]);
        keeper.happened(&document(tenant, b"r1"), at(second));
    }
    assert_eq!(outcome(&tenants, "a", at(4)), "told");
    assert_eq!(keeper.wanted("d", at(5)), [unsubscribe("b"), subscribe("d")]);
    assert_eq!(outcome(&tenants, "b", at(5)), "wanted");
    // What comes of it afterwards is nobody's, and it is not subscribed again while that may be.
    assert_eq!(keeper.wanted("b", at(5)), []);
    keeper.happened(&document("b", b"r2"), at(5));
    keeper.happened(&refused("b", None), at(5));
    assert_eq!((outcome(&tenants, "b", at(5)), keeper.len()), ("wanted", 4));
    assert_eq!(keeper.tick(at(6)), []);
    assert_eq!(keeper.wanted("b", at(6)), [unsubscribe("c"), subscribe("b")]);
    assert_eq!(outcome(&tenants, "kept", at(6)), "not held");
}

#[test]
fn when_all_are_to_be_held_there_is_no_room() {
    let (mut keeper, tenants) = keeper(&Settings { tenants_max: 1, preloaded: ["kept".to_owned()].into(), ..settings() });
    assert_eq!(keeper.wanted("other", at(1)), []);
    assert_eq!((outcome(&tenants, "other", at(1)), keeper.len()), ("wanted", 1));
}

#[test]
fn tenants_that_nobody_asks_about_are_given_up_and_preloaded_ones_are_not() {
    let idle_after = Duration::from_mins(1);
    let (mut keeper, tenants) = keeper(&Settings { idle_after, preloaded: ["kept".to_owned()].into(), ..settings() });
    keeper.happened(&connected(), at(0));
    for tenant in ["a", "b"] {
        assert_eq!(keeper.wanted(tenant, at(0)).len(), 1);
        keeper.happened(&document(tenant, b"r1"), at(1));
    }
    assert_eq!(keeper.tick(at(30)), []);
    assert_eq!(outcome(&tenants, "a", at(50)), "outdated");
    assert_eq!(keeper.tick(at(70)), [unsubscribe("b")]);
    assert_eq!(keeper.tick(at(120)), [unsubscribe("a")]);
    assert_eq!(keeper.tick(at(10_000)), []);
    assert_eq!(keeper.len(), 1);
}

#[test]
fn a_preloaded_tenant_that_does_not_exist_yet_is_subscribed_again() {
    let (mut keeper, tenants) = keeper(&Settings { preloaded: ["late".to_owned()].into(), ..settings() });
    keeper.happened(&connected(), at(0));
    keeper.happened(&refused("late", None), at(1));
    let again = at(1 + settings().unknown_for.as_secs());
    assert_eq!(keeper.tick(at(2)), []);
    assert_eq!(keeper.tick(again), [subscribe("late")]);
    keeper.happened(&document("late", b"r1"), again);
    assert_eq!(outcome(&tenants, "late", again), "told");
}

// === ages, against a model ===

const TENANTS: [&str; 3] = ["a", "b", "c"];

/// What happens next, after some milliseconds.
#[derive(Debug, Clone)]
enum Step {
    /// A tenant's state changes in the store.
    Publish(usize),
    /// The server applies all that was published.
    Apply,
    /// The server sends a document that is due.
    SendOne,
    Heartbeat,
    Break,
    /// Another stream, perhaps of a server that lags.
    Connect,
    Ask(usize),
    Tick,
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let step = prop_oneof![
        3 => (0..TENANTS.len()).prop_map(Step::Publish),
        3 => Just(Step::Apply),
        4 => Just(Step::SendOne),
        3 => Just(Step::Heartbeat),
        1 => Just(Step::Break),
        2 => Just(Step::Connect),
        6 => (0..TENANTS.len()).prop_map(Step::Ask),
        1 => Just(Step::Tick),
    ];
    (prop_oneof![3 => 0_u64..50, 1 => 0_u64..4_000], step)
}

/// A store, and the server that the stream comes from.
#[derive(Debug, Default)]
struct Model {
    now_ms: u64,
    /// When each state of each tenant was published: state 0 before the beginning.
    published: [Vec<u64>; TENANTS.len()],
    /// Everything published by then is applied.
    applied_ms: u64,
    /// Documents to send, with until when what was sent before is still up to date.
    due: BTreeMap<usize, u64>,
    /// What the watch watches, with the last state that it saw.
    wanted: BTreeMap<usize, Option<usize>>,
    connected: bool,
}

impl Model {
    fn moment(&self) -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_millis(self.now_ms);
        Moment { wall, steady_ns: self.now_ms * 1_000_000, missed_ns: 0 }
    }

    /// The newest state of a tenant that was published by then.
    fn state_at(&self, tenant: usize, at_ms: u64) -> usize {
        self.published[tenant].iter().filter(|published| **published <= at_ms).count()
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Subscribe(tenant) => {
                    let tenant = number(&tenant);
                    self.wanted.insert(tenant, None);
                    if self.connected {
                        self.due.insert(tenant, self.applied_ms);
                    }
                }
                Action::Unsubscribe(tenant) => {
                    self.wanted.remove(&number(&tenant));
                    self.due.remove(&number(&tenant));
                }
            }
        }
    }

    /// A new stream to a server that has applied less: it waits until it is as far as every subscription demands.
    fn connect(&mut self) {
        self.connected = true;
        self.applied_ms /= 2;
        for (tenant, last) in &self.wanted {
            let reached = last.and_then(|state| self.published[*tenant].get(usize::checked_sub(state, 1)?));
            self.applied_ms = self.applied_ms.max(reached.copied().unwrap_or(0));
        }
        self.due = self.wanted.keys().map(|tenant| (*tenant, self.applied_ms)).collect();
    }
}

fn number(tenant: &str) -> usize {
    TENANTS.iter().position(|name| *name == tenant).unwrap()
}

proptest! {
    #[test]
    fn no_answer_is_older_than_it_says_and_none_goes_back(steps in proptest::collection::vec(step(), 1..150)) {
        let (mut keeper, tenants) = keeper(&Settings { tenants_max: 2, ..settings() });
        let mut model = Model::default();
        let mut last_told = [0_usize; TENANTS.len()];
        for (pause_ms, step) in steps {
            model.now_ms += pause_ms;
            let now = model.moment();
            match step {
                Step::Publish(tenant) => {
                    // After everything that was proved of this instant.
                    model.now_ms += 1;
                    model.published[tenant].push(model.now_ms);
                }
                Step::Apply => {
                    for tenant in 0..TENANTS.len() {
                        let news = model.published[tenant].iter().find(|at| **at > model.applied_ms).copied();
                        if let (true, Some(since)) = (model.connected && model.wanted.contains_key(&tenant), news) {
                            model.due.entry(tenant).or_insert(since - 1);
                        }
                    }
                    model.applied_ms = model.now_ms;
                }
                Step::SendOne => {
                    if let (true, Some((tenant, _))) = (model.connected, model.due.pop_first()) {
                        let state = model.state_at(tenant, model.applied_ms);
                        model.wanted.insert(tenant, Some(state));
                        let message = v1::TenantEntitlements {
                            revision: Bytes::from(vec![u8::try_from(state + 1).unwrap()]),
                            staleness_ms: Some(i64::try_from(model.now_ms - model.applied_ms).unwrap()),
                            ..message(TENANTS[tenant])
                        };
                        keeper.happened(&event(message), now);
                    }
                }
                Step::Heartbeat => {
                    if model.connected {
                        // A server counts what it has yet to send as its own lag.
                        let sent = model.due.values().copied().fold(model.applied_ms, u64::min);
                        keeper.happened(&heartbeat(Some(i64::try_from(model.now_ms - sent).unwrap())), now);
                    }
                }
                Step::Break => {
                    keeper.happened(&disconnected(), now);
                    model.connected = false;
                }
                Step::Connect => {
                    model.connect();
                    keeper.happened(&connected(), now);
                }
                Step::Tick => {
                    let actions = keeper.tick(now);
                    model.perform(actions);
                }
                Step::Ask(tenant) => match ask(&tenants, TENANTS[tenant], Demand::None, now) {
                    Ok(told) => {
                        let age = told.age.unwrap();
                        prop_assert!(age <= MAX_STALENESS);
                        let as_of = i128::from(model.now_ms) - i128::try_from(age.as_millis()).unwrap();
                        let state = usize::from(told.held.document.revision().as_bytes()[0]) - 1;
                        let known = u64::try_from(as_of).map_or(0, |as_of| model.state_at(tenant, as_of));
                        prop_assert!(state >= known, "{} told state {state} and says {age:?}, but {known} was there", TENANTS[tenant]);
                        prop_assert!(state >= last_told[tenant], "{} went back", TENANTS[tenant]);
                        last_told[tenant] = state;
                    }
                    Err(Elsewhere::Wanted) => {
                        // Once it is given up, nothing is remembered to go back behind.
                        let actions = keeper.wanted(TENANTS[tenant], now);
                        for action in &actions {
                            if let Action::Unsubscribe(tenant) = action {
                                last_told[number(tenant)] = 0;
                            }
                        }
                        model.perform(actions);
                    }
                    Err(Elsewhere::NotHeld | Elsewhere::Undecided | Elsewhere::Outdated(_)) => {}
                },
            }
        }
    }
}
