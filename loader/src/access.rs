//! Who may call what on the control plane, and what whoever may not is told. Each method's scope stands in its .proto file.

use std::sync::Arc;

use tessera_proto::scope;
use tessera_proto::status::Failure;
use tessera_runtime::identity::Refused;
use tessera_runtime::identity::authenticator::Authenticator;
use tessera_runtime::identity::guard::{Access, Rules};
use tessera_runtime::overload::Policy;

/// What is answered when too much is asked; nothing is so small that it would be served before all else.
pub fn policy() -> Policy {
    Policy {
        overloaded: Failure::too_much_asked().into(),
        connection_ends: Failure::connection_ends().into(),
        is_small: |_| false,
    }
}

/// The rules by which callers of the control plane are let in.
pub fn rules(authenticator: Arc<Authenticator>) -> Rules {
    let access = |path: &str| scope::of(path).map_or_else(|| Access::beside_ours(path), Access::Scope);
    let refusal = |refused: &Refused| match refused {
        Refused::Lacking(scope) => Failure::scope_missing(scope.name()).into(),
        Refused::Changed => Failure::caller_changed(refused.to_string()).into(),
        _ => Failure::token_invalid(refused.to_string()).into(),
    };
    Rules { authenticator, access, is_stream: scope::is_stream, refusal }
}
