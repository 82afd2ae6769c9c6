//! Instants and lengths of time.

use std::fmt::Display;
use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
use tessera_core::plan::TRIAL_MAX;
use tessera_core::time::Timestamp;

use super::Fields;

/// To the API.
pub fn to_timestamp(at: Timestamp) -> ProtoTimestamp {
    ProtoTimestamp { seconds: at.seconds(), nanos: i32::try_from(at.subsec_nanos()).unwrap_or(0) }
}

/// From the API; notes times outside 1970 to 9999.
pub fn timestamp(fields: &mut Fields, field: impl Display, at: Option<&ProtoTimestamp>) -> Option<Timestamp> {
    let at = at?;
    fields.check(field, Timestamp::new(at.seconds, i64::from(at.nanos)))
}

/// To the API.
pub fn to_duration(length: Duration) -> ProtoDuration {
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    ProtoDuration { seconds, nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0) }
}

/// From the API; notes lengths that are not above 0 and at most ten years.
pub fn trial_length(fields: &mut Fields, field: impl Display, length: Option<&ProtoDuration>) -> Option<Duration> {
    let length = length?;
    let seconds = u64::try_from(length.seconds);
    let nanos = u32::try_from(length.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    if let (Ok(seconds), Some(nanos)) = (seconds, nanos) {
        let read = Duration::new(seconds, nanos);
        if read > Duration::ZERO && read <= TRIAL_MAX {
            return Some(read);
        }
    }
    let given =
        format_args!("`{}s` and {} ns is not a trial length; allowed are above 0 to 3653 days", length.seconds, length.nanos)
            .to_string();
    fields.fault(field, given);
    None
}
