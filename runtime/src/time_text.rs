//! Times and lengths of time as people write them: RFC 3339, and `14d`, `36h`, `90m`, `1.5s`. One form each, so that what is
//! written can be compared.

use std::time::Duration;

use tessera_core::shown::shown;
use tessera_core::time::Timestamp;

/// Reads an RFC 3339 time with an offset, such as `2026-01-01T00:00:00Z`.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let wrong = |why: &str| {
        format!("`{}` is not a time: {why}; allowed is RFC 3339 from 1970 to 9999, such as 2026-01-31T12:00:00Z", shown(text))
    };
    // The library reads shorter and friendlier forms, too; documents take one form only.
    let whole = text.is_ascii() && text.len() >= 20 && matches!(text.as_bytes()[10], b'T' | b't');
    if !whole {
        return Err(wrong("date, `T`, time of day and offset are needed"));
    }
    let offset_at = text[19..].find(['Z', 'z', '+', '-']).map(|at| at + 19);
    let Some((local, offset)) = offset_at.and_then(|at| text.split_at_checked(at)) else {
        return Err(wrong("the offset is missing"));
    };
    let offset_s = parse_offset(offset).ok_or_else(|| wrong("the offset is not `Z` or of the form +02:00"))?;
    // The library takes a leap second for the second before.
    let exists = local.parse::<jiff::civil::DateTime>().ok().filter(|_| text.as_bytes()[17] < b'6');
    let local = exists.ok_or_else(|| wrong("there is no such date or time of day"))?;
    let nanos = local.duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_nanos();
    Timestamp::from_nanos(nanos - i128::from(offset_s) * 1_000_000_000).map_err(|_| wrong("it is out of range"))
}

/// Seconds east of Greenwich.
fn parse_offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let [sign, h1, h2, b':', m1, m2] = text.as_bytes() else { return None };
    let number = |tens: &u8, ones: &u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes) = (number(h1, h2).filter(|h| *h < 24)?, number(m1, m2).filter(|m| *m < 60)?);
    let east = (hours * 60 + minutes) * 60;
    match sign {
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

/// Writes a time as RFC 3339 in UTC, with as many digits of the second as it has.
pub fn format_time(time: Timestamp) -> String {
    let nanos = i32::try_from(time.subsec_nanos()).unwrap_or(0);
    let since_1970 = jiff::SignedDuration::new(time.seconds(), nanos);
    let civil = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0).saturating_add(since_1970);
    format!("{civil}Z")
}

/// Reads a length of time such as `14d`, `36h`, `90m`, `1.5s`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "`{}` is not a length of time; allowed are days (14d), hours (36h), minutes (90m) and seconds (1.5s)",
            shown(text)
        )
    };
    let (number, seconds_per_unit) = match text.as_bytes().last() {
        Some(b'd') => (&text[..text.len() - 1], 86_400),
        Some(b'h') => (&text[..text.len() - 1], 3_600),
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b's') => (&text[..text.len() - 1], 1),
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let fraction_fits = fraction.len() <= 9 && (fraction.is_empty() != number.contains('.'));
    if whole.is_empty() || !digits(whole) || !digits(fraction) || !fraction_fits {
        return Err(wrong());
    }
    if !fraction.is_empty() && seconds_per_unit != 1 {
        return Err(wrong());
    }
    let seconds = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds_per_unit)).ok_or_else(wrong)?;
    let nanos = format!("{fraction:0<9}").parse::<u32>().map_err(|_| wrong())?;
    Ok(Duration::new(seconds, nanos))
}

/// Writes a length of time in the greatest unit that is exact.
pub fn format_duration(length: Duration) -> String {
    let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
    if nanos > 0 {
        let fraction = format!("{nanos:09}");
        return format!("{seconds}.{}s", fraction.trim_end_matches('0'));
    }
    match seconds {
        0 => "0s".to_owned(),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_written_in_the_greatest_exact_unit() {
        for (seconds, nanos, text) in [
            (1_209_600, 0, "14d"),
            (129_600, 0, "36h"),
            (5_400, 0, "90m"),
            (61, 0, "61s"),
            (1, 500_000_000, "1.5s"),
            (0, 1, "0.000000001s"),
        ] {
            let length = Duration::new(seconds, nanos);
            assert_eq!(format_duration(length), text);
            assert_eq!(parse_duration(text), Ok(length));
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for text in ["1970-01-01T00:00:00Z", "2026-11-21T22:06:19.5Z", "9999-12-31T23:59:59.999999999Z"] {
            assert_eq!(format_time(parse_time(text).unwrap()), text);
        }
        assert_eq!(format_time(parse_time("2026-01-01T02:00:00+02:00").unwrap()), "2026-01-01T00:00:00Z");
        for text in
            ["", "2026-01-01", "2026-01-01 00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:60Z", "1969-12-31T23:59:59Z"]
        {
            assert!(parse_time(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
    }
}
