//! A Cassandra and a Kafka that stand until they are told to go, for a developer: their data, logs and numbers are in one
//! folder, beside the settings with which Tessera uses them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal};

use crate::engine::Life;
use crate::{Cassandra, Engine, Kafka, Options, ports, waiting};

/// Where drivers look for them if nobody says otherwise.
const CASSANDRA_PORT: u16 = 9042;
const KAFKA_PORT: u16 = 9092;

const NAMES: [&str; 2] = ["cassandra", "kafka"];
const SETTINGS: &str = "tessera.toml";

/// How long the kernel may take to end a process that was killed.
const DEATH: Duration = Duration::from_secs(30);

/// What [`up`] found or did.
#[derive(Debug)]
pub struct Standing {
    /// Whether they were running before.
    pub already: bool,
    /// The settings of Tessera for them, as TOML.
    pub settings: String,
    /// The file that holds these settings.
    pub file: PathBuf,
}

/// Starts both with everything they own in `folder`, and returns when both are ready. Nothing is done where both run already;
/// an error where one does. Data of earlier ones is taken over.
pub fn up(folder: &Path) -> anyhow::Result<Standing> {
    let folder = std::path::absolute(folder).context("make the folder's path absolute")?;
    let file = folder.join(SETTINGS);
    let running = NAMES.map(|name| running(&folder.join(name)).is_some());
    match running {
        [true, true] => {
            let settings =
                std::fs::read_to_string(&file).context("both are starting, or were left so; `cargo xtask down` ends both")?;
            return Ok(Standing { already: true, settings, file });
        }
        [false, false] => {}
        [cassandra, _] => {
            let (up, gone) = if cassandra { ("cassandra", "kafka") } else { ("kafka", "cassandra") };
            bail!("{up} is running, but {gone} is not; `cargo xtask down` ends and removes both");
        }
    }
    // Fetched one after the other; started at the same time.
    crate::installing::install()?;
    let options =
        |port| -> anyhow::Result<Options> { Ok(Options { port: Some(ports::choose_preferably(port)?), ..Options::default() }) };
    let (for_cassandra, for_kafka) = (options(CASSANDRA_PORT)?, options(KAFKA_PORT)?);
    let (cassandra, kafka) = std::thread::scope(|scope| {
        let cassandra = scope.spawn(|| Cassandra::start_for(Life::OnItsOwn, &folder.join("cassandra"), &for_cassandra));
        let kafka = Kafka::start_for(Life::OnItsOwn, &folder.join("kafka"), &for_kafka);
        (cassandra.join(), kafka)
    });
    let cassandra = cassandra.map_err(|_| anyhow::anyhow!("the thread that starts cassandra ended"))??;
    let kafka = kafka?;
    let settings = settings(cassandra.contact_point(), Engine::address(&kafka));
    std::fs::write(&file, &settings).with_context(|| format!("write `{}`", file.display()))?;
    cassandra.leave();
    kafka.leave();
    Ok(Standing { already: false, settings, file })
}

/// Ends both, if they run, and removes the folder with everything in it. Says which were running.
pub fn down(folder: &Path) -> anyhow::Result<Vec<&'static str>> {
    let folder = std::path::absolute(folder).context("make the folder's path absolute")?;
    let mut ended = Vec::new();
    for name in NAMES {
        let own = folder.join(name);
        if let Some(pid) = running(&own) {
            // Its data goes with it: there is nothing to be written out.
            rustix::process::kill_process(pid, Signal::KILL).with_context(|| format!("kill {name}"))?;
            let gone = waiting::until(DEATH, || running(&own).is_none().then_some(()));
            gone.with_context(|| format!("{name} has not ended within {DEATH:?}"))?;
            ended.push(name);
        }
    }
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove `{}`", folder.display()))
        }
        _ => Ok(ended),
    }
}

/// The process that a folder's file `pid` names, if it is still the engine of this folder: numbers are given again, so its
/// command line has to name the folder. That of an ended process is empty.
fn running(folder: &Path) -> Option<Pid> {
    let number: i32 = std::fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()?;
    let command_line = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let arguments = format!("@{}/", folder.display());
    let is_ours = command_line.split(|byte| *byte == 0).any(|word| word.starts_with(arguments.as_bytes()));
    if is_ours { Pid::from_raw(number) } else { None }
}

/// The settings of Tessera for these engines; there is one of each, and so one copy of everything.
fn settings(cassandra: SocketAddr, kafka: SocketAddr) -> String {
    format!(
        "[backends]
kind = \"cluster\"

[backends.scylla]
contact_points = [\"{cassandra}\"]
replication_factor = 1

[backends.kafka]
brokers = [\"{kafka}\"]
replication_factor = 1
"
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process with `@<folder>/…` among its words, as an engine has.
    fn stand_in(folder: &Path) -> Child {
        let word = format!("@{}/java.arguments", folder.display());
        Command::new("tail").args(["-f", "/dev/null", &word]).stderr(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_number_counts_only_for_a_process_of_that_folder() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("kafka");
        std::fs::create_dir(&ours).unwrap();
        assert_eq!(running(&ours), None, "there is no file");
        let mut child = stand_in(&ours);
        std::fs::write(ours.join("pid"), format!("{}\n", child.id())).unwrap();
        waiting::until(Duration::from_mins(1), || running(&ours)).expect("it runs");
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("pid"), format!("{}\n", child.id())).unwrap();
        assert_eq!(running(&other), None, "the number is that of somebody else");
        child.kill().unwrap();
        waiting::until(Duration::from_mins(1), || running(&ours).is_none().then_some(())).expect("it ended, though unreaped");
        child.wait().unwrap();
        std::fs::write(ours.join("pid"), "no number").unwrap();
        assert_eq!(running(&ours), None);
    }

    #[test]
    fn down_ends_what_runs_and_removes_everything() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = folder.path().join("cluster");
        let ours = cluster.join("cassandra");
        std::fs::create_dir_all(&ours).unwrap();
        let mut child = stand_in(&ours);
        std::fs::write(ours.join("pid"), format!("{}\n", child.id())).unwrap();
        waiting::until(Duration::from_mins(1), || running(&ours)).expect("it runs");
        assert_eq!(down(&cluster).unwrap(), ["cassandra"]);
        assert!(!cluster.exists() && child.wait().unwrap().code().is_none());
        assert!(down(&cluster).unwrap().is_empty(), "nothing is left to do");
    }

    #[test]
    fn settings_name_both() {
        let text = settings(SocketAddr::from(([127, 0, 0, 1], 9042)), SocketAddr::from(([127, 0, 0, 1], 9092)));
        assert!(text.contains("contact_points = [\"127.0.0.1:9042\"]") && text.contains("brokers = [\"127.0.0.1:9092\"]"));
        assert_eq!(text.matches("replication_factor = 1\n").count(), 2, "neither has a second node");
    }
}
