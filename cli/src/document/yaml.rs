//! The one place that knows the YAML library: reading with limits, faults with their place, writing.
//!
//! A file is cut into documents at the lines that begin with `---`, which YAML allows nowhere else, so that any number of
//! documents is read with the memory of one. Anchors work within a document, up to a small bound; merge keys and unknown tags,
//! which make a document mean something other than it shows, are refused.

use std::io::BufRead;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Error;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use tessera_core::shown::shown;

use super::outline::{self, Form};
use super::{DOCUMENT_LEN_MAX, words};

/// Most mappings, lists and values of one document: 500 overrides of five fields, or 5,000 features with title and
/// description, several times over.
pub(super) const NODES_MAX: usize = 60_000;
/// Most uses of anchors in one document, and most nodes they may unfold to: what makes YAML bombs harmless.
pub(super) const ALIASES_MAX: usize = 100;
pub(super) const ALIAS_NODES_MAX: usize = 10_000;
/// Deepest nesting. Documents need six levels.
pub(super) const DEPTH_MAX: usize = 16;

/// Something wrong in a document, by line and column within it, both from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Path of the field; empty for the whole document and for what is not YAML.
    pub(super) field: String,
    pub(super) message: String,
}

impl Fault {
    /// At the first line that says anything.
    pub(super) fn at_start(text: &str, message: String) -> Self {
        Self { line: first_content(text) + 1, column: 1, field: String::new(), message }
    }
}

/// How many lines stand before the first that says anything.
fn first_content(text: &str) -> usize {
    let silent = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---";
    let before = text.lines().take_while(|line| silent(line)).count();
    if before == text.lines().count() { 0 } else { before }
}

/// One document's text and the line of the file that it begins at, from 1.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Piece {
    /// The line of the file with the first content.
    pub(super) fn content_line(&self) -> usize {
        self.line + first_content(&self.text)
    }
}

/// Cuts a file into documents.
pub(super) fn split<R: BufRead>(mut reader: R) -> impl Iterator<Item = Result<Piece, Fault>> {
    let mut next_line = 1;
    let mut held: Option<String> = None;
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let line = next_line;
        let mut text = String::new();
        if let Some(separator) = held.take() {
            text.push_str(&separator);
            next_line += 1;
        }
        loop {
            let mut bytes = Vec::new();
            let limit = u64::try_from(DOCUMENT_LEN_MAX + 1 - text.len()).unwrap_or(0);
            let read = std::io::Read::take(&mut reader, limit).read_until(b'\n', &mut bytes);
            let fault = |message: String| Some(Err(Fault { line: next_line, column: 1, field: String::new(), message }));
            let row = match read.map(|_| String::from_utf8(bytes)) {
                Ok(Ok(row)) => row,
                Ok(Err(error)) => {
                    over = true;
                    return fault(format!("byte {} of this line is not UTF-8", error.utf8_error().valid_up_to() + 1));
                }
                Err(error) => {
                    over = true;
                    return fault(format!("cannot read on: {error}"));
                }
            };
            if row.is_empty() {
                over = true;
                break;
            }
            if text.len() + row.len() > DOCUMENT_LEN_MAX {
                over = true;
                let message = format!("the document has more than {DOCUMENT_LEN_MAX} bytes, the most that is allowed");
                return Some(Err(Fault { line, column: 1, field: String::new(), message }));
            }
            let separates =
                row.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
            if separates && !(line == next_line && text.is_empty()) && !is_head(&text) {
                held = Some(row);
                break;
            }
            text.push_str(&row);
            next_line += 1;
        }
        Some(Ok(Piece { line, text }))
    })
}

/// Whether there is nothing yet but directives such as `%YAML 1.2`, which belong to the document that follows.
fn is_head(text: &str) -> bool {
    let silent = |line: &str| line.trim().is_empty() || line.starts_with(['#', '%']);
    text.lines().all(silent) && text.lines().any(|line| line.starts_with('%'))
}

fn options(strict_booleans: bool) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: 1,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
            max_anchors: ALIASES_MAX,
            max_total_scalar_bytes: DOCUMENT_LEN_MAX,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_NODES_MAX,
            max_replay_stack_depth: 8,
            max_alias_expansions_per_anchor: ALIASES_MAX,
        },
        strict_booleans: strict_booleans,
        // Texts that YAML takes for something else must be quoted.
        no_schema: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
    }
}

/// Reads a document as `T`. Unquoted `no`, `on`, `12` are not texts.
pub(super) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str_with_options(text, options(false)).map_err(|error| fault(text, &error))
}

/// Like [`from_str`], where `yes`, `no`, `on`, `off` are not booleans either.
pub(super) fn from_str_strict_booleans<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    serde_saphyr::from_str_with_options(text, options(true)).map_err(|error| fault(text, &error))
}

/// The keys of a document, in order; `None` when it is empty.
pub(super) fn keys(text: &str) -> Result<Option<Vec<String>>, Fault> {
    from_str::<Option<Keys>>(text).map(|keys| keys.map(|Keys(keys)| keys))
}

fn fault(text: &str, error: &Error) -> Fault {
    let Some(location) = error.location().filter(|location| location.line() > 0) else {
        return Fault::at_start(text, words::of(error, None));
    };
    let line = usize::try_from(location.line()).unwrap_or(1);
    let column = usize::try_from(location.column()).unwrap_or(1);
    let nodes = outline::of(text);
    let found = outline::at(&nodes, line, column);
    let message = words::of(error, found);
    match (error, found) {
        // What is not YAML, or not one document of bearable size, is no field's fault.
        (Error::ExternalMessage { .. } | Error::Budget { .. } | Error::MultipleDocuments { .. }, _) | (_, None) => {
            Fault { line, column, field: String::new(), message }
        }
        (Error::SerdeMissingField { field, .. }, _) => {
            let field = outline::below(outline::mapping_at(&nodes, line, column), field);
            Fault { line, column, field, message }
        }
        (Error::Message { msg, .. }, _) if msg.contains(words::WHOLE) => {
            Fault { line, column, field: outline::mapping_at(&nodes, line, column).to_owned(), message }
        }
        // The library says where the key is.
        (Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. }, Some((_, value))) => {
            Fault { line: value.line, column: value.column, field: value.path.clone(), message }
        }
        (_, Some((field, _))) => Fault { line, column, field: field.path.clone(), message },
    }
}

/// Refuses numbers that are written otherwise than documents write them, and values that a tag makes something else.
pub(super) fn check_oddities(text: &str) -> Result<(), Fault> {
    let Some(odd) = outline::first_odd(text) else { return Ok(()) };
    let message = match (&odd.tag, &odd.form) {
        (Some(tag), _) => format!("the tag `{}` is not allowed; allowed are plain values", shown(tag)),
        (None, Form::Plain(number)) => {
            let allowed = "a number is written in decimal digits, such as 1000, and a text that looks like one in quotes";
            format!("`{}` is not allowed; {allowed}", shown(number))
        }
        _ => return Ok(()),
    };
    Err(Fault { line: odd.line, column: odd.column, field: odd.path, message })
}

/// Writes a value as a document without the line `---`.
pub(super) fn to_string<T: Serialize>(value: &T) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(value, options)
        .expect("documents are mappings of texts and numbers, which YAML can write");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping with one of the keys `service`, `limit`, `plan`, `add_on` and `tenant`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}
