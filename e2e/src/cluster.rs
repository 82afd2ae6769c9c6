//! Several loaders and servers as processes over one store and one feed: started, killed, suspended, started again.
//!
//! A [`Place`] is a keyspace and a topic of names that nobody else has, and the settings that name them. A [`Member`] is a loader
//! or a server at an address that stays, whichever process answers there.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::Planes;
use crate::binary::{self, Finished};
use crate::planes::Server;
use crate::process::{Running, Start};
use crate::proxy::Proxy;
use crate::waiting::eventually;

/// A call that takes longer has failed; longer than a loader waits itself, so that its own answer arrives.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);

/// How long servers may differ from the store after everything is well again.
pub const HEALED_WITHIN: Duration = Duration::from_secs(10);

/// A keyspace and a topic, and how processes are to use them. Everything may be changed before the next process is started.
#[derive(Debug)]
pub struct Place {
    /// `host:port` of the store.
    pub cassandra: String,
    /// `host:port` of the feed.
    pub kafka: String,
    /// The keyspace.
    pub keyspace: String,
    /// The topic.
    pub topic: String,
    /// The topic of events for others.
    pub events_topic: String,
    /// How many partitions the settings say the topic has.
    pub partitions: u32,
    /// Further lines of the section `backends.scylla`.
    pub scylla: String,
    /// Further lines of the section `backends.kafka`.
    pub feed: String,
    /// Further lines of the section `loader`.
    pub loader: String,
    /// Further lines of the section `server`.
    pub server: String,
    folder: tempfile::TempDir,
}

/// Which binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `tessera-loader`.
    Loader,
    /// `tessera-server`.
    Server,
}

/// A loader or a server. Dropping it kills its process.
#[derive(Debug)]
pub struct Member {
    role: Role,
    number: usize,
    address: Proxy,
    /// How many processes it has had.
    begun: Arc<AtomicU64>,
    running: Option<Running>,
}

/// A place with its members.
#[derive(Debug)]
pub struct Cluster {
    /// Where.
    pub place: Place,
    /// The control planes.
    pub loaders: Vec<Member>,
    /// The data planes.
    pub servers: Vec<Member>,
}

// === impl Place ===

impl Place {
    /// Names that nobody else has; nothing is made yet.
    pub fn new(cassandra: &str, kafka: &str) -> anyhow::Result<Self> {
        let unique = RandomState::new().build_hasher().finish();
        Ok(Self {
            cassandra: cassandra.to_owned(),
            kafka: kafka.to_owned(),
            keyspace: format!("e2e_{unique:x}"),
            topic: format!("e2e-{unique:x}"),
            events_topic: format!("e2e-{unique:x}-events"),
            partitions: 4,
            scylla: "scan_ranges = 4\n".to_owned(),
            feed: "publish_timeout_ms = 2000\n".to_owned(),
            loader: "lease_s = 1\nsweep_interval_ms = 200\ndeadline_default_ms = 5000\n".to_owned(),
            server: "scan_lap_s = 2\nscan_pause_max_ms = 100\nparked_fetch_after_ms = 300\n".to_owned(),
            folder: tempfile::tempdir().context("make a folder for settings")?,
        })
    }

    /// With keyspace and topic.
    pub fn made(cassandra: &str, kafka: &str) -> anyhow::Result<Self> {
        let place = Self::new(cassandra, kafka)?;
        place.migrate(&[])?.success()?;
        Ok(place)
    }

    /// Another keyspace beside this one that has the same topic, as a restore needs it; nothing is made yet.
    pub fn beside(&self) -> anyhow::Result<Self> {
        let Self { topic, events_topic, partitions, scylla, feed, loader, server, .. } = self;
        let (topic, events_topic, partitions) = (topic.clone(), events_topic.clone(), *partitions);
        let (scylla, feed, loader, server) = (scylla.clone(), feed.clone(), loader.clone(), server.clone());
        let new = Self::new(&self.cassandra, &self.kafka)?;
        Ok(Self { topic, events_topic, partitions, scylla, feed, loader, server, ..new })
    }

    /// A file of its own for each process: others may be reading theirs.
    fn settings(&self, process: &str, section: &str, lines: &str) -> anyhow::Result<PathBuf> {
        let Self { cassandra, kafka, keyspace, topic, events_topic, partitions, scylla, feed, .. } = self;
        let backends = format!(
            "[backends]\nkind = \"cluster\"\n\n\
             [backends.scylla]\ncontact_points = [\"{cassandra}\"]\nkeyspace = \"{keyspace}\"\nreplication_factor = 1\n\
             {scylla}\n\
             [backends.kafka]\nbrokers = [\"{kafka}\"]\ntopic = \"{topic}\"\nevents_topic = \"{events_topic}\"\n\
             partitions = {partitions}\nreplication_factor = 1\n{feed}"
        );
        let file = self.folder.path().join(format!("{process}.toml"));
        std::fs::write(&file, format!("[{section}]\n{lines}\n{backends}")).context("write settings")?;
        Ok(file)
    }

