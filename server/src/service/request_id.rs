//! The metadata `tessera-request-id` of everything that goes back: what the caller named the call by, or a name made for it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

/// The name of the metadata.
pub(super) const HEADER: HeaderName = HeaderName::from_static("tessera-request-id");

/// Makes the names of one process. They are no secrets and no keys of anything.
#[derive(Debug)]
pub(super) struct RequestIds {
    /// When the process began, in nanoseconds since 1970: other processes began at other times.
    process: u64,
    made: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(begun: Timestamp) -> Self {
        Self { process: u64::try_from(begun.as_nanos()).unwrap_or(0), made: AtomicU64::new(0) }
    }

    /// The caller's id, if it is one; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        let given = headers.get(HEADER).filter(|value| value.to_str().is_ok_and(|text| RequestId::check(text).is_ok()));
        let mut value = given.cloned().unwrap_or_else(|| self.next());
        // It never comes again: header compression need not remember it.
        value.set_sensitive(true);
        value
    }

    /// 16 hexadecimal digits for the process and 16 for the call.
    fn next(&self) -> HeaderValue {
        let call = self.made.fetch_add(1, Ordering::Relaxed);
        let mut text = [0; 32];
        let numbers = self.process.to_be_bytes().into_iter().chain(call.to_be_bytes());
        for (place, byte) in text.chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        // Hexadecimal digits are a header's value.
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text)).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
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
        assert_eq!(of(b""), "000000003b9aca000000000000000000");
        assert_eq!(of("é".as_bytes()), "000000003b9aca000000000000000001");
        assert_eq!(of(&[b'x'; 65]), "000000003b9aca000000000000000002");
        assert!(ids.of(&HeaderMap::new()).is_sensitive());
    }
}
