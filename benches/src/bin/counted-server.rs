//! `tessera-server` with an allocator that counts: for every line on standard input it prints how many allocations there were so
//! far, and of how many bytes.

use std::alloc::{GlobalAlloc, Layout};
use std::io::BufRead as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use mimalloc::MiMalloc;
use tessera_server::process;

/// The allocator of the server, counting.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

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
    COUNT.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let teller = || {
        let lines = std::io::stdin().lock().lines();
        for _ in lines.map_while(Result::ok) {
            println!("{} {}", COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
        }
    };
    std::thread::spawn(teller);
    process::run(std::env::args_os(), tessera_benches::stores::open)
}
