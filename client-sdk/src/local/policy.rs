//! What is answered when nobody can answer: the fail policy, stated per feature.

use std::collections::HashMap;

/// What to do when neither memory nor the wire has an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FailPolicy {
    /// Denied.
    #[default]
    Closed,
    /// Entitled.
    Open,
    /// What the last document of the tenant said, however old, also when time has passed its edge; denied when there is none, or
    /// when the check demands a revision or more than a document says.
    LastKnown,
}

/// The policies of a local mode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Policies {
    otherwise: FailPolicy,
    /// By service, then feature; an empty feature is the service itself.
    stated: HashMap<Box<str>, HashMap<Box<str>, FailPolicy>>,
}

impl Policies {
    /// For what nothing is stated of.
    pub(crate) fn otherwise(&mut self, policy: FailPolicy) {
        self.otherwise = policy;
    }

    /// For one feature, or with an empty one the service itself (and none of its features).
    pub(crate) fn state(&mut self, service: &str, feature: &str, policy: FailPolicy) {
        self.stated.entry(service.into()).or_default().insert(feature.into(), policy);
    }

    pub(crate) fn of(&self, service: &str, feature: &str) -> FailPolicy {
        let stated = self.stated.get(service).and_then(|features| features.get(feature));
        stated.copied().unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_stated_of_exactly_one_feature() {
        let mut policies = Policies::default();
        policies.state("reporting", "exports", FailPolicy::Open);
        policies.state("billing", "", FailPolicy::LastKnown);
        let table = [
            ("reporting", "exports", FailPolicy::Open),
            ("reporting", "charts", FailPolicy::Closed),
            ("reporting", "", FailPolicy::Closed),
            ("billing", "", FailPolicy::LastKnown),
            ("billing", "invoices", FailPolicy::Closed),
            ("orders", "exports", FailPolicy::Closed),
        ];
        for (service, feature, expected) in table {
            assert_eq!(policies.of(service, feature), expected, "{service}/{feature}");
        }
        policies.otherwise(FailPolicy::LastKnown);
        assert_eq!(policies.of("orders", "exports"), FailPolicy::LastKnown);
        assert_eq!(policies.of("reporting", "exports"), FailPolicy::Open);
    }
}
