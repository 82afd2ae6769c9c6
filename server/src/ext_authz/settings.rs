//! Settings: the sources of each part of a question, in order, and the table of routes.
//!
//! A source is as trustworthy as whoever writes it, and that is fixed by its kind. The operator writes context extensions, route
//! metadata, the table and what is fixed; metadata holds what another filter has verified (claims of a JWT); the principal is in
//! a certificate that Envoy has verified. A header, the host, the name in TLS and parts of the path are written by the client.
//! The first source that says something decides, and those that contradict it deny a request. Where a source of a field is
//! verified, what the client says is only compared: alone it is nothing. It decides where an operator gave the field no other.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tessera_core::ids::{FeatureId, LimitId, ServiceId};

use super::routes::Routes;
use super::rules::{Rules, parse_amount};

/// How requests that pass an Envoy become checks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Whether what would be denied is allowed, and said in the dynamic metadata and counted. Nothing in a request reaches this.
    pub dry_run: bool,
    /// Who asks. At least one.
    pub tenant: Vec<Source>,
    /// For which service. At least one.
    pub service: Vec<Source>,
    /// For which feature of it. None: the service itself is asked for.
    pub feature: Vec<Source>,
    /// Which limit is asked for. None, or none with a value: no limit.
    pub limit: Vec<Source>,
    /// How much of the limit. None: what the table says, if anything. None with a value: 1.
    pub amount: Vec<Source>,
    /// The table of routes, for sources `route` and `path_parameter`. Where there is one, what it has no route for is denied.
    pub routes: Vec<Route>,
}

/// Where a value stands in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// An entry of `context_extensions`, as a virtual host or a route of Envoy sets it.
    ContextExtension {
        /// Its key.
        key: String,
    },
    /// A text in the dynamic metadata that other filters have left, such as a claim of a verified JWT.
    Metadata {
        /// Whose: `envoy.filters.http.jwt_authn`.
        namespace: String,
        /// Names of the fields on the way to it; one at least.
        path: Vec<String>,
    },
    /// A text in the metadata of the route.
    RouteMetadata {
        /// Whose.
        namespace: String,
        /// Names of the fields on the way to it; one at least.
        path: Vec<String>,
    },
    /// What follows a prefix in the principal of the client's certificate, such as `spiffe://mesh.example/tenant/`. A principal
    /// that begins with no prefix of the field denies.
    Principal {
        /// The prefix.
        prefix: String,
    },
    /// A header, in lower case: the client's word, unless Envoy sets it or removes it from what clients send.
    Header {
        /// Its name.
        name: String,
    },
    /// What a name in this table stands for, found by the host of the request.
    Host {
        /// By host without port, in lower case.
        names: BTreeMap<String, String>,
    },
    /// What a name in this table stands for, found by the name that the client asked for in TLS.
    Sni {
        /// By name, in lower case.
        names: BTreeMap<String, String>,
    },
    /// What the route in the table says.
    Route,
    /// The part of the path that stands for `{name}` in the template of the route, without escapes.
    PathParameter {
        /// Its name.
        name: String,
    },
    /// Always this.
    Fixed {
        /// This.
        value: String,
    },
}

/// A route: a method, a template of paths, and what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// In capitals; `*` is every method that no other route of the template names.
    pub method: String,
    /// Such as `/reports/{id}` or `/files/{*rest}`. Literal parts win over `{…}`, and are the same however they are escaped.
    pub path: String,
    /// The service.
    #[serde(default)]
    pub service: Option<String>,
    /// The feature.
    #[serde(default)]
    pub feature: Option<String>,
    /// The limit.
    #[serde(default)]
    pub limit: Option<String>,
    /// How much of it.
    #[serde(default)]
    pub amount: Option<u64>,
}

