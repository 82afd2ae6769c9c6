//! Keeps errors short enough to arrive.
//!
//! gRPC sends an error in HTTP/2 trailers, and peers give up on a header list beyond a size of theirs (8 KiB by default in
//! Java, 16 KiB in Rust): the caller would see a broken connection where we meant to name a field. Requests can be far longer
//! than that and errors repeat parts of them, so texts are cut here and violations that no longer fit are counted only.

use tonic::Code;

use super::{Failure, VIOLATIONS_LEFT_OUT};

/// Longest message, in bytes; it is sent twice, once with every byte that is not ASCII as three.
const MESSAGE_LEN_MAX: usize = 500;
/// Longest path of a field, in bytes.
const FIELD_LEN_MAX: usize = 160;
/// Longest description of what is wrong with a field, in bytes.
const DESCRIPTION_LEN_MAX: usize = 400;
/// Most bytes of all violations together. One of the longest always fits.
const VIOLATIONS_LEN_MAX: usize = 2_400;
/// Stands where something was cut out.
const GAP: &str = " … ";

/// Cuts what is too long to arrive.
pub(super) fn keep(failure: &mut Failure) {
    shorten(&mut failure.message, MESSAGE_LEN_MAX);
    // A precondition repeats the reason for each.
    let each_len = if failure.code == Code::FailedPrecondition { failure.reason.len() } else { 0 };
    let (mut len, mut kept) = (0, 0);
    for violation in &mut failure.violations {
        shorten(&mut violation.field, FIELD_LEN_MAX);
        shorten(&mut violation.description, DESCRIPTION_LEN_MAX);
        len += each_len + violation.field.len() + violation.description.len();
        if len > VIOLATIONS_LEN_MAX {
            break;
        }
        kept += 1;
    }
    let left_out = failure.violations.len().saturating_sub(kept);
    if left_out > 0 {
        failure.violations.truncate(kept);
        failure.metadata.push((VIOLATIONS_LEFT_OUT, left_out.to_string()));
    }
}

/// Cuts the middle out: the beginning says what is wrong, the end what is allowed.
fn shorten(text: &mut String, len_max: usize) {
    if text.len() <= len_max {
        return;
    }
    let room = len_max.saturating_sub(GAP.len());
    let head = text.floor_char_boundary(room / 2);
    let tail = text.ceil_char_boundary(text.len().saturating_sub(room / 2));
    text.replace_range(head..tail, GAP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_cut_at_characters() {
        for len in 0..40 {
            let mut text = "ä".repeat(len);
            let whole = text.clone();
            shorten(&mut text, 30);
            assert!(text.len() <= 30, "{text}");
            if whole.len() <= 30 {
                assert_eq!(text, whole);
            } else {
                let (head, tail) = text.split_once(GAP).unwrap();
                assert!(whole.starts_with(head) && whole.ends_with(tail) && head.len() >= 10 && tail.len() >= 10, "{text}");
            }
        }
    }
}
