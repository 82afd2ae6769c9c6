//! The metrics of identity. docs/METRICS.md lists them, and a test compares.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Refused;

/// Calls that were refused because of who called.
pub(super) const REFUSED: &str = "tessera_identity_refused_total";
/// Streams that were ended because of who had opened them.
pub(super) const STREAMS_ENDED: &str = "tessera_identity_streams_ended_total";
/// Changes of the file of API tokens.
pub(super) const TOKEN_FILE_READ: &str = "tessera_identity_token_file_read_total";
/// Readings of an issuer's keys.
pub(super) const KEYS_READ: &str = "tessera_identity_issuer_keys_read_total";
/// Keys of an issuer.
pub(super) const KEYS: &str = "tessera_identity_issuer_keys";

const REFUSED_MEANING: &str = "calls refused because of who called, by why";
const STREAMS_ENDED_MEANING: &str = "streams ended since their caller would not be let in any more, or as somebody else, by why";
const TOKEN_FILE_READ_MEANING: &str = "changes of the file of API tokens, by whether they could be read";
const KEYS_READ_MEANING: &str = "readings of the keys of an issuer of JSON Web Tokens, by issuer and whether they could be had";
const KEYS_MEANING: &str = "keys that tokens of an issuer are verified with, by issuer; 0 refuses all its tokens";

/// Says what each means, to the recorder of this process.
pub(super) fn describe() {
    describe_counter!(REFUSED, REFUSED_MEANING);
    describe_counter!(STREAMS_ENDED, STREAMS_ENDED_MEANING);
    describe_counter!(TOKEN_FILE_READ, TOKEN_FILE_READ_MEANING);
    describe_counter!(KEYS_READ, KEYS_READ_MEANING);
    describe_gauge!(KEYS, Unit::Count, KEYS_MEANING);
}

pub(super) fn refused(refused: &Refused) {
    counter!(REFUSED, "reason" => refused.name()).increment(1);
}

pub(super) fn stream_ended(refused: &Refused) {
    counter!(STREAMS_ENDED, "reason" => refused.name()).increment(1);
}

pub(super) fn token_file_read(result: &'static str) {
    counter!(TOKEN_FILE_READ, "result" => result).increment(1);
}

/// A file of tokens is followed: its counters are there from the start, so that the first failure is seen to be one more.
pub(super) fn token_file_followed() {
    for result in ["ok", "failed"] {
        counter!(TOKEN_FILE_READ, "result" => result).increment(0);
    }
}

pub(super) fn keys_read(issuer: &str, result: &'static str) {
    counter!(KEYS_READ, "issuer" => issuer.to_owned(), "result" => result).increment(1);
}

pub(super) fn keys(issuer: &str, count: usize) {
    gauge!(KEYS, "issuer" => issuer.to_owned()).set(u32::try_from(count).map_or(f64::MAX, f64::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_them() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md")).unwrap();
        for row in [
            format!("| `{REFUSED}` | counter | `reason` | {REFUSED_MEANING} |"),
            format!("| `{STREAMS_ENDED}` | counter | `reason` | {STREAMS_ENDED_MEANING} |"),
            format!("| `{TOKEN_FILE_READ}` | counter | `result` | {TOKEN_FILE_READ_MEANING} |"),
            format!("| `{KEYS_READ}` | counter | `issuer`, `result` | {KEYS_READ_MEANING} |"),
            format!("| `{KEYS}` | gauge | `issuer` | {KEYS_MEANING} |"),
        ] {
            assert!(page.contains(&row), "docs/METRICS.md lacks the row\n{row}");
        }
    }
}
