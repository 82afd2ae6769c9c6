//! The caller's deadline as it travels: the header `grpc-timeout`, read strictly and in one place for both planes.

use std::time::Duration;

use tessera_core::shown::{shown, shown_bytes};

use crate::status::Failure;

/// Carries the time that the caller still waits.
pub const TIMEOUT_HEADER: &str = "grpc-timeout";
/// No call is waited for longer: a day.
const MOST: Duration = Duration::from_hours(24);
/// Most digits of a timeout, by the specification of gRPC.
const DIGITS_MAX: usize = 8;

/// The time that the caller still waits, at most a day, from the value of [`TIMEOUT_HEADER`]; `None` without one. `Err` when the
/// header says nothing that gRPC knows: to go on without a deadline would be to guess.
pub fn time_left(header: Option<&[u8]>) -> Result<Option<Duration>, Failure> {
    let Some(value) = header else { return Ok(None) };
    let left = std::str::from_utf8(value).ok().and_then(parse);
    left.map(Some).ok_or_else(|| malformed(value))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    let left = match unit {
        "H" => Duration::from_secs(count.saturating_mul(3_600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    };
    Some(left.min(MOST))
}

#[cold]
fn malformed(value: &[u8]) -> Failure {
    let given = std::str::from_utf8(value).map_or_else(|_| shown_bytes(value), shown);
    let description = format!("`{given}` is not a timeout; allowed are 1 to 8 digits and one of H M S m u n");
    Failure::invalid_field(TIMEOUT_HEADER, description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_in_every_unit() {
        for (text, expected) in [
            ("0n", Some(Duration::ZERO)),
            ("999n", Some(Duration::from_nanos(999))),
            ("7u", Some(Duration::from_micros(7))),
            ("7m", Some(Duration::from_millis(7))),
            ("2S", Some(Duration::from_secs(2))),
            ("3M", Some(Duration::from_mins(3))),
            ("4H", Some(Duration::from_hours(4))),
            ("99999999H", Some(MOST)),
            ("00000001S", Some(Duration::from_secs(1))),
        ] {
            assert_eq!(time_left(Some(text.as_bytes())), Ok(expected), "{text}");
        }
        assert_eq!(time_left(None), Ok(None));
    }

    #[test]
    fn anything_else_is_refused_and_shown() {
        let bad = ["", "7", "S", "x7S", "+7S", "-7S", " 7S", "7 S", "7s", "7.5S", "7µ", "123456789n", "99999999999999999999S"];
        for text in bad.map(str::as_bytes).into_iter().chain([&[0xff, b'S'][..]]) {
            let failure = time_left(Some(text)).expect_err("it is malformed");
            let shown = failure.message();
            assert!(shown.contains(TIMEOUT_HEADER) && shown.contains("1 to 8 digits"), "{shown}");
        }
    }
}
