//! Values between arguments, messages and people: times, versions, labels, limits, reasons.

use std::collections::BTreeMap;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};
use tessera_core::shown::shown;
use tessera_core::time::Timestamp;
use tessera_proto::convert::time::{to_duration, to_timestamp};
use tessera_proto::v1;

use tessera_runtime::time_text::{format_time, parse_duration, parse_time};

/// A plan or add-on in an argument: `gold` or `gold@3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its id; the other side checks it.
    pub id: String,
    /// The version, 0 for the latest.
    pub version: i32,
}

/// Reads `gold` or `gold@3`.
pub fn choice(text: &str) -> Result<Choice, String> {
    let Some((id, version)) = text.split_once('@') else { return Ok(Choice { id: text.to_owned(), version: 0 }) };
    let number = number_of_version(version)
        .ok_or_else(|| format!("`{}` is not a version; allowed are 1, 2, 3 …, or no `@` for the latest", shown(version)))?;
    Ok(Choice { id: id.to_owned(), version: number })
}

/// An add-on in an argument, where no version is the one that is attached: `extra-seats`, `extra-seats@2` or
/// `extra-seats@latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddOnChoice {
    /// Its id; the other side checks it.
    pub id: String,
    /// The version, 0 for the latest, if one is said.
    pub version: Option<i32>,
}

/// Reads `extra-seats`, `extra-seats@2` or `extra-seats@latest`.
pub fn add_on_choice(text: &str) -> Result<AddOnChoice, String> {
    let Some((id, version)) = text.split_once('@') else { return Ok(AddOnChoice { id: text.to_owned(), version: None }) };
    let number = if version == "latest" { Some(0) } else { number_of_version(version) };
    let number = number.ok_or_else(|| format!("`{}` is not a version; allowed are 1, 2, 3 … and latest", shown(version)))?;
    Ok(AddOnChoice { id: id.to_owned(), version: Some(number) })
}

fn number_of_version(text: &str) -> Option<i32> {
    text.parse().ok().filter(|number| *number > 0)
}

/// Reads an RFC 3339 time.
pub fn time(text: &str) -> Result<ProtoTimestamp, String> {
    parse_time(text).map(to_timestamp)
}

/// Reads a length of time such as `14d`.
pub fn length(text: &str) -> Result<ProtoDuration, String> {
    parse_duration(text).map(to_duration)
}

/// Reads the length of a trial; empty is as long as the plan says.
pub fn trial(text: &str) -> Result<v1::Trial, String> {
    let length = if text.is_empty() { None } else { Some(length(text)?) };
    Ok(v1::Trial { length })
}

/// Reads `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or_else(|| format!("`{}` is not a label; allowed is key=value", shown(text)))?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Labels that were given one by one, each key once.
pub fn labels(given: Vec<(String, String)>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for (key, value) in given {
        anyhow::ensure!(!labels.contains_key(&key), "--label names the key `{}` twice; allowed is each key once", shown(&key));
        labels.insert(key, value);
    }
    Ok(labels)
}

/// Reads `NAME=AMOUNT[,used=N]`.
pub fn limit_check(text: &str) -> Result<v1::LimitCheck, String> {
    let wrong = || {
        format!(
            "`{}` is not a limit check; allowed is NAME=AMOUNT or NAME=AMOUNT,used=N with whole numbers from 0 on",
            shown(text)
        )
    };
    let (name, rest) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let (amount, used) = match rest.split_once(',') {
        None => (rest, None),
        Some((amount, used)) => (amount, Some(used.strip_prefix("used=").ok_or_else(wrong)?)),
    };
    let count =
        |digits: &str| digits.parse().ok().filter(|count: &i64| *count >= 0 && !digits.starts_with(['+', '-'])).ok_or_else(wrong);
    let amount = count(amount)?;
    let used = used.map(count).transpose()?;
    Ok(v1::LimitCheck { name: name.to_owned(), amount, used })
}

/// Reads `unlimited` or a count.
pub fn limit_value(text: &str) -> Result<v1::LimitGrant, String> {
    use v1::limit_grant::Value;
    if text == "unlimited" {
        return Ok(v1::LimitGrant { value: Some(Value::Unlimited(true)) });
    }
    let maximum = text.parse().ok().filter(|count| *count >= 0);
    let maximum =
        maximum.ok_or_else(|| format!("`{}` is not a maximum; allowed are 0 to {} and unlimited", shown(text), i64::MAX))?;
    Ok(v1::LimitGrant { value: Some(Value::Maximum(maximum)) })
}

