//! `cargo xtask up`, `down` and `engines`: a real Cassandra and a real Kafka for a developer, and for the suites. How engines are
//! started is the business of `tessera-engines`.

use std::path::PathBuf;

use anyhow::Context as _;
use tessera_engines::{Cassandra, Kafka, Options, installing, shared, standing};

use crate::workspace;

fn cluster() -> PathBuf {
    workspace::root().join("target/cluster")
}

/// Fetches what the engines need.
pub(crate) fn install() -> anyhow::Result<()> {
    require()?;
    installing::install()
}

/// Starts both and leaves them running.
pub(crate) fn up() -> anyhow::Result<()> {
    require()?;
    let standing = standing::up(&cluster())?;
    let since = if standing.already { "were running already" } else { "are running" };
    println!("Cassandra and Kafka {since}; `cargo xtask down` ends and removes them.");
    println!("Settings of Tessera for them, also in {}:\n\n{}", standing.file.display(), standing.settings);
    Ok(())
}

/// Ends both and removes what they held.
pub(crate) fn down() -> anyhow::Result<()> {
    let ended = standing::down(&cluster())?;
    println!("ended: {}", if ended.is_empty() { "nothing was running".to_owned() } else { ended.join(", ") });
    Ok(())
}

fn require() -> anyhow::Result<()> {
    shared::present().map_err(|missing| anyhow::anyhow!("engines need {missing}; CONTRIBUTING.md says how to get it"))
}

/// The engines of one run of the suites: started before the first step that needs them, ended with this value.
#[derive(Debug, Default)]
pub(crate) struct ForSuites {
    cassandra: Option<Cassandra>,
    kafka: Option<Kafka>,
}

impl ForSuites {
    /// The variables that name the engines to a suite. One that is set already is left to whoever set it; there are none where
    /// engines cannot be had: the suites say what that means.
    pub(crate) fn variables(&mut self) -> anyhow::Result<Vec<(&'static str, String)>> {
        if shared::present().is_err() {
            return Ok(Vec::new());
        }
        let is_unset = |variable| std::env::var_os(variable).is_none();
        let wants_cassandra = self.cassandra.is_none() && is_unset(shared::CASSANDRA_VARIABLE);
        let wants_kafka = self.kafka.is_none() && is_unset(shared::KAFKA_VARIABLE);
        if wants_cassandra || wants_kafka {
            println!("starting the engines that the suites share");
        }
        std::thread::scope(|scope| {
            let starting = wants_cassandra.then(|| scope.spawn(|| Cassandra::throwaway(&Options::default())));
            if wants_kafka {
                self.kafka = Some(Kafka::throwaway(&Options::default())?);
            }
            if let Some(starting) = starting {
                let started = starting.join().ok().context("the thread that starts cassandra ended")?;
                self.cassandra = Some(started?);
            }
            anyhow::Ok(())
        })?;
        let cassandra = self.cassandra.iter().map(|engine| (shared::CASSANDRA_VARIABLE, engine.contact_point().to_string()));
        let kafka = self.kafka.iter().map(|engine| (shared::KAFKA_VARIABLE, engine.bootstrap()));
        Ok(cassandra.chain(kafka).collect())
    }
}
