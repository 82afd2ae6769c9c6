//! What is stored is read back: every event and state of every aggregate, over random values, and equal values are equal bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tessera_core::aggregate::{Actor, Recorded};
use tessera_core::catalog::Catalog;
use tessera_core::ids::{FeatureId, RequestId, ServiceId};
use tessera_core::plan::{Document, Event, Kind, PlanState, ServiceGrant, VERSIONS_MAX};
use tessera_core::tenant::TenantState;
use tessera_core::testing::{self, Names};
use tessera_core::time::Timestamp;
use tessera_core::value::{Title, Version};
use tessera_proto::storage::{
    EventLink, READER, StorageError, Stored, StoredEvent, decode_event, decode_state, encode_event, encode_state,
};

fn stored<E>(recorded: Recorded<E>, hash: [u8; 32]) -> StoredEvent<E> {
    StoredEvent {
        previous_hash: hash,
        request_id: RequestId::parse("request-1").expect("a good id"),
        command_digest: hash.map(|byte| !byte),
        actor: Actor::parse("an actor", "local").expect("a good actor"),
        recorded,
    }
}

fn check_event<A: Stored>(recorded: Recorded<A::Event>, hash: [u8; 32]) -> Result<(), TestCaseError> {
    let event = stored(recorded, hash);
    let cell = encode_event::<A>(&event);
    let read = decode_event::<A>(&cell).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, &event);
    prop_assert_eq!(&encode_event::<A>(&read), &cell);
    let link = EventLink::decode(&cell).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!((link.seq, link.previous_hash, link.at), (event.recorded.seq, hash, event.recorded.at));
    prop_assert_eq!(link.min_reader, READER);
    Ok(())
}

fn check_state<A: Stored>(state: &A, at: Timestamp) -> Result<(), TestCaseError> {
    let bytes = encode_state(state, at);
    let (read, read_at) = decode_state::<A>(&bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&read, state);
    prop_assert_eq!(read_at, at);
    prop_assert_eq!(encode_state(&read, read_at), bytes);
    Ok(())
}

proptest! {
    #[test]
    fn catalog_events(recorded in testing::recorded(testing::catalog_event(Names::Any)), hash in any::<[u8; 32]>()) {
        check_event::<Catalog>(recorded, hash)?;
    }

    #[test]
    fn plan_events(recorded in testing::recorded(testing::plan_event(Names::Any)), hash in any::<[u8; 32]>()) {
        check_event::<PlanState>(recorded, hash)?;
    }

    #[test]
    fn tenant_events(recorded in testing::recorded(testing::tenant_event(Names::Any)), hash in any::<[u8; 32]>()) {
        check_event::<TenantState>(recorded, hash)?;
    }

    #[test]
    fn catalogs(catalog in testing::catalog(Names::Any), at in testing::timestamp()) {
        check_state(&catalog, at)?;
    }

    #[test]
    fn plans(plan in testing::plan(Names::Any, Kind::Plan, 0), at in testing::timestamp()) {
        check_state(&PlanState(Some(plan)), at)?;
    }

    #[test]
    fn tenants(tenant in testing::tenant(Names::Any), at in testing::timestamp()) {
        check_state(&TenantState(Some(tenant)), at)?;
    }

    #[test]
    fn other_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_event::<TenantState>(&bytes);
        let _ = decode_state::<Catalog>(&bytes);
        let _ = decode_state::<PlanState>(&bytes);
        let _ = EventLink::decode(&bytes);
    }
}

#[test]
fn nothing_is_a_state_too() {
    let at = Timestamp::MIN;
    assert_eq!(decode_state::<TenantState>(&encode_state(&TenantState(None), at)), Ok((TenantState(None), at)));
    assert_eq!(decode_state::<PlanState>(&encode_state(&PlanState(None), at)), Ok((PlanState(None), at)));
    assert_eq!(decode_state::<Catalog>(&encode_state(&Catalog::default(), at)), Ok((Catalog::default(), at)));
}

#[test]
fn another_kind_and_a_newer_reader_are_told_apart() {
    // Field 1 of a state is the reader version it needs.
    let newer = [0x08, 99];
    assert_eq!(decode_state::<TenantState>(&newer), Err(StorageError::ReaderTooOld { needs: 99 }));
    let catalog = Catalog { feature_count: 1, ..Catalog::default() };
    let bytes = encode_state(&catalog, Timestamp::MIN);
    assert_eq!(decode_state::<TenantState>(&bytes), Err(StorageError::OtherKind));
}

#[test]
fn more_versions_than_may_be_published_are_read_and_share_what_did_not_change() {
    let grant = ServiceGrant { features: [FeatureId::parse("exports").expect("a good id")].into(), familiarity: None };
    let services = BTreeMap::from([(ServiceId::parse("reporting").expect("a good id"), Arc::new(grant))]);
    let titled = |n: u32| {
        let title = Title::parse("a title", &format!("title {n}")).expect("a good title");
        Document { title, services: services.clone(), ..Document::default() }
    };
    let versions = (1..=VERSIONS_MAX + 1).flat_map(|n| {
        let version = Version::new(n).expect("a good version");
        [Event::Published { version }, Event::DraftUpdated(titled(n))]
    });
    let state: PlanState = testing::fold([Event::Created(titled(0))].into_iter().chain(versions));
    let bytes = encode_state(&state, Timestamp::MIN);
    let (read, _) = decode_state::<PlanState>(&bytes).expect("a good state");
    assert_eq!(read, state);
    let plan = read.0.expect("a plan");
    assert_eq!(plan.versions.len(), 1_001);
    let first = &plan.versions[0].document.services["reporting"];
    assert!(plan.versions.iter().all(|version| Arc::ptr_eq(&version.document.services["reporting"], first)));
}
