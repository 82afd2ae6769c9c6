//! Equal to prost, on good messages, on good ones with bytes changed, and on anything.

use proptest::prelude::*;

use super::*;

/// What prost makes of a check, in our words.
fn check(message: &v1::CheckEntitlementRequest) -> Check<'_> {
    Check { asked: Asked::from(message), consistency: message.consistency.clone().map(Box::new), explain: message.explain }
}

/// More than the messages here have.
const MAX: usize = 100;

/// What prost makes of a list of checks, in our words.
fn checks(messages: &[v1::CheckEntitlementRequest]) -> Checks<'_> {
    Checks { kept: messages.iter().map(check).collect(), count: messages.len() }
}

#[track_caller]
fn agree(bytes: &Bytes) {
    match v1::CheckEntitlementRequest::decode(bytes.clone()) {
        Ok(message) => assert_eq!(Check::read(bytes).unwrap(), check(&message)),
        Err(error) => assert_eq!(Check::read(bytes).unwrap_err(), malformed(&error)),
    }
    match v1::BatchCheckEntitlementRequest::decode(bytes.clone()) {
        Ok(message) => {
            let expected = Batch {
                checks: checks(&message.checks),
                consistency: message.consistency.clone().map(Box::new),
                with_revisions: message.with_revisions,
                with_details: message.with_details,
            };
            assert_eq!(Batch::read(bytes, MAX).unwrap(), expected);
        }
        Err(error) => assert_eq!(Batch::read(bytes, MAX).unwrap_err(), malformed(&error)),
    }
    match v1::StreamCheckEntitlementRequest::decode(bytes.clone()) {
        Ok(message) => {
            let expected = Frame {
                id: message.id,
                checks: checks(&message.checks),
                with_revisions: message.with_revisions,
                with_details: message.with_details,
            };
            assert_eq!(Frame::read(bytes, MAX).unwrap(), expected);
        }
        Err(error) => assert_eq!(Frame::read(bytes, MAX).unwrap_err(), malformed(&error)),
    }
}

prop_compose! {
    fn any_check()(
        tenant_id in "\\PC{0,30}", service in "\\PC{0,9}", feature in "\\PC{0,9}",
        limit in prop::option::of(("[a-z_]{0,9}", any::<i64>(), prop::option::of(any::<i64>()))),
        consistency in prop::option::of(0..4), revision in prop::collection::vec(any::<u8>(), 0..20),
        explain: bool,
    ) -> v1::CheckEntitlementRequest {
        use v1::consistency::Requirement;
        let requirement = |number| match number {
            0 => None,
            1 => Some(Requirement::MinimizeLatency(v1::MinimizeLatency {})),
            2 => Some(Requirement::AtLeast(v1::AtLeast { revision: revision.clone().into() })),
            _ => Some(Requirement::FullyConsistent(v1::FullyConsistent {})),
        };
        v1::CheckEntitlementRequest {
            tenant_id, service, feature,
            limit_check: limit.map(|(name, amount, used)| v1::LimitCheck { name, amount, used }),
            consistency: consistency.map(|number| v1::Consistency { requirement: requirement(number) }),
            explain,
        }
    }
}

