//! What Kafka is told: arguments of Java and `server.properties`. Text only; nothing is run.

use std::fmt::Write as _;
use std::path::Path;

/// Small, and quick to start.
const JAVA: [&str; 6] = [
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];

/// One of everything; topics exist only where somebody made them.
const PROPERTIES: &str = "process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
auto.create.topics.enable=false
num.partitions=1
num.network.threads=1
num.io.threads=2
background.threads=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
controlled.shutdown.enable=false
";

/// Arguments of Java, the class path excepted.
pub(super) fn java() -> Vec<String> {
    JAVA.map(str::to_owned).to_vec()
}

/// The text of `server.properties`; `settings` replace ours of the same name.
pub(super) fn properties(folder: &Path, [broker, controller]: [u16; 2], settings: &[(String, String)]) -> String {
    let mut text = PROPERTIES.to_owned();
    let _ = writeln!(text, "controller.quorum.voters=1@127.0.0.1:{controller}");
    let _ = writeln!(text, "listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}");
    let _ = writeln!(text, "advertised.listeners=PLAINTEXT://127.0.0.1:{broker}");
    let _ = writeln!(text, "log.dirs={}/data", folder.display());
    // Of a name that stands twice, Java takes the later one.
    for (name, value) in settings {
        let _ = writeln!(text, "{name}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Java reads.
    fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    #[test]
    fn ports_and_folders_are_those_that_were_given() {
        let text = properties(Path::new("/data/one"), [1, 2], &[]);
        assert_eq!(value(&text, "listeners"), Some("PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"));
        assert_eq!(value(&text, "advertised.listeners"), Some("PLAINTEXT://127.0.0.1:1"));
        assert_eq!(value(&text, "controller.quorum.voters"), Some("1@127.0.0.1:2"));
        assert_eq!(value(&text, "log.dirs"), Some("/data/one/data"));
    }

    #[test]
    fn a_setting_replaces_ours() {
        let settings = [("num.partitions".to_owned(), "8".to_owned())];
        assert_eq!(value(&properties(Path::new("/data"), [1, 2], &settings), "num.partitions"), Some("8"));
    }
}
