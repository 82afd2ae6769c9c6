//! The small values of documents: ids, texts, `gold@3`, `87.5%`, `unlimited`, `14d`, RFC 3339 times.
//!
//! Each reads strictly, writes what it would read, and describes itself in the published schema.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tessera_core::ids::{AddOnId, FeatureId, LimitId, NAME_GRAMMAR, PlanId, ServiceId, TENANT_GRAMMAR, TenantId};
use tessera_core::plan::TRIAL_MAX;
use tessera_core::shown::shown;
use tessera_core::time::Timestamp;
use tessera_core::value::{
    Amount, Description, Familiarity, LabelKey, LabelValue, LimitValue, Period, Quantity, Reason, Title, Version, VersionChoice,
};

use tessera_runtime::time_text::{format_duration, format_time, parse_duration, parse_time};

use super::words::VALUE;

const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$";
const TENANT_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$";

/// A value that is one text in a document.
pub(super) trait Scalar: Sized {
    /// Its name in the schema.
    const NAME: &'static str;
    /// What is allowed, in words that follow "allowed is".
    const ALLOWED: &'static str;
    /// Whether it is free text, which may look like a number or a boolean and is then put in quotes.
    const IS_TEXT: bool = false;
    /// Reads it; the error names the value and what is allowed.
    fn read(text: &str) -> Result<Self, String>;
    /// Writes what `read` reads.
    fn write(&self) -> String;
    /// What the schema says of it.
    fn describe() -> Schema;
}

/// A [`Scalar`] in a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct In<T>(pub(super) T);

impl<'de, T: Scalar> Deserialize<'de> for In<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

/// Reads texts, and says of what YAML takes for something else what it is taken for.
struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> ScalarVisitor<T> {
    fn not_text<E: serde::de::Error>(what: &str) -> E {
        let quotes = if T::IS_TEXT { "; put it in quotes" } else { "" };
        E::custom(format!("`{VALUE}` is {what} to YAML; allowed is {}{quotes}", T::ALLOWED))
    }
}

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = In<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::ALLOWED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<In<T>, E> {
        T::read(text).map(In).map_err(E::custom)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<In<T>, E> {
        Err(Self::not_text("a boolean"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<In<T>, E> {
        Err(Self::not_text("a number"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<In<T>, E> {
        Err(Self::not_text("a number"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<In<T>, E> {
        Err(Self::not_text("a number"))
    }
}

impl<T: Scalar> Serialize for In<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<T: Scalar> JsonSchema for In<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        T::describe()
    }
}

macro_rules! ids {
    ($($id:ty, $name:literal, $pattern:expr, $allowed:expr, $what:literal;)*) => {$(
        impl Scalar for $id {
            const NAME: &'static str = $name;
            const ALLOWED: &'static str = $allowed;
            const IS_TEXT: bool = true;

            fn read(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }

            fn write(&self) -> String {
                self.as_str().to_owned()
            }

            fn describe() -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $what })
            }
        }
    )*};
}

ids! {
    ServiceId, "ServiceId", NAME_PATTERN, NAME_GRAMMAR, "A service of the catalog.";
    FeatureId, "FeatureId", NAME_PATTERN, NAME_GRAMMAR, "A feature of a service of the catalog.";
    LimitId, "LimitId", NAME_PATTERN, NAME_GRAMMAR, "A limit of the catalog.";
    PlanId, "PlanId", NAME_PATTERN, NAME_GRAMMAR, "A plan.";
    AddOnId, "AddOnId", NAME_PATTERN, NAME_GRAMMAR, "An add-on.";
    TenantId, "TenantId", TENANT_PATTERN, TENANT_GRAMMAR, "A tenant; case-sensitive.";
}

macro_rules! texts {
    ($($text:ty, $name:literal, $what:literal, $min:literal, $max:literal;)*) => {$(
        impl Scalar for $text {
            const NAME: &'static str = $name;
            const ALLOWED: &'static str = concat!("a text of ", $min, " to ", $max, " bytes");
            const IS_TEXT: bool = true;

            fn read(text: &str) -> Result<Self, String> {
                Self::parse($what, text).map_err(|error| error.to_string())
            }

            fn write(&self) -> String {
                self.as_str().to_owned()
            }

            fn describe() -> Schema {
                json_schema!({ "type": "string", "minLength": $min, "maxLength": $max })
            }
        }
    )*};
}

texts! {
    Title, "Title", "a title", 0, 200;
    Description, "Description", "a description", 0, 2000;
    Reason, "Reason", "a reason", 1, 200;
    LabelKey, "LabelKey", "the key of a label", 1, 63;
    LabelValue, "LabelValue", "the value of a label", 0, 63;
}

impl Scalar for Familiarity {
    const NAME: &'static str = "Familiarity";
    const ALLOWED: &'static str = "50%, 75%, 87.5% or 100%";

    fn read(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|familiarity| familiarity.write() == text);
        found.ok_or_else(|| format!("`{}` is not a familiarity; allowed are 50%, 75%, 87.5% and 100%", shown(text)))
    }

    fn write(&self) -> String {
        match self {
            Self::Half => "50%",
            Self::ThreeQuarters => "75%",
            Self::SevenEighths => "87.5%",
            Self::Full => "100%",
        }
        .to_owned()
    }

    fn describe() -> Schema {
        json_schema!({ "enum": ["50%", "75%", "87.5%", "100%"], "description": "How much of a service's UI is shown." })
    }
}

impl Scalar for Period {
    const NAME: &'static str = "Period";
    const ALLOWED: &'static str = "never, hour, day, week or month";

    fn read(text: &str) -> Result<Self, String> {
        let all = [Self::Never, Self::Hour, Self::Day, Self::Week, Self::Month];
        let found = all.into_iter().find(|period| period.write() == text);
        found.ok_or_else(|| format!("`{}` is not a period; allowed are never, hour, day, week and month", shown(text)))
    }

    fn write(&self) -> String {
        match self {
            Self::Never => "never",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
        .to_owned()
    }

    fn describe() -> Schema {
        json_schema!({
            "enum": ["never", "hour", "day", "week", "month"],
            "description": "When use starts again from nothing (UTC calendar); never if left out.",
        })
    }
}

/// A plan or add-on, followed at its latest version or pinned to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pinned<T> {
    pub(super) id: T,
    pub(super) version: VersionChoice,
}

impl<T: Scalar> Scalar for Pinned<T> {
    const NAME: &'static str = "PlanChoice";
    const ALLOWED: &'static str = "a plan such as gold, or gold@3";
    const IS_TEXT: bool = true;

    fn read(text: &str) -> Result<Self, String> {
        let Some((id, version)) = text.split_once('@') else {
            return Ok(Self { id: T::read(text)?, version: VersionChoice::Latest });
        };
        let number = version.parse().ok().and_then(version_number).filter(|number| number.to_string() == version);
        let number = number.ok_or_else(|| {
            format!("`{}` is not a version; allowed are 1, 2, 3 … or, for the latest, no `@` at all", shown(version))
        })?;
        Ok(Self { id: T::read(id)?, version: VersionChoice::Pinned(number) })
    }

    fn write(&self) -> String {
        match self.version {
            VersionChoice::Latest => self.id.write(),
            VersionChoice::Pinned(version) => format!("{}@{version}", self.id.write()),
        }
    }

    fn describe() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?(@[1-9][0-9]*)?$",
            "description": "A plan: `gold` follows the latest version, `gold@3` is pinned to version 3.",
        })
    }
}

