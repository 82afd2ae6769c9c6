//! The real engines: started, harmed, started again, and gone with whoever started them. Skipped where there is no Java.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tessera_engines::{Cassandra, Engine, Kafka, Options, available, standing};

/// Tells a test's own program, started once more, to start an engine and wait to be killed.
const STARTER: &str = "TESSERA_ENGINES_STARTER";

const PATIENCE: Duration = Duration::from_mins(1);

#[expect(clippy::disallowed_methods, reason = "processes of others are waited for in real time")]
fn now() -> Instant {
    Instant::now()
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = now() + PATIENCE;
    while !condition() {
        assert!(now() < deadline, "waited {PATIENCE:?} until {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn runs(pid: u32) -> bool {
    // The command line of an ended process is empty until it is reaped, and then there is none.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// The state of a process as the kernel names it: `T` is suspended.
fn state(pid: u32) -> Option<char> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    line.rsplit_once(") ")?.1.chars().next()
}

/// What every engine has to stand: it is ready now.
fn harm(engine: &mut Engine) {
    let address = engine.address();
    TcpStream::connect(address).unwrap();
    let first = engine.pid().unwrap();
    engine.suspend().unwrap();
    wait_until("it is suspended", || state(first) == Some('T'));
    engine.resume().unwrap();
    wait_until("it goes on", || state(first) != Some('T'));
    engine.wait_until_ready().unwrap();
    engine.suspend().unwrap();
    engine.kill().unwrap();
    assert!(engine.pid().is_none() && !runs(first));
    TcpStream::connect(address).unwrap_err();
    engine.restart().unwrap();
    assert_eq!(engine.address(), address);
    let second = engine.pid().unwrap();
    engine.stop().unwrap();
    assert!(!runs(second));
    engine.wait_until_ready().unwrap_err();
}

#[test]
fn cassandra_is_suspended_killed_restarted_and_stopped() {
    if !available().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut cassandra = Cassandra::start(folder.path(), &Options::default()).unwrap();
    assert!(cassandra.contact_point().ip().is_loopback());
    let same_port = Options { port: Some(cassandra.contact_point().port()), ..Options::default() };
    Cassandra::throwaway(&same_port).expect_err("another one answers on that port");
    harm(&mut cassandra);
    assert!(cassandra.log_tail().contains("Cassandra shutdown complete"), "{}", cassandra.log_tail());
}

#[test]
fn kafka_is_suspended_killed_restarted_and_stopped() {
    if !available().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::start(folder.path(), &Options::default()).unwrap();
    assert_eq!(kafka.bootstrap(), kafka.address().to_string());
    let same_port = Options { port: Some(kafka.address().port()), ..Options::default() };
    Kafka::throwaway(&same_port).expect_err("another one answers on that port");
    harm(&mut kafka);
}

#[test]
fn a_start_that_fails_shows_the_log() {
    if !available().unwrap() {
        return;
    }
    let settings = vec![("num.network.threads".to_owned(), "many".to_owned())];
    let error = Kafka::throwaway(&Options { settings, ..Options::default() }).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("kafka.log") && text.contains("many"), "{text}");
}

#[test]
fn an_engine_is_gone_with_a_starter_that_was_killed() {
    const NAME: &str = "an_engine_is_gone_with_a_starter_that_was_killed";
    if std::env::var_os(STARTER).is_some() {
        let kafka = Kafka::throwaway(&Options::default()).unwrap();
        println!("\n{}\n{}", kafka.pid().unwrap(), kafka.folder().display());
        // Until it is killed; at the latest with the test that started it.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    if !available().unwrap() {
        return;
    }
    let mut starter = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(STARTER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(starter.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut lines = lines.skip_while(|line| line.parse::<u32>().is_err());
    let pid: u32 = lines.next().expect("the starter names the process").parse().unwrap();
    let folder = PathBuf::from(lines.next().expect("the starter names the folder"));
    assert!(runs(pid) && folder.is_dir());
    starter.kill().unwrap();
    starter.wait().unwrap();
    wait_until("the engine is gone", || !runs(pid));
    wait_until("its folder is removed", || !folder.exists());
}

fn number_in(file: &Path) -> u32 {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

#[test]
fn a_standing_pair_is_found_again_and_leaves_nothing_behind() {
    if !available().unwrap() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("cluster");
    let outcome = std::panic::catch_unwind(|| {
        let first = standing::up(&folder).unwrap();
        assert!(!first.already && std::fs::read_to_string(&first.file).unwrap() == first.settings);
        let pids = ["cassandra", "kafka"].map(|name| number_in(&folder.join(name).join("pid")));
        assert!(pids.into_iter().all(runs));
        let second = standing::up(&folder).unwrap();
        assert!(second.already && second.settings == first.settings);
        pids
    });
    // Also after a failure: they would stand for ever.
    let ended = standing::down(&folder).unwrap();
    let pids = outcome.unwrap();
    assert_eq!(ended, ["cassandra", "kafka"]);
    assert!(!pids.into_iter().any(runs) && !folder.exists());
}
