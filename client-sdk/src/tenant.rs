//! What a tenant's id looks like. Only where one wrong id would cost more than its own answer; elsewhere servers say it.

use crate::endpoint::shown;
use crate::error::Error;
use crate::failure::Failure;

/// Longest id, in bytes.
const LEN_MAX: usize = 128;

/// Refuses what no server would take.
pub(crate) fn check(field: &str, tenant: &str) -> Result<(), Error> {
    let mut bytes = tenant.bytes();
    let begins = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._:@-".contains(&byte));
    if begins && goes_on && tenant.len() <= LEN_MAX {
        return Ok(());
    }
    let allowed = "allowed are 1 to 128 bytes of ASCII letters, digits and `. _ : @ -`, the first a letter or digit";
    Err(Error::Invalid(Failure::invalid(field, format!("`{}` is not a tenant id; {allowed}", shown(tenant)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_what_is_none() {
        let longest = "a".repeat(LEN_MAX);
        for good in ["acme", "school:12", "A", "0_.@-", &longest] {
            assert!(check("tenant", good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(LEN_MAX + 1);
        for wrong in ["", " acme", "-a", "a b", "é", "a\n", &too_long] {
            assert!(check("tenant", wrong).unwrap_err().to_string().contains("is not a tenant id"), "{wrong}");
        }
    }
}
