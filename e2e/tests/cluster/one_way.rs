//! Servers in a network that is cut in one way: one of them does not reach the store, another one does not reach the feed. Either
//! goes on answering, learns what is written in the way that is left, and never says that an old answer is a new one.

use std::time::Duration;

use anyhow::Context as _;
use tessera_e2e::load::reason_of;
use tessera_e2e::proxy::{Proxy, Way};
use tessera_e2e::waiting::eventually;
use tessera_e2e::{Planes, shop};
use tessera_engines::Options;
use tokio::time::Instant;
use tonic::Status;

use crate::two_listeners::TwoListeners;
use crate::{FRESH, Outages, all_answer, names};

/// The server between which and the store the network is bad.
const WITHOUT_STORE: usize = 0;
/// The server between which and the feed it is.
const WITHOUT_FEED: usize = 1;
/// Nobody is told of a cut, be it of what is asked or of the answers; or whoever is asked hears that nothing more comes.
const CUTS: [(Way, Way); 3] = [(Way::Open, Way::Held), (Way::Held, Way::Open), (Way::HalfClosed, Way::Open)];

/// A network, and how a Kafka is to be started behind it.
pub(crate) async fn network_before_kafka() -> anyhow::Result<(Proxy, Options)> {
    let listeners = TwoListeners::choose()?;
    let network = Proxy::to(listeners.second()).await?;
    let options = listeners.options("PLAINTEXT", network.address);
    Ok((network, options))
}

/// As new as the store, or refused since the store is needed for that.
async fn is_refused_without_the_store(planes: &Planes, tenant: &str) -> anyhow::Result<()> {
    match planes.check(tenant, shop::SERVICE, shop::FEATURE).await {
        Ok(answer) => anyhow::bail!("an answer that nobody can know to be as new as the store: {answer:?}"),
        Err(error) => {
            let reason = error.downcast_ref::<Status>().map(reason_of);
            anyhow::ensure!(reason.as_deref() == Some("Unavailable STORE_UNAVAILABLE"), "refused with {reason:?}: {error:#}");
            Ok(())
        }
    }
}

impl Outages {
    /// Servers that do not reach the store, or the feed, have what the store has ten seconds after they do again.
    pub(crate) async fn servers_are_cut_off_in_one_way(&mut self) -> anyhow::Result<Duration> {
        let to_store = Proxy::to(self.cassandra.contact_point()).await?;
        let direct = std::mem::replace(&mut self.cluster.place.cassandra, to_store.address.to_string());
        let begun = self.begins_anew(WITHOUT_STORE).await;
        self.cluster.place.cassandra = direct;
        begun?;
        let direct = std::mem::replace(&mut self.cluster.place.kafka, self.to_kafka.address.to_string());
        let begun = self.begins_anew(WITHOUT_FEED).await;
        self.cluster.place.kafka = direct;
        begun?;
        let mut healed = Duration::ZERO;
        for (round, (there, back)) in CUTS.into_iter().enumerate() {
            let load = self.load(&format!("servers-cut-off-{round}"))?;
            load.goes_on(20).await?;
            for network in [&to_store, &self.to_kafka] {
                network.set(there, back);
            }
            self.servers_go_on(round).await.with_context(|| format!("cut off by {there:?} and {back:?}"))?;
            load.goes_on(20).await?;
            let written = load.stop().await?;
            for network in [&to_store, &self.to_kafka] {
                network.set(Way::Open, Way::Open);
            }
            let over = Instant::now();
            self.ledger.append(written.ledger);
            healed = healed.max(self.heals(over).await?);
            let planes = self.cluster.planes(0, WITHOUT_STORE)?;
            let again = async || planes.check(&self.tenants[0], shop::SERVICE, shop::FEATURE).await;
            let answer = eventually("an answer as new as the store", again).await?;
            anyhow::ensure!(answer.entitled, "{answer:?}");
        }
        for server in [WITHOUT_STORE, WITHOUT_FEED] {
            self.cluster.servers[server].kill()?;
        }
        self.cluster.revive().await?;
        Ok(healed)
    }

    /// Starts a server again with the place as it is now, and waits until it has caught up with store and feed.
    async fn begins_anew(&mut self, number: usize) -> anyhow::Result<()> {
        let server = &mut self.cluster.servers[number];
        server.kill()?;
        server.start(&self.cluster.place).await?;
        eventually("more than a snapshot", async || {
            let from_snapshot = server.process()?.metric_sum("tessera_snapshot_served").await?;
            anyhow::ensure!(from_snapshot < 1.0, "{server} answers from a snapshot");
            Ok(())
        })
        .await
    }

    /// While both are cut off. Each is told of what is written in the other way: one by the feed, the other one by laps and by
    /// reading in the store what somebody demands.
    async fn servers_go_on(&mut self, round: usize) -> anyhow::Result<()> {
        let planes = self.cluster.all_planes()?;
        for tenant in &self.tenants {
            all_answer(&planes, tenant).await?;
        }
        self.news_come_without_the_feed(&format!("made-while-cut-off-{round}"), &planes).await?;
        is_refused_without_the_store(&planes[WITHOUT_STORE], &self.tenants[0]).await?;
        // No heartbeat comes.
        let silence = FRESH + Duration::from_secs(1);
        let without_feed = self.cluster.servers[WITHOUT_FEED].process()?;
        without_feed.metric_reaches("tessera_staleness_seconds", silence.as_secs_f64()).await?;
        if round == 0 {
            names(&self.cluster.servers[WITHOUT_STORE], 200, "the store: ").await?;
            names(&self.cluster.servers[WITHOUT_FEED], 200, "the feed: ").await?;
        }
        for tenant in &self.tenants {
            all_answer(&planes, tenant).await?;
        }
        Ok(())
    }
}