/// A time for people; empty when there is none.
pub fn show_time(time: Option<&ProtoTimestamp>) -> String {
    let read = time.and_then(|time| Timestamp::new(time.seconds, time.nanos.into()).ok());
    read.map(format_time).unwrap_or_default()
}

/// A value of a limit for people.
pub fn show_limit(grant: &v1::LimitGrant) -> String {
    use v1::limit_grant::Value;
    match grant.value {
        Some(Value::Maximum(maximum)) => maximum.to_string(),
        Some(Value::Unlimited(_)) => "unlimited".to_owned(),
        None => String::new(),
    }
}

/// Basis points as percent, such as `87.5%`; empty for none.
pub fn show_familiarity(basis_points: i32) -> String {
    match (basis_points / 100, basis_points % 100) {
        (0, 0) => String::new(),
        (whole, 0) => format!("{whole}%"),
        (whole, rest) => format!("{whole}.{}%", format!("{rest:02}").trim_end_matches('0')),
    }
}

/// `gold@3`, or `gold` when nothing is pinned.
pub fn show_choice(id: &str, version: i32) -> String {
    if version == 0 { id.to_owned() } else { format!("{id}@{version}") }
}

/// The name of an enum value without its prefix, `GRANTED_BY_PLAN`.
pub fn show_name<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// A reason for people.
pub fn show_reason(reason: i32) -> String {
    let known = v1::Reason::try_from(reason).map(|reason| show_name(reason.as_str_name(), "REASON_").to_owned());
    known.unwrap_or_else(|_| format!("reason {reason}"))
}

/// A status for people, in lower case.
pub fn show_status(status: i32) -> String {
    let known = v1::TenantStatus::try_from(status);
    known.map_or_else(|_| format!("status {status}"), |s| show_name(s.as_str_name(), "TENANT_STATUS_").to_lowercase())
}

/// `yes` or nothing.
pub fn mark(set: bool, word: &str) -> String {
    if set { word.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_read_and_bad_ones_are_named() {
        assert_eq!(choice("gold"), Ok(Choice { id: "gold".into(), version: 0 }));
        assert_eq!(choice("gold@3"), Ok(Choice { id: "gold".into(), version: 3 }));
        for bad in ["gold@", "gold@0", "gold@-1", "gold@x", "gold@99999999999"] {
            assert!(choice(bad).unwrap_err().contains("is not a version"), "{bad}");
        }
        assert_eq!(limit_check("a=5"), Ok(v1::LimitCheck { name: "a".into(), amount: 5, used: None }));
        assert_eq!(limit_check("a=5,used=3"), Ok(v1::LimitCheck { name: "a".into(), amount: 5, used: Some(3) }));
        for bad in [
            "",
            "a",
            "=5",
            "a=",
            "a=x",
            "a=-1",
            "a=+1",
            "a=1.5",
            "a=1e3",
            "a=0x1",
            "a=1,used=-1",
            "a=1,used=1,used=2",
            "a=1,2",
            "a=1,used=",
            "a=9223372036854775808",
        ] {
            assert!(limit_check(bad).unwrap_err().contains("is not a limit check"), "{bad}");
        }
        assert!(limit_value("-1").is_err() && limit_value("x").is_err());
        assert_eq!(show_limit(&limit_value("unlimited").unwrap()), "unlimited");
        assert_eq!(label("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(label("a").is_err());
        assert_eq!(add_on_choice("seats"), Ok(AddOnChoice { id: "seats".into(), version: None }));
        assert_eq!(add_on_choice("seats@2"), Ok(AddOnChoice { id: "seats".into(), version: Some(2) }));
        assert_eq!(add_on_choice("seats@latest"), Ok(AddOnChoice { id: "seats".into(), version: Some(0) }));
        assert!(add_on_choice("seats@0").unwrap_err().contains("is not a version"));
    }

    #[test]
    fn values_are_shown_as_documents_write_them() {
        assert_eq!([0, 5_000, 8_750, 10_000].map(show_familiarity), ["", "50%", "87.5%", "100%"].map(str::to_owned));
        assert_eq!(show_reason(v1::Reason::GrantedByPlan.into()), "GRANTED_BY_PLAN");
        assert_eq!(show_reason(999), "reason 999");
        assert_eq!(show_time(time("2026-01-01T02:00:00+02:00").ok().as_ref()), "2026-01-01T00:00:00Z");
    }
}
