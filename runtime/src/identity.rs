//! Who calls, and what they may do.
//!
//! A caller is known by an API token, by a JSON Web Token of an issuer that the settings name, or by the SPIFFE id of a client
//! certificate; by nothing else, and never by what a request says of itself. A process without `[identity]` listens on loopback
//! only, and whoever reaches it there may do everything, as `local`.
//!
//! - [`settings`]: what the settings say, and what listeners they permit;
//! - [`tokens`]: API tokens: the file that keeps their hashes, and how they are made;
//! - [`jwt`], [`issuer`]: JSON Web Tokens, and the keys of those who issue them;
//! - [`authenticator`]: from the headers and the certificate of a request to its caller;
//! - [`guard`]: what stands before the services, with the scope that each method needs.

pub mod authenticator;
pub mod guard;
pub mod issuer;
pub mod jwt;
mod metric_definitions;
pub mod settings;
pub mod tokens;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use tessera_core::access::{Scope, Scopes};
use tessera_core::aggregate::{ACTOR_LOCAL, Actor};
use tessera_core::ids::TenantId;

/// A caller whose credentials were verified. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal(Arc<Grant>);

/// What a principal is and may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its name in the audit log.
    pub actor: Actor,
    /// What it may do.
    pub scopes: Scopes,
    /// The tenants it is bound to; to it, others do not exist. `None`: all.
    pub tenants: Option<BTreeSet<TenantId>>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no credentials.
    #[error("credentials are needed: an API token or a JSON Web Token as `authorization: Bearer …`, or a client certificate")]
    Missing,
    /// What it has is not a credential at all. The text says what is wrong and repeats nothing of it.
    #[error("the credentials are malformed: {0}")]
    Malformed(&'static str),
    /// Nobody has that token or certificate.
    #[error("the credentials are not known here, or no longer; come again with others")]
    Unknown,
    /// It was good once.
    #[error("the credentials have expired; come again with new ones")]
    Expired,
    /// A JSON Web Token that was not made for this, or is not good yet.
    #[error("the token was not made for this: {0}")]
    Unfit(&'static str),
    /// A JSON Web Token whose key is not among those of its issuer as far as they are known.
    #[error("the key of the token is not known; its issuer may have changed keys a moment ago")]
    KeyUnknown,
    /// The caller is known and may not do this.
    #[error("the caller lacks the scope `{0}`, which this needs")]
    Lacking(Scope),
    /// The caller of a stream is known and is not what it was when the stream began.
    #[error("what the caller may do has changed; open the stream again")]
    Changed,
}

impl Refused {
    /// Its name in metrics.
    fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Unfit(_) => "unfit",
            Self::KeyUnknown => "key_unknown",
            Self::Lacking(_) => "scope_missing",
            Self::Changed => "changed",
        }
    }
}

/// Whoever is on this machine, where nobody is asked who they are.
static LOCAL: LazyLock<Option<Principal>> = LazyLock::new(|| {
    let actor = Actor::parse("an actor", ACTOR_LOCAL).ok()?;
    Some(Principal::new(Grant { actor, scopes: Scopes::all(), tenants: None }))
});

impl Principal {
    /// Somebody who may do what `grant` says.
    pub fn new(grant: Grant) -> Self {
        Self(Arc::new(grant))
    }

    /// Whoever reaches a process that asks nobody who they are; may do everything.
    pub fn local() -> Option<Self> {
        LOCAL.clone()
    }

    /// Its name in the audit log.
    pub fn actor(&self) -> &Actor {
        &self.0.actor
    }

    /// Whether it may do that.
    pub fn may(&self, scope: Scope) -> bool {
        self.0.scopes.has(scope)
    }

    /// Whether that tenant is there for it, if it is at all.
    pub fn sees(&self, tenant: &str) -> bool {
        self.0.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }

    /// The tenants it is bound to; `None` when it sees all.
    pub fn tenants(&self) -> Option<&BTreeSet<TenantId>> {
        self.0.tenants.as_ref()
    }
}
