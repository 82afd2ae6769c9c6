//! What is loaded is what was written; whatever else there is in a file is refused by name.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::super::bytes::{BLOCK_LEN_MAX, End, Head, Kind, MAGIC, Whole, preamble};
use super::super::memory::MemoryFolder;
use super::*;

fn memory() -> MemoryFolder {
    MemoryFolder::new(Duration::ZERO)
}

/// A small snapshot, and what is in it.
static SMALL: LazyLock<(Vec<u8>, Vec<String>, Vec<String>)> = LazyLock::new(|| {
    let ((writer, ids), folder) = (full(12), memory());
    write(&writer, &folder).unwrap();
    (folder.files().remove(0), told(&writer, &ids), ids)
});

/// Another one of the same kind.
static OTHER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let ((writer, _), folder) = (full(17), memory());
    write(&writer, &folder).unwrap();
    folder.files().remove(0)
});

fn load_file(file: Vec<u8>) -> (Option<Loaded>, Vec<String>) {
    let folder = memory();
    folder.put(file);
    load(&folder)
}

#[test]
fn what_is_loaded_is_what_was_written() {
    for tenants in [0, 1, 12, 3_000] {
        let ((writer, ids), folder) = (full(tenants), memory());
        write(&writer, &folder).unwrap();
        let (loaded, refusals) = load(&folder);
        let loaded = loaded.unwrap_or_else(|| panic!("{refusals:?}"));
        assert_eq!(told(&loaded.writer, &ids), told(&writer, &ids));
        assert_eq!((loaded.standing, loaded.origin.topic.id.as_str()), (standing(), "topic"));
        assert_eq!(loaded.writer.matrix().digest(), writer.matrix().digest());
    }
}

/// One thing that goes wrong with a file.
fn corruption() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let length = SMALL.0.len();
    let flip = (0..length * 8).prop_map(|bit| {
        let mut file = SMALL.0.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        ("a flipped bit", file)
    });
    let cut = (0..length).prop_map(|length| ("cut", SMALL.0[..length].to_vec()));
    let appended = prop::collection::vec(any::<u8>(), 1..40).prop_map(|more| ("longer", [&SMALL.0[..], &more].concat()));
    let zeroed = (0..length, 1..600_usize).prop_map(|(from, count)| {
        let mut file = SMALL.0.clone();
        let until = (from + count).min(file.len());
        file[from..until].fill(0);
        ("zeroed", file)
    });
    let from_another =
        (0..length, 0..OTHER.len()).prop_map(|(keep, from)| ("the end of another", [&SMALL.0[..keep], &OTHER[from..]].concat()));
    let taken_out = (0..length, 1..600_usize).prop_map(|(from, count)| {
        let until = (from + count).min(SMALL.0.len());
        ("a piece taken out", [&SMALL.0[..from], &SMALL.0[until..]].concat())
    });
    let overwritten = (0..length, prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(from, bytes)| {
        let mut file = SMALL.0.clone();
        for (to, byte) in file.iter_mut().skip(from).zip(bytes) {
            *to = byte;
        }
        ("overwritten", file)
    });
    prop_oneof![flip, cut, appended, zeroed, from_another, taken_out, overwritten]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Refused, or equal to what was written: never anything else, and never a panic.
    #[test]
    fn no_single_corruption_makes_another_matrix((how, file) in corruption()) {
        let unharmed = file == SMALL.0 || file == *OTHER;
        let (loaded, refusals) = load_file(file);
        if let Some(loaded) = loaded {
            prop_assert!(unharmed, "{how} and loaded");
            let ours = told(&loaded.writer, &SMALL.2) == SMALL.1;
            prop_assert!(ours || loaded.writer.digest().count(StreamKind::Tenant) == 17);
        } else {
            prop_assert_eq!(refusals.len(), 1, "{}", how);
        }
    }

    /// Not even where checksums were made to fit, which no accident does.
    #[test]
    fn bytes_with_right_checksums_are_no_panic(payloads in prop::collection::vec((1..7_u8, prop::collection::vec(any::<u8>(), 0..80)), 0..8)) {
        let mut file = preamble().to_vec();
        let mut whole = Whole::new();
        let mut put = |kind, number, payload: &[u8], whole: &mut Whole| {
            let head = Head::of(kind, number, payload).unwrap();
            whole.take_in(head);
            file.extend_from_slice(&head.encode());
            file.extend_from_slice(payload);
        };
        let topic = Topic { id: "topic".to_owned(), partitions: 3 };
        let origin = Origin { store: "first".to_owned(), epoch: 1, topic, tenants: u64::MAX };
        put(Kind::Origin, 0, &origin.encode(&software()), &mut whole);
        put(Kind::Standing, 1, &standing().encode(), &mut whole);
        let mut number = 2;
        for (kind, payload) in &payloads {
            let kind = [Kind::Parked, Kind::Bad, Kind::Rows, Kind::Tables][usize::from(kind % 4)];
            put(kind, number, payload, &mut whole);
            number += 1;
        }
        let end = End { whole: whole.checksum(), rows: 0, digest: 0 };
        put(Kind::End, number, &end.encode(), &mut whole);
        let (loaded, refusals) = load_file(file);
        prop_assert_eq!(usize::from(loaded.is_none()), refusals.len());
    }
}

