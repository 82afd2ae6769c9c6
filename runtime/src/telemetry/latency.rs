//! Latency histograms of the hot path: buckets of atomics, one set for each of a few groups of threads, added up when the page is
//! asked for. Recording is two additions to memory that threads of other cores rarely write.
//!
//! The recorder behind `metrics` keeps every sample until its next upkeep, which at a million checks a second is more memory than
//! the data; it is for what happens less often.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds; one more has no bound. In steps of 1, 2 and 5 from the time of one decision to
/// that of a caller who has given up.
const BOUNDS_MICROS: [u64; 22] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];
/// Groups of threads; a power of two. More threads than these share.
const GROUPS: usize = 16;

/// A histogram of times. Cheap to share; recording never waits.
#[derive(Debug)]
pub struct Latency {
    groups: [Group; GROUPS],
}

/// What the threads of one group have recorded, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Group {
    /// By bucket, not cumulative.
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    nanos: AtomicU64,
}

/// A histogram on the page.
struct Shown {
    name: &'static str,
    meaning: &'static str,
    label: (&'static str, &'static str),
    latency: Arc<Latency>,
}

/// Every histogram of the process, in order of name and label.
static ALL: Mutex<Vec<Shown>> = Mutex::new(Vec::new());

impl Latency {
    /// The histogram of that name and label value, the same whenever it is asked for. Names end in `_seconds`.
    pub fn of(name: &'static str, meaning: &'static str, label: (&'static str, &'static str)) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.binary_search_by_key(&(name, label), |shown| (shown.name, shown.label));
        match place {
            Ok(found) => all.get(found).map(|shown| Arc::clone(&shown.latency)).unwrap_or_default(),
            Err(place) => {
                let latency = Arc::new(Self::default());
                all.insert(place, Shown { name, meaning, label, latency: Arc::clone(&latency) });
                latency
            }
        }
    }

    /// Counts one time.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|bound| bound * 1_000 < nanos);
        let Some(group) = self.groups.get(own_group()) else { return };
        if let Some(count) = group.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        group.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Counts by bucket, and the sum in nanoseconds.
    fn totals(&self) -> ([u64; BOUNDS_MICROS.len() + 1], u64) {
        let (mut counts, mut nanos) = ([0_u64; BOUNDS_MICROS.len() + 1], 0_u64);
        for group in &self.groups {
            for (total, count) in counts.iter_mut().zip(&group.counts) {
                *total = total.wrapping_add(count.load(Ordering::Relaxed));
            }
            nanos = nanos.wrapping_add(group.nanos.load(Ordering::Relaxed));
        }
        (counts, nanos)
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self { groups: std::array::from_fn(|_| Group::default()) }
    }
}

/// The group of this thread: threads take turns when they record for the first time.
fn own_group() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let taken = NEXT.fetch_add(1, Ordering::Relaxed) % GROUPS;
            own.set(Some(taken));
            taken
        })
    })
}

/// Appends every histogram in Prometheus' text format.
pub(super) fn render(page: &mut String) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut before = "";
    for shown in &*all {
        if before != shown.name {
            let _ = writeln!(page, "# HELP {name} {}\n# TYPE {name} histogram", shown.meaning, name = shown.name);
            before = shown.name;
        }
        shown.render(page);
    }
}

impl Shown {
    fn render(&self, page: &mut String) {
        let (name, (key, value)) = (self.name, self.label);
        let (counts, nanos) = self.latency.totals();
        let mut below = 0_u64;
        for (bound, count) in BOUNDS_MICROS.iter().zip(counts) {
            below = below.wrapping_add(count);
            let _ = writeln!(page, "{name}_bucket{{{key}=\"{value}\",le=\"{}\"}} {below}", seconds(bound * 1_000));
        }
        let all = counts.into_iter().fold(0, u64::wrapping_add);
        let _ = writeln!(page, "{name}_bucket{{{key}=\"{value}\",le=\"+Inf\"}} {all}");
        let _ = writeln!(page, "{name}_sum{{{key}=\"{value}\"}} {}", seconds(nanos));
        let _ = writeln!(page, "{name}_count{{{key}=\"{value}\"}} {all}");
    }
}

#[expect(clippy::cast_precision_loss, reason = "for the page: exact up to 104 days of nanoseconds")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_in_their_buckets_and_shown_cumulatively() {
        let latency = Latency::of("tessera_test_seconds", "a test", ("mode", "one"));
        Latency::of("tessera_test_seconds", "a test", ("mode", "two"));
        for nanos in [0, 1_000, 1_001, 10_000_000_000, 10_000_000_001] {
            latency.record(Duration::from_nanos(nanos));
        }
        std::thread::scope(|scope| {
            for _ in 0..20 {
                let same = Latency::of("tessera_test_seconds", "a test", ("mode", "one"));
                scope.spawn(move || same.record(Duration::from_micros(4)));
            }
        });
        let mut page = String::new();
        render(&mut page);
        let lines: Vec<&str> = page.lines().filter(|line| line.contains("tessera_test_seconds")).collect();
        assert_eq!(lines.iter().filter(|line| line.starts_with('#')).count(), 2, "{page}");
        for line in [
            "tessera_test_seconds_bucket{mode=\"one\",le=\"0.000001\"} 2",
            "tessera_test_seconds_bucket{mode=\"one\",le=\"0.000002\"} 3",
            "tessera_test_seconds_bucket{mode=\"one\",le=\"0.000005\"} 23",
            "tessera_test_seconds_bucket{mode=\"one\",le=\"10\"} 24",
            "tessera_test_seconds_bucket{mode=\"one\",le=\"+Inf\"} 25",
            "tessera_test_seconds_sum{mode=\"one\"} 20.000082002",
            "tessera_test_seconds_count{mode=\"one\"} 25",
            "tessera_test_seconds_count{mode=\"two\"} 0",
        ] {
            assert!(lines.contains(&line), "{line}\n{page}");
        }
    }
}
