//! Mistakes on the command line: each is answered with 1 and words that say what is allowed. Nothing listens anywhere.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::dev::tessera;

/// Arguments, and what the answer has.
const TABLE: &[(&[&str], &[&str])] = &[
    (&["chek", "acme"], &["unrecognized subcommand 'chek'", "check"]),
    (&["check", "acme"], &["<SERVICE>"]),
    (&["check", "a", "b", "--limit", "x"], &["`x` is not a limit check", "NAME=AMOUNT"]),
    (&["check", "a", "b", "--limit", "=5"], &["`=5` is not a limit check", "NAME=AMOUNT"]),
    (&["check", "a", "b", "--limit", "a="], &["`a=` is not a limit check", "whole numbers from 0 on"]),
    (&["check", "a", "b", "--limit", "a=-1"], &["`a=-1` is not a limit check", "whole numbers from 0 on"]),
    (&["check", "a", "b", "--limit", "a=1.5"], &["`a=1.5` is not a limit check", "whole numbers from 0 on"]),
    (&["check", "a", "b", "--limit", "a=9223372036854775808"], &["`a=9223372036854775808` is not a limit check"]),
    (&["check", "a", "b", "--limit", "a=1,used="], &["`a=1,used=` is not a limit check", "NAME=AMOUNT,used=N"]),
    (&["check", "a", "b", "--limit", "a=1,usd=2"], &["`a=1,usd=2` is not a limit check", "NAME=AMOUNT,used=N"]),
    (&["check", "a", "b", "--limit", "a=1\u{1b}[2J"], &["`a=1\\u{1b}[2J` is not a limit check"]),
    (&["check", "a", "b", "--at-least", "*"], &["`*` is not a revision", "base64"]),
    (&["check", "a", "b", "--at-least", "QQ==", "--fully-consistent"], &["cannot be used with"]),
    (&["check", "a", "b", "-o", "xml"], &["'xml'", "table, json, yaml"]),
    (&["check", "a", "b", "--timeout", "soon"], &["`soon` is not a length of time"]),
    (&["check", "a", "b", "--data-addr", "http://"], &["`http://` is not an address", "127.0.0.1:7400"]),
    (&["check", "a", "b", "--data-addr", ""], &["`` is not an address", "127.0.0.1:7400"]),
    (&["check", "a", "b", "--data-addr", "a b"], &["`a b` is not an address", "127.0.0.1:7400"]),
    (&["check", "a", "b", "--data-addr", "127.0.0.1:99999"], &["`127.0.0.1:99999` is not an address"]),
    (&["check", "a", "b", "--data-addr", "127.0.0.1:0"], &["`127.0.0.1:0` is not an address", "a port from 1 to 65535"]),
    (&["check", "a", "b", "--data-addr", "127.0.0.1"], &["`127.0.0.1` is not an address", "a port from 1 to 65535"]),
    (&["check", "a", "b", "--data-addr", "ftp://127.0.0.1:1"], &["`ftp://127.0.0.1:1` is not an address"]),
    (&["check", "a", "b", "--data-addr", "127.0.0.1:1/v1"], &["`127.0.0.1:1/v1` is not an address"]),
    (&["plan", "list", "--control-addr", "\u{ff11}:1"], &["`\\u{ff11}:1` is not an address"]),
    (&["check", "a", "b", "--timeout", "0s"], &["`0s` is not a wait", "above 0 and at most 1h"]),
    (&["check", "a", "b", "--timeout", "2h"], &["`2h` is not a wait", "above 0 and at most 1h"]),
    (&["watch", "a", "--data-addr", "127.0.0.1:1"], &["cannot reach the data plane at `127.0.0.1:1`"]),
    (&["audit", "list", "--control-addr", "127.0.0.1:1"], &["cannot reach the control plane at `127.0.0.1:1`"]),
    (&["plan", "list", "--output", "csv"], &["'csv'", "table, json, yaml"]),
    (&["check", "a", "b", "--data-addr", "127.0.0.1:1"], &["cannot reach the data plane at `127.0.0.1:1`", "tessera dev"]),
    (&["plan", "list", "--control-addr", "127.0.0.1:1"], &["cannot reach the control plane", "--control-addr"]),
    (&["digest", "--http-addr", "127.0.0.1:1"], &["cannot reach the pages at `127.0.0.1:1`", "--http-addr"]),
    (&["check", "a", "b", "--config", "/nonexistent.toml"], &["/nonexistent.toml"]),
    (&["tenant", "at", "acme", "yesterday"], &["`yesterday` is not a time", "RFC 3339"]),
    (&["tenant", "create", "acme", "--plan", "gold@0"], &["`0` is not a version"]),
    (&["tenant", "change-plan", "acme", "gold", "--yes", "--undo", "1"], &["cannot be used with"]),
    // What is missing is named with all that may stand there, and nothing else is.
    (&["tenant", "trial", "end", "acme"], &["not provided:\n  <--convert|--now>\n\n"]),
    (&["tenant", "trial", "end", "acme", "--convert", "--now"], &["cannot be used with"]),
    (&["tenant", "change-plan", "acme"], &["not provided:\n  <PLAN|--undo <NUMBER>>\n\n"]),
    (&["tenant", "change-plan", "acme", "--undo", "1", "--at", "2099-01-01T00:00:00Z"], &["cannot be used with"]),
    (
        &["tenant", "override", "set", "acme", "--service", "a", "--reason", "r"],
        &["not provided:\n  <--grant|--deny|--maximum <MAXIMUM>>\n\n"],
    ),
    (
        &["tenant", "override", "set", "acme", "--feature", "exports", "--deny", "--reason", "r"],
        &["not provided:\n  <--service <SERVICE>|--limit <LIMIT>>\n\n"],
    ),
    (
        &["tenant", "override", "set", "acme", "--deny", "--reason", "r"],
        &["not provided:\n  <--service <SERVICE>|--limit <LIMIT>>\n\n"],
    ),
    (&["tenant", "override", "set", "acme", "--limit", "l", "--grant", "--reason", "r"], &["cannot be used with '--grant'"]),
    (
        &["tenant", "override", "set", "acme", "--service", "a", "--maximum", "5", "--reason", "r"],
        &["cannot be used with", "--maximum <MAXIMUM>"],
    ),
    (&["tenant", "override", "remove", "acme"], &["not provided:\n  <--service <SERVICE>|--limit <LIMIT>>\n\n"]),
    (&["catalog", "show"], &["not provided:\n  <SERVICE|--limit <LIMIT>>\n\n"]),
    (&["import", "--yes"], &["not provided:\n  <FILES|--history>\n\n"]),
    (&["tenant", "list", "--limit", "0"], &["'--limit <N>'", "0 is not in 1.."]),
    (&["audit", "list", "--limit", "0"], &["'--limit <N>'", "0 is not in 1.."]),
    (&["tenant", "override", "set", "acme", "--limit", "a", "--maximum", "-1", "--reason", "r"], &["-1"]),
    (&["tenant", "delete", "acme"], &["no terminal to ask on", "--yes"]),
    (&["tenant", "create", "a", "--plan", "p", "--label", "a=1", "--label", "a=1"], &["`a` twice", "each key once"]),
    (&["tenant", "list", "--label", "a=1", "--label", "b=1", "--label", "a=2"], &["`a` twice", "each key once"]),
    (&["tenant", "add-on", "attach", "acme", "seats", "--quantity", "0"], &["'--quantity <N>'", "0 is not in 1.."]),
    (&["tenant", "add-on", "attach", "acme", "seats@2", "--request-id", "r"], &["with --request-id the whole is to be said"]),
    (&["tenant", "add-on", "attach", "acme", "seats@0"], &["`0` is not a version", "latest"]),
    (&["tenant", "change-plan", "acme", "gold"], &["move `acme` to `gold` (its latest version) now? there is no terminal"]),
    (
        &["tenant", "change-plan", "acme", "gold@3", "--at", "2099-01-01T00:00:00Z"],
        &["move `acme` to `gold@3` at 2099-01-01T00:00:00Z?"],
    ),
    (&["tenant", "cancel", "acme", "--at", "2099-01-01T00:00:00Z"], &["end the subscription of `acme` at 2099-01-01T00:00:00Z?"]),
    // What is past is now, as the control plane has it.
    (
        &["tenant", "cancel", "acme", "--at", "2020-01-01T00:00:00Z"],
        &["end the subscription of `acme` now (2020-01-01T00:00:00Z is past)?"],
    ),
    (
        &["tenant", "change-plan", "acme", "gold", "--at", "2020-01-01T00:00:00Z"],
        &["move `acme` to `gold` (its latest version) now (2020-01-01T00:00:00Z is past)?"],
    ),
    (&["tenant", "suspend", "acme", "--reason", "fraud"], &["suspend `acme` now, for `fraud`?"]),
    (&["tenant", "activate", "acme"], &["activate `acme`? there is no terminal"]),
    (&["tenant", "add-on", "attach", "acme", "seats@2", "--quantity", "20"], &["give `acme` the add-on `seats@2`, 20 of it?"]),
    (
        &["tenant", "override", "set", "acme", "--limit", "l", "--maximum", "5", "--reason", "r"],
        &["make an exception for `acme`: limit `l` is 5, until it is removed?"],
    ),
    (
        &["tenant", "override", "set", "acme", "--service", "s", "--deny", "--reason", "r", "--until", "2099-01-01T00:00:00Z"],
        &["make an exception for `acme`: deny service `s`, until 2099-01-01T00:00:00Z?"],
    ),
    (&["migrate", "--epoch", "2"], &["--epoch is of a keyspace", "the database in `.tessera`"]),
    (&["catalog", "disable", "reporting", "--reason", "r"], &["no terminal to ask on", "--yes"]),
    (&["catalog", "archive"], &["<SERVICE|--limit <LIMIT>>"]),
    (&["catalog", "archive", "a", "--limit", "b"], &["cannot be used with"]),
    (&["catalog", "archive", "a"], &["archive service `a` with all its features?", "no terminal to ask on", "--yes"]),
    (&["catalog", "archive", "a", "b"], &["archive feature `b` of service `a`?"]),
    (&["catalog", "archive", "--limit", "a"], &["archive limit `a`? new documents may not name it"]),
    (
        &["token", "create", "ci", "--scope", "read", "--tokens-file", "/nonexistent/tokens.toml"],
        &["the folder `/nonexistent` is not there"],
    ),
    (
        &["check", "a", "b", "--ca-file", "Cargo.toml"],
        &["no certificate authority in `Cargo.toml`", "-----BEGIN CERTIFICATE-----"],
    ),
    (&["apply"], &["--file <FILES>"]),
    (&["apply", "-f", "/nonexistent.yaml"], &["/nonexistent.yaml"]),
    (&["apply", "-f", "examples/quickstart", "--control-addr", "127.0.0.1:1"], &["cannot reach the control plane"]),
    (&["dev", "--data-listen", "0.0.0.0:0"], &["--data-listen", "0.0.0.0:0", "loopback"]),
    (&["dev", "--control-listen", "[::]:0"], &["--control-listen", "loopback"]),
    (&["dev", "--apply", "/nonexistent.yaml"], &["/nonexistent.yaml"]),
    (&["dev", "--log", "tessera=loud"], &["`tessera=loud` is not a log filter"]),
    (&["dev", "--log-format", "xml"], &["`xml` is not a log format", "text and json"]),
    (&["dev", "--settings", "/nonexistent.toml"], &["/nonexistent.toml"]),
];

