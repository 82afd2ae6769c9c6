//! From what Envoy says of a request to what is asked, or to why nothing can be asked.

use std::borrow::Cow;

use tessera_proto::convert::decision::{Asked, AskedLimit};

use super::request::{Request, Trouble};
use super::routes::{Matched, Routes, normal};
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
    /// No source has a tenant, or none that decides.
    TenantMissing,
    /// No source has a service, or none that decides.
    ServiceMissing,
    /// No source has a feature, or none that decides, and there are sources for one.
    FeatureMissing,
    /// A source has a limit, but none that decides, or one of these an empty one. A request without any is not asked for one.
    LimitMissing,
    /// The table has no route for method and path, whatever else says what is asked for.
    RouteUnknown,
    /// Two sources of one field say different things.
    SourcesConflict,
    /// A source has more than one value, or what is no text.
    SourceAmbiguous,
    /// Another spelling of a path may lead elsewhere.
    PathNotNormal,
    /// An amount that is no number from 0 up, or that no source has that decides.
    AmountInvalid,
    /// A name that no tenant, service, feature or limit can have.
    NameInvalid,
}

impl Denial {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::TenantMissing,
        Self::ServiceMissing,
        Self::FeatureMissing,
        Self::LimitMissing,
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
            Self::LimitMissing => "LIMIT_MISSING",
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

    /// What a message asks. In `room` stands its path, where that has escapes.
    pub(crate) fn question<'a>(&'a self, bytes: &'a [u8], room: &'a mut String) -> Result<Asked<'a>, NoQuestion> {
        let request = Request::read(bytes).ok_or(NoQuestion::Malformed)?;
        // Without a table, too: what Envoy says of its route is as wrong when the service takes the path for another one.
        let path = match normal(request.path()) {
            Some(Cow::Borrowed(path)) => path,
            Some(Cow::Owned(path)) => {
                *room = path;
                room.as_str()
            }
            // CONNECT has no path, and so no other spelling.
            None if self.routes.is_none() && request.target.is_empty() => "",
            None => return Err(Denial::PathNotNormal.into()),
        };
        // What is in no table is for nothing: whatever else names service and feature, nobody names its limit.
        let matched = match &self.routes {
            Some(routes) => Some(routes.find(request.method, path).ok_or(Denial::RouteUnknown)?),
            None => None,
        };
        let seen = Seen { request, matched };
        let settings = &self.settings;
        let route_text = |pick: fn(&super::settings::Route) -> Option<&str>| {
            move |seen: &Seen<'a, 'a>| seen.matched.as_ref().and_then(|matched| pick(matched.route))
        };
        let no_tenant = NoQuestion::from(Denial::TenantMissing);
        let tenant = seen.find(&settings.tenant, no_tenant, |_| None)?.ok_or(no_tenant)?;
        let no_service = NoQuestion::from(Denial::ServiceMissing);
        let service = seen.find(&settings.service, no_service, route_text(|route| route.service.as_deref()))?;
        let service = service.ok_or(no_service)?;
        let no_feature = NoQuestion::from(Denial::FeatureMissing);
        let feature = seen.find(&settings.feature, no_feature, route_text(|route| route.feature.as_deref()))?;
        if feature.is_none() && !settings.feature.is_empty() && !seen.names_service_alone(&settings.feature) {
            return Err(no_feature);
        }
        let no_limit = NoQuestion::from(Denial::LimitMissing);
        let limit = match seen.find(&settings.limit, no_limit, route_text(|route| route.limit.as_deref()))? {
            Some(name) => Some(AskedLimit { name, amount: seen.amount(&settings.amount)?, used: None }),
            None => None,
        };
        Ok(Asked { tenant_id: tenant, service, feature: feature.unwrap_or_default(), limit })
    }
}

