//! What stands where in a document: every key and value with its place, its path and its text as written.
//!
//! The reader of documents knows lines and columns only, and numbers no longer as they were written. This is read where
//! somebody is to be told about a field, and where a number may be written otherwise than documents write them.

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};
use tessera_core::shown::shown;

/// Most keys and values that are looked at: more than any document has.
const NODES_MAX: usize = 200_000;
/// Deepest nesting that is followed; documents need six levels.
const DEPTH_MAX: usize = 32;

/// A key or a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    /// From 1.
    pub(super) column: usize,
    /// Such as `services.reporting.features[1]`; empty for the whole document. A key has the path of its value.
    pub(super) path: String,
    /// Whether it is a key.
    pub(super) is_key: bool,
    /// What it is.
    pub(super) form: Form,
    /// The tag it carries, such as `!!str`.
    pub(super) tag: Option<String>,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// A text without quotes, which may be a number or a boolean.
    Plain(String),
    /// A text in quotes, or a block.
    Quoted(String),
    /// `[…]`
    List,
    /// `{…}`
    Mapping,
    /// `*…`
    Alias,
}

/// A mapping or list that was entered.
enum Frame {
    Mapping { path: String, key: Option<String> },
    List { path: String, next: usize },
}

/// The nodes of a document in the order in which they stand, up to where it stops being YAML.
pub(super) fn of(text: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut frames: Vec<Frame> = Vec::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let (form, tag) = match event {
            Event::Scalar(value, ScalarStyle::Plain, _, tag) => (Form::Plain(value.into_owned()), tag),
            Event::Scalar(value, _, _, tag) => (Form::Quoted(value.into_owned()), tag),
            Event::SequenceStart(_, _, tag) => (Form::List, tag),
            Event::MappingStart(_, _, tag) => (Form::Mapping, tag),
            Event::Alias(_) => (Form::Alias, None),
            Event::SequenceEnd | Event::MappingEnd => {
                frames.pop();
                continue;
            }
            _ => continue,
        };
        if nodes.len() >= NODES_MAX || frames.len() >= DEPTH_MAX {
            break;
        }
        let (path, is_key) = frames.last_mut().map_or_else(Default::default, |frame| frame.enter(&form));
        match &form {
            Form::List => frames.push(Frame::List { path: path.clone(), next: 0 }),
            Form::Mapping => frames.push(Frame::Mapping { path: path.clone(), key: None }),
            _ => {}
        }
        let tag = tag.map(|tag| tag.to_string().replace("tag:yaml.org,2002:", "!!"));
        nodes.push(Node { line: span.start.line(), column: span.start.col() + 1, path, is_key, form, tag });
    }
    nodes
}

impl Frame {
    /// The path of what comes next in it, and whether that is a key.
    fn enter(&mut self, form: &Form) -> (String, bool) {
        match self {
            Self::List { path, next } => {
                let at = format!("{path}[{next}]");
                *next += 1;
                (at, false)
            }
            Self::Mapping { path, key } => {
                if let Some(key) = key.take() {
                    return (key, false);
                }
                let at = match form {
                    Form::Plain(name) | Form::Quoted(name) => below(path, name),
                    _ => path.clone(),
                };
                *key = Some(at.clone());
                (at, true)
            }
        }
    }
}

/// The path of a key. What could be taken for more than one step stands in brackets.
pub(super) fn below(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.len() <= 128 && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[\"{}\"]", shown(key)),
    }
}

/// What stands at a place, or last before it: the field at fault, and its value if there is one.
pub(super) fn at(nodes: &[Node], line: usize, column: usize) -> Option<(&Node, &Node)> {
    let after = nodes.partition_point(|node| (node.line, node.column) <= (line, column));
    let found = nodes.get(after.checked_sub(1)?)?;
    let value = nodes.get(after).filter(|next| found.is_key && next.path == found.path);
    Some((found, value.unwrap_or(found)))
}

/// The path of the mapping that begins at a place, or last before it.
pub(super) fn mapping_at(nodes: &[Node], line: usize, column: usize) -> &str {
    let is_there = |node: &&Node| node.form == Form::Mapping && (node.line, node.column) == (line, column);
    let is_before = |node: &&Node| node.form == Form::Mapping && (node.line, node.column) <= (line, column);
    let found = nodes.iter().find(is_there).or_else(|| nodes.iter().rfind(is_before));
    found.map_or("", |node| &node.path)
}

