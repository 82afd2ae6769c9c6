//! What every call goes through before its message is read: its deadline, whether the data is there, whether the process ends.

use std::time::Duration;

use tessera_core::shown::shown_bytes;
use tessera_proto::status::Failure;
use tokio::time::Instant;
use tonic::codegen::http::HeaderMap;

use super::Parts;

/// Carries the time that the caller still waits.
const TIMEOUT: &str = "grpc-timeout";
/// Nobody can be answered in less.
const LEAST_TIME: Duration = Duration::from_micros(1);
/// No call is waited for longer: a day.
const MOST_TIME: Duration = Duration::from_hours(24);
/// Most digits of a timeout, by the specification of gRPC.
const DIGITS_MAX: usize = 8;

impl Parts {
    /// Lets a call in. Gives the caller's deadline.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Option<Instant>, Failure> {
        let left = still_waits(headers)?;
        if !self.shared.is_ready() {
            return Err(Failure::not_ready());
        }
        Ok(left.map(|left| Instant::now() + left))
    }

    /// Lets a stream in: not when it would be ended at once.
    pub(super) fn admit_stream(&self, headers: &HeaderMap) -> Result<Option<Instant>, Failure> {
        still_waits(headers)?;
        if self.shutdown.is_draining() {
            return Err(Failure::draining());
        }
        self.admit(headers)
    }
}

/// How long the caller waits, if not for ever; `Err` when it has ceased to.
fn still_waits(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let left = time_left(headers)?;
    if left.is_some_and(|left| left < LEAST_TIME) { Err(Failure::deadline_exceeded()) } else { Ok(left) }
}

/// The time that the caller still waits; `None` without a deadline. `Err` when the header says nothing that gRPC knows: to go on
/// without a deadline would be to guess.
fn time_left(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let left = value.to_str().ok().and_then(parse);
    left.map(Some).ok_or_else(|| malformed(value.as_bytes()))
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
    Some(left.min(MOST_TIME))
}

#[cold]
fn malformed(value: &[u8]) -> Failure {
    let shown = std::str::from_utf8(value).map_or_else(|_| shown_bytes(value), tessera_core::shown::shown);
    Failure::invalid_field(TIMEOUT, format!("`{shown}` is not a timeout; allowed are 1 to 8 digits and one of H M S m u n"))
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
            ("99999999H", Some(MOST_TIME)),
            ("00000001S", Some(Duration::from_secs(1))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for text in ["", "7", "S", "x7S", "+7S", "-7S", " 7S", "7 S", "7s", "7.5S", "123456789n", "99999999999999999999S"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(time_left(&HeaderMap::new()).unwrap(), None);
    }
}
