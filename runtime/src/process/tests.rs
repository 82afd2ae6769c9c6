//! The end of a process that does not want to end, and words that nobody hears: this test program runs itself as one.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// In the environment of the process that is to block.
const BLOCKS: &str = "TESSERA_TEST_BLOCKS";

/// No test by itself: what [`a_second_signal_ends_a_process_that_blocks`] runs in a process of its own.
#[test]
fn blocks_every_thread_when_told_to() {
    if std::env::var_os(BLOCKS).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = std::env::var(BLOCKS).unwrap();
    let (end_max, tasks) = (if told.contains("briefly") { Duration::from_millis(1) } else { END_MAX }, Tasks::new());
    runtime.block_on(async {
        end_within(end_max, tasks.shutdown().soft).unwrap();
        println!("blocking");
        if told.contains("dying") {
            tasks.shutdown().drain();
        }
        let (_sender, receiver) = mpsc::channel::<()>();
        // No thread of this runtime hears a signal; nobody waits longer than this for the test to fail.
        let _ = receiver.recv_timeout(Duration::from_mins(1));
    });
}

/// A process all of whose threads block.
fn blocking(how_long: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "process::tests::blocks_every_thread_when_told_to"]);
    let mut child = command.env(BLOCKS, how_long).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap());
    assert!(said.lines().any(|line| line.unwrap().contains("blocking")), "it has begun");
    child
}

#[test]
fn a_process_that_blocks_ends_after_a_while_at_one_signal() {
    let mut child = blocking("briefly");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(i32::from(CUT_SHORT)));
}

#[test]
fn a_process_that_blocks_ends_after_a_while_when_a_task_has_died() {
    let mut child = blocking("briefly, dying");
    assert_eq!(child.wait().unwrap().code(), Some(1), "nobody asked it to stop");
}

#[test]
fn a_second_signal_ends_a_process_that_blocks() {
    for how in ["long", "long, dying"] {
        let mut child = blocking(how);
        // One of each: two of the same may be told as one.
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(i32::from(CUT_SHORT)), "{how}");
    }
}

/// In the environment of the process that nobody listens to.
const UNHEARD: &str = "TESSERA_TEST_UNHEARD";

#[derive(Debug, Parser)]
struct NoArguments {}

/// No test by itself: what [`a_failure_that_nobody_hears_of_has_its_exit_code`] runs in a process of its own.
#[test]
fn fails_when_told_to() {
    if std::env::var_os(UNHEARD).is_some() {
        let code = run::<NoArguments>([OsString::from("process")], |_| anyhow::bail!("told to"));
        assert_eq!(code, ExitCode::FAILURE);
    }
}

#[test]
fn a_failure_that_nobody_hears_of_has_its_exit_code() {
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "process::tests::fails_when_told_to"]).env(UNHEARD, "1");
    let ended = command.stdin(Stdio::null()).stderr(closed).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn addresses_that_nobody_reads_are_no_error() {
    let line = serde_json::json!({ "data": "127.0.0.1:1" });
    let (reader, closed) = io::pipe().unwrap();
    drop(reader);
    print_line(closed, &line).unwrap();
    print_line(std::fs::File::options().write(true).open("/dev/full").unwrap(), &line).unwrap_err();
}

/// As a store: it tells when it is closed.
struct Closes(mpsc::Sender<()>);

impl Drop for Closes {
    fn drop(&mut self) {
        for _ in 0..1_000 {
            // To close takes a while.
            std::thread::yield_now();
        }
        self.0.send(()).unwrap();
    }
}

#[test]
fn what_nobody_waits_for_is_closed_at_the_end() {
    let (closed, is_closed) = mpsc::channel();
    let store = Closes(closed);
    block_on(async {
        // As a connection does that its caller keeps open.
        Tasks::new().spawn("connection", async move {
            std::future::pending::<()>().await;
            drop(store);
            Ok(())
        });
        Ok(())
    })
    .unwrap();
    is_closed.try_recv().expect("the store is closed");
}