/// The first value that is a number to YAML and is not written as documents write numbers, such as `0x10`, `1_000` or `017`;
/// or that carries a tag of more than the plainest kinds.
pub(super) fn first_odd(text: &str) -> Option<Node> {
    // Few documents have any: those that have none are not read twice.
    let suspicious = text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}')).any(is_odd_number);
    if !suspicious && !text.contains("!!") {
        return None;
    }
    of(text).into_iter().find(|node| match (&node.tag, &node.form) {
        (Some(tag), _) => !["str", "int", "bool", "null", "map", "seq"].iter().any(|plain| tag.ends_with(plain)),
        (None, Form::Plain(value)) => is_odd_number(value),
        _ => false,
    })
}

fn is_odd_number(text: &str) -> bool {
    let signed = text.strip_prefix(['+', '-']);
    let digits = signed.unwrap_or(text);
    let all = |digits: &str, of: fn(&u8) -> bool| digits.bytes().all(|b| b == b'_' || of(&b)) && digits.bytes().any(|b| of(&b));
    let whole = digits.starts_with(|c: char| c.is_ascii_digit()) && all(digits, u8::is_ascii_digit);
    let based = [
        ("0x", u8::is_ascii_hexdigit as fn(&u8) -> bool),
        ("0X", u8::is_ascii_hexdigit),
        ("0o", |b| matches!(b, b'0'..=b'7')),
        ("0b", |b| matches!(b, b'0' | b'1')),
    ]
    .iter()
    .any(|(base, of)| digits.strip_prefix(base).is_some_and(|rest| all(rest, *of)));
    let odd =
        text.starts_with('+') || digits.contains('_') || (digits.starts_with('0') && (digits.len() > 1 || signed.is_some()));
    based || (whole && odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_value_has_its_path() {
        let text = "plan: gold\nservices:\n  a:\n    features: [x, {\"b.c\": 1}]\nlimits: {m: 5}\n";
        let paths: Vec<(String, usize, usize)> =
            of(text).into_iter().filter(|node| !node.is_key).map(|node| (node.path, node.line, node.column)).collect();
        let expected = [
            ("", 1, 1),
            ("plan", 1, 7),
            ("services", 3, 3),
            ("services.a", 4, 5),
            ("services.a.features", 4, 15),
            ("services.a.features[0]", 4, 16),
            ("services.a.features[1]", 4, 19),
            ("services.a.features[1][\"b.c\"]", 4, 27),
            ("limits", 5, 9),
            ("limits.m", 5, 13),
        ];
        assert_eq!(paths, expected.map(|(path, line, column)| (path.to_owned(), line, column)));
        let nodes = of(text);
        let (field, value) = at(&nodes, 5, 10).unwrap();
        assert_eq!((field.path.as_str(), &value.form), ("limits.m", &Form::Plain("5".to_owned())));
    }

    #[test]
    fn odd_numbers_are_told_from_plain_ones_and_from_words() {
        for odd in ["0x10", "-0x1f", "0o17", "0b101", "1_000", "+5", "-0", "017", "00", "1__0"] {
            assert!(is_odd_number(odd), "{odd}");
        }
        for plain in [
            "0",
            "5",
            "-1",
            "1000",
            "1e3",
            "0x",
            "a_1",
            "_1",
            "2026-01-01T00:00:00Z",
            "-",
            "+",
            "",
            "1.5",
            "max_users",
            "0day",
            "0b2",
            "0o8",
        ] {
            assert!(!is_odd_number(plain), "{plain}");
        }
    }

    #[test]
    fn the_writer_puts_every_text_in_quotes_that_would_be_refused_as_a_number() {
        // All short texts of what numbers are made of, and a little more.
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer = texts.iter().flat_map(|text| "0129_boxa-".chars().map(move |next| format!("{text}{next}")));
            texts.extend(longer.collect::<Vec<_>>());
            texts.sort_unstable();
            texts.dedup();
        }
        let odd: Vec<String> = texts.into_iter().filter(|text| is_odd_number(text)).collect();
        assert!(odd.len() > 1_000, "{}", odd.len());
        for text in odd {
            let written = super::super::yaml::to_string(&text);
            assert!(written.starts_with(['"', '\'']), "`{text}` is written as {written}");
        }
    }
}
