//! The scope that each method needs, from the option that each has in its .proto file (a method without one is not generated), and
//! which of them answer with a stream.

/// A line per method, as the code generator writes it.
mod generated {
    #![expect(clippy::match_same_arms, reason = "generated, a line per method")]

    use tessera_core::access::Scope;

    include!("generated/scopes.rs");
}

pub use generated::{is_stream, of};

#[cfg(test)]
mod tests {
    use tessera_core::access::Scope;

    use super::*;

    #[test]
    fn every_served_method_has_its_scope_and_nothing_else_has_one() {
        let set = crate::public_file_descriptor_set();
        let ours = set.file.iter().filter(|file| file.package().starts_with("tessera."));
        let mut methods = 0;
        for (file, service) in ours.flat_map(|file| file.service.iter().map(move |service| (file, service))) {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                assert!(of(&path).is_some(), "{path}");
                assert_eq!(of(&path[1..]), None);
                assert_eq!(is_stream(&path), method.server_streaming(), "{path}");
                methods += 1;
            }
        }
        assert!(methods > 50, "{methods}");
        assert_eq!(of("/tessera.v1.PlanService/"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn who_asks_does_not_write() {
        assert_eq!(of("/tessera.v1.EntitlementService/CheckEntitlement"), Some(Scope::Decide));
        assert_eq!(of("/tessera.v1.TenantService/GetTenant"), Some(Scope::Read));
        assert_eq!(of("/tessera.v1.TenantService/SetOverride"), Some(Scope::WriteTenants));
        assert_eq!(of("/tessera.v1.CatalogService/DisableFeature"), Some(Scope::WritePlans));
        assert_eq!(of("/tessera.v1.AuditService/VerifyAudit"), Some(Scope::Audit));
    }
}
