//! `traceparent` of W3C Trace Context: which trace a call belongs to, and whether its caller samples it. Nothing else is read:
//! `tracestate` is for those who call on, and no call of ours goes on.

use tonic::codegen::http::HeaderMap;

const HEADER: &str = "traceparent";
/// Version, trace, span and flags, each in lower-case hexadecimal digits, with dashes between.
const LEN: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// What a caller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) sampled: bool,
}

impl Parent {
    /// That of a request. What is malformed, or there twice, is as if it were not there.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(HEADER).iter();
        let (Some(value), None) = (all.next(), all.next()) else { return None };
        Self::parse(value.as_bytes())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LEN)?;
        let mut parts = head.split(|byte| *byte == b'-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let ([version], trace, span, [flags]) = (hex::<1>(version)?, hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        // Later versions may say more behind another dash; 255 is none.
        let whole =
            if version == 0 { rest.is_empty() } else { version != u8::MAX && rest.first().is_none_or(|byte| *byte == b'-') };
        let is_one = whole && parts.next().is_none() && trace != [0; 16] && span != [0; 8];
        is_one.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

/// So many bytes, of twice as many digits.
fn hex<const LEN: usize>(digits: &[u8]) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != LEN || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_callers_say_is_read() {
        let parent = Parent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(parent.trace.first_chunk(), Some(&[0x4b, 0xf9, 0x2f, 0x35]));
        assert_eq!(parent.span, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.sampled);
        assert!(!Parent::parse(GOOD.replace("-01", "-00").as_bytes()).unwrap().sampled);
        assert!(Parent::parse(GOOD.replace("-01", "-ff").as_bytes()).unwrap().sampled);
        let later = format!("cc{}-more", &GOOD[2..]);
        assert_eq!(Parent::parse(later.as_bytes()), Some(parent));
    }

    #[test]
    fn what_is_malformed_is_as_if_it_were_not_there() {
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let no_span = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let (shorter, longer) = (&GOOD[..54], format!("{GOOD}-more"));
        let (upper, reserved) = (GOOD.to_uppercase(), GOOD.replacen("00", "ff", 1));
        let (dashes, glued) = (GOOD.replacen('-', "+", 1), format!("01{}x", &GOOD[2..]));
        for bad in ["", "-", "00", zeros, no_span, shorter, &longer, &upper, &reserved, &dashes, &glued, "00---01"] {
            assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append(HEADER, GOOD.parse().unwrap());
        assert!(Parent::of(&headers).is_some());
        headers.append(HEADER, GOOD.parse().unwrap());
        assert_eq!(Parent::of(&headers), None, "twice");
    }
}
