//! Commands on a terminal: what they ask before they change anything, what counts as an answer, and bars on long work.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::dev::{Dev, tessera};

/// What a command said to somebody who sits at a terminal.
#[derive(Debug)]
struct Seen {
    code: Option<i32>,
    /// Standard output, which goes elsewhere.
    out: String,
    /// What stood on the terminal: questions, bars, errors.
    screen: String,
}

/// Runs `tessera` against `dev` with standard input and standard error on a terminal, and types `answer` when it is asked.
fn at_terminal(dev: &Dev, arguments: &[&str], answer: &str) -> Seen {
    typed(&dev.environment(), arguments, answer)
}

fn typed(environment: &[(&str, &str)], arguments: &[&str], answer: &str) -> Seen {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera"));
    command
        .args(arguments)
        .env_clear()
        .env("TERM", "xterm")
        .envs(environment.iter().copied())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.stdin(terminal.try_clone().unwrap()).stderr(terminal).stdout(Stdio::piped());
    let child = command.spawn().unwrap();
    // Ours is the only end that is left besides the child's: its end is the end of the screen.
    drop(command);

    let mut master = File::from(master);
    let (mut screen, mut bytes, mut asked) = (String::new(), [0; 4_096], false);
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        screen += &String::from_utf8_lossy(&bytes[..count]);
        if screen.contains("[y/N] ") && !asked {
            asked = true;
            master.write_all(answer.as_bytes()).unwrap();
        }
    }
    let output = child.wait_with_output().unwrap();
    Seen { code: output.status.code(), out: String::from_utf8(output.stdout).unwrap(), screen }
}

#[test]
fn changes_are_shown_and_asked_about_and_only_yes_is_yes() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let file = folder.path().join("limit.yaml");
    std::fs::write(&file, "limit: max_questions\nunit: questions\n").unwrap();
    let apply = ["apply", "-f", file.to_str().unwrap()];
    // Enter alone, the end of input, and anything else.
    for answer in ["\n", "\u{4}", "n\n", "no\n", "ye\n", "yes please\n", "Yes, but not now\n", "\u{443}\n"] {
        let seen = at_terminal(&dev, &apply, answer);
        assert_eq!(seen.code, Some(1), "{answer:?}: {seen:?}");
        assert!(seen.out.contains("limit `max_questions`: create") && seen.out.contains("unit: questions"), "{seen:?}");
        assert!(seen.screen.contains("apply this? [y/N] ") && seen.screen.contains("nothing was changed"), "{seen:?}");
    }
    assert!(!dev.good(&["catalog", "list"]).contains("max_questions"));
    for (n, answer) in ["y\n", "Y\n", "yes\n", "  y  \n"].iter().enumerate() {
        std::fs::write(&file, format!("limit: max_questions\nunit: questions {n}\n")).unwrap();
        let seen = at_terminal(&dev, &apply, answer);
        assert!(seen.code == Some(0) && seen.screen.contains("applied"), "{answer:?}: {seen:?}");
    }
    // Where nothing is to be changed, and where nobody wants to be asked, nobody is.
    for arguments in [vec!["apply", "-f", file.to_str().unwrap()], vec!["apply", "-f", "examples/quickstart", "--yes"]] {
        let seen = at_terminal(&dev, &arguments, "n\n");
        assert!(seen.code == Some(0) && !seen.screen.contains("[y/N]"), "{seen:?}");
    }
    dev.stop();
}

#[test]
fn every_command_that_changes_asks() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let before = dev.good(&["digest", "-o", "json"]);
    for arguments in [
        &["tenant", "delete", "acme"][..],
        &["tenant", "suspend", "acme", "--reason", "r"],
        &["tenant", "change-plan", "acme", "silver"],
        &["catalog", "disable", "reporting", "--reason", "r"],
        &["plan", "archive", "gold"],
        &["tenant", "import", "examples/quickstart/40-tenants.yaml"],
    ] {
        let seen = at_terminal(&dev, arguments, "n\n");
        assert_eq!(seen.code, Some(1), "{arguments:?}: {seen:?}");
        assert!(seen.screen.contains("[y/N] ") && seen.screen.contains("nothing was changed"), "{arguments:?}: {seen:?}");
        // Without a terminal there is nobody to ask.
        let said = dev.run(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
        assert!(said.err.contains("there is no terminal to ask on; say --yes"), "{arguments:?}: {said:?}");
    }
    assert_eq!(dev.good(&["digest", "-o", "json"]), before, "nothing was changed");
    dev.stop();
}

#[test]
fn long_work_shows_a_bar_to_those_who_look_on_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::ready(&folder.path().join("data"));
    let many: Vec<String> = (0..2_000).map(|n| format!("---\ntenant: many-{n}\nplan: bronze\n")).collect();
    let file = folder.path().join("many.yaml");
    std::fs::write(&file, many.concat()).unwrap();
    let import = ["tenant", "import", file.to_str().unwrap(), "--yes"];
    let seen = at_terminal(&dev, &import, "");
    assert!(seen.code == Some(0) && seen.screen.contains("importing"), "{seen:?}");
    assert!(!seen.out.contains("importing") && seen.out.contains("2000 created or changed"), "{seen:?}");
    // Programs that read an answer, and logs, see none.
    let json: Vec<&str> = import.iter().copied().chain(["-o", "json"]).collect();
    let seen = at_terminal(&dev, &json, "");
    assert!(seen.code == Some(0) && !seen.screen.contains("importing"), "{seen:?}");
    let said = dev.run(&import);
    assert!(said.code == Some(0) && !said.err.contains("importing"), "{said:?}");
    dev.stop();
}

#[test]
fn a_history_is_asked_about_before_there_is_a_store_and_is_not_typed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, new, history) = (place("old"), place("new"), place("history.jsonl"));
    Dev::ready(old.as_ref()).stop();
    let said = tessera(&["export", "--history", "--data", &old, "--out", &history], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");

    for source in [&[][..], &["-"], &["/dev/stdin"]] {
        let arguments = [&["import", "--history", "--data", &new], source].concat();
        let seen = typed(&[], &arguments, "y\n");
        assert!(seen.code == Some(1) && seen.screen.contains("read from the terminal"), "{source:?}: {seen:?}");
    }
    let import = ["import", "--history", "--data", &new, &history];
    let seen = typed(&[], &import, "n\n");
    assert!(seen.screen.contains(&format!("write the history into the database in `{new}`? [y/N] ")), "{seen:?}");
    assert!(seen.code == Some(1) && seen.screen.contains("nothing was changed"), "{seen:?}");
    assert!(!Path::new(&new).exists(), "a refused import makes no store");
    let seen = typed(&[], &import, "y\n");
    assert!(seen.code == Some(0) && seen.out.contains("request ids"), "{seen:?}");
}
