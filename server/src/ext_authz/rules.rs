//! From what Envoy says of a request to what is asked, or to why nothing can be asked.

use tessera_proto::convert::decision::{Asked, AskedLimit};

use super::request::{Request, Trouble};
use super::routes::{Matched, Routes, is_normal};
use super::settings::{Settings, Source};

/// How much of a limit is asked for when nobody says.
const AMOUNT: i64 = 1;

/// Checked settings.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(super) settings: Settings,
    /// `None` when no source asks for it.
    pub(super) routes: Option<Routes>,
}

/// Why a request is denied before anybody decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denial {
    /// No source has a tenant.
    TenantMissing,
    /// No source has a service.
    ServiceMissing,
    /// No source has a feature, and there are sources for one.
    FeatureMissing,
    /// The table has no route for method and path, and nothing else says what is asked for.
    RouteUnknown,
    /// Two sources of one field say different things.
    SourcesConflict,
    /// A source has more than one value, or what is no text.
    SourceAmbiguous,
    /// Another spelling of a path may lead elsewhere.
    PathNotNormal,
    /// An amount that is no number from 0 up.
    AmountInvalid,
    /// A name that no tenant, service, feature or limit can have.
    NameInvalid,
}

impl Denial {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 9] = [
        Self::TenantMissing,
        Self::ServiceMissing,
        Self::FeatureMissing,
        Self::RouteUnknown,
        Self::SourcesConflict,
        Self::SourceAmbiguous,
        Self::PathNotNormal,
        Self::AmountInvalid,
        Self::NameInvalid,
    ];

    /// As it stands in answers and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TenantMissing => "TENANT_MISSING",
            Self::ServiceMissing => "SERVICE_MISSING",
            Self::FeatureMissing => "FEATURE_MISSING",
            Self::RouteUnknown => "ROUTE_UNKNOWN",
            Self::SourcesConflict => "SOURCES_CONFLICT",
            Self::SourceAmbiguous => "SOURCE_AMBIGUOUS",
            Self::PathNotNormal => "PATH_NOT_NORMAL",
            Self::AmountInvalid => "AMOUNT_INVALID",
            Self::NameInvalid => "NAME_INVALID",
        }
    }
}

/// Why there is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoQuestion {
    /// No Envoy sends such a message.
    Malformed,
    /// The request is denied.
    Denied(Denial),
}

impl From<Trouble> for NoQuestion {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Malformed => Self::Malformed,
            Trouble::Ambiguous => Self::Denied(Denial::SourceAmbiguous),
        }
    }
}

impl From<Denial> for NoQuestion {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

/// A request beside the route that was found for it.
#[derive(Debug)]
struct Seen<'t, 'a> {
    request: Request<'a>,
    matched: Option<Matched<'t, 'a>>,
}

impl Rules {
    /// Whether what would be denied is allowed.
    pub(crate) fn dry_run(&self) -> bool {
        self.settings.dry_run
    }

    /// What a message asks.
    pub(crate) fn question<'a>(&'a self, bytes: &'a [u8]) -> Result<Asked<'a>, NoQuestion> {
        let request = Request::read(bytes).ok_or(NoQuestion::Malformed)?;
        let matched = match &self.routes {
            Some(_) if !is_normal(request.path()) => return Err(Denial::PathNotNormal.into()),
            Some(routes) => routes.find(request.method, request.path()),
            None => None,
        };
        let unknown_route = self.routes.is_some() && matched.is_none();
        let missing = |denial| NoQuestion::Denied(if unknown_route { Denial::RouteUnknown } else { denial });
        let seen = Seen { request, matched };
        let settings = &self.settings;
        let route_text = |pick: fn(&super::settings::Route) -> Option<&str>| {
            move |seen: &Seen<'a, 'a>| seen.matched.as_ref().and_then(|matched| pick(matched.route))
        };
        let tenant = seen.find(&settings.tenant, |_| None)?.ok_or_else(|| missing(Denial::TenantMissing))?;
        let service = seen.find(&settings.service, route_text(|route| route.service.as_deref()))?;
        let service = service.ok_or_else(|| missing(Denial::ServiceMissing))?;
        let feature = seen.find(&settings.feature, route_text(|route| route.feature.as_deref()))?;
        if feature.is_none() && !settings.feature.is_empty() && !seen.names_service_alone() {
            return Err(missing(Denial::FeatureMissing));
        }
        let limit = seen.find(&settings.limit, route_text(|route| route.limit.as_deref()))?;
        let limit = match limit {
            Some(name) => Some(AskedLimit { name, amount: seen.amount(&settings.amount)?, used: None }),
            None => None,
        };
        Ok(Asked { tenant_id: tenant, service, feature: feature.unwrap_or_default(), limit })
    }
}

impl<'t, 'a: 't> Seen<'t, 'a> {
    /// What the sources say that say anything, if they agree.
    fn find(&self, sources: &'a [Source], of_route: impl Fn(&Self) -> Option<&'t str>) -> Result<Option<&'t str>, NoQuestion> {
        let mut found: Option<&'t str> = None;
        for source in sources {
            let value = self.look(source, &of_route)?.filter(|value| !value.is_empty());
            match (found, value) {
                (Some(before), Some(value)) if before != value => return Err(Denial::SourcesConflict.into()),
                (None, value) => found = value,
                _ => {}
            }
        }
        Ok(found)
    }

    fn look(&self, source: &'a Source, of_route: impl Fn(&Self) -> Option<&'t str>) -> Result<Option<&'t str>, NoQuestion> {
        let request = &self.request;
        Ok(match source {
            Source::ContextExtension { key } => request.extension(key)?,
            Source::Metadata { namespace, path } => request.metadata(namespace, path)?,
            Source::RouteMetadata { namespace, path } => request.route_metadata(namespace, path)?,
            Source::Principal { prefix } => request.principal.strip_prefix(prefix.as_str()),
            Source::Header { name } => request.header(name)?,
            Source::Host { names } => named(names, request.host_name()),
            Source::Sni { names } => named(names, request.sni),
            Source::Route => of_route(self),
            Source::PathParameter { name } => self.matched.as_ref().and_then(|matched| matched.parameter(name)),
            Source::Fixed { value } => Some(value),
        })
    }

    /// Whether the table says that a route is of a service as a whole.
    fn names_service_alone(&self) -> bool {
        self.matched.as_ref().is_some_and(|matched| matched.route.service.is_some() && matched.route.feature.is_none())
    }

    fn amount(&self, sources: &'a [Source]) -> Result<i64, NoQuestion> {
        let of_route = self.matched.as_ref().and_then(|matched| matched.route.amount);
        let asks_route = sources.is_empty() || sources.contains(&Source::Route);
        let of_route = of_route.filter(|_| asks_route).and_then(|amount| i64::try_from(amount).ok());
        let text = self.find(sources, |_| None)?;
        let said = text.map(|text| parse_amount(text).ok_or(Denial::AmountInvalid)).transpose()?;
        match (said, of_route) {
            (Some(said), Some(route)) if said != route => Err(Denial::SourcesConflict.into()),
            (Some(amount), _) | (None, Some(amount)) => Ok(amount),
            (None, None) => Ok(AMOUNT),
        }
    }
}

/// Digits alone.
fn parse_amount(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Names are in lower case in the table, in any case on the wire, and few.
fn named<'a>(names: &'a std::collections::BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
