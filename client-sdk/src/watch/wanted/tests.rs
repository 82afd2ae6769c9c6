//! Whatever is subscribed, unsubscribed, refused and broken: the server ends up with what is wanted and sends the document of
//! whatever was subscribed, nothing older than what was asked for is taken, and a refusal ends nothing but what it refuses, however
//! long it was under way.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Subscribe(u8, Option<u8>),
    Unsubscribe(u8),
    Send,
    Document(u8, u8),
    Refuse(u8, bool),
    Deliver,
    Reopen,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tenant = || 0u8..5;
    let step = prop_oneof![
        3 => (tenant(), prop::option::weighted(0.1, any::<u8>())).prop_map(|(tenant, revision)| Step::Subscribe(tenant, revision)),
        2 => tenant().prop_map(Step::Unsubscribe),
        5 => Just(Step::Send),
        2 => (tenant(), any::<u8>()).prop_map(|(tenant, revision)| Step::Document(tenant, revision)),
        2 => (tenant(), any::<bool>()).prop_map(|(tenant, transient)| Step::Refuse(tenant, transient)),
        2 => Just(Step::Deliver),
        1 => Just(Step::Reopen),
        1 => (0u64..1_500).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

/// What a user wants.
#[derive(Debug, Default)]
struct User {
    /// With the newest revision that is known of each.
    tenants: BTreeMap<String, Bytes>,
    /// Those whose document has yet to follow.
    owed: BTreeSet<String>,
    /// How often each was subscribed.
    subscriptions: BTreeMap<String, u32>,
}

/// The server's side of one stream: what is subscribed there, from which revision, and the refusals that are on their way.
#[derive(Debug, Default)]
struct Server {
    tenants: BTreeMap<String, (Bytes, u32)>,
    refusals: VecDeque<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    tenant: String,
    subscription: u32,
    transient: bool,
    at: Instant,
}

fn name(tenant: u8) -> String {
    format!("t{tenant}")
}

/// Sends the next action, if there is one.
fn send(wanted: &mut Wanted, server: &mut Server, user: &mut User, now: Instant) -> bool {
    match wanted.next_action(now) {
        Some(Action::Subscribe(v1::Subscribe { tenant_id, last_revision })) => {
            // Subscribed there already or not: the server sends the document.
            user.owed.remove(&tenant_id);
            let subscription = user.subscriptions[&tenant_id];
            server.tenants.insert(tenant_id, (last_revision, subscription));
        }
        Some(Action::Unsubscribe(v1::Unsubscribe { tenant_id })) => drop(server.tenants.remove(&tenant_id)),
        None => return false,
    }
    true
}

/// The refusals that were sent before `sent_before` arrive.
fn deliver(wanted: &mut Wanted, server: &mut Server, user: &mut User, sent_before: Instant, now: Instant) {
    while server.refusals.front().is_some_and(|refusal| refusal.at < sent_before)
        && let Some(refusal) = server.refusals.pop_front()
    {
        if wanted.refused(&refusal.tenant, refusal.transient).is_none() {
            continue;
        }
        if refusal.transient {
            wanted.subscribe_again(&refusal.tenant, now + Duration::from_millis(100));
        } else if wanted.end(&refusal.tenant) {
            assert_eq!(refusal.subscription, user.subscriptions[&refusal.tenant], "of an earlier subscription: {refusal:?}");
            user.tenants.remove(&refusal.tenant);
            user.owed.remove(&refusal.tenant);
        }
    }
}

proptest! {
    #[test]
    fn the_server_ends_up_with_what_is_wanted(steps in steps()) {
        let mut wanted = Wanted::new(4);
        let (mut server, mut user, mut now) = (Server::default(), User::default(), Instant::now());
        wanted.opened();
        for step in steps {
            match step {
                Step::Subscribe(tenant, revision) => {
                    let revision = revision.map(|byte| Bytes::copy_from_slice(&[byte]));
                    let is_new = !user.tenants.contains_key(&name(tenant));
                    let fits = !is_new || user.tenants.len() < 4;
                    prop_assert_eq!(wanted.subscribe(&name(tenant), revision.clone()).is_ok(), fits);
                    if fits {
                        if is_new { *user.subscriptions.entry(name(tenant)).or_default() += 1; }
                        if revision.is_some() || is_new { user.owed.insert(name(tenant)); }
                        let last = user.tenants.entry(name(tenant)).or_default();
                        if let Some(revision) = revision { *last = revision; }
                    }
                }
                Step::Unsubscribe(tenant) => {
                    user.owed.remove(&name(tenant));
                    prop_assert_eq!(wanted.unsubscribe(&name(tenant)), user.tenants.remove(&name(tenant)).is_some());
                }
                Step::Send if wanted.is_outdated() => { server = Server::default(); wanted.opened(); }
                Step::Send => { send(&mut wanted, &mut server, &mut user, now); }
                Step::Document(tenant, revision) => {
                    // A server only sends what is subscribed, or was a moment ago.
                    let revision = Bytes::copy_from_slice(&[revision]);
                    let taken = wanted.document(&name(tenant), &revision);
                    prop_assert!(!taken || !wanted.is_outdated());
                    if taken { user.tenants.insert(name(tenant), revision); }
                }
                Step::Refuse(tenant, transient) => {
                    if let Some((_, subscription)) = server.tenants.remove(&name(tenant)) {
                        server.refusals.push_back(Refusal { tenant: name(tenant), subscription, transient, at: now });
                    }
                }
                Step::Deliver => deliver(&mut wanted, &mut server, &mut user, now + LEFTOVERS, now),
                Step::Reopen => { server = Server::default(); wanted.opened(); }
                Step::Pass(ms) => {
                    let then = now + Duration::from_millis(ms);
                    deliver(&mut wanted, &mut server, &mut user, then - LEFTOVERS, now);
                    now = then;
                    wanted.pass(now);
                }
            }
            prop_assert_eq!(wanted.len(), user.tenants.len());
        }
        deliver(&mut wanted, &mut server, &mut user, now + LEFTOVERS, now);
        if wanted.is_outdated() { server = Server::default(); wanted.opened(); }
        wanted.pass(now + Duration::from_secs(1));
        prop_assert_eq!(wanted.next_due(), None);
        while send(&mut wanted, &mut server, &mut user, now) {}
        prop_assert!(server.tenants.keys().eq(user.tenants.keys()), "{:?} {:?}", server, user);
        prop_assert!(user.owed.is_empty(), "no document follows for {:?}", user.owed);
        // On a new stream everything resumes from the newest that is known.
        server = Server::default();
        wanted.opened();
        while send(&mut wanted, &mut server, &mut user, now) {}
        let revisions = server.tenants.into_iter().map(|(tenant, (revision, _))| (tenant, revision));
        prop_assert_eq!(revisions.collect::<BTreeMap<_, _>>(), user.tenants);
    }
}

/// Does this to the tenant, and tells the server.
fn tell(wanted: &mut Wanted, now: Instant, change: impl FnOnce(&mut Wanted)) {
    change(wanted);
    assert!(wanted.next_action(now).is_some());
}

#[test]
fn a_refusal_that_may_be_of_an_earlier_subscription_ends_none_and_takes_a_new_stream() {
    let now = Instant::now();
    // How long after it was unsubscribed a tenant is subscribed again, and whether it is known then what a refusal is of.
    for (pause, is_known) in [(Duration::ZERO, false), (LEFTOVERS / 2, false), (LEFTOVERS, true)] {
        let mut wanted = Wanted::new(10);
        wanted.opened();
        tell(&mut wanted, now, |wanted| wanted.subscribe("acme", None).unwrap());
        tell(&mut wanted, now, |wanted| assert!(wanted.unsubscribe("acme")));
        tell(&mut wanted, now + pause, |wanted| wanted.subscribe("acme", None).unwrap());
        assert_eq!(wanted.refused("acme", false), Some(1));
        assert_eq!(wanted.end("acme"), is_known, "{pause:?}");
        assert_eq!((wanted.len(), wanted.is_outdated()), (usize::from(!is_known), !is_known), "{pause:?}");
        if !is_known {
            // On the new stream nothing is in doubt.
            wanted.opened();
            assert!(wanted.next_action(now + pause).is_some());
            assert!(wanted.refused("acme", false).is_some() && wanted.end("acme"));
        }
    }
}

#[test]
fn what_was_not_sent_yet_was_not_refused() {
    let now = Instant::now();
    let mut wanted = Wanted::new(10);
    wanted.opened();
    tell(&mut wanted, now, |wanted| wanted.subscribe("acme", None).unwrap());
    wanted.unsubscribe("acme");
    wanted.subscribe("acme", None).unwrap();
    assert_eq!(wanted.refused("acme", false), None);
    assert!(matches!(wanted.next_action(now), Some(Action::Subscribe(_))));
    assert!(wanted.refused("acme", false).is_some() && wanted.end("acme"), "this one was");
}

#[test]
fn a_revision_that_documents_under_way_could_undercut_needs_a_new_stream() {
    let now = Instant::now();
    let mut wanted = Wanted::new(10);
    wanted.opened();
    wanted.subscribe("acme", None).unwrap();
    assert!(wanted.next_action(now).is_some());
    wanted.unsubscribe("acme");
    assert!(wanted.next_action(now).is_some());
    wanted.subscribe("acme", Some(Bytes::from_static(b"newer"))).unwrap();
    assert!(wanted.is_outdated());
    assert_eq!(wanted.next_action(now), None);
    assert!(!wanted.document("acme", &Bytes::from_static(b"older")));
    wanted.opened();
    let Some(Action::Subscribe(subscribe)) = wanted.next_action(now) else { panic!("nothing is subscribed") };
    assert_eq!(&subscribe.last_revision[..], b"newer");
}

#[test]
fn refusals_are_counted_by_their_kind() {
    let now = Instant::now();
    let mut wanted = Wanted::new(10);
    wanted.opened();
    tell(&mut wanted, now, |wanted| wanted.subscribe("acme", None).unwrap());
    for (lacks_room, count) in [(false, 1), (false, 2), (true, 1), (true, 2), (false, 1)] {
        assert_eq!(wanted.refused("acme", lacks_room), Some(count));
        wanted.subscribe_again("acme", now);
        wanted.pass(now);
        assert!(matches!(wanted.next_action(now), Some(Action::Subscribe(_))));
    }
}
