//! The scan that never stops: lap after lap over every stream of the store, in a different order each time. It repairs what the
//! feed lost, and compares checksums where the seq is the same. Its work is constant: it costs the same on the day on which
//! everything is lost as on any other.

use std::sync::Arc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_ports::event_store::ScanRange;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::session::Generation;
use super::{Event, Follower, Page, RETRY_PAUSE};
use crate::metric_definitions::Source;

impl Follower {
    /// Begins the next lap of the live session.
    pub(super) fn next_lap(&self, generation: Generation) {
        if !self.config.repair_scan {
            return;
        }
        let (store, metrics) = (Arc::clone(&self.store), self.shared.metrics.clone());
        let pause = Duration::from_millis(self.config.scan_pause_max_ms);
        self.errand(async move {
            // A store without ranges would be asked without end.
            tokio::time::sleep(pause).await;
            let mut ranges = Vec::new();
            for kind in StreamKind::ALL {
                loop {
                    match store.scan_ranges(kind).await {
                        Ok(more) => break ranges.extend(more),
                        Err(error) => {
                            metrics.store_errors.increment(1);
                            debug!(%error, kind = kind.name(), "cannot list ranges");
                            tokio::time::sleep(pause).await;
                        }
                    }
                }
            }
            Event::Lap(generation, ranges)
        });
    }

    pub(super) fn lap_begins(&mut self, generation: Generation, mut ranges: Vec<ScanRange>) {
        shuffle(&mut ranges, &mut self.seed);
        let Some(session) = self.session(generation) else { return };
        session.lap.ranges = ranges.into();
        session.lap.begun = Some(Instant::now());
        session.lap.rows = 0;
        self.next_page(generation);
    }

    /// Reads the next page after a pause that spreads the lap over its time.
    fn next_page(&mut self, generation: Generation) {
        let pause = self.pause(generation);
        let Some(session) = self.session(generation) else { return };
        let Some(range) = session.lap.ranges.pop_front() else {
            let took = session.lap.begun.map(|begun| begun.elapsed()).unwrap_or_default();
            debug!(rows = session.lap.rows, seconds = took.as_secs_f64(), "a lap of the scan is over");
            self.shared.metrics.scan_lap.set(took.as_secs_f64());
            return self.next_lap(generation);
        };
        self.read_lap_page(generation, range, pause);
    }

    fn read_lap_page(&self, generation: Generation, range: ScanRange, pause: Duration) {
        let (store, rows) = (Arc::clone(&self.store), self.config.scan_page_rows);
        self.errand(async move {
            tokio::time::sleep(pause).await;
            let result = store.scan(&range, rows).await;
            Event::LapPage(generation, Page { range, result })
        });
    }

    pub(super) fn lap_page(&mut self, generation: Generation, page: Page) {
        let Some(session) = self.session(generation) else { return };
        let read = match page.result {
            Ok(read) => read,
            Err(error) => {
                // To the end of the queue: a range that fails for long does not hold up the others.
                session.lap.ranges.push_back(page.range);
                self.shared.metrics.store_errors.increment(1);
                warn!(%error, "cannot scan a range, trying again");
                let pause = RETRY_PAUSE.max(Duration::from_millis(self.config.scan_pause_max_ms));
                if let Some(next) = self.session(generation).and_then(|session| session.lap.ranges.pop_front()) {
                    self.read_lap_page(generation, next, pause);
                }
                return;
            }
        };
        let rows = u64::try_from(read.changes.len()).unwrap_or(u64::MAX);
        session.lap.rows = session.lap.rows.saturating_add(rows);
        session.lap.ranges.extend(read.rest);
        self.shared.metrics.scan_rows.increment(rows);
        self.apply(generation, &read.changes, Source::Scan);
        self.next_page(generation);
    }

    /// What is left of the lap's time over what is left of its pages, within the settings.
    fn pause(&mut self, generation: Generation) -> Duration {
        let page_rows = u64::try_from(self.config.scan_page_rows).unwrap_or(u64::MAX).max(1);
        let lap = Duration::from_secs(self.config.scan_lap_s);
        let longest = Duration::from_millis(self.config.scan_pause_max_ms);
        let shortest = Duration::from_secs(1).saturating_mul(u32::try_from(page_rows).unwrap_or(u32::MAX))
            / u32::try_from(self.config.scan_rows_per_second_max.max(1)).unwrap_or(u32::MAX);
        let Some(session) = self.session(generation) else { return longest };
        let digest = session.writer.digest();
        let rows = StreamKind::ALL.into_iter().map(|kind| digest.count(kind)).fold(0_u64, u64::saturating_add);
        let ranges = u64::try_from(session.lap.ranges.len()).unwrap_or(u64::MAX);
        let pages = rows.saturating_sub(session.lap.rows).div_ceil(page_rows).max(ranges).max(1);
        let spent = session.lap.begun.map(|begun| begun.elapsed()).unwrap_or_default();
        let left = lap.saturating_sub(spent) / u32::try_from(pages).unwrap_or(u32::MAX);
        left.min(longest).max(shortest)
    }
}

/// Fisher-Yates with a xorshift: any order will do, as long as servers differ.
fn shuffle<T>(items: &mut [T], seed: &mut u64) {
    for last in (1..items.len()).rev() {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        let among = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
        items.swap(last, usize::try_from(*seed % among).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_changes_the_order() {
        let (mut seed, mut items) = (42, (0..100).collect::<Vec<_>>());
        shuffle(&mut items, &mut seed);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
