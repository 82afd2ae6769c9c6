//! A running `tessera dev`, and commands against it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs `tessera` without anything on standard input and without settings of the machine.
pub(crate) fn tessera(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command.args(arguments).stdin(Stdio::null()).env_clear().envs(environment.iter().copied());
    let output = command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A process that is ready.
pub(crate) struct Dev {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    addresses: serde_json::Value,
}

impl Dev {
    /// Starts over `data` with the quickstart examples, and waits until it says that it is ready.
    pub(crate) fn ready(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tessera"))
            .args(["dev", "--apply", "examples/quickstart", "--print-addresses", "--data"])
            .arg(data)
            .args(["--data-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let addresses = serde_json::from_str(&first).unwrap_or_else(|_| {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("no addresses, but `{first}`:\n{said}")
        });
        let mut line = String::new();
        while !line.contains("is ready") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended before it was ready");
        }
        Self { child, out, addresses }
    }

    /// Runs `tessera` against it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        tessera(arguments, &self.environment())
    }

    /// What leads commands to it.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 3] {
        let address = |name: &str| self.addresses[name].as_str().unwrap();
        [
            ("TESSERA_DATA_ADDR", address("data")),
            ("TESSERA_CONTROL_ADDR", address("control")),
            ("TESSERA_HTTP_ADDR", address("http")),
        ]
    }

    /// Runs `tessera` against it with this on standard input, which is a pipe; it must succeed. Returns what it said.
    #[track_caller]
    pub(crate) fn good_with(&self, input: &str, arguments: &[&str]) -> String {
        let mut child = self.start(arguments, Stdio::piped());
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts `tessera` against it; what it says goes into pipes.
    pub(crate) fn start(&self, arguments: &[&str], input: Stdio) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
        command.args(arguments).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_clear().envs(self.environment()).spawn().unwrap()
    }

    /// Runs `tessera` against it; it must succeed. Returns what it said.
    #[track_caller]
    pub(crate) fn good(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
        said.out
    }

    /// Runs `tessera -o json` against it; it must succeed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let all: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        serde_json::from_str(&self.good(&all)).unwrap()
    }

    /// Runs `tessera` against it; it must fail with 1. Returns the error.
    #[track_caller]
    pub(crate) fn bad(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
        said.err
    }

    /// Asks it to end; it must end well, without a word of panic. Returns what it said when it was ready, and its log.
    pub(crate) fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(status.success(), "{status}\n{log}");
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(" check "), "it says what to try: {rest}");
        rest + &log
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind; one that went well has ended it already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