    /// `tessera <words> --settings …` of this place.
    pub fn tessera(&self, words: &[&str]) -> anyhow::Result<Finished> {
        let mut command = Command::new(binary::tessera()?);
        command.args(words).arg("--settings").arg(self.command_settings()?);
        binary::run(&mut command)
    }

    /// The settings that commands get.
    pub fn command_settings(&self) -> anyhow::Result<PathBuf> {
        // The sections of processes are not their business.
        self.settings("command", "loader", &self.loader)
    }

    /// `tessera migrate` with further words.
    pub fn migrate(&self, words: &[&str]) -> anyhow::Result<Finished> {
        self.tessera(&[&["migrate"], words].concat())
    }

    /// What `tessera digest` says of the store.
    pub fn digest(&self) -> anyhow::Result<Value> {
        let said = self.tessera(&["digest", "-o", "json"])?.success()?;
        serde_json::from_str(&said).context("the store's digest")
    }

    /// How to start a process of that role; `number` tells servers' folders of snapshots apart.
    pub fn start(&self, role: Role, number: usize) -> anyhow::Result<Start> {
        let (program, plane, section, lines) = match role {
            Role::Loader => (binary::loader()?, "control", "loader", self.loader.clone()),
            Role::Server => {
                let snapshots = self.folder.path().join(format!("snapshots-{number}"));
                let lines = format!("snapshot_dir = \"{}\"\nthreads = 1\n{}", snapshots.display(), self.server);
                (binary::server()?, "data", "server", lines)
            }
        };
        let settings = self.settings(&format!("{section}-{number}"), section, &lines)?;
        let mut command = Command::new(program);
        command.arg("--settings").arg(settings);
        Ok(Start::new(command, &[plane, "http"]))
    }
}

// === impl Member ===

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.role, self.number)
    }
}

impl Member {
    async fn new(role: Role, number: usize) -> anyhow::Result<Self> {
        // Nobody listens on the port for discarding; connections are refused until the first process is there.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        Ok(Self { role, number, address: Proxy::to(nobody).await?, begun: Arc::default(), running: None })
    }

    /// The address that stays.
    pub fn address(&self) -> SocketAddr {
        self.address.address
    }

    /// Starts its process, and waits until that listens.
    pub fn begin(&mut self, place: &Place, fail_point: Option<&str>) -> anyhow::Result<()> {
        self.running = None;
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut start = place.start(self.role, self.number)?;
        if let Some(point) = fail_point {
            start = start.fail_point(point);
        }
        let running = start.listening().with_context(|| format!("start {self}"))?;
        self.address.leads_to(running.address(match self.role {
            Role::Loader => "control",
            Role::Server => "data",
        })?);
        self.running = Some(running);
        Ok(())
    }

    /// Starts its process, and waits until that is ready.
    pub async fn start(&mut self, place: &Place) -> anyhow::Result<()> {
        self.begin(place, None)?;
        self.process()?.is_ready().await.with_context(|| format!("start {self}"))
    }

    /// The process, which must have been started.
    pub fn process(&self) -> anyhow::Result<&Running> {
        self.running.as_ref().with_context(|| format!("{self} is down"))
    }

    /// Whether its process runs.
    pub fn is_up(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.has_ended().is_none())
    }

    /// Kills its process if there is one; by which signal it ended, which is another one if it was dead already.
    pub fn kill(&mut self) -> anyhow::Result<Option<i32>> {
        self.running.take().map_or(Ok(None), Running::kill)
    }

    /// Asks its process to end, and insists on exit code 0 and a log without errors.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.running.take().map_or(Ok(()), Running::stop)
    }

    /// Makes it stand still: its sockets stay open, and nobody answers.
    pub fn suspend(&self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::CONT)
    }

    /// What a server's matrix holds, or, as a loader sees it, the store.
    pub async fn digest(&self) -> anyhow::Result<Value> {
        let path = match self.role {
            Role::Loader => "/digest/store",
            Role::Server => "/digest",
        };
        let page = self.process()?.page(path).await?;
        serde_json::from_str(&page.body).with_context(|| format!("{self}: {}", page.body))
    }
}

// === impl Cluster ===

