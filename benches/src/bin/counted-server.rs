//! `tessera-server` with an allocator that counts by thread: for every line on standard input it prints, for each thread, how many
//! allocations it has made and of how many bytes. The thread that serves is the one whose counts grow with the calls; what the
//! others do in the meantime depends on how long that takes.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;
use tessera_server::process;

/// The allocator of the server, counting.
struct Counting;

/// Most threads that are told apart; later ones count as the last.
const THREADS_MAX: usize = 64;

/// Allocations and bytes of each thread.
static COUNTS: [(AtomicU64, AtomicU64); THREADS_MAX] = [const { (AtomicU64::new(0), AtomicU64::new(0)) }; THREADS_MAX];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's place, once it has allocated.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

#[expect(unsafe_code, reason = "an allocator that counts cannot be written without; it only forwards")]
// SAFETY: every call goes to mimalloc unchanged; the counters never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

fn count(bytes: usize) {
    // A thread that is ending has no place any more.
    let place = PLACE.try_with(|place| {
        let own = place.get().unwrap_or_else(|| THREADS.fetch_add(1, Ordering::Relaxed).min(THREADS_MAX - 1));
        place.set(Some(own));
        own
    });
    if let Some((count, total)) = COUNTS.get(place.unwrap_or(THREADS_MAX - 1)) {
        count.fetch_add(1, Ordering::Relaxed);
        total.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let teller = || {
        let lines = std::io::stdin().lock().lines();
        for _ in lines.map_while(Result::ok) {
            let counts = COUNTS.iter().map(|(count, bytes)| (count.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed)));
            println!("{}", serde_json::json!(counts.collect::<Vec<_>>()));
        }
    };
    std::thread::spawn(teller);
    process::run(std::env::args_os(), &tessera_benches::stores::BACKENDS)
}
