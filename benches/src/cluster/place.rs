//! A keyspace and a topic, and the settings that name them for ports and for processes.

use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tessera_backends::{ClusterConfig, Config, KafkaConfig, Opening, Purpose, ScyllaConfig};
use tessera_ports::IdSource as _;
use tessera_runtime::clock::{SystemClock, SystemIds};

use super::engines::Engines;
use crate::child::{self, Running};
use crate::stores::Workshop;

/// A keyspace and a topic.
#[derive(Debug, Clone)]
pub struct Place {
    /// `host:port` of the store.
    pub contact_point: String,
    /// `host:port` of the feed.
    pub bootstrap: String,
    /// The keyspace.
    pub keyspace: String,
    /// The topic.
    pub topic: String,
}

/// Which binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `tessera-loader`.
    Loader,
    /// `tessera-server`.
    Server,
}

impl Place {
    /// That keyspace, and a topic of a name that nobody has used before; nothing is made yet.
    pub fn new(engines: &Engines, keyspace: String) -> Self {
        let Engines { contact_point, bootstrap, .. } = engines;
        let topic = format!("bench.{}", SystemIds.unique());
        Self { contact_point: contact_point.clone(), bootstrap: bootstrap.clone(), keyspace, topic }
    }

    /// A keyspace of a name that nobody has used before, too.
    pub fn unique(engines: &Engines) -> Self {
        // A name of a keyspace is short and has no hyphens.
        Self::new(engines, format!("bench_{}", SystemIds.unique().replace('-', "")))
    }

    /// For ports: everything but the names, and that there is one node of each, is at its default.
    pub fn config(&self) -> Config {
        let scylla = ScyllaConfig {
            keyspace: self.keyspace.clone(),
            replication_factor: 1,
            ..ScyllaConfig::new(vec![self.contact_point.clone()])
        };
        let kafka = KafkaConfig { topic: self.topic.clone(), replication_factor: 1, ..KafkaConfig::new([&self.bootstrap]) };
        Config::Cluster(Box::new(ClusterConfig { scylla, kafka }))
    }

    /// Makes keyspace and topic where they are not there yet, as `tessera migrate` does.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        tessera_backends::migrate(&self.config(), &opening(Purpose::Loading), None).await?;
        Ok(())
    }

    /// A bare connection to the store, with nothing but the driver's defaults.
    pub async fn session(&self) -> anyhow::Result<Session> {
        SessionBuilder::new().known_node(&self.contact_point).build().await.context("connect to the store")
    }

    /// Removes the keyspace with everything in it.
    pub async fn drop_keyspace(&self) -> anyhow::Result<()> {
        let statement = format!("DROP KEYSPACE IF EXISTS \"{}\"", self.keyspace);
        self.session().await?.query_unpaged(statement, ()).await.context("drop the keyspace")?;
        Ok(())
    }

    /// A process over this place, which listens on free ports; `name` tells its files from those of the others.
    pub fn process(&self, workshop: &Workshop, role: Role, name: &str) -> anyhow::Result<Running> {
        let Self { contact_point, bootstrap, keyspace, topic } = self;
        let (program, plane, section) = match role {
            Role::Loader => ("tessera-loader", "--control-listen", "[loader]\n"),
            Role::Server => ("tessera-server", "--data-listen", "[server]\nthreads = 1\nsnapshots = false\n"),
        };
        let text = format!(
            "{section}\n[backends]\nkind = \"cluster\"\n\n\
             [backends.scylla]\ncontact_points = [{contact_point:?}]\nkeyspace = {keyspace:?}\nreplication_factor = 1\n\n\
             [backends.kafka]\nbrokers = [{bootstrap:?}]\ntopic = {topic:?}\nreplication_factor = 1\n"
        );
        let settings = workshop.path(&format!("{name}.toml"));
        std::fs::write(&settings, text)?;
        let mut command = Command::new(child::beside(program)?);
        command.arg("--settings").arg(settings).args(["--print-addresses", "--log", "warn"]);
        command.args([plane, "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        Running::start(command, &workshop.path(&format!("{name}.log")))
    }
}

/// With the clock and the ids of this machine.
pub fn opening(purpose: Purpose) -> Opening {
    Opening { purpose, ids: Arc::new(SystemIds), clock: Arc::new(SystemClock) }
}