#[test]
fn each_is_answered_in_words_that_help() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().to_str().unwrap();
    let mut failures = Vec::new();
    for (arguments, expected) in TABLE {
        let said = tessera(arguments, &[("HOME", home)]);
        if said.code != Some(1) || !said.out.is_empty() {
            failures.push(format!("{arguments:?}: {said:?}"));
        }
        for part in *expected {
            if !said.err.contains(part) {
                failures.push(format!("{arguments:?}\n  said:     {}\n  expected: {part}", said.err));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn an_export_that_fails_leaves_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export");
    std::fs::write(&file, "yesterday's").unwrap();
    let (out, nowhere) = (file.to_str().unwrap(), folder.path().join("nowhere"));
    for arguments in [
        &["export", "--control-addr", "127.0.0.1:1", "--out", out][..],
        &["export", "--history", "--data", nowhere.to_str().unwrap(), "--out", out],
    ] {
        let said = tessera(arguments, &[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "yesterday's", "{arguments:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something is left beside it: {arguments:?}");
    }
}

#[test]
fn pages_that_do_not_answer_are_waited_for_as_long_as_was_said() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let said = tessera(&["digest", "--http-addr", &address, "--timeout", "50ms"], &[]);
    assert!(said.code == Some(1) && said.err.contains("takes longer than 50ms (--timeout)"), "{said:?}");
}

#[test]
fn what_nobody_reads_on_standard_error_changes_no_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    for (arguments, code) in [
        // It is done, and says so.
        (&["token", "create", "ci", "--scope", "read"][..], 0),
        (&["token", "revoke", "ci", "--yes"], 0),
        // There is none any more.
        (&["token", "revoke", "ci", "--yes"], 1),
    ] {
        let (reader, closed) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
        command.args(arguments).arg("--tokens-file").arg(&file).env_clear().stdin(Stdio::null()).stderr(closed);
        let ended = command.output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}");
        assert_eq!(
            ended.stdout.starts_with(b"tessera_"),
            arguments[1] == "create",
            "{:?}",
            String::from_utf8_lossy(&ended.stdout)
        );
    }
}

