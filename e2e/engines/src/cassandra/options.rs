//! What Cassandra is told: arguments of Java, `cassandra.yaml` and how it logs. Text only; nothing is run.

use std::fmt::Write as _;
use std::path::Path;

/// All to its standard output, which is the log file.
pub(super) const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%-5level %date{ISO8601} %logger{1} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"#;

/// Small, quick to start, and without waiting for peers that do not exist.
const JAVA: &str = "-Xms256m
-Xmx512m
-Xss512k
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-XX:+HeapDumpOnOutOfMemoryError
-XX:MaxDirectMemorySize=128m
-XX:-UsePerfData
-Djava.net.preferIPv4Stack=true
-Djdk.attach.allowAttachSelf=true
-Dio.netty.tryReflectionSetAccessible=true
-Dcassandra-foreground=yes
-Dcassandra.ring_delay_ms=1
-Dcassandra.broadcast_interval_ms=1
-Dcassandra.skip_wait_for_gossip_to_settle=0
-Dcassandra.skip_sync=true
-Dcassandra.superuser_setup_delay_ms=0
-Dcassandra.size_recorder_interval=0
-Dcassandra.start_native_transport=true
-Dcassandra.skip_jvm_args_check=true";

/// Packages of Java that Cassandra reaches into, after `java.base/` where no module is named.
const EXPORTS: &str = "jdk.internal.misc jdk.internal.ref java.lang.ref sun.nio.ch \
     java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
     java.rmi/sun.rmi.transport java.rmi/sun.rmi.transport.tcp java.sql/java.sql jdk.attach/sun.tools.attach \
     jdk.compiler/com.sun.tools.javac.file";
const OPENS: &str = "java.io java.lang java.lang.module java.lang.reflect java.math java.net java.nio java.nio.charset \
     java.nio.file.spi java.util java.util.concurrent java.util.concurrent.atomic jdk.internal.loader jdk.internal.math \
     jdk.internal.module jdk.internal.ref jdk.internal.reflect jdk.internal.util.jar sun.nio.ch \
     jdk.compiler/com.sun.tools.javac jdk.management/com.sun.management.internal";

/// One token and no bootstrapping: there are no peers. What is acknowledged is in the log on disk: with periodic syncs a killed
/// process was seen to lose the last few writes.
const YAML: &str = "cluster_name: tessera
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: 1
initial_token: 0
auto_bootstrap: false
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
start_native_transport: true
endpoint_snitch: SimpleSnitch
commitlog_sync: batch
commitlog_segment_size: 8MiB
commitlog_total_space: 256MiB
memtable_allocation_type: heap_buffers
memtable_heap_space: 128MiB
disk_optimization_strategy: ssd
concurrent_reads: 8
concurrent_writes: 16
concurrent_counter_writes: 2
concurrent_compactors: 1
native_transport_max_threads: 16
key_cache_size: 8MiB
row_cache_size: 0MiB
counter_cache_size: 0MiB
file_cache_size: 32MiB
networking_cache_size: 16MiB
auto_snapshot: false
incremental_backups: false
paxos_variant: v2
dynamic_snitch: false
hinted_handoff_enabled: false
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
";

/// Arguments of Java, the class path excepted.
pub(super) fn java(folder: &Path, jmx: u16) -> Vec<String> {
    let folder = folder.display();
    let mut words: Vec<String> = JAVA.lines().map(str::to_owned).collect();
    words.push(format!("-XX:HeapDumpPath={folder}"));
    words.push(format!("-Dcassandra.config=file://{folder}/cassandra.yaml"));
    words.push(format!("-Dcassandra.storagedir={folder}/run"));
    words.push(format!("-Dlogback.configurationFile={folder}/logback.xml"));
    words.push(format!("-Dcassandra.jmx.local.port={jmx}"));
    for (option, packages) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
        for package in packages.split_whitespace() {
            let module = if package.contains('/') { "" } else { "java.base/" };
            words.push(format!("{option}={module}{package}=ALL-UNNAMED"));
        }
    }
    words
}

/// The text of `cassandra.yaml`; `settings` replace ours of the same name.
pub(super) fn yaml(folder: &Path, [cql, storage, tls_storage]: [u16; 3], settings: &[(String, String)]) -> String {
    let folder = folder.display();
    let mut text = YAML.to_owned();
    let _ = writeln!(text, "native_transport_port: {cql}\nstorage_port: {storage}\nssl_storage_port: {tls_storage}");
    let _ = writeln!(text, "data_file_directories: [\"{folder}/run/data\"]");
    for (setting, place) in [
        ("commitlog_directory", "commitlog"),
        ("saved_caches_directory", "saved_caches"),
        ("hints_directory", "hints"),
        ("cdc_raw_directory", "cdc_raw"),
    ] {
        let _ = writeln!(text, "{setting}: \"{folder}/run/{place}\"");
    }
    let is_ours = |line: &&str| settings.iter().all(|(name, _)| !line.starts_with(&format!("{name}:")));
    let mut text: String = text.lines().filter(is_ours).flat_map(|line| [line, "\n"]).collect();
    for (name, value) in settings {
        let _ = writeln!(text, "{name}: {value}");
    }
    text + &format!(
        "seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: \"127.0.0.1:{storage}\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &str, name: &str) -> Vec<String> {
        text.lines().filter(|line| line.starts_with(&format!("{name}:"))).map(str::to_owned).collect()
    }

    #[test]
    fn ports_and_folders_are_those_that_were_given() {
        let text = yaml(Path::new("/data/one"), [1, 2, 3], &[]);
        assert_eq!(lines_of(&text, "native_transport_port"), ["native_transport_port: 1"]);
        assert_eq!(lines_of(&text, "storage_port"), ["storage_port: 2"]);
        assert_eq!(lines_of(&text, "ssl_storage_port"), ["ssl_storage_port: 3"]);
        assert!(text.contains("seeds: \"127.0.0.1:2\""));
        assert_eq!(text.matches("/data/one/run/").count(), 5);
    }

    #[test]
    fn a_setting_replaces_ours_and_stands_once() {
        let settings = [("commitlog_sync".to_owned(), "group".to_owned()), ("read_request_timeout".to_owned(), "1s".to_owned())];
        let text = yaml(Path::new("/data"), [1, 2, 3], &settings);
        assert_eq!(lines_of(&text, "commitlog_sync"), ["commitlog_sync: group"]);
        assert_eq!(lines_of(&text, "read_request_timeout"), ["read_request_timeout: 1s"]);
    }

    #[test]
    fn packages_without_a_module_are_those_of_the_base() {
        let words = java(Path::new("/data"), 7);
        assert!(words.contains(&"--add-opens=java.base/java.io=ALL-UNNAMED".to_owned()));
        assert!(words.contains(&"--add-exports=java.sql/java.sql=ALL-UNNAMED".to_owned()));
        assert!(words.contains(&"-Dcassandra.jmx.local.port=7".to_owned()));
        assert_eq!(words.iter().filter(|word| word.starts_with("--add-")).count(), 12 + 21);
    }
}
