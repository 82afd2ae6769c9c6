//! What a newcomer reads when `tessera dev` is ready: where everything is, and what to try next, with the real addresses.

use std::fmt::Write as _;
use std::path::Path;

use tessera_core::ids::LimitId;

use crate::connection::Addresses;
use crate::document::{Document, Located};

/// What to ask for in the examples.
struct Example<'a> {
    tenant: &'a str,
    service: &'a str,
    feature: &'a str,
    limit: Option<&'a str>,
}

/// The text, for what was applied.
pub(super) fn compose(addresses: &Addresses, data: &Path, documents: &[Located]) -> String {
    let program = std::env::args_os().next().map_or_else(|| "tessera".to_owned(), |name| name.to_string_lossy().into_owned());
    let example = documents.iter().find_map(|located| example(&located.document, documents));
    write(&program, addresses, data, example.as_ref())
}

/// A tenant whose plan stands beside it, and something that the plan has.
fn example<'a>(document: &'a Document, documents: &'a [Located]) -> Option<Example<'a>> {
    let Document::Tenant(tenant, wanted) = document else { return None };
    let plan = documents.iter().find_map(|located| match &located.document {
        Document::Plan(id, plan) if *id == wanted.choice.plan => Some(plan),
        _ => None,
    })?;
    let (service, grant) = plan.services.iter().find(|(_, grant)| !grant.features.is_empty())?;
    let limit = plan.limits.keys().find(|limit| limit.as_str() == "max_users").or_else(|| plan.limits.keys().next());
    Some(Example {
        tenant: tenant.as_str(),
        service: service.as_str(),
        feature: grant.features.first()?.as_str(),
        limit: limit.map(LimitId::as_str),
    })
}

fn write(program: &str, addresses: &Addresses, data: &Path, example: Option<&Example<'_>>) -> String {
    let Addresses { data: checks, control, http } = addresses;
    let flag = |name: &str, address: &str, default: &str| {
        if address == default { String::new() } else { format!(" --{name} {address}") }
    };
    let at_data = flag("data-addr", checks, "127.0.0.1:7400");
    let at_control = flag("control-addr", control, "127.0.0.1:7401");
    let mut text = format!(
        "\ntessera dev is ready\n\n  data plane     {checks}  checks\n  control plane  {control}  everything that changes\n  \
         pages          http://{http}/metrics, /readyz, /digest\n  data           {}\n\ntry in another terminal:\n\n",
        data.display()
    );
    let mut lines = Vec::new();
    if let Some(Example { tenant, service, feature, limit }) = example {
        lines.push(format!("{program} check {tenant} {service} {feature}{at_data}"));
        if let Some(limit) = limit {
            lines.push(format!("{program} check {tenant} {service} --limit {limit}=1,used=10{at_data}"));
        }
        lines.push(format!("{program} explain {tenant} {service} {feature}{at_data}"));
        lines.push(format!("{program} list {tenant}{at_data}"));
        lines.push(format!("{program} tenant list{at_control}"));
        let body = serde_json::json!({ "tenant_id": tenant, "service": service, "feature": feature });
        lines.push(format!("grpcurl -plaintext -d '{body}' {checks} tessera.v1.EntitlementService/CheckEntitlement"));
    } else {
        lines.push(format!("{program} apply -f examples/quickstart{at_control}"));
        lines.push(format!("{program} tenant list{at_control}"));
    }
    lines.push(format!("grpcurl -plaintext {control} list"));
    for line in lines {
        writeln!(text, "  {line}").unwrap_or_default();
    }
    text.push_str("\nstop with Ctrl-C\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Located> {
        crate::document::read("x", text.as_bytes()).map(Result::unwrap).collect()
    }

    fn addresses(data: &str) -> Addresses {
        Addresses { data: data.into(), control: "127.0.0.1:7401".into(), http: "127.0.0.1:7402".into() }
    }

    #[test]
    fn examples_ask_for_what_was_applied_at_the_real_addresses() {
        let documents = read("tenant: t\nplan: p\n---\nplan: p\nservices: {a: {}, s: {features: [f]}}\nlimits: {l: 1}\n");
        let example = documents.iter().find_map(|located| example(&located.document, &documents)).unwrap();
        let text = write("tessera", &addresses("127.0.0.1:5555"), Path::new(".tessera"), Some(&example));
        for expected in [
            "tessera check t s f --data-addr 127.0.0.1:5555\n",
            "tessera check t s --limit l=1,used=10 --data-addr 127.0.0.1:5555\n",
            "tessera tenant list\n",
            "127.0.0.1:5555 tessera.v1.EntitlementService/CheckEntitlement",
            r#"-d '{"tenant_id":"t","service":"s","feature":"f"}'"#,
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn without_documents_the_first_thing_to_try_is_to_apply_some() {
        let documents = read("tenant: t\nplan: p\n");
        assert!(documents.iter().find_map(|located| example(&located.document, &documents)).is_none());
        let text = write("tessera", &addresses("127.0.0.1:7400"), Path::new("d"), None);
        assert!(text.contains("tessera apply -f examples/quickstart\n") && !text.contains("--data-addr"), "{text}");
    }
}
