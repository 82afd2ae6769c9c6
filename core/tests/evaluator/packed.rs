//! Packed rows: what is read is what was packed, beside tables made anew; whatever else is read is no row, and never a panic.

use tessera_core::evaluator::{ROW_FORMAT, Tables, TenantRow};

use crate::random;
use crate::script::given;
use crate::stage::Stage;

const SEEDS: u64 = 300;

/// The newest states, taken in by empty tables in the order in which plans and add-ons arrived in the first place.
fn made_anew(stage: &Stage) -> Tables {
    let mut tables = Tables::empty();
    tables.set_catalog(stage.tables.catalog_seq(), &stage.catalog).unwrap();
    for (id, seq) in stage.tables.plans() {
        tables.set_plan(id, seq, stage.plans.get(id)).unwrap();
    }
    for (id, seq) in stage.tables.add_ons() {
        tables.set_add_on(id, seq, stage.add_ons.get(id)).unwrap();
    }
    tables
}

fn packed(row: &TenantRow) -> Vec<u8> {
    let mut bytes = Vec::new();
    row.pack(&mut bytes);
    bytes
}

#[test]
fn what_is_unpacked_beside_tables_made_anew_is_what_was_packed() {
    for seed in 0..SEEDS {
        let rng = &mut random::source(seed);
        let stage = random::stage(rng);
        let tables = made_anew(&stage);
        for seq in 1..20 {
            let tenant = random::tenant(rng, &stage);
            let row = TenantRow::compile(&stage.tables, seq, &tenant).unwrap();
            let mut bytes = packed(&row);
            bytes.push(0xee);
            let mut rest = &bytes[..];
            assert_eq!(TenantRow::unpack(seq, &mut rest, &tables).as_ref(), Ok(&row), "seed {seed}: {tenant:?}");
            assert_eq!(rest, [0xee], "seed {seed}");
        }
    }
}

#[test]
fn what_is_cut_or_altered_is_another_row_or_none_and_never_a_panic() {
    for seed in 0..SEEDS / 10 {
        let rng = &mut random::source(seed);
        let stage = random::stage(rng);
        let row = TenantRow::compile(&stage.tables, 1, &random::tenant(rng, &stage)).unwrap();
        let bytes = packed(&row);
        for length in 0..bytes.len() {
            assert!(TenantRow::unpack(1, &mut &bytes[..length], &stage.tables).is_err(), "seed {seed}, {length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let mut rest = &altered[..];
            let other = TenantRow::unpack(1, &mut rest, &stage.tables);
            assert_ne!(other.ok().filter(|_| rest.is_empty()).as_ref(), Some(&row), "seed {seed}, bit {bit}");
        }
        // Without the tables nothing is there that a row could name.
        assert!(TenantRow::unpack(1, &mut &bytes[..], &Tables::empty()).is_err());
    }
}

/// Stored files hold these bytes. Whoever changes them, or what a row is compiled from, counts [`ROW_FORMAT`] up.
#[test]
fn the_bytes_of_a_row_are_those_of_its_format() {
    let (stage, tenant) = given(
        "plan gold@1; starts 10; trial 20; cancel 30; then 15 silver@1; add-on seats@1 x2; grant reporting/exports until 20; \
         deny reporting; max users 5 until 20; suspend payment 20; show reporting 7500; pending",
    );
    let row = TenantRow::compile(&stage.tables, 1, &tenant.unwrap()).unwrap();
    let golden: &[u8] = &[
        0x0d, 0x01, 0x01, 0x07, 0x0a, 0x00, 0x14, 0x00, 0x1e, 0x00, 0x01, 0x0f, 0x00, 0x01, 0x03, 0x01, 0x01, 0x07, 0x70, 0x61,
        0x79, 0x6d, 0x65, 0x6e, 0x74, 0x14, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x00, 0x03, 0x77, 0x68, 0x79, 0x00, 0x01, 0x01,
        0x00, 0x01, 0x14, 0x00, 0x03, 0x77, 0x68, 0x79, 0x01, 0x00, 0x06, 0x01, 0x14, 0x00, 0x01, 0x01, 0x03, 0x01, 0x02, 0x01,
        0x00, 0xcc, 0x3a,
    ];
    assert_eq!((ROW_FORMAT, &packed(&row)[..]), (1, golden));
    let (stage, tenant) = given("plan silver");
    let row = TenantRow::compile(&stage.tables, 1, &tenant.unwrap()).unwrap();
    assert_eq!(packed(&row), [0, 3]);
}
