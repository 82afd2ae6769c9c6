//! What a newcomer reads when `tessera dev` is ready: where everything is, and what to try next, with the real addresses.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tessera_core::ids::LimitId;
use tessera_runtime::identity::settings::IdentityConfig;
use tessera_runtime::listener::ListenerConfig;
use tessera_runtime::tls::{ClientCertificates, TlsConfig};

use crate::connection::Addresses;
use crate::document::{Document, Located};

/// What to ask for in the examples.
struct Example<'a> {
    tenant: &'a str,
    service: &'a str,
    feature: &'a str,
    limit: Option<&'a str>,
}

/// What callers need by the settings, beside an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Needs {
    tls: bool,
    certificate: bool,
    tokens: Tokens,
}

/// Which tokens are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tokens {
    #[default]
    None,
    OfIssuers,
    /// And perhaps those of issuers.
    Own,
}

impl Needs {
    pub(super) fn of(listener: &ListenerConfig, identity: Option<&IdentityConfig>) -> Self {
        let tokens = match identity {
            Some(identity) if identity.tokens_file.is_some() => Tokens::Own,
            Some(identity) if !identity.issuers.is_empty() => Tokens::OfIssuers,
            _ => Tokens::None,
        };
        let required = |tls: &TlsConfig| tls.client_certificates.unwrap_or_default() == ClientCertificates::Required;
        let required = listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some() && required(tls));
        Self { tls: listener.tls.is_some(), certificate: required || identity.is_some() && tokens == Tokens::None, tokens }
    }

    /// What each example ends with.
    fn flags(self) -> String {
        let parts = [
            (self.tls, " --ca-file CA"),
            (self.certificate, " --client-certificate CERTIFICATE --client-key KEY"),
            (self.tokens != Tokens::None, " --token-file TOKEN"),
        ];
        parts.into_iter().filter(|(needed, _)| *needed).map(|(_, flag)| flag).collect()
    }

    fn grpcurl(self) -> String {
        let parts = [
            (!self.tls, " -plaintext"),
            (self.tls, " -cacert CA"),
            (self.certificate, " -cert CERTIFICATE -key KEY"),
            (self.tokens != Tokens::None, " -H \"authorization: Bearer $(cat TOKEN)\""),
        ];
        std::iter::once("grpcurl").chain(parts.into_iter().filter(|(needed, _)| *needed).map(|(_, flag)| flag)).collect()
    }

    /// What the words in capitals are.
    fn explanation(self) -> Option<&'static str> {
        if self.tokens == Tokens::Own {
            Some(
                "words in capitals are files of yours; \
                 `tessera token create NAME --scope decide,read,write:plans,write:tenants --tokens-file FILE` prints a token",
            )
        } else {
            (self != Self::default()).then_some("words in capitals are files of yours")
        }
    }

    /// Where somebody on this machine reaches what listens there. Certificates are of names.
    fn reach(self, listening: &str) -> String {
        let Ok(mut address) = listening.parse::<SocketAddr>() else { return listening.to_owned() };
        if address.ip().is_unspecified() {
            let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        if self.tls && address.ip().is_loopback() { format!("localhost:{}", address.port()) } else { address.to_string() }
    }
}