/// A version number as the wire can carry it: 1 to 2,147,483,647.
fn version_number(number: i64) -> Option<Version> {
    i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok()).and_then(Version::new)
}

impl Scalar for Timestamp {
    const NAME: &'static str = "Time";
    const ALLOWED: &'static str = "RFC 3339 from 1970 to 9999, such as 2026-01-31T12:00:00Z";

    fn read(text: &str) -> Result<Self, String> {
        parse_time(text)
    }

    fn write(&self) -> String {
        format_time(*self)
    }

    fn describe() -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, from 1970 to 9999." })
    }
}

impl Scalar for Duration {
    const NAME: &'static str = "Length";
    const ALLOWED: &'static str = "a length of time: days (14d), hours (36h), minutes (90m) or seconds (1.5s)";

    fn read(text: &str) -> Result<Self, String> {
        let length = parse_duration(text)?;
        if length.is_zero() || length > TRIAL_MAX {
            return Err(format!("`{}` is not a length of a trial; allowed are above 0 and at most 3653d", shown(text)));
        }
        Ok(length)
    }

    fn write(&self) -> String {
        format_duration(*self)
    }

    fn describe() -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+([dhm]|(\\.[0-9]{1,9})?s)$",
            "description": "A length of time: days (14d), hours (36h), minutes (90m) or seconds (1.5s).",
        })
    }
}

/// What a document gives of a limit: a count, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Maximum(pub(super) LimitValue);

impl<'de> Deserialize<'de> for Maximum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MaximumVisitor;

        impl Visitor<'_> for MaximumVisitor {
            type Value = Maximum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 to 9223372036854775807, or unlimited")
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Maximum, E> {
                Amount::new(count).map(|amount| Maximum(LimitValue::Maximum(amount))).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Maximum, E> {
                match i64::try_from(count) {
                    Ok(count) => self.visit_i64(count),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Unsigned(count), &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Maximum, E> {
                if text == "unlimited" {
                    return Ok(Maximum(LimitValue::Unlimited));
                }
                Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(MaximumVisitor)
    }
}

impl Serialize for Maximum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            LimitValue::Maximum(amount) => serializer.serialize_i64(amount.get()),
            LimitValue::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl JsonSchema for Maximum {
    fn schema_name() -> Cow<'static, str> {
        "Maximum".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "oneOf": [{ "type": "integer", "minimum": 0, "maximum": i64::MAX }, { "const": "unlimited" }],
            "description": "The most that is allowed, or unlimited.",
        })
    }
}

/// A number and nothing that looks like one.
struct WholeNumber(i64);

/// Reads one; says what is allowed otherwise.
struct WholeNumberVisitor(&'static str);

impl Visitor<'_> for WholeNumberVisitor {
    type Value = WholeNumber;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<WholeNumber, E> {
        Ok(WholeNumber(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

/// `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Flag(pub(super) bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FlagVisitor;

        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: serde::de::Error>(self, set: bool) -> Result<Flag, E> {
                Ok(Flag(set))
            }
        }

        deserializer.deserialize_any(FlagVisitor)
    }
}

/// The number of a published version in a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(pub(super) Version);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WholeNumber(number) = deserializer.deserialize_any(WholeNumberVisitor("a version from 1 to 2147483647"))?;
        let read = version_number(number).map(Self);
        read.ok_or_else(|| D::Error::custom(format!("`{number}` is not a version; allowed are 1 to {}", i32::MAX)))
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": i32::MAX })
    }
}

/// How many of an add-on: 1 to 1,000,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count(pub(super) Quantity);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WholeNumber(count) = deserializer.deserialize_any(WholeNumberVisitor("a quantity from 1 to 1000000"))?;
        Quantity::new(count).map(Self).map_err(D::Error::custom)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0.get())
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 1_000_000 })
    }
}

impl<T: Scalar> FromStr for In<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        T::read(text).map(Self)
    }
}
