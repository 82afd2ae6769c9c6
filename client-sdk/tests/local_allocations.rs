//! The promise of local mode, counted: a check that memory answers allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use tessera_client::fake::Fake;
use tessera_client::local::Source;

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

/// What `work` returns, and how often this thread allocated for it.
async fn counted<T>(work: impl Future<Output = T>) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work.await;
    (result, ALLOCATIONS.with(Cell::get) - before)
}

#[tokio::test]
async fn a_check_that_memory_answers_allocates_nothing() -> anyhow::Result<()> {
    assert_eq!(counted(async { drop(black_box(Box::new(7))) }).await.1, 1, "the counter counts");
    let fake = Fake::new();
    let tenants: Vec<String> = (0..100).map(|number| format!("tenant-{number}")).collect();
    for tenant in &tenants {
        fake.tenant(tenant).grant("reporting", "exports").limit("max_users", 100);
    }
    let local = fake.client().local().preload(tenants.clone()).start()?;
    local.loaded().await;
    for tenant in &tenants {
        let (answer, count) = counted(async {
            let plain = local.check(tenant, "reporting", "exports").await?;
            let limited = local.check(tenant, "reporting", "exports").limit("max_users", 5).used(98).await?;
            let service = local.check(tenant, "reporting", "").at_hand().is_some();
            black_box((limited.reason(), limited.remaining(), plain.familiarity(), plain.staleness(), service));
            Ok::<_, tessera_client::Error>((plain.source(), plain.is_entitled(), limited.is_entitled()))
        })
        .await;
        assert_eq!(answer?, (Source::Local, true, false), "{tenant}");
        assert_eq!(count, 0, "{tenant}");
    }
    // What goes over the wire does allocate.
    let (answer, count) = counted(async { local.check("nobody", "reporting", "exports").await }).await;
    assert_eq!(answer?.source(), Source::Wire);
    assert!(count > 0);
    Ok(())
}
