//! The metadata `tessera-request-id` of everything that goes back: what the caller named the call by, or a name made for it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

/// The name of the metadata.
pub(super) const HEADER: HeaderName = HeaderName::from_static("tessera-request-id");

/// Digits of the process in a made name: 64 bits in base 32.
const PROCESS_LEN: usize = 13;
/// Digits, a dash, and at most 16 hexadecimal digits of the call. Short on purpose: every byte of a header is encoded for every
/// answer.
const NAME_LEN_MAX: usize = PROCESS_LEN + 1 + 16;

/// Makes the names of one process. They are no secrets and no keys of anything.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// When the process began, in nanoseconds since 1970: other processes began at other times.
    process: [u8; PROCESS_LEN],
    made: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(begun: Timestamp) -> Self {
        let mut rest = u64::try_from(begun.as_nanos()).unwrap_or(0);
        let mut process = [0; PROCESS_LEN];
        for place in process.iter_mut().rev() {
            *place = digit(rest % 32);
            rest /= 32;
        }
        Self { process, made: AtomicU64::new(0) }
    }

    /// The caller's id, if it is one; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(HEADER).filter(|value| value.to_str().is_ok_and(|text| RequestId::check(text).is_ok()));
        let mut value = given.cloned().unwrap_or_else(|| self.next());
        // It never comes again: header compression need not remember it.
        value.set_sensitive(true);
        value
    }

    /// The process, a dash, and the number of the call in as few hexadecimal digits as it has.
    fn next(&self) -> HeaderValue {
        let mut rest = self.made.fetch_add(1, Ordering::Relaxed);
        let mut text = [b'-'; NAME_LEN_MAX];
        let mut unused = NAME_LEN_MAX;
        for place in text.iter_mut().rev() {
            *place = digit(rest % 16);
            unused = unused.saturating_sub(1);
            rest /= 16;
            if rest == 0 {
                break;
            }
        }
        let first = unused.saturating_sub(PROCESS_LEN + 1);
        if let Some(process) = text.get_mut(first..first + PROCESS_LEN) {
            process.copy_from_slice(&self.process);
        }
        // Digits and dashes are a header's value.
        let name = Bytes::copy_from_slice(text.get(first..).unwrap_or_default());
        HeaderValue::from_maybe_shared(name).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// A digit of base 32 at most.
fn digit(value: u64) -> u8 {
    u8::try_from(value).map_or(b'?', |value| if value < 10 { b'0' + value } else { b'a' + (value - 10) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_name_is_kept_and_what_is_none_is_replaced() {
        let ids = RequestIds::new(Timestamp::from_seconds(1).unwrap());
        let of = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(given).unwrap());
            ids.of(&headers).to_str().unwrap().to_owned()
        };
        assert_eq!(of(b"import 7/row:3"), "import 7/row:3");
        assert_eq!(of(b""), "0000000tplig0-0");
        assert_eq!(of("é".as_bytes()), "0000000tplig0-1");
        assert_eq!(of(&[b'x'; 65]), "0000000tplig0-2");
        ids.made.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(of(b""), "0000000tplig0-ffffffffffffffff");
        assert!(ids.of(&HeaderMap::new()).is_sensitive());
    }
}
