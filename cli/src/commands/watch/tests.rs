//! What a watch does when a subscription or its stream ends. The other side is a script.

use std::cell::RefCell;
use std::collections::VecDeque;

use tessera_proto::status::Failure;
use tokio::time::timeout;

use super::*;
use crate::connection::{Addresses, credentials::Credentials};

/// What one stream says: an answer for every subscription it was asked for, as far as there are some, and then what comes by
/// itself; then it is silent.
#[derive(Default)]
struct Script {
    answers: Vec<Event>,
    after: Vec<(Duration, Event)>,
    ends: bool,
}

/// What came of a watch.
struct Seen {
    ended: anyhow::Result<()>,
    /// Tenant and last revision of every subscription, by stream.
    asked: Vec<Vec<(String, String)>>,
    /// Tenant and revision.
    documents: Vec<(String, String)>,
    notes: Vec<String>,
}

fn document(tenant: &str, revision: &str) -> Event {
    let document =
        v1::TenantEntitlements { tenant_id: tenant.to_owned(), revision: revision.to_owned().into(), ..Default::default() };
    Event::Document(document)
}

fn refusal(tenant: &str, failure: &Failure) -> Event {
    Event::Error(v1::WatchError { tenant_id: tenant.to_owned(), status: Some(failure.to_rpc_status()) })
}

fn unknown(tenant: &str) -> Event {
    let rejection =
        tessera_core::rejection::Rejection::not_found("TENANT_NOT_FOUND", format!("tenant `{tenant}` does not exist"));
    refusal(tenant, &rejection.into())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Script {
    fn play(
        self,
        asked: Asked,
        note: impl Fn(String, String) + 'static,
    ) -> impl Stream<Item = Result<v1::WatchEntitlementsResponse, Status>> + 'static {
        let mut answers = VecDeque::from(self.answers);
        let all = answers.len() + self.after.len();
        let answered = asked.filter_map(move |request| {
            let Some(v1::watch_entitlements_request::Action::Subscribe(subscribe)) = request.action else { panic!() };
            note(subscribe.tenant_id, text(&subscribe.last_revision));
            std::future::ready(answers.pop_front())
        });
        let after = futures::stream::iter(self.after).then(|(pause, event)| async move {
            tokio::time::sleep(pause).await;
            event
        });
        let silence = futures::stream::pending().take(usize::from(!self.ends));
        let events = futures::stream::select(answered, after).take(all).chain(silence);
        Box::pin(events).map(|event| Ok(v1::WatchEntitlementsResponse { event: Some(event) }))
    }
}

