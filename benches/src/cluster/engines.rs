//! The engines: those that the environment names, or a pair of our own. The store of our own is kept between runs, as other stores
//! are; the feed is new every time.

use anyhow::Context as _;
use tessera_engines::shared::{CASSANDRA_VARIABLE, KAFKA_VARIABLE};
use tessera_engines::{Cassandra, Kafka, Options};

use crate::stores::Workshop;

/// A running Cassandra and a running Kafka.
#[derive(Debug)]
pub struct Engines {
    /// `host:port` of the store.
    pub contact_point: String,
    /// `host:port` of the feed.
    pub bootstrap: String,
    /// Ours; dropped, they are killed.
    cassandra: Option<Cassandra>,
    kafka: Option<Kafka>,
}

impl Engines {
    /// Starts what the environment does not name. The inner error says what is missing for it here; in CI, which skips nothing, that
    /// is an error.
    pub fn start(workshop: &Workshop) -> anyhow::Result<Result<Self, String>> {
        let named = |variable| std::env::var(variable).ok();
        let (contact_point, bootstrap) = (named(CASSANDRA_VARIABLE), named(KAFKA_VARIABLE));
        if (contact_point.is_none() || bootstrap.is_none())
            && let Err(missing) = tessera_engines::present()
        {
            anyhow::ensure!(!tessera_engines::in_ci(), "no engines for want of {missing}, and CI skips nothing");
            return Ok(Err(missing));
        }
        let (mut cassandra, mut kafka) = (None, None);
        let contact_point = if let Some(named) = contact_point {
            named
        } else {
            let started = Cassandra::start(&workshop.path("cassandra"), &Options::default()).context("start cassandra")?;
            cassandra.insert(started).contact_point().to_string()
        };
        let bootstrap = if let Some(named) = bootstrap {
            named
        } else {
            kafka.insert(Kafka::throwaway(&Options::default()).context("start kafka")?).bootstrap()
        };
        Ok(Ok(Self { contact_point, bootstrap, cassandra, kafka }))
    }

    /// The process of the store; `None` for somebody else's, which may be on another machine.
    pub fn store_process(&self) -> Option<u32> {
        self.cassandra.as_ref().and_then(|engine| engine.pid())
    }

    /// Ends ours, with everything written out that the store holds.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if let Some(kafka) = &mut self.kafka {
            kafka.stop()?;
        }
        self.cassandra.as_mut().map_or(Ok(()), |cassandra| cassandra.stop())
    }
}