/// Why settings are refused; each names the field, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A list of sources that must not be empty.
    #[error("`ext_authz.{0}` has no source; allowed is one at least")]
    NoSource(&'static str),
    /// A field of a source, or of a route.
    #[error("`ext_authz.{field}` is `{given}`; allowed is {allowed}")]
    Field {
        /// Which.
        field: String,
        /// What was given.
        given: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two routes for the same requests.
    #[error("`ext_authz.routes` has `{route}` and `{other}`, which are for the same requests; allowed is one of them")]
    SameRoute {
        /// The later one.
        route: String,
        /// The earlier one.
        other: String,
    },
    /// A table that no source asks, or a source that asks a table that is not there.
    #[error("`ext_authz.routes` {0}")]
    Table(&'static str),
}

pub(super) fn refused(field: impl Into<String>, given: impl Into<String>, allowed: impl Into<String>) -> Refused {
    Refused::Field { field: field.into(), given: given.into(), allowed: allowed.into() }
}

impl Settings {
    /// Checks them all, and makes of them what requests are judged by.
    pub(crate) fn rules(&self) -> Result<Rules, Refused> {
        let routes = Routes::compile(&self.routes)?;
        for (field, sources) in self.fields() {
            if sources.is_empty() && matches!(field, "tenant" | "service") {
                return Err(Refused::NoSource(field));
            }
            for source in sources {
                source.check(field, &routes)?;
            }
        }
        let asks_table = |source: &Source| matches!(source, Source::Route | Source::PathParameter { .. });
        let asked = self.fields().iter().any(|(_, sources)| sources.iter().any(asks_table));
        match (asked, self.routes.is_empty()) {
            (true, true) => Err(Refused::Table("is empty, and a source asks it; allowed is one route at least")),
            (false, false) => {
                Err(Refused::Table("is asked by no source; allowed is none without a source `route` or `path_parameter`"))
            }
            _ => {
                self.routes.iter().try_for_each(|route| self.check_columns(route))?;
                Ok(Rules { settings: self.clone(), routes: asked.then_some(routes) })
            }
        }
    }

    /// What a route says and nobody asks would never be checked.
    fn check_columns(&self, route: &Route) -> Result<(), Refused> {
        let asks = |sources: &[Source]| sources.contains(&Source::Route);
        // An amount is asked for beside a limit alone, and of the table unless of somebody else.
        let asks_amount = !self.limit.is_empty() && (self.amount.is_empty() || asks(&self.amount));
        let amount = route.amount.map(|amount| amount.to_string());
        for (column, value, is_asked) in [
            ("service", &route.service, asks(&self.service)),
            ("feature", &route.feature, asks(&self.feature)),
            ("limit", &route.limit, asks(&self.limit)),
            ("amount", &amount, asks_amount),
        ] {
            if let (Some(value), false) = (value, is_asked) {
                let at = format!("routes.{column} of `{}`", route.title());
                let asking = if column == "amount" && self.limit.is_empty() { "limit" } else { column };
                return Err(refused(at, value, format!("none, or a source `route` of `ext_authz.{asking}`")));
            }
        }
        Ok(())
    }

    /// Checks them all.
    pub fn validate(&self) -> Result<(), Refused> {
        self.rules().map(drop)
    }

    fn fields(&self) -> [(&'static str, &[Source]); 5] {
        [
            ("tenant", &self.tenant),
            ("service", &self.service),
            ("feature", &self.feature),
            ("limit", &self.limit),
            ("amount", &self.amount),
        ]
    }
}

impl Source {
    /// Whether what it says is not the client's word.
    pub(super) fn is_verified(&self) -> bool {
        match self {
            Self::ContextExtension { .. }
            | Self::Metadata { .. }
            | Self::RouteMetadata { .. }
            | Self::Principal { .. }
            | Self::Route
            | Self::Fixed { .. } => true,
            Self::Header { .. } | Self::Host { .. } | Self::Sni { .. } | Self::PathParameter { .. } => false,
        }
    }

    fn check(&self, field: &'static str, routes: &Routes) -> Result<(), Refused> {
        let at = |name: &str| format!("{field}.{name}");
        let some = |name: &str, text: &str| {
            if text.is_empty() { Err(refused(at(name), text, "a text that is not empty")) } else { Ok(()) }
        };
        match self {
            Self::ContextExtension { key } => some("key", key),
            Self::Metadata { namespace, path } | Self::RouteMetadata { namespace, path } => {
                some("namespace", namespace)?;
                if path.is_empty() || path.iter().any(String::is_empty) {
                    return Err(refused(at("path"), path.join("."), "one name at least, and none that is empty"));
                }
                Ok(())
            }
            Self::Principal { prefix } => some("prefix", prefix),
            Self::Header { name } => {
                let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
                if name.is_empty() || !name.bytes().all(good) {
                    return Err(refused(at("name"), name, "a header in lower case"));
                }
                Ok(())
            }
            Self::Host { names } | Self::Sni { names } => names.iter().try_for_each(|(name, value)| {
                if name.is_empty() || name.chars().any(|c| c.is_ascii_uppercase() || c == ':') {
                    return Err(refused(at("names"), name, "names in lower case and without a port"));
                }
                known(&at("names"), field, value)
            }),
            Self::Route if field == "tenant" => Err(refused("tenant.from", "route", "any other source: routes name no tenant")),
            Self::Route => Ok(()),
            Self::PathParameter { name } if routes.parameters().contains(name.as_str()) => Ok(()),
            Self::PathParameter { name } => Err(refused(at("name"), name, "the name of a `{…}` in one of `ext_authz.routes`")),
            Self::Fixed { value } => known(&at("value"), field, value),
        }
    }
}

impl Route {
    /// As it is called in messages.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(super) fn check(&self) -> Result<(), Refused> {
        if self.method != "*"
            && (self.method.is_empty() || !self.method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-'))
        {
            return Err(refused("routes.method", &self.method, "`*`, or a method in capitals"));
        }
        for (field, value) in [("service", &self.service), ("feature", &self.feature), ("limit", &self.limit)] {
            if let Some(value) = value {
                known(&format!("routes.{field} of `{}`", self.title()), field, value)?;
            }
        }
        if self.amount.is_some_and(|amount| i64::try_from(amount).is_err()) {
            let given = self.amount.unwrap_or_default().to_string();
            return Err(refused(format!("routes.amount of `{}`", self.title()), given, "at most 9223372036854775807"));
        }
        Ok(())
    }
}

/// What an operator writes for a field follows the grammar of its names.
fn known(place: &str, field: &str, value: &str) -> Result<(), Refused> {
    let wrong = match field {
        "service" => ServiceId::parse(value).err().map(|error| error.to_string()),
        "feature" => FeatureId::parse(value).err().map(|error| error.to_string()),
        "limit" => LimitId::parse(value).err().map(|error| error.to_string()),
        "amount" => parse_amount(value).is_none().then(|| format!("digits alone, at most {}", i64::MAX)),
        _ => tessera_core::ids::TenantId::parse(value).err().map(|error| error.to_string()),
    };
    wrong.map_or(Ok(()), |why| Err(refused(place, value, format!("a good name or number: {why}"))))
}

/// Names that are in a template twice, or more than one template has: for messages and checks.
pub(super) type Names<'a> = BTreeSet<&'a str>;
