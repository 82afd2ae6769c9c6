//! What a certificate says: its names, and when it ends. It has been verified, or is our own; nothing here verifies.

use jiff::civil::DateTime;
use rustls::pki_types::CertificateDer;
use tessera_core::time::Timestamp;
use webpki::EndEntityCert;

use crate::listener::PeerCertificate;

/// Longest SPIFFE id and longest trust domain, in bytes (SPIFFE-ID, 2.3 and 2.1).
const SPIFFE_LEN_MAX: usize = 2_048;
const TRUST_DOMAIN_LEN_MAX: usize = 255;

/// What a client's certificate says.
pub(super) fn of_peer(certificate: &CertificateDer<'_>) -> PeerCertificate {
    let uri_names: Vec<String> = match EndEntityCert::try_from(certificate) {
        Ok(certificate) => certificate.valid_uri_names().map(str::to_owned).collect(),
        // It was verified, so it can be read; else it names nobody.
        Err(_) => Vec::new(),
    };
    let spiffe_id = match uri_names.as_slice() {
        [only] if is_spiffe_id(only) => Some(only.clone()),
        _ => None,
    };
    let ends = ends_at(certificate).and_then(|seconds| Timestamp::from_seconds(seconds).ok());
    PeerCertificate { spiffe_id, uri_names, ends }
}

/// Whether it is `spiffe://<trust domain>/<path>` as SPIFFE-ID, 2, has it: no port, no query, no empty or dotted part, and a
/// path, since an id without one is a trust domain's and no workload's.
pub(crate) fn is_spiffe_id(text: &str) -> bool {
    let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else { return false };
    let of_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let of_path = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    text.len() <= SPIFFE_LEN_MAX
        && (1..=TRUST_DOMAIN_LEN_MAX).contains(&domain.len())
        && domain.bytes().all(of_domain)
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(of_path))
}

/// When it ends, in seconds since 1970 (RFC 5280, 4.1: the second time in `validity`).
pub(super) fn ends_at(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
    let (SEQUENCE, signed, _) = element(certificate)? else { return None };
    // Version (which may be missing), serial number, algorithm, issuer; then the validity.
    let rest = match element(signed)? {
        (VERSION, _, rest) => element(rest)?.2,
        (_, _, rest) => rest,
    };
    let (_, _, rest) = element(rest)?;
    let (_, _, rest) = element(rest)?;
    let (SEQUENCE, validity, _) = element(rest)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (kind, time, _) = element(rest)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, rest) = match kind {
        UTC_TIME => {
            let (year, rest) = time.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = time.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let pair = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let time = DateTime::new(year, pair(0)?, pair(2)?, pair(4)?, pair(6)?, pair(8)?, 0).ok()?;
    // By the calendar alone: the last second of 9999 means "never" and is beyond what timestamps reach.
    Some(time.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0)).as_secs())
}

/// Tags of DER (X.690) that stand before a certificate's end of life.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The first element: its tag, its contents, and what is behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, len], rest) = bytes.split_first_chunk::<2>()?;
    let (len, rest) = if len < 0x80 {
        (usize::from(len), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(len & 0x7f)).filter(|(digits, _)| (1..=4).contains(&digits.len()))?;
        (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_end_is_read_whichever_way_it_is_written() {
        // Until 2049 two digits of the year are written, then four.
        for (year, month, day) in [(2027, 1, 2), (2049, 12, 31), (2050, 1, 1), (9999, 12, 31)] {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let expected = params.not_after.unix_timestamp();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(ends_at(certificate.der()), Some(expected), "{year}-{month}-{day}");
            // Whatever is missing from its end, there is an answer or none, and never a panic.
            for len in 0..certificate.der().len() {
                assert_eq!(ends_at(&CertificateDer::from(certificate.der()[..len].to_vec())), None, "{len} bytes");
            }
        }
    }

    #[test]
    fn a_spiffe_id_has_a_trust_domain_and_a_path() {
        for good in ["spiffe://example.org/a", "spiffe://example.org/ns/prod/sa/web-1_2.3", "spiffe://1/A"] {
            assert!(is_spiffe_id(good), "{good}");
        }
        let (long_domain, long) = (format!("spiffe://{}/a", "d".repeat(256)), format!("spiffe://d/{}", "p".repeat(2_048)));
        let wrong = [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://example.org",
            "spiffe://example.org/",
            "spiffe://example.org/a/",
            "spiffe://example.org//a",
            "spiffe://example.org/./a",
            "spiffe://example.org/../a",
            "spiffe://Example.org/a",
            "spiffe://example.org:8443/a",
            "spiffe://user@example.org/a",
            "spiffe://example.org/a?b=c",
            "spiffe://example.org/a#b",
            "spiffe://example.org/%61",
            "spiffe://example.org/ä",
            "SPIFFE://example.org/a",
            "https://example.org/a",
            &long_domain,
            &long,
        ];
        for text in wrong {
            assert!(!is_spiffe_id(text), "{text}");
        }
    }
}