#[test]
fn every_bit_counts() {
    for bit in 0..SMALL.0.len() * 8 {
        let mut file = SMALL.0.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(load_file(file).0.is_none(), "bit {bit} of {}", SMALL.0.len() * 8);
    }
}

#[test]
fn blocks_cannot_change_places() {
    // Two blocks of the same kind and length, in a file that is large enough to have some.
    let ((writer, _), folder) = (full(60), memory());
    write(&writer, &folder).unwrap();
    let file = folder.files().remove(0);
    let mut places = Vec::new();
    let mut at = preamble().len();
    while let Some(head) = file[at..].first_chunk().copied().and_then(Head::decode) {
        let until = at + 13 + usize::try_from(head.length).unwrap();
        if head.kind == Kind::Rows {
            places.push(at..until);
        }
        at = until;
        if at == file.len() {
            break;
        }
    }
    assert!(places.len() >= 2, "{places:?}");
    let (one, other) = (places[0].clone(), places[1].clone());
    let other_end = other.end;
    let swapped = [&file[..one.start], &file[other], &file[one], &file[other_end..]].concat();
    assert_eq!(swapped.len(), file.len());
    let (loaded, refusals) = load_file(swapped);
    assert!(loaded.is_none() && refusals[0].contains("is damaged"), "{refusals:?}");
}

#[test]
fn refusals_say_what_is_wrong_and_what_was_expected() {
    let file = &SMALL.0;
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        let (loaded, refusals) = load_file(file);
        assert!(loaded.is_none());
        refusals.join("\n")
    };
    assert_eq!(with(&|file| file[0] = b'S'), "generation 1 is not a snapshot of a matrix");
    assert_eq!(with(&|file| file[8] = 2), "generation 1 has format `2`; this software reads 1");
    let half = file.len() / 2;
    assert_eq!(with(&|file| file.truncate(half)), format!("generation 1 ends at byte {half}, before its end mark"));
    assert_eq!(with(&|file| file.truncate(3)), "generation 1 ends at byte 3, before its end mark");
    assert_eq!(with(&|file| file.push(0)), format!("generation 1 goes on after its end mark at byte {}", file.len()));
    assert!(with(&|file| file[half] ^= 1).starts_with("generation 1 is damaged: "));
    assert!(load_file(Vec::new()).1[0].contains("ends at byte 0"));
}

#[test]
fn another_version_of_the_software_is_told_by_name() {
    let origin = Origin { store: "s".to_owned(), epoch: 1, topic: Topic { id: "t".to_owned(), partitions: 0 }, tenants: 0 };
    let standing = Standing { at: start(), positions: Vec::new(), heartbeats: Vec::new() };
    let mut file = preamble().to_vec();
    let mut whole = Whole::new();
    for (number, (kind, payload)) in (0..).zip([(Kind::Origin, origin.encode("9.9.9/7")), (Kind::Standing, standing.encode())]) {
        let head = Head::of(kind, number, &payload).unwrap();
        whole.take_in(head);
        file.extend([&head.encode()[..], &payload].concat());
    }
    let end = End { whole: whole.checksum(), rows: 0, digest: 0 }.encode();
    file.extend([&Head::of(Kind::End, 2, &end).unwrap().encode()[..], &end].concat());
    let (loaded, refusals) = load_file(file);
    assert!(loaded.is_none());
    assert!(refusals[0].contains("was written by version `9.9.9/7`; this is "), "{refusals:?}");
}

/// Whoever changes these bytes counts the format up.
#[test]
fn the_bytes_of_format_1_are_these() {
    assert_eq!((FORMAT, MAGIC), (1, *b"TESSMTRX"));
    let head = Head::of(Kind::Bad, 3, b"abc").unwrap();
    assert_eq!(head.encode(), [4, 3, 0, 0, 0, 248, 78, 166, 238, 239, 39, 45, 238]);
    assert_eq!(Head::decode(head.encode()), Some(head));
    assert_eq!(Head::of(Kind::Rows, 0, &vec![0; BLOCK_LEN_MAX as usize + 1]), None);
    let topic = Topic { id: "t".to_owned(), partitions: 3 };
    let origin = Origin { store: "s".to_owned(), epoch: 300, topic, tenants: 7 };
    assert_eq!(origin.encode("1/1"), b"\x031/1\x01s\xac\x02\x01t\x03\x07");
    assert_eq!(Origin::decode(&origin.encode("1/1")), Some(("1/1".to_owned(), origin)));
    let standing = Standing {
        at: Timestamp::new(5, 300).unwrap(),
        positions: vec![1, 200],
        heartbeats: vec![None, Some(Timestamp::new(4, 0).unwrap())],
    };
    assert_eq!(standing.encode(), [5, 0xac, 2, 2, 1, 0, 0xc8, 1, 1, 4, 0]);
    assert_eq!(Standing::decode(&standing.encode()), Some(standing));
    let end = End { whole: 1, rows: 2, digest: 3 };
    assert_eq!(end.encode(), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(End::decode(&end.encode()), Some(end));
}
