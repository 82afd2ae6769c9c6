//! Apache Cassandra, one node, with 512 MB of heap and the quick compiler only: a third of the memory of its defaults, and
//! nothing slower in short runs. What it is told stands here; `wire` sees that it is ready.

mod options;
mod wire;

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use crate::engine::{self, Engine, Life, Options, Recipe};
use crate::installing::{self, Installed, Package};
use crate::ports;

pub(crate) const PACKAGE: Package = Package {
    name: "cassandra-5.0.9",
    dependencies: "    <dependency><groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>\
                   <version>5.0.9</version></dependency>",
};

/// A running Cassandra; see [`Engine`] for what can be done to it.
#[derive(Debug)]
pub struct Cassandra(Engine);

/// Fetches the jars where they are not there yet.
pub(crate) fn install() -> anyhow::Result<()> {
    installed().map(drop)
}

fn installed() -> anyhow::Result<Installed> {
    installing::package(&PACKAGE, |installed| {
        let temporary = engine::throwaway_folder("cassandra")?;
        let mut engine = Engine::start(temporary.path(), &Options::default(), Life::Throwaway, |folder, options| {
            recipe(folder, options, installed, Some(installed.archiving()))
        })?;
        engine.stop()?;
        installed.adopt()
    })
}

impl Cassandra {
    /// Starts one with its data in `folder` (made if need be), and waits until it answers. Data of an earlier one is taken over.
    pub fn start(folder: &Path, options: &Options) -> anyhow::Result<Self> {
        Self::start_for(Life::WithStarter, folder, options)
    }

    /// Starts one in a folder that is removed with it, even when this process is killed.
    pub fn throwaway(options: &Options) -> anyhow::Result<Self> {
        let temporary = engine::throwaway_folder("cassandra")?;
        let Self(engine) = Self::start_for(Life::Throwaway, temporary.path(), options)?;
        Ok(Self(engine.keep(temporary)))
    }

    /// Where drivers connect to.
    pub fn contact_point(&self) -> SocketAddr {
        self.address()
    }

    pub(crate) fn start_for(life: Life, folder: &Path, options: &Options) -> anyhow::Result<Self> {
        let installed = installed()?;
        Engine::start(folder, options, life, |folder, options| recipe(folder, options, &installed, None)).map(Self)
    }

    pub(crate) fn leave(self) {
        self.0.leave();
    }
}

impl Deref for Cassandra {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0
    }
}

impl DerefMut for Cassandra {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.0
    }
}

fn recipe(folder: &Path, options: &Options, installed: &Installed, archiving: Option<String>) -> anyhow::Result<Recipe> {
    let cql = options.port.map_or_else(ports::choose, Ok)?;
    let (storage, tls_storage, jmx) = (ports::choose()?, ports::choose()?, ports::choose()?);
    let mut java = options::java(folder, jmx);
    java.extend(installed.class_path());
    java.extend(archiving);
    Ok(Recipe {
        name: "cassandra",
        java,
        prepare: None,
        main: vec!["org.apache.cassandra.service.CassandraDaemon".to_owned()],
        files: vec![
            ("cassandra.yaml", options::yaml(folder, [cql, storage, tls_storage], &options.settings)),
            ("logback.xml", options::LOGBACK.to_owned()),
        ],
        ports: vec![cql, storage, tls_storage, jmx],
        is_ready: wire::answers,
    })
}
