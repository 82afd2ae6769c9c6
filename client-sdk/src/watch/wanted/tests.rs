//! Whatever is subscribed, unsubscribed, refused and broken: the server ends up with what is wanted and sends the document of
//! whatever was subscribed, and nothing older than what was asked for is taken.

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
    Reopen,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let tenant = || 0u8..5;
    let step = prop_oneof![
        3 => (tenant(), prop::option::of(any::<u8>())).prop_map(|(tenant, revision)| Step::Subscribe(tenant, revision)),
        2 => tenant().prop_map(Step::Unsubscribe),
        5 => Just(Step::Send),
        2 => (tenant(), any::<u8>()).prop_map(|(tenant, revision)| Step::Document(tenant, revision)),
        2 => (tenant(), any::<bool>()).prop_map(|(tenant, transient)| Step::Refuse(tenant, transient)),
        1 => Just(Step::Reopen),
        1 => (0u64..200).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..200)
}

/// The server's side of one stream: what is subscribed there, from which revision.
type Server = BTreeMap<String, Bytes>;

fn name(tenant: u8) -> String {
    format!("t{tenant}")
}

/// Sends the next action, if there is one. `owed` are tenants that were subscribed and whose document has yet to follow.
fn send(wanted: &mut Wanted, server: &mut Server, owed: &mut BTreeSet<String>) -> bool {
    match wanted.next_action() {
        Some(Action::Subscribe(v1::Subscribe { tenant_id, last_revision })) => {
            // Subscribed there already or not: the server sends the document.
            owed.remove(&tenant_id);
            server.insert(tenant_id, last_revision);
        }
        Some(Action::Unsubscribe(v1::Unsubscribe { tenant_id })) => drop(server.remove(&tenant_id)),
        None => return false,
    }
    true
}

proptest! {
    #[test]
    fn the_server_ends_up_with_what_is_wanted(steps in steps()) {
        let mut wanted = Wanted::new(4);
        let (mut server, mut now) = (Server::new(), Instant::now());
        // What the user wants, and the newest revision that is known of each.
        let mut model: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut owed: BTreeSet<String> = BTreeSet::new();
        wanted.opened();
        for step in steps {
            match step {
                Step::Subscribe(tenant, revision) => {
                    let revision = revision.map(|byte| Bytes::copy_from_slice(&[byte]));
                    let fits = model.contains_key(&name(tenant)) || model.len() < 4;
                    prop_assert_eq!(wanted.subscribe(&name(tenant), revision.clone()).is_ok(), fits);
                    if fits {
                        if revision.is_some() || !model.contains_key(&name(tenant)) { owed.insert(name(tenant)); }
                        let last = model.entry(name(tenant)).or_default();
                        if let Some(revision) = revision { *last = revision; }
                    }
                }
                Step::Unsubscribe(tenant) => {
                    owed.remove(&name(tenant));
                    prop_assert_eq!(wanted.unsubscribe(&name(tenant)), model.remove(&name(tenant)).is_some());
                }
                Step::Send => { send(&mut wanted, &mut server, &mut owed); }
                Step::Document(tenant, revision) => {
                    // A server only sends what is subscribed, or was a moment ago.
                    let revision = Bytes::copy_from_slice(&[revision]);
                    let taken = wanted.document(&name(tenant), &revision);
                    prop_assert!(!taken || !wanted.is_outdated());
                    if taken { model.insert(name(tenant), revision); }
                }
                Step::Refuse(tenant, transient) => {
                    if server.remove(&name(tenant)).is_some() && wanted.refused(&name(tenant)).is_some() {
                        if transient {
                            wanted.subscribe_again(&name(tenant), now + Duration::from_millis(100));
                        } else {
                            wanted.unsubscribe(&name(tenant));
                            model.remove(&name(tenant));
                            owed.remove(&name(tenant));
                        }
                    }
                }
                Step::Reopen => { server.clear(); wanted.opened(); }
                Step::Pass(ms) => { now += Duration::from_millis(ms); wanted.pass(now); }
            }
            prop_assert_eq!(wanted.len(), model.len());
        }
        if wanted.is_outdated() { server.clear(); wanted.opened(); }
        wanted.pass(now + Duration::from_secs(1));
        prop_assert_eq!(wanted.next_due(), None);
        while send(&mut wanted, &mut server, &mut owed) {}
        prop_assert!(server.keys().eq(model.keys()), "{:?} {:?}", server, model);
        prop_assert!(owed.is_empty(), "no document follows for {:?}", owed);
        // On a new stream everything resumes from the newest that is known.
        server.clear();
        wanted.opened();
        while send(&mut wanted, &mut server, &mut owed) {}
        prop_assert_eq!(server, model);
    }
}

#[test]
fn a_revision_that_documents_under_way_could_undercut_needs_a_new_stream() {
    let mut wanted = Wanted::new(10);
    wanted.opened();
    wanted.subscribe("acme", None).unwrap();
    assert!(wanted.next_action().is_some());
    wanted.unsubscribe("acme");
    assert!(wanted.next_action().is_some());
    wanted.subscribe("acme", Some(Bytes::from_static(b"newer"))).unwrap();
    assert!(wanted.is_outdated());
    assert_eq!(wanted.next_action(), None);
    assert!(!wanted.document("acme", &Bytes::from_static(b"older")));
    wanted.opened();
    let Some(Action::Subscribe(subscribe)) = wanted.next_action() else { panic!("nothing is subscribed") };
    assert_eq!(&subscribe.last_revision[..], b"newer");
}
