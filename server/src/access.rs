//! Who may call what on the data plane, what whoever may not is told, and who is served when not all can be.

use std::sync::Arc;

use tessera_core::access::Scope;
use tessera_proto::scope;
use tessera_proto::status::Failure;
use tessera_runtime::identity::Refused;
use tessera_runtime::identity::authenticator::Authenticator;
use tessera_runtime::identity::guard::{Access, Rules};
use tessera_runtime::overload::Policy;

use crate::service::ext_authz;
use crate::service::server::CHECK;

/// The rules by which callers of the data plane are let in.
pub fn rules(authenticator: Arc<Authenticator>) -> Rules {
    Rules { authenticator, access, is_stream: scope::is_stream, refusal: |refused| refusal(refused).into() }
}

fn access(path: &str) -> Access {
    if path == ext_authz::METHOD {
        return Access::Scope(Scope::Decide);
    }
    scope::of(path).map_or_else(|| Access::beside_ours(path), Access::Scope)
}

/// What is answered when too much is asked. Single checks need little, and are what most callers wait for.
pub fn policy() -> Policy {
    Policy {
        overloaded: Failure::too_much_asked().into(),
        connection_ends: Failure::connection_ends().into(),
        is_small: |path| path == CHECK || path == ext_authz::METHOD,
    }
}

fn refusal(refused: &Refused) -> Failure {
    match refused {
        Refused::Lacking(scope) => Failure::scope_missing(scope.name()),
        Refused::Changed => Failure::caller_changed(refused.to_string()),
        _ => Failure::token_invalid(refused.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_need_the_scope_and_health_needs_nobody() {
        for checked in [ext_authz::METHOD, "/tessera.v1.EntitlementService/CheckEntitlement"] {
            assert_eq!(access(checked), Access::Scope(Scope::Decide));
        }
        assert_eq!(access("/grpc.health.v1.Health/Check"), Access::Open);
        for other in ["", "/", "/grpc.health.v1.HealthAndMore/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
        {
            assert_eq!(access(other), Access::Known, "{other}");
        }
        let unknown = refusal(&Refused::Unknown);
        assert_eq!((unknown.reason(), unknown.code()), ("TOKEN_INVALID", tonic::Code::Unauthenticated));
        let lacking = refusal(&Refused::Lacking(Scope::Decide));
        assert_eq!((lacking.reason(), lacking.code()), ("SCOPE_MISSING", tonic::Code::PermissionDenied));
    }
}