proptest! {
    #[test]
    fn good_messages_and_those_with_a_byte_changed(
        checks in prop::collection::vec(any_check(), 0..4), id: u64, flag: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let alone = checks.first().cloned().unwrap_or_default().encode_to_vec();
        let frame = v1::StreamCheckEntitlementRequest { id, checks: checks.clone(), with_revisions: flag, with_details: !flag };
        let consistency = checks.first().and_then(|check| check.consistency.clone());
        let batch = v1::BatchCheckEntitlementRequest { checks, consistency, with_revisions: flag, with_details: !flag };
        // Twice in a row is one message, in which the later value wins and messages grow together.
        let twice = [alone.clone(), frame.encode_to_vec(), alone.clone()].concat();
        for mut bytes in [alone, frame.encode_to_vec(), batch.encode_to_vec(), twice] {
            agree(&Bytes::from(bytes.clone()));
            for (place, byte) in &changes {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = *byte;
                }
            }
            agree(&Bytes::from(bytes));
        }
    }

    /// What nearly all messages are, and the same with a byte changed: a length, a key, or one that is no text.
    #[test]
    fn plain_checks_in_a_row(
        names in prop::collection::vec(("[a-z0-9]{0,40}", "[a-z]{0,40}", "[a-z]{0,40}"), 1..40), id in 0_u64..400, flag: bool,
        change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let check = |(tenant_id, service, feature)| v1::CheckEntitlementRequest { tenant_id, service, feature, ..Default::default() };
        let checks: Vec<_> = names.into_iter().map(check).collect();
        let frame = v1::StreamCheckEntitlementRequest { id, checks: checks.clone(), with_revisions: flag, with_details: false };
        let batch = v1::BatchCheckEntitlementRequest { checks, with_details: flag, ..Default::default() };
        for mut bytes in [frame.encode_to_vec(), batch.encode_to_vec()] {
            agree(&Bytes::from(bytes.clone()));
            if let Some((place, byte)) = &change {
                let place = place.index(bytes.len());
                bytes[place] = *byte;
                agree(&Bytes::from(bytes));
            }
        }
    }

    #[test]
    fn anything(bytes in prop::collection::vec(prop_oneof![0_u8..60, any::<u8>()], 0..60)) {
        agree(&Bytes::from(bytes));
    }
}

/// All of it is text, and no part of it is.
#[test]
fn a_length_that_ends_within_a_character_is_refused() {
    let cut = [&[0x0a, 1][..], "é".as_bytes(), &[0x12, 1, b's']].concat();
    assert!(std::str::from_utf8(&cut).is_ok() && v1::CheckEntitlementRequest::decode(&*cut).is_err());
    agree(&Bytes::from(cut.clone()));
    let good = [0x0a, 1, b't', 0x12, 1, b's'];
    let checks = [&[0x12, 6][..], &good, &[0x12, u8::try_from(cut.len()).unwrap()], &cut, &[0x12, 6], &good].concat();
    agree(&Bytes::from(checks));
}

/// As many checks as a request has bytes for, each of which says nothing; as field `key` of a message.
fn empty_checks(key: u8) -> Vec<u8> {
    [key, 0].repeat(1 << 20)
}

#[test]
fn checks_beyond_the_most_are_counted_and_not_kept() {
    let bytes = Bytes::from(empty_checks(0x0a));
    let batch = Batch::read(&bytes, 10_000).unwrap();
    assert_eq!((batch.checks.count, batch.checks.kept.len()), (1 << 20, 10_000));
    assert!(batch.checks.kept.capacity() <= 20_000, "room for {}", batch.checks.kept.capacity());
    let bytes = Bytes::from([&[0x08, 7][..], &empty_checks(0x12)].concat());
    let frame = Frame::read(&bytes, 1_000).unwrap();
    assert_eq!((frame.id, frame.checks.count, frame.checks.kept.len()), (7, 1 << 20, 1_000));
    assert!(frame.checks.kept.capacity() <= 2_000, "room for {}", frame.checks.kept.capacity());
}

/// Prost would keep them all to say what is wrong with the last byte.
#[test]
fn a_list_that_is_too_long_is_not_read_twice() {
    let said = |failure: Failure| failure.message().to_owned();
    let cut = |key: u8| Bytes::from([empty_checks(key), vec![0xff]].concat());
    let of_batch = said(Batch::read(&cut(0x0a), 10_000).unwrap_err());
    assert!(of_batch.ends_with("not the message of this method, and more than 10000 checks are in them"), "{of_batch}");
    let of_frame = said(Frame::read(&cut(0x12), 1_000).unwrap_err());
    assert!(of_frame.ends_with("not the message of this method, and more than 1000 checks are in them"), "{of_frame}");
}
