//! Documents: what reads, what is refused and how, and that writing is the inverse of reading.

mod bad_input;
mod examples;
pub(crate) mod round_trip;
mod wire;

use super::*;

fn read_all(text: &str) -> Vec<Result<Located, DocumentError>> {
    read("test.yaml", text.as_bytes()).collect()
}

#[track_caller]
fn read_one(text: &str) -> Document {
    let mut documents = read_all(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap().document
}

#[track_caller]
fn refusal(text: &str) -> String {
    let mut documents = read_all(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap_err().to_string()
}

#[test]
fn several_documents_know_their_lines_and_empty_ones_are_skipped() {
    let text = "# nothing but a comment\n---\nservice: a\n---\n\n# a limit\nlimit: b\n---\n---\nplan: c\nx: 1\n---\ntenant: T\nplan: c\n";
    let all = read_all(text);
    let lines: Vec<Option<(usize, String)>> =
        all.iter().map(|located| located.as_ref().ok().map(|l| (l.line, l.document.to_string()))).collect();
    assert_eq!(lines, [Some((3, "service `a`".into())), Some((7, "limit `b`".into())), None, Some((13, "tenant `T`".into()))]);
    let error = all[2].as_ref().unwrap_err();
    assert_eq!((error.line, error.column), (11, 1), "{error}");
}

#[test]
fn the_example_of_the_contract_reads() {
    let text = include_str!("tests/contract.yaml");
    let documents: Vec<Document> = read_all(text).into_iter().map(|located| located.unwrap().document).collect();
    let names: Vec<String> = documents.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "service `entity-management`",
            "limit `max_users`",
            "limit `max_api_calls_per_day`",
            "plan `gold`",
            "add-on `extra-seats`",
            "tenant `acme`"
        ]
    );
    let Document::Tenant(_, tenant) = &documents[5] else { panic!("a tenant") };
    assert_eq!(tenant.overrides.access.len() + tenant.overrides.limits.len(), 2);
    assert_eq!(tenant.scheduled.len(), 1);
    for document in documents {
        assert_eq!(read_one(&document.to_yaml()), document, "{}", document.to_yaml());
    }
}

#[test]
fn documents_are_cut_as_they_are_read() {
    // A reader that would go on for ever is read no further than asked for.
    let endless = std::io::Read::chain(b"service: a\n---\nservice: b\n---\n".as_slice(), std::io::repeat(b'#'));
    let mut documents = read("endless", std::io::BufReader::with_capacity(16, endless));
    assert_eq!(documents.next().unwrap().unwrap().document.id(), "a");
    assert_eq!(documents.next().unwrap().unwrap().document.id(), "b");
    let error = documents.next().unwrap().unwrap_err();
    assert!(error.message.contains("more than 1048576 bytes"), "{error}");
    assert!(documents.next().is_none());
}

#[test]
fn the_published_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/schema/document.json");
    let published = std::fs::read_to_string(path).unwrap_or_default();
    let current = format!("{:#}\n", schema());
    assert!(published == current, "write it again: cargo run -- schema > examples/schema/document.json");
}