impl Cluster {
    /// That many of each, all of them ready.
    pub async fn start(place: Place, loaders: usize, servers: usize) -> anyhow::Result<Self> {
        let mut cluster = Self { place, loaders: Vec::new(), servers: Vec::new() };
        for number in 0..loaders {
            cluster.loaders.push(Member::new(Role::Loader, number).await?);
        }
        for number in 0..servers {
            cluster.servers.push(Member::new(Role::Server, number).await?);
        }
        cluster.revive().await?;
        Ok(cluster)
    }

    /// Starts whatever is down, and waits until all are ready.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        for member in self.loaders.iter_mut().chain(&mut self.servers) {
            if !member.is_up() {
                member.begin(&self.place, None)?;
            }
        }
        for member in self.loaders.iter().chain(&self.servers) {
            member.process()?.is_ready().await.with_context(|| format!("wait for {member}"))?;
        }
        Ok(())
    }

    /// Calls to one loader and one server, whichever processes these are.
    pub fn planes(&self, loader: usize, server: usize) -> anyhow::Result<Planes> {
        let server = self.servers.get(server).context("no such server")?;
        let loader = self.loaders.get(loader).context("no such loader")?;
        Planes::to(Server::new(server.address(), Arc::clone(&server.begun)), loader.address(), CALL_TIMEOUT)
    }

    /// Calls to every loader, each with a server.
    pub fn all_planes(&self) -> anyhow::Result<Vec<Planes>> {
        let count = self.loaders.len().max(self.servers.len());
        (0..count).map(|n| self.planes(n % self.loaders.len(), n % self.servers.len())).collect()
    }

    /// Waits until what every server holds is what the store holds, which nobody may change any more: how long after `since` that
    /// was.
    pub async fn settles(&self, since: Instant) -> anyhow::Result<Duration> {
        let store = self.store_digest().await?;
        for server in &self.servers {
            let equal = eventually("the digest of the store", async || {
                let matrix = server.digest().await?;
                anyhow::ensure!(matrix == store, "{server} has {matrix}, the store {store}");
                Ok(())
            });
            equal.await.with_context(|| self.account())?;
        }
        let took = since.elapsed();
        anyhow::ensure!(self.store_digest().await? == store, "the store was written to meanwhile");
        Ok(took)
    }

    /// The digest of the store, by the first loader that reaches it: a driver need not have found a store that was away again.
    async fn store_digest(&self) -> anyhow::Result<Value> {
        let found = eventually("a loader that reads the store", async || {
            let mut why = anyhow::anyhow!("there is no loader");
            for loader in &self.loaders {
                match loader.digest().await {
                    Ok(digest) => return Ok(digest),
                    Err(error) => why = error,
                }
            }
            Err(why)
        });
        found.await.with_context(|| self.account())
    }

    /// As [`Self::heals`], and `tessera digest` says the same of the store.
    pub async fn ends_well(&self) -> anyhow::Result<()> {
        self.heals().await?;
        self.is_as_the_command_line_says().await
    }

    /// Insists that `tessera digest` says of the store what every server holds.
    pub async fn is_as_the_command_line_says(&self) -> anyhow::Result<()> {
        let store = self.place.digest()?;
        for server in &self.servers {
            let matrix = server.digest().await?;
            anyhow::ensure!(matrix == store, "{server} has {matrix}, the command line says {store} of the store");
        }
        Ok(())
    }

    /// As [`Self::settles`] from now on, within [`HEALED_WITHIN`].
    pub async fn heals(&self) -> anyhow::Result<Duration> {
        self.heals_since(Instant::now()).await
    }

    /// As [`Self::settles`], within [`HEALED_WITHIN`] after `over`, when whatever befell the cluster was over and nobody wrote any
    /// more.
    pub async fn heals_since(&self, over: Instant) -> anyhow::Result<Duration> {
        let took = self.settles(over).await?;
        anyhow::ensure!(took <= HEALED_WITHIN, "the servers differed from the store for {took:?}\n{}", self.account());
        Ok(took)
    }

    /// Waits until nobody's newest heartbeat is older than that on any partition.
    pub async fn is_fresh(&self, staleness: Duration) -> anyhow::Result<()> {
        for server in &self.servers {
            eventually("heartbeats", async || {
                let seconds = server.process()?.metric("tessera_staleness_seconds").await?.context("no staleness")?;
                anyhow::ensure!(seconds <= staleness.as_secs_f64(), "{server} has heard nothing for {seconds} s");
                Ok(())
            })
            .await
            .with_context(|| self.account())?;
        }
        Ok(())
    }

    /// The end of everybody's log.
    pub fn account(&self) -> String {
        let members = self.loaders.iter().chain(&self.servers);
        let told = members.map(|member| {
            let lines = member.running.as_ref().map(|running| running.log.all()).unwrap_or_default();
            let end = lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n");
            format!("--- {member}:\n{end}\n")
        });
        told.collect()
    }
}
