//! "Everything committed before T is published": said to a partition after each pass of the sweeper over its shards, at least
//! every second while store and feed answer, by the loader whose share it is in. Servers measure their staleness by it.
//!
//! T is taken before the pass lists its hints: what was committed before T had its hint before T, and so was followed. Which
//! shards stand in a partition depends on how many partitions there are, so that the heartbeat says for how many it was swept.
//! Where the store feeds itself there is nothing to follow, and the heartbeat beats alone.

use std::sync::Arc;

use tessera_ports::change_feed::Heartbeat;
use tessera_ports::hooks::{self, Guard};
use tessera_ports::{ChangePublisher, Clock, EventStore, Shard};
use tokio::time::Instant;

use crate::config::Config;
use crate::metric_definitions as metrics;
use crate::share::{Leaving, Share};
use crate::sweeper::{Interrupted, Sweeper};

/// Sweeps and beats.
#[derive(Debug)]
pub struct Pulse {
    store: Arc<dyn EventStore>,
    feed: Arc<dyn ChangePublisher>,
    clock: Arc<dyn Clock>,
    /// `None` where the store feeds itself.
    sweeping: Option<(Share, Sweeper)>,
    config: Arc<Config>,
}

impl Pulse {
    /// A pulse over those ports.
    pub fn new(
        store: Arc<dyn EventStore>,
        feed: Arc<dyn ChangePublisher>,
        clock: Arc<dyn Clock>,
        sweeping: Option<(Share, Sweeper)>,
        config: Arc<Config>,
    ) -> Self {
        Self { store, feed, clock, sweeping, config }
    }

    /// What gives this loader's lease back, if it has one.
    pub fn leaving(&self) -> Option<Leaving> {
        self.sweeping.as_ref().map(|(share, _)| share.leaving())
    }

    /// One pass over this loader's share, and a heartbeat to each of its partitions if it followed every hint.
    pub async fn beat(&mut self) -> Result<(), Interrupted> {
        let at = self.clock.now();
        let identity = self.store.identity().await?;
        let count = self.feed.partitions().await?;
        let partitions = if let Some((share, sweeper)) = &mut self.sweeping {
            let ours = share.partitions(count).await?;
            let shards: Vec<Shard> = Shard::all().filter(|shard| ours.contains(&shard.partition(count))).collect();
            sweeper.pass(identity.epoch, &shards, at).await?;
            if hooks::holds(Guard::HeartbeatOfWhatWasSwept) { ours } else { (0..count).collect() }
        } else {
            (0..count).collect()
        };
        let at = if hooks::holds(Guard::HeartbeatFromBeforeSweep) { at } else { self.clock.now() };
        let heartbeat = Heartbeat { epoch: identity.epoch, store: identity.store, at, partitions: count };
        self.feed.beat(&partitions, &heartbeat).await?;
        metrics::heartbeat_sent();
        Ok(())
    }

    /// Beats for ever.
    pub async fn run(mut self) {
        let mut failing = false;
        loop {
            let begun = Instant::now();
            match self.beat().await {
                Ok(()) => failing = false,
                Err(reason) => {
                    metrics::heartbeat_missed();
                    // Said once per outage; the metric and the servers' staleness tell the rest.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%reason, "no heartbeat: not everything is known to be published");
                    }
                }
            }
            tokio::time::sleep_until(begun + self.config.sweep_interval()).await;
        }
    }
}