/// What the sources of a field say that say anything, if they agree. What the client says is only compared with what is verified:
/// where a source of the field is verified and none of these says anything, its word alone is `unproven`.
fn agreed<'s, T: Copy + PartialEq>(
    sources: &'s [Source],
    unproven: NoQuestion,
    says: impl Fn(&'s Source) -> Result<Option<T>, NoQuestion>,
) -> Result<Option<T>, NoQuestion> {
    let (mut found, mut provable, mut proven): (Option<T>, bool, bool) = (None, false, false);
    for source in sources {
        let value = says(source)?;
        let verified = source.is_verified();
        provable |= verified;
        proven |= verified && value.is_some();
        match (found, value) {
            (Some(before), Some(value)) if before != value => return Err(Denial::SourcesConflict.into()),
            (None, value) => found = value,
            _ => {}
        }
    }
    if found.is_some() && provable && !proven { Err(unproven) } else { Ok(found) }
}

impl<'t, 'a: 't> Seen<'t, 'a> {
    /// What is asked for in a field whose sources these are; `missing` denies where that is nothing that counts.
    fn find(
        &self,
        sources: &'a [Source],
        missing: NoQuestion,
        of_route: impl Fn(&Self) -> Option<&'t str>,
    ) -> Result<Option<&'t str>, NoQuestion> {
        agreed(sources, missing, |source| self.say(source, sources, missing, &of_route))
    }

    /// What one source says. One that is verified and says what nobody can use is not passed over for another: `missing`.
    fn say(
        &self,
        source: &'a Source,
        sources: &'a [Source],
        missing: NoQuestion,
        of_route: impl Fn(&Self) -> Option<&'t str>,
    ) -> Result<Option<&'t str>, NoQuestion> {
        let request = &self.request;
        let said = match source {
            Source::ContextExtension { key } => request.extension(key)?,
            Source::Metadata { namespace, path } => request.metadata(namespace, path)?,
            Source::RouteMetadata { namespace, path } => request.route_metadata(namespace, path)?,
            Source::Principal { prefix } => {
                let said = request.principal.strip_prefix(prefix.as_str());
                if said.is_none() && self.is_nobody_of(sources) {
                    return Err(missing);
                }
                said
            }
            Source::Header { name } => request.header(name)?,
            Source::Host { names } => named(names, request.host_name()),
            Source::Sni { names } => named(names, request.sni),
            Source::Route => of_route(self),
            Source::PathParameter { name } => self.matched.as_ref().and_then(|matched| matched.parameter(name)),
            Source::Fixed { value } => Some(value.as_str()),
        };
        match said {
            Some("") if source.is_verified() => Err(missing),
            said => Ok(said.filter(|said| !said.is_empty())),
        }
    }

    /// Whether there is a certificate, and it is of somebody whom none of these sources knows.
    fn is_nobody_of(&self, sources: &[Source]) -> bool {
        let principal = self.request.principal;
        let known = |source: &Source| matches!(source, Source::Principal { prefix } if principal.starts_with(prefix.as_str()));
        !principal.is_empty() && !sources.iter().any(known)
    }

    /// Whether the table is asked for a feature, and says that the route is of a service as a whole.
    fn names_service_alone(&self, sources: &[Source]) -> bool {
        let alone = |matched: &Matched<'t, 'a>| matched.route.service.is_some() && matched.route.feature.is_none();
        sources.contains(&Source::Route) && self.matched.as_ref().is_some_and(alone)
    }

    fn amount(&self, sources: &'a [Source]) -> Result<i64, NoQuestion> {
        let of_route = self.matched.as_ref().and_then(|matched| matched.route.amount);
        let of_route = of_route.and_then(|amount| i64::try_from(amount).ok());
        if sources.is_empty() {
            return Ok(of_route.unwrap_or(AMOUNT));
        }
        let invalid = NoQuestion::from(Denial::AmountInvalid);
        let amount = agreed(sources, invalid, |source| match source {
            Source::Route => Ok(of_route),
            _ => self.say(source, sources, invalid, |_| None)?.map(|text| parse_amount(text).ok_or(invalid)).transpose(),
        })?;
        Ok(amount.unwrap_or(AMOUNT))
    }
}

/// Digits alone.
pub(super) fn parse_amount(text: &str) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Names are in lower case in the table, in any case on the wire, and few.
fn named<'a>(names: &'a std::collections::BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests;
