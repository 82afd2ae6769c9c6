//! The promise of the hot path, counted: asking allocates nothing, whatever is asked and however much a tenant has.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use tessera_core::evaluator::{self, TenantRow};

#[path = "evaluator/random.rs"]
mod random;
#[path = "evaluator/stage.rs"]
mod stage;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting by thread.
struct Counting;

#[expect(unsafe_code, reason = "an allocator that counts cannot be written without; it only forwards")]
// SAFETY: every call goes to the system's allocator unchanged; the counter is a plain cell that never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn evaluating_and_reading_a_verdict_never_allocates() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 1, "the counter counts");
    let mut asked = 0;
    for seed in 0..40 {
        let mut rng = random::source(seed);
        let stage = random::stage(&mut rng);
        for _ in 0..20 {
            let tenant = random::tenant(&mut rng, &stage);
            let row = TenantRow::compile(&stage.tables, 1, &tenant).unwrap();
            let target = random::target(&mut rng, &stage.catalog);
            let feature = target.feature.as_ref().map_or("", |feature| feature.as_str());
            let registered = tessera_core::decision::Query { service: target.service.as_str(), feature, limit: None };
            for query in [registered, random::query(&mut rng), random::query(&mut rng), random::query(&mut rng)] {
                let now = random::time(&mut rng);
                let counted = allocations(|| {
                    // A reader copies the row out of the matrix first.
                    let row = black_box(row.clone());
                    let verdict = evaluator::evaluate(&stage.tables, Some(&row), &query, now);
                    black_box((verdict.plan(&stage.tables), verdict.familiarity_basis_points(), verdict.explanation()));
                    black_box(verdict.limit().map(|limit| (limit.name(&stage.tables), limit.remaining())));
                    black_box((verdict.valid_until(), verdict.grace_until(), verdict.entitled(), verdict.reason()));
                    black_box(evaluator::revision_streams(&stage.tables, "acme", Some(&row), now).count());
                    black_box(evaluator::evaluate(&stage.tables, None, &query, now));
                });
                assert_eq!(counted, 0, "seed {seed}: {query:?}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 3_200);
}