async fn watched(tenants: &[&str], count: Option<usize>, scripts: Vec<Script>) -> Seen {
    let addresses = Addresses { data: "127.0.0.1:1".into(), control: "127.0.0.1:2".into(), http: String::new() };
    let planes = Planes::new(addresses, &Credentials::default(), Duration::from_secs(1)).unwrap();
    let asked = std::rc::Rc::new(RefCell::new(Vec::new()));
    let (documents, notes) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let mut scripts = scripts.into_iter();
    let open = async |requests: Asked| {
        let Some(script) = scripts.next() else { return Err(Status::unavailable("nobody is there any more")) };
        let number = asked.borrow().len();
        asked.borrow_mut().push(Vec::new());
        let asked = std::rc::Rc::clone(&asked);
        Ok(script.play(requests, move |tenant, revision| asked.borrow_mut()[number].push((tenant, revision))))
    };
    let say = |said: Said<'_>| {
        match said {
            Said::Document(_, document) => {
                documents.borrow_mut().push((document.tenant_id.clone(), text(&document.revision)));
            }
            Said::Note(text) => notes.borrow_mut().push(text),
        }
        Ok(())
    };
    let mut watch = Watch::new(WatchArguments { tenants: tenants.iter().map(|&tenant| tenant.to_owned()).collect(), count });
    let ended = timeout(Duration::from_hours(1), watch.run(&planes, open, say)).await.expect("the watch never ends");
    Seen { ended, asked: asked.take(), documents: documents.take(), notes: notes.take() }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(a, b)| (a.to_owned(), b.to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_a_server_is_behind_with_is_subscribed_again() {
    let behind = || refusal("acme", &Failure::revision_not_reached());
    let limited = refusal("acme", &Failure::rate_limited("too much", Duration::from_secs(15)));
    let first = Script { answers: vec![document("acme", "r1")], ends: true, ..Script::default() };
    let second = Script { answers: vec![behind(), behind(), limited, document("acme", "r2")], ..Script::default() };
    let begun = Instant::now();
    let seen = watched(&["acme"], Some(2), vec![first, second]).await;
    seen.ended.unwrap();
    assert_eq!(seen.documents, pairs(&[("acme", "r1"), ("acme", "r2")]));
    assert_eq!(seen.asked, [pairs(&[("acme", "")]), pairs(&[("acme", "r1"); 4])]);
    assert!(begun.elapsed() >= Duration::from_secs(15), "not before the server wishes");
    assert_eq!(seen.notes.len(), 2, "said once, and that the stream ended: {:?}", seen.notes);
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_any_tenant_left_ends_with_an_error() {
    for (tenant, named) in [("typo", "typo"), ("a\u{7}b", "a\\u{7}b")] {
        let seen = watched(&[tenant, tenant], Some(1), vec![Script { answers: vec![unknown(named)], ..Script::default() }]).await;
        let error = seen.ended.unwrap_err().to_string();
        assert!(error.contains("no tenant left"), "{error}");
        assert!(seen.notes[0].contains("TENANT_NOT_FOUND"), "{:?}", seen.notes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_unknown_does_not_end_the_watch_of_others() {
    let first = Script { answers: vec![document("acme", "r1"), unknown("typo")], ends: true, ..Script::default() };
    let second = Script { after: vec![(Duration::from_secs(1), document("acme", "r2"))], ..Script::default() };
    let seen = watched(&["acme", "typo"], Some(2), vec![first, second]).await;
    seen.ended.unwrap();
    assert_eq!(seen.asked, [pairs(&[("acme", ""), ("typo", "")]), pairs(&[("acme", "r1")])]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_falls_silent_is_given_up_for_another() {
    let first = Script { answers: vec![document("acme", "r1")], ..Script::default() };
    let second = Script { answers: vec![document("acme", "r2")], ..Script::default() };
    let seen = watched(&["acme"], Some(2), vec![first, second]).await;
    seen.ended.unwrap();
    assert_eq!(seen.documents, pairs(&[("acme", "r1"), ("acme", "r2")]));
    assert!(seen.notes[0].contains("nothing was heard for 20s"), "{:?}", seen.notes);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_enough_for_a_stream_to_stay() {
    let beat = || (Duration::from_secs(15), Event::Heartbeat(v1::Heartbeat::default()));
    let mut after: Vec<(Duration, Event)> = std::iter::repeat_with(beat).take(20).collect();
    after.push((Duration::from_secs(15), document("acme", "r2")));
    let only = Script { answers: vec![document("acme", "r1")], after, ends: false };
    let seen = watched(&["acme"], Some(2), vec![only]).await;
    seen.ended.unwrap();
    assert_eq!((seen.asked.len(), seen.notes.len()), (1, 0), "{:?}", seen.notes);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_was_ever_heard_nobody_is_waited_for() {
    let error = watched(&["acme"], None, Vec::new()).await.ended.unwrap_err().to_string();
    assert!(error.contains("cannot reach the data plane"), "{error}");
    let error = watched(&["acme"], None, vec![Script::default()]).await.ended.unwrap_err().to_string();
    assert!(error.contains("cannot reach the data plane") && error.contains("nothing was heard"), "{error}");
}
