//! Small values with bounds: familiarity, limit values, quantities, labels, texts, reset periods.

use std::fmt;
use std::num::NonZeroU32;

use crate::ids::{AddOnId, FeatureId, LimitId, PlanId, ServiceId};
use crate::shown::shown;

/// Longest title, in bytes.
pub const TITLE_LEN_MAX: usize = 200;
/// Longest description of anything, in bytes.
pub const DESCRIPTION_LEN_MAX: usize = 2_000;
/// Longest reason, in bytes; reasons are never empty.
pub const REASON_LEN_MAX: usize = 200;
/// Most labels of one tenant.
pub const LABELS_MAX: usize = 32;
/// Longest label key or value, in bytes.
pub const LABEL_LEN_MAX: usize = 63;
/// Greatest quantity of one add-on.
pub const QUANTITY_MAX: u32 = 1_000_000;

/// A value was out of its bounds: which, what was given, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not allowed for {what}: {allowed}")]
pub struct ValueError {
    what: &'static str,
    given: String,
    allowed: &'static str,
}

impl ValueError {
    fn new(what: &'static str, given: &str, allowed: &'static str) -> Self {
        Self { what, given: shown(given), allowed }
    }
}

/// How much of a service's UI a tenant is shown; stored as basis points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Familiarity {
    /// 50 %, and what an entitled tenant has when nothing says otherwise.
    #[default]
    Half,
    /// 75 %.
    ThreeQuarters,
    /// 87.5 %.
    SevenEighths,
    /// 100 %.
    Full,
}

impl Familiarity {
    /// All of them, in rising order.
    pub const ALL: [Self; 4] = [Self::Half, Self::ThreeQuarters, Self::SevenEighths, Self::Full];

    /// 5000, 7500, 8750 or 10000.
    pub fn basis_points(self) -> u16 {
        match self {
            Self::Half => 5_000,
            Self::ThreeQuarters => 7_500,
            Self::SevenEighths => 8_750,
            Self::Full => 10_000,
        }
    }

    /// The familiarity of exactly that many basis points.
    pub fn from_basis_points(basis_points: i64) -> Result<Self, ValueError> {
        Self::ALL.into_iter().find(|f| i64::from(f.basis_points()) == basis_points).ok_or_else(|| {
            ValueError::new("familiarity", &basis_points.to_string(), "one of 5000, 7500, 8750 and 10000 basis points")
        })
    }
}

/// What a plan, an add-on or an override gives of a limit. A maximum is never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitValue {
    /// At most that many; 0 gives none.
    Maximum(Amount),
    /// No bound; absorbs whatever it is added to.
    Unlimited,
}

/// A count from 0 to `i64::MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

impl Amount {
    /// None.
    pub const ZERO: Self = Self(0);
    /// The greatest.
    pub const MAX: Self = Self(i64::MAX);

    /// `Err` when `count` is negative.
    pub fn new(count: i64) -> Result<Self, ValueError> {
        if count < 0 {
            Err(ValueError::new("an amount", &count.to_string(), "0 to 9223372036854775807"))
        } else {
            Ok(Self(count))
        }
    }

    /// The count, 0 or more.
    pub fn get(self) -> i64 {
        self.0
    }
}

/// How many of an add-on a tenant has: 1 to [`QUANTITY_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(NonZeroU32);

impl Quantity {
    /// One, the quantity of an add-on that names none.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// `Err` outside 1 to [`QUANTITY_MAX`].
    pub fn new(count: i64) -> Result<Self, ValueError> {
        u32::try_from(count)
            .ok()
            .filter(|q| *q <= QUANTITY_MAX)
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| ValueError::new("a quantity", &count.to_string(), "1 to 1000000"))
    }

    /// The count.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// Number of a published version: 1, 2, 3 …
pub type Version = NonZeroU32;

/// Which version of a plan or add-on a tenant follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VersionChoice {
    /// Always the greatest published one.
    #[default]
    Latest,
    /// That one, whatever is published later.
    Pinned(Version),
}

/// When a limit's use starts again from nothing; UTC calendar periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Period {
    /// Never: a standing quantity.
    #[default]
    Never,
    /// Every hour.
    Hour,
    /// Every day.
    Day,
    /// Every ISO week, from Monday.
    Week,
    /// Every month.
    Month,
}

/// A service, or one feature of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The service.
    pub service: ServiceId,
    /// The feature; `None` is the service itself.
    pub feature: Option<FeatureId>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.feature {
            Some(feature) => write!(f, "{}/{feature}", self.service),
            None => write!(f, "{}", self.service),
        }
    }
}

/// A text without control characters and of bounded length; `MIN` and `MAX` count bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MIN: usize, const MAX: usize>(Box<str>);

impl<const MIN: usize, const MAX: usize> Text<MIN, MAX> {
    /// `Err` when the text is shorter than `MIN`, longer than `MAX`, or has a control character; `what` names it in the error.
    pub fn parse(what: &'static str, text: &str) -> Result<Self, ValueError> {
        if text.len() > MAX || text.len() < MIN {
            let allowed = match (MIN, MAX) {
                (0, TITLE_LEN_MAX) => "at most 200 bytes without control characters",
                (1, REASON_LEN_MAX) => "1 to 200 bytes without control characters",
                (0, LABEL_LEN_MAX) => "at most 63 bytes without control characters",
                (1, LABEL_LEN_MAX) => "1 to 63 bytes without control characters",
                _ => "at most 2000 bytes without control characters",
            };
            return Err(ValueError::new(what, text, allowed));
        }
        if text.chars().any(char::is_control) {
            return Err(ValueError::new(what, text, "text without control characters"));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Default for Text<0, MAX> {
    fn default() -> Self {
        Self("".into())
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Text<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name for people; may be empty.
pub type Title = Text<0, TITLE_LEN_MAX>;
/// A sentence or two for people; may be empty.
pub type Description = Text<0, DESCRIPTION_LEN_MAX>;
/// Why something was done; never empty.
pub type Reason = Text<1, REASON_LEN_MAX>;
/// The key of a label; never empty.
pub type LabelKey = Text<1, LABEL_LEN_MAX>;
/// The value of a label; may be empty.
pub type LabelValue = Text<0, LABEL_LEN_MAX>;

/// A plan or an add-on: where both are spoken of in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offer {
    /// A plan.
    Plan(PlanId),
    /// An add-on.
    AddOn(AddOnId),
}

/// What an override is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideTarget {
    /// A service or a feature, granted or denied.
    Access(Target),
    /// A limit, set.
    Limit(LimitId),
}
