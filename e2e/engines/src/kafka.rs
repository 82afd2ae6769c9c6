//! Apache Kafka, one broker that is its own controller (`KRaft`). What it is told stands here; `wire` sees that it is ready.

mod options;
mod wire;

use std::ops::{Deref, DerefMut};
use std::path::Path;

use crate::engine::{self, Engine, Life, Options, Recipe};
use crate::installing::{self, Installed, Package};
use crate::ports;

/// Without the binding of its logging there would be no log at all. What is excluded is named by Kafka, and not published.
pub(crate) const PACKAGE: Package = Package {
    name: "kafka-4.4.0",
    dependencies: "    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>\
                   <version>4.4.0</version>
      <exclusions><exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion></exclusions>
    </dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>",
};

/// Any 16 bytes in base64url; nothing here tells clusters apart by it.
const CLUSTER_ID: &str = "dGVzc2VyYS1lbmdpbmVzMQ";

/// A running Kafka; see [`Engine`] for what can be done to it.
#[derive(Debug)]
pub struct Kafka(Engine);

/// Fetches the jars where they are not there yet.
pub(crate) fn install() -> anyhow::Result<()> {
    installed().map(drop)
}

fn installed() -> anyhow::Result<Installed> {
    installing::package(&PACKAGE, |installed| {
        let temporary = engine::throwaway_folder("kafka")?;
        // Formatted by an ordinary start, so that only the broker makes an archive.
        let start = |archiving: Option<String>| {
            Engine::start(temporary.path(), &Options::default(), Life::Throwaway, |folder, options| {
                recipe(folder, options, installed, archiving.clone())
            })
        };
        start(None)?.kill()?;
        start(Some(installed.archiving()))?.stop()?;
        installed.adopt()
    })
}

impl Kafka {
    /// Starts one with its data in `folder` (made if need be), and waits until it answers. Data of an earlier one is taken over.
    pub fn start(folder: &Path, options: &Options) -> anyhow::Result<Self> {
        Self::start_for(Life::WithStarter, folder, options)
    }

    /// Starts one in a folder that is removed with it, even when this process is killed.
    pub fn throwaway(options: &Options) -> anyhow::Result<Self> {
        let temporary = engine::throwaway_folder("kafka")?;
        let Self(engine) = Self::start_for(Life::Throwaway, temporary.path(), options)?;
        Ok(Self(engine.keep(temporary)))
    }

    /// Where clients connect to, as `host:port`.
    pub fn bootstrap(&self) -> String {
        self.address().to_string()
    }

    pub(crate) fn start_for(life: Life, folder: &Path, options: &Options) -> anyhow::Result<Self> {
        let installed = installed()?;
        Engine::start(folder, options, life, |folder, options| recipe(folder, options, &installed, None)).map(Self)
    }

    pub(crate) fn leave(self) {
        self.0.leave();
    }
}

impl Deref for Kafka {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.0
    }
}

fn recipe(folder: &Path, options: &Options, installed: &Installed, archiving: Option<String>) -> anyhow::Result<Recipe> {
    let broker = options.port.map_or_else(ports::choose, Ok)?;
    let controller = ports::choose()?;
    let mut java = options::java();
    java.extend(installed.class_path());
    java.extend(archiving);
    let properties = folder.join("server.properties").display().to_string();
    let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", &properties].map(str::to_owned);
    Ok(Recipe {
        name: "kafka",
        java,
        prepare: Some((folder.join("data/meta.properties"), format.to_vec())),
        main: vec!["kafka.Kafka".to_owned(), properties],
        files: vec![("server.properties", options::properties(folder, [broker, controller], &options.settings))],
        ports: vec![broker, controller],
        is_ready: wire::answers,
    })
}
