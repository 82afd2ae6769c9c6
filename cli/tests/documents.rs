//! What documents tell people to type: every line for a shell that begins with `tessera` is one that the program takes.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use tessera_cli::arguments::Arguments;

/// Folders that are not ours.
const FOREIGN: [&str; 3] = ["target", "node_modules", ".git"];

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !FOREIGN.iter().any(|name| path.ends_with(name)) {
                documents(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The lines for a shell, and the numbers of them.
fn typed(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut within = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            within = !within && kind == "sh";
            return None;
        }
        within.then_some((number + 1, line))
    })
}

#[test]
fn what_documents_say_to_type_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    documents(root, &mut found);
    let mut taken = 0;
    for path in found {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in typed(&text) {
            let line = line.split(" #").next().unwrap_or_default();
            for command in line.split(['|', ';', '&', '>']).map(str::trim).filter(|command| command.starts_with("tessera ")) {
                if let Err(refused) = Arguments::try_parse_from(command.split_whitespace()) {
                    panic!("{}:{number}: `{command}`: {refused}", path.display());
                }
                taken += 1;
            }
        }
    }
    assert!(taken >= 20, "only {taken} commands were found");
}
