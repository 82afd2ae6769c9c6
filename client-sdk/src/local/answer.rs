//! What a check in local mode is answered: yes or no, where that comes from, and how old it is.

use std::time::SystemTime;

use super::policy::FailPolicy;
use super::tenants::Told;
use crate::decision::{Allowance, Decision, Familiarity, LimitState, Reason};
use crate::error::Error;
use crate::freshness::{Revision, Staleness};

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// From memory, no older than was set.
    Local,
    /// From a server, just now.
    Wire,
    /// Neither had one: it is what the stated policy says. Nobody has decided it.
    Policy(FailPolicy),
}

/// An answer.
///
/// Making one from memory allocates nothing; [`Answer::decision`] writes it out.
#[derive(Debug, Clone)]
#[must_use = "an answer that nobody looks at denies nothing"]
pub struct Answer {
    source: Source,
    said: Said,
}

#[derive(Debug, Clone)]
enum Said {
    Document {
        told: Told,
        evaluated_at: SystemTime,
    },
    Decision(Box<Decision>),
    /// What the policy says, and why it was asked.
    Nobody {
        entitled: bool,
        error: Box<Error>,
    },
}

impl Answer {
    pub(super) fn local(told: Told, evaluated_at: SystemTime) -> Self {
        Self { source: Source::Local, said: Said::Document { told, evaluated_at } }
    }

    /// What a server said.
    pub(crate) fn wire(decision: Decision) -> Self {
        Self { source: Source::Wire, said: Said::Decision(Box::new(decision)) }
    }

    /// Nobody could say. `known` is what memory has, however old.
    pub(super) fn policy(policy: FailPolicy, known: Option<Told>, evaluated_at: SystemTime, error: Error) -> Self {
        let source = Source::Policy(policy);
        let said = match (policy, known) {
            (FailPolicy::LastKnown, Some(told)) => Said::Document { told, evaluated_at },
            (FailPolicy::Closed | FailPolicy::LastKnown, _) => Said::Nobody { entitled: false, error: Box::new(error) },
            (FailPolicy::Open, _) => Said::Nobody { entitled: true, error: Box::new(error) },
        };
        Self { source, said }
    }

    /// Yes or no: the one thing to decide by.
    pub fn is_entitled(&self) -> bool {
        match &self.said {
            Said::Document { told, .. } => told.verdict.entitled,
            Said::Decision(decision) => decision.entitled,
            Said::Nobody { entitled, .. } => *entitled,
        }
    }

    /// Why. `None` when nobody decided it.
    pub fn reason(&self) -> Option<Reason> {
        match &self.said {
            Said::Document { told, .. } => Some(told.verdict.reason),
            Said::Decision(decision) => Some(decision.reason),
            Said::Nobody { .. } => None,
        }
    }

    /// Where it comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// How far it may lag behind what was decided by people.
    pub fn staleness(&self) -> Staleness {
        match &self.said {
            Said::Document { told, .. } => told.age.map_or(Staleness::Unknown, Staleness::AtMost),
            Said::Decision(decision) => decision.staleness,
            Said::Nobody { .. } => Staleness::Unknown,
        }
    }

    /// How much of the service's UI is shown; zero when not entitled, and when nobody decided it.
    pub fn familiarity(&self) -> Familiarity {
        match &self.said {
            Said::Document { told, .. } => told.verdict.familiarity,
            Said::Decision(decision) => decision.familiarity,
            Said::Nobody { .. } => Familiarity::default(),
        }
    }

    /// How much is left of the limit that was asked about, before the amount that was asked for; `None` when it is unlimited
    /// or not told.
    pub fn remaining(&self) -> Option<i64> {
        match &self.said {
            Said::Document { told, .. } => told.verdict.limit?.remaining(),
            Said::Decision(decision) => decision.limit.as_ref()?.remaining,
            Said::Nobody { .. } => None,
        }
    }

    /// Why neither memory nor a server had an answer; `None` when one had, or when the policy went by the last known one.
    pub fn error(&self) -> Option<&Error> {
        match &self.said {
            Said::Nobody { error, .. } => Some(error),
            Said::Document { .. } | Said::Decision(_) => None,
        }
    }

    /// All of it, written out: as a server would answer, except that answers from memory carry no detail and no explanation,
    /// and that their `valid_until` may be earlier than it had to be. `None` when nobody decided it.
    pub fn decision(&self) -> Option<Decision> {
        match &self.said {
            Said::Document { told, evaluated_at } => Some(written_out(told, *evaluated_at)),
            Said::Decision(decision) => Some((**decision).clone()),
            Said::Nobody { .. } => None,
        }
    }
}

fn written_out(told: &Told, evaluated_at: SystemTime) -> Decision {
    let document = &told.held.document;
    let limit = told.verdict.limit.map(|limit| LimitState {
        name: document.limit_name(&limit).to_owned(),
        allowance: limit.maximum.map_or(Allowance::Unlimited, Allowance::AtMost),
        used: limit.used,
        remaining: limit.remaining(),
    });
    Decision {
        entitled: told.verdict.entitled,
        reason: told.verdict.reason,
        plan: Some(document.plan().clone()),
        familiarity: told.verdict.familiarity,
        limit,
        valid_until: document.valid_until(),
        revision: Revision::clone(document.revision()),
        staleness: told.age.map_or(Staleness::Unknown, Staleness::AtMost),
        evaluated_at: Some(evaluated_at),
        grace_until: document.grace_until(),
        detail: None,
        explanation: Vec::new(),
    }
}
