//! Ids: validated once, at the edge, and typed ever after.
//!
//! Every id is ASCII bytes under one of three grammars (names, tenants, request ids). They are compared byte by byte and
//! never folded, normalised or concatenated into keys. A clone shares the bytes: one command names its stream in a dozen places.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::shown::shown;

/// Longest service, feature, plan, add-on or limit id, in bytes.
pub const NAME_LEN_MAX: usize = 63;
/// Longest tenant id, in bytes.
pub const TENANT_LEN_MAX: usize = 128;
/// Longest request id, in bytes.
pub const REQUEST_ID_LEN_MAX: usize = 64;

/// What names allow, in words for error messages.
pub const NAME_GRAMMAR: &str = "1 to 63 bytes of a-z 0-9 . _ -, first and last alphanumeric";
/// What tenant ids allow, in words for error messages.
pub const TENANT_GRAMMAR: &str = "1 to 128 bytes of ASCII letters, digits and . _ : @ -, first alphanumeric";
/// What request ids allow, in words for error messages.
pub const REQUEST_ID_GRAMMAR: &str = "1 to 64 printable ASCII characters";

/// Why a text is not an id. It repeats the text as [`shown()`] does, so that it is safe in logs and answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a {kind} id: {problem}; allowed are {allowed}")]
pub struct IdError {
    kind: &'static str,
    shown: String,
    problem: Problem,
    allowed: &'static str,
}

impl IdError {
    fn new(kind: &'static str, text: &str, problem: Problem, allowed: &'static str) -> Self {
        Self { kind, shown: shown(text), problem, allowed }
    }

    /// The grammar that was missed, in words.
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Empty,
    TooLong(usize),
    Character { at: usize },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong(len) => write!(f, "it has {len} bytes"),
            Self::Character { at } => write!(f, "byte {at} is not allowed there"),
        }
    }
}

fn name_inner(b: u8) -> bool {
    name_edge(b) | matches!(b, b'.' | b'_' | b'-')
}

fn name_edge(b: u8) -> bool {
    b.is_ascii_lowercase() | b.is_ascii_digit()
}

/// As the other two of its kind without a branch per byte: it is asked of every check, three times.
fn is_name(text: &str) -> bool {
    let (first, last) = (text.bytes().next(), text.bytes().next_back());
    first.is_some_and(name_edge) && last.is_some_and(name_edge) && text.bytes().fold(true, |so_far, b| so_far & name_inner(b))
}

/// Where the first byte that breaks the name grammar stands, if any.
fn name_problem(text: &str) -> Option<Problem> {
    let last = text.len().checked_sub(1)?;
    let bad = |(at, b): &(usize, u8)| if *at == 0 || *at == last { !name_edge(*b) } else { !name_inner(*b) };
    text.bytes().enumerate().find(bad).map(|(at, _)| Problem::Character { at })
}

fn tenant_inner(b: u8) -> bool {
    b.is_ascii_alphanumeric() | matches!(b, b'.' | b'_' | b':' | b'@' | b'-')
}

fn is_tenant(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.bytes().fold(true, |so_far, b| so_far & tenant_inner(b))
}

fn tenant_problem(text: &str) -> Option<Problem> {
    let bad = |(at, b): &(usize, u8)| if *at == 0 { !b.is_ascii_alphanumeric() } else { !tenant_inner(*b) };
    text.bytes().enumerate().find(bad).map(|(at, _)| Problem::Character { at })
}

fn is_request(text: &str) -> bool {
    !text.is_empty() && text.bytes().fold(true, |so_far, b| so_far & matches!(b, 0x20..=0x7e))
}

fn request_problem(text: &str) -> Option<Problem> {
    let bad = |(_, b): &(usize, u8)| !matches!(b, 0x20..=0x7e);
    text.bytes().enumerate().find(bad).map(|(at, _)| Problem::Character { at })
}

