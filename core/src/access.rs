//! What a caller may do. Who a caller is, and how that is proven, is the edges' business.

use std::fmt;

/// One thing that a caller may do. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Ask for decisions, and list and watch what tenants may use.
    Decide,
    /// Read catalog, plans, add-ons and tenants.
    Read,
    /// Change the catalog, plans and add-ons, which all tenants share.
    WritePlans,
    /// Change tenants.
    WriteTenants,
    /// Read and verify what happened.
    Audit,
}

/// A text is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scope; allowed are decide, read, write:plans, write:tenants and audit")]
pub struct NoScope(String);

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Decide, Self::Read, Self::WritePlans, Self::WriteTenants, Self::Audit];

    /// Its name, as tokens and errors write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Read => "read",
            Self::WritePlans => "write:plans",
            Self::WriteTenants => "write:tenants",
            Self::Audit => "audit",
        }
    }

    /// The scope of that name.
    pub fn parse(text: &str) -> Result<Self, NoScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| NoScope(crate::shown::shown(text)))
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Any number of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub fn all() -> Self {
        Scope::ALL.into_iter().collect()
    }

    /// Whether that one is among them.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |all, scope| all | scope.bit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_nothing_else_is() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.name()), Ok(scope));
            for text in [scope.name().to_uppercase(), format!(" {scope}"), format!("{scope}*")] {
                assert!(Scope::parse(&text).unwrap_err().to_string().contains(&format!("`{text}`")));
            }
        }
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        for bits in 0..1_u8 << Scope::ALL.len() {
            let given: Vec<Scope> = Scope::ALL.into_iter().filter(|scope| bits & scope.bit() != 0).collect();
            let scopes: Scopes = given.iter().copied().collect();
            assert_eq!(scopes.iter().collect::<Vec<_>>(), given);
            assert_eq!(scopes.is_empty(), given.is_empty());
        }
        assert!(Scope::ALL.into_iter().all(|scope| Scopes::all().has(scope)));
    }
}