/// The text, for what was applied.
pub(super) fn compose(addresses: &Addresses, needs: Needs, data: &Path, documents: &[Located]) -> String {
    let program = std::env::args_os().next().map_or_else(|| "tessera".to_owned(), |name| name.to_string_lossy().into_owned());
    let example = documents.iter().find_map(|located| example(&located.document, documents));
    write(&program, addresses, needs, data, example.as_ref())
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

fn write(program: &str, addresses: &Addresses, needs: Needs, data: &Path, example: Option<&Example<'_>>) -> String {
    let Addresses { data: checks, control, http } = addresses;
    let flags = needs.flags();
    let flag = |name: &str, address: &str, default: &str| {
        let scheme = if needs.tls { "https://" } else { "" };
        let place = if address == default { String::new() } else { format!(" --{name} {scheme}{address}") };
        format!("{place}{flags}")
    };
    let (ask_data, ask_control) = (needs.reach(checks), needs.reach(control));
    let at_data = flag("data-addr", &ask_data, "127.0.0.1:7400");
    let at_control = flag("control-addr", &ask_control, "127.0.0.1:7401");
    let (http, grpcurl) = (Needs::default().reach(http), needs.grpcurl());
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
        lines.push(format!("{grpcurl} -d '{body}' {ask_data} tessera.v1.EntitlementService/CheckEntitlement"));
    } else {
        lines.push(format!("{program} apply -f examples/quickstart{at_control}"));
        lines.push(format!("{program} tenant list{at_control}"));
    }
    lines.push(format!("{grpcurl} {ask_control} list"));
    for line in lines {
        writeln!(text, "  {line}").unwrap_or_default();
    }
    if let Some(explanation) = needs.explanation() {
        writeln!(text, "\n{explanation}").unwrap_or_default();
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
        let text = write("tessera", &addresses("127.0.0.1:5555"), Needs::default(), Path::new(".tessera"), Some(&example));
        for expected in [
            "tessera check t s f --data-addr 127.0.0.1:5555\n",
            "tessera check t s --limit l=1,used=10 --data-addr 127.0.0.1:5555\n",
            "tessera tenant list\n",
            "grpcurl -plaintext -d",
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
        let text = write("tessera", &addresses("127.0.0.1:7400"), Needs::default(), Path::new("d"), None);
        assert!(text.contains("tessera apply -f examples/quickstart\n") && !text.contains("--data-addr"), "{text}");
        assert!(!text.contains("capitals"), "{text}");
    }

    #[test]
    fn examples_say_what_settings_ask_callers_for_and_an_address_that_can_be_reached() {
        let tls = TlsConfig { certificate: "c".into(), key: "k".into(), client_ca: None, client_certificates: None };
        let listener = |tls: Option<TlsConfig>| ListenerConfig { tls, ..ListenerConfig::default() };
        let tokens = IdentityConfig { tokens_file: Some("t".into()), ..IdentityConfig::default() };
        let said = |data: &str, tls: Option<TlsConfig>, identity: Option<&IdentityConfig>| {
            write("tessera", &addresses(data), Needs::of(&listener(tls), identity), Path::new("d"), None)
        };
        let text = said("0.0.0.0:7420", Some(tls.clone()), Some(&tokens));
        for expected in [
            "  data plane     0.0.0.0:7420  checks\n",
            "tessera tenant list --control-addr https://localhost:7401 --ca-file CA --token-file TOKEN\n",
            "grpcurl -cacert CA -H \"authorization: Bearer $(cat TOKEN)\" localhost:7401 list\n",
            "words in capitals are files of yours; `tessera token create",
        ] {
            assert!(text.contains(expected) && !text.contains("-plaintext"), "{expected}\n{text}");
        }
        let with_clients = TlsConfig { client_ca: Some("a".into()), ..tls };
        let optional = TlsConfig { client_certificates: Some(ClientCertificates::Optional), ..with_clients.clone() };
        let flags = |tls, identity| Needs::of(&listener(tls), identity).flags();
        let certificate = " --client-certificate CERTIFICATE --client-key KEY";
        assert_eq!(flags(None, Some(&tokens)), " --token-file TOKEN");
        assert_eq!(flags(Some(with_clients), Some(&tokens)), format!(" --ca-file CA{certificate} --token-file TOKEN"));
        assert_eq!(flags(Some(optional.clone()), Some(&tokens)), " --ca-file CA --token-file TOKEN");
        assert_eq!(flags(Some(optional), Some(&IdentityConfig::default())), format!(" --ca-file CA{certificate}"));
        let (open, encrypted) = (Needs::default(), Needs { tls: true, ..Needs::default() });
        for (listening, plain, by_name) in [
            ("0.0.0.0:1", "127.0.0.1:1", "localhost:1"),
            ("[::]:1", "[::1]:1", "localhost:1"),
            ("192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1"),
        ] {
            assert_eq!((open.reach(listening).as_str(), encrypted.reach(listening).as_str()), (plain, by_name));
        }
    }
}