#[test]
fn settings_from_the_environment_are_checked() {
    for (name, value, expected) in [
        ("TESSERA_SERVER__AT_LEAST_WAIT_MS", "0", "at_least_wait_ms"),
        ("TESSERA_SERVER__AT_LEST_WAIT_MS", "5", "at_lest_wait_ms"),
        ("TESSERA_LOADER__SWEEP_INTERVAL_MS", "1001", "sweep_interval_ms"),
        ("TESSERA_LISTENER__CONNECTIONS_MAX", "0", "connections_max"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let said = tessera(&["dev", "--data", data.to_str().unwrap()], &[(name, value)]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(expected), "{name}={value}: {said:?}");
    }
}

#[test]
fn help_and_version_are_no_mistakes() {
    let help = tessera(&["--help"], &[]);
    assert_eq!(help.code, Some(0), "{help:?}");
    for command in [
        "dev",
        "check",
        "explain",
        "list",
        "watch",
        "catalog",
        "plan",
        "add-on",
        "tenant",
        "apply",
        "export",
        "import",
        "migrate",
        "restore",
        "digest",
        "audit",
        "completions",
        "version",
    ] {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} is not in the help:\n{}", help.out);
        let own = tessera(&[command, "--help"], &[]);
        assert_eq!(own.code, Some(0), "{command}: {own:?}");
    }
    let version = tessera(&["version"], &[]);
    assert_eq!((version.code, version.out.as_str()), (Some(0), concat!("tessera ", env!("CARGO_PKG_VERSION"), "\n")));
    let version = tessera(&["version", "-o", "json"], &[]);
    let said: serde_json::Value = serde_json::from_str(&version.out).unwrap();
    assert_eq!((version.code, said), (Some(0), serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })));
    for shell in ["bash", "zsh", "fish"] {
        let script = tessera(&["completions", shell], &[]);
        assert!(script.code == Some(0) && script.out.contains("change-plan"), "{shell}: {script:?}");
    }
}