/// Why a text that does not follow its grammar does not.
#[cold]
fn problem(
    kind: &'static str,
    text: &str,
    len_max: usize,
    allowed: &'static str,
    problem_of: fn(&str) -> Option<Problem>,
) -> IdError {
    let problem = match text.len() {
        0 => Problem::Empty,
        len if len > len_max => Problem::TooLong(len),
        _ => problem_of(text).unwrap_or(Problem::Character { at: 0 }),
    };
    IdError::new(kind, text, problem, allowed)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $len_max:expr, $allowed:expr, $follows:expr, $problem_of:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text` against the grammar of this kind of id.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Self::check(text)?;
                Ok(Self(text.into()))
            }

            /// Validates without allocating: `Ok` exactly when [`Self::parse`] would be.
            pub fn check(text: &str) -> Result<(), IdError> {
                if text.len() <= $len_max && $follows(text) {
                    return Ok(());
                }
                Err(problem($kind, text, $len_max, $allowed, $problem_of))
            }

            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A service of the platform, such as `entity-management`.
    ServiceId, "service", NAME_LEN_MAX, NAME_GRAMMAR, is_name, name_problem
);
id!(
    /// A feature of a service, such as `role-permissions`; unique within its service.
    FeatureId, "feature", NAME_LEN_MAX, NAME_GRAMMAR, is_name, name_problem
);
id!(
    /// A registered limit, such as `max_users`.
    LimitId, "limit", NAME_LEN_MAX, NAME_GRAMMAR, is_name, name_problem
);
id!(
    /// A plan.
    PlanId, "plan", NAME_LEN_MAX, NAME_GRAMMAR, is_name, name_problem
);
id!(
    /// An add-on.
    AddOnId, "add-on", NAME_LEN_MAX, NAME_GRAMMAR, is_name, name_problem
);
id!(
    /// A tenant; case-sensitive.
    TenantId, "tenant", TENANT_LEN_MAX, TENANT_GRAMMAR, is_tenant, tenant_problem
);
id!(
    /// What a caller names a command by, so that sending it again does not do it again.
    RequestId, "request", REQUEST_ID_LEN_MAX, REQUEST_ID_GRAMMAR, is_request, request_problem
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "9", "max_users", "a.b-c_d", &"x".repeat(63)] {
            assert!(FeatureId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", ".a", "a_", "A", "a b", "a/b", "a\n", "ä", "а", &"x".repeat(64)] {
            assert!(FeatureId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tenants_follow_their_grammar() {
        for good in ["A", "acme", "a:b@c.d-e_", "9-", &"x".repeat(128)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", ":", "a b", "a\u{0}", "a/b", "аcme", "a\u{202e}", &"x".repeat(129)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn request_ids_are_printable_ascii() {
        assert!(RequestId::parse("import 7/row:3").is_ok());
        for bad in ["", "a\tb", "a\u{7f}", "é", &"x".repeat(65)] {
            assert!(RequestId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_escape_what_they_repeat() {
        let error = TenantId::parse("a\u{1b}[31m").unwrap_err().to_string();
        assert_eq!(
            error,
            "`a\\u{1b}[31m` is not a tenant id: byte 1 is not allowed there; allowed are 1 to 128 bytes of ASCII letters, digits \
             and . _ : @ -, first alphanumeric"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_text_is_an_id_exactly_when_nothing_is_wrong_with_it(text in "[a-cX-Z7-9._:@ -]{0,5}|\\PC{0,4}|[a-z]{60,66}|[0-9]{126,130}") {
            let right = |len_max: usize, problem: Option<Problem>| !text.is_empty() && text.len() <= len_max && problem.is_none();
            proptest::prop_assert_eq!(PlanId::check(&text).is_ok(), right(NAME_LEN_MAX, name_problem(&text)));
            proptest::prop_assert_eq!(TenantId::check(&text).is_ok(), right(TENANT_LEN_MAX, tenant_problem(&text)));
            proptest::prop_assert_eq!(RequestId::check(&text).is_ok(), right(REQUEST_ID_LEN_MAX, request_problem(&text)));
        }
    }
}
