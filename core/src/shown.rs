//! What somebody sent, as errors repeat it: escaped, so that it cannot act on a terminal or in a log and look-alikes show, and
//! cut, so that the rest of the error still arrives.

/// Most characters that are repeated.
const CHARACTERS_MAX: usize = 64;
/// Most bytes that they may take when escaped.
const BYTES_MAX: usize = 160;

/// The text between backticks in an error: printable ASCII as it is, everything else as `\u{…}`, and `…` where it was cut.
pub fn shown(text: &str) -> String {
    let mut out = String::new();
    for (position, character) in text.chars().enumerate() {
        let before = out.len();
        match character {
            // The quotes of messages are backticks: only those could end one early.
            '`' => out.push_str("\\u{60}"),
            '\'' | '"' => out.push(character),
            _ => out.extend(character.escape_default()),
        }
        if position >= CHARACTERS_MAX || out.len() > BYTES_MAX {
            out.truncate(before);
            out.push('…');
            break;
        }
    }
    out
}

/// Most bytes that are repeated.
const HEX_BYTES_MAX: usize = 24;

/// Bytes between backticks in an error, in hexadecimal, and `…` where they were cut.
pub fn shown_bytes(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("0x");
    for byte in bytes.iter().take(HEX_BYTES_MAX) {
        // Writing to a string does not fail.
        let _infallible = write!(out, "{byte:02x}");
    }
    if bytes.len() > HEX_BYTES_MAX {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_act_or_deceive_is_escaped() {
        for (text, expected) in [
            ("acme-1", "acme-1"),
            ("it's \"so\"", "it's \"so\""),
            ("a\\b", "a\\\\b"),
            ("a`b", "a\\u{60}b"),
            ("a\u{0}\u{7f}\r\n\t", "a\\u{0}\\u{7f}\\r\\n\\t"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("\u{430}cme", "\\u{430}cme"),
            ("\u{202e}\u{200b}e\u{301}\u{ff41}", "\\u{202e}\\u{200b}e\\u{301}\\u{ff41}"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"x".repeat(64)), "x".repeat(64));
        assert_eq!(shown(&"x".repeat(65)), format!("{}…", "x".repeat(64)));
        assert_eq!(shown(&"\u{10ffff}".repeat(64)), format!("{}…", "\\u{10ffff}".repeat(16)));
    }

    #[test]
    fn bytes_are_shown_in_hexadecimal() {
        assert_eq!(shown_bytes(&[]), "0x");
        assert_eq!(shown_bytes(&[0, 255]), "0x00ff");
        assert_eq!(shown_bytes(&[1; 25]), format!("0x{}…", "01".repeat(24)));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_short_and_printable(text in "\\PC{0,100}|(?s:.{0,100})") {
            let shown = shown(&text);
            prop_assert!(shown.len() <= BYTES_MAX + '…'.len_utf8());
            prop_assert!(shown.trim_end_matches('…').bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'`'), "{shown}");
        }
    }
}
