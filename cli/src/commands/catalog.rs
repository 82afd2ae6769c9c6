//! `catalog`: what is registered, the kill switches, and what new documents may not name any more.

use clap::{ArgGroup, Args, Subcommand};
use tessera_proto::v1;

use super::Change;
use crate::connection::{Plane, Planes};
use crate::console::{Console, facts, table};
use crate::{json, values};

/// How many items are asked for at a time.
const PAGE_SIZE: i32 = 500;

/// What of the catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List services, features and limits
    List {
        /// Archived ones too
        #[arg(long)]
        archived: bool,
    },
    /// Show a service or a limit
    #[command(group(ArgGroup::new("shown").required(true).args(["service", "limit"])))]
    Show {
        /// The service
        service: Option<String>,
        /// A limit instead
        #[arg(long, value_name = "LIMIT")]
        limit: Option<String>,
    },
    /// Throw the kill switch of a service or feature: everybody is denied
    Disable {
        #[command(flatten)]
        target: Target,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        change: Change,
    },
    /// Take a kill switch back
    Enable {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        change: Change,
    },
    /// Let no new documents name a service, feature or limit; what has it keeps it. A document about it that is applied undoes that
    #[command(group(ArgGroup::new("archived").required(true).args(["service", "limit"])))]
    Archive {
        /// The service
        service: Option<String>,
        /// One feature of it; without one the whole service
        #[arg(requires = "service")]
        feature: Option<String>,
        /// A limit instead
        #[arg(long, value_name = "LIMIT")]
        limit: Option<String>,
        #[command(flatten)]
        change: Change,
    },
}

/// A service or a feature.
#[derive(Debug, Args)]
pub struct Target {
    /// The service
    service: String,
    /// One feature of it; without one the whole service
    feature: Option<String>,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.feature {
            Some(feature) => write!(f, "feature `{feature}` of service `{}`", self.service),
            None => write!(f, "service `{}` with all its features", self.service),
        }
    }
}

/// `tessera catalog`.
pub async fn run(planes: &Planes, console: &Console, command: CatalogCommand) -> anyhow::Result<()> {
    match command {
        CatalogCommand::List { archived } => list(planes, console, archived).await,
        CatalogCommand::Show { limit: Some(limit), .. } => {
            let mut client = planes.catalog();
            let request = v1::GetLimitRequest { limit_id: limit };
            let answer = planes.read(Plane::Control, request, async |request| client.get_limit(request).await).await?;
            console.answer(&json::of("GetLimitResponse", &answer)?, || limits_table(answer.limit.as_slice()))
        }
        CatalogCommand::Show { service, limit: None } => {
            let mut client = planes.catalog();
            let request = v1::GetServiceRequest { service_id: service.unwrap_or_default() };
            let answer = planes.read(Plane::Control, request, async |request| client.get_service(request).await).await?;
            console.answer(&json::of("GetServiceResponse", &answer)?, || show_service(answer.service.as_ref()))
        }
        CatalogCommand::Disable { target, reason, change } => {
            console.confirm(change.yes, &format!("disable {target} for everybody?"))?;
            let command = change.command_id(planes);
            let request = v1::DisableFeatureRequest {
                service_id: target.service,
                feature_id: target.feature.unwrap_or_default(),
                reason,
                request_id: command.as_str().to_owned(),
                ..Default::default()
            };
            let mut client = planes.catalog();
            let answer = planes.change(&command, request, async |request| client.disable_feature(request).await).await?;
            console.answer(&json::of("DisableFeatureResponse", &answer)?, || show_service(answer.service.as_ref()))
        }
        CatalogCommand::Enable { target, change } => {
            console.confirm(change.yes, &format!("enable {target} again?"))?;
            let command = change.command_id(planes);
            let request = v1::EnableFeatureRequest {
                service_id: target.service,
                feature_id: target.feature.unwrap_or_default(),
                request_id: command.as_str().to_owned(),
                ..Default::default()
            };
            let mut client = planes.catalog();
            let answer = planes.change(&command, request, async |request| client.enable_feature(request).await).await?;
            console.answer(&json::of("EnableFeatureResponse", &answer)?, || show_service(answer.service.as_ref()))
        }
        CatalogCommand::Archive { limit: Some(limit), change, .. } => archive_limit(planes, console, limit, &change).await,
        CatalogCommand::Archive { service, feature, limit: None, change } => {
            archive(planes, console, Target { service: service.unwrap_or_default(), feature }, &change).await
        }
    }
}

async fn archive(planes: &Planes, console: &Console, target: Target, change: &Change) -> anyhow::Result<()> {
    confirm_archive(console, change, &target.to_string())?;
    let command = change.command_id(planes);
    let (request_id, etag) = (command.as_str().to_owned(), String::new());
    let mut client = planes.catalog();
    let Target { service: service_id, feature } = target;
    let (json, service) = if let Some(feature_id) = feature {
        let request = v1::ArchiveFeatureRequest { service_id, feature_id, request_id, etag };
        let answer = planes.change(&command, request, async |request| client.archive_feature(request).await).await?;
        (json::of("ArchiveFeatureResponse", &answer)?, answer.service)
    } else {
        let request = v1::ArchiveServiceRequest { service_id, request_id, etag };
        let answer = planes.change(&command, request, async |request| client.archive_service(request).await).await?;
        (json::of("ArchiveServiceResponse", &answer)?, answer.service)
    };
    console.answer(&json, || show_service(service.as_ref()))
}

async fn archive_limit(planes: &Planes, console: &Console, limit_id: String, change: &Change) -> anyhow::Result<()> {
    confirm_archive(console, change, &format!("limit `{limit_id}`"))?;
    let command = change.command_id(planes);
    let request = v1::ArchiveLimitRequest { limit_id, request_id: command.as_str().to_owned(), etag: String::new() };
    let mut client = planes.catalog();
    let answer = planes.change(&command, request, async |request| client.archive_limit(request).await).await?;
    console.answer(&json::of("ArchiveLimitResponse", &answer)?, || limits_table(answer.limit.as_slice()))
}

fn confirm_archive(console: &Console, change: &Change, what: &str) -> anyhow::Result<()> {
    console.confirm(change.yes, &format!("archive {what}? new documents may not name it, what has it keeps it;"))
}

/// All registered services.
pub async fn services(planes: &Planes, archived: bool) -> anyhow::Result<Vec<v1::Service>> {
    let (mut services, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListServicesRequest { page_size: PAGE_SIZE, page_token, show_archived: archived };
        let mut client = planes.catalog();
        let page = planes.read(Plane::Control, request, async |request| client.list_services(request).await).await?;
        services.extend(page.services);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            services.sort_by(|a, b| a.service_id.cmp(&b.service_id));
            return Ok(services);
        }
    }
}

/// All registered limits.
pub async fn limits(planes: &Planes, archived: bool) -> anyhow::Result<Vec<v1::Limit>> {
    let (mut limits, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListLimitsRequest { page_size: PAGE_SIZE, page_token, show_archived: archived };
        let mut client = planes.catalog();
        let page = planes.read(Plane::Control, request, async |request| client.list_limits(request).await).await?;
        limits.extend(page.limits);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            limits.sort_by(|a, b| a.limit_id.cmp(&b.limit_id));
            return Ok(limits);
        }
    }
}

async fn list(planes: &Planes, console: &Console, archived: bool) -> anyhow::Result<()> {
    let services = services(planes, archived).await?;
    let limits = limits(planes, archived).await?;
    let text = || {
        let rows = services.iter().flat_map(|service| {
            let own = [service.service_id.clone(), String::new(), service.title.clone(), service_state(service)];
            let features = service.features.iter().filter(|feature| archived || !feature.archived).map(|feature| {
                [service.service_id.clone(), feature.feature_id.clone(), feature.title.clone(), feature_state(feature)]
            });
            std::iter::once(own).chain(features.collect::<Vec<_>>())
        });
        format!("{}\n{}", table(["SERVICE", "FEATURE", "TITLE", "STATE"], rows), limits_table(&limits))
    };
    let mut value =
        json::of("ListServicesResponse", &v1::ListServicesResponse { services: services.clone(), ..Default::default() })?;
    let more = json::of("ListLimitsResponse", &v1::ListLimitsResponse { limits: limits.clone(), ..Default::default() })?;
    // Both listings in one answer: there is no single response that has them.
    if let (Some(value), Some(limits)) = (value.as_object_mut(), more.get("limits")) {
        value.insert("limits".to_owned(), limits.clone());
    }
    console.answer(&value, text)
}

fn service_state(service: &v1::Service) -> String {
    state(service.archived, service.disabled, &service.disabled_reason)
}

fn feature_state(feature: &v1::Feature) -> String {
    state(feature.archived, feature.disabled, &feature.disabled_reason)
}

fn state(archived: bool, disabled: bool, reason: &str) -> String {
    let disabled = if disabled { format!("disabled: {reason}") } else { String::new() };
    [values::mark(archived, "archived"), disabled].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

fn show_service(service: Option<&v1::Service>) -> String {
    let Some(service) = service else { return String::new() };
    let mut text = facts(&[
        ("service", service.service_id.clone()),
        ("title", service.title.clone()),
        ("description", service.description.clone()),
        ("state", service_state(service)),
    ]);
    let rows = service.features.iter().map(|feature| [feature.feature_id.clone(), feature.title.clone(), feature_state(feature)]);
    text.push('\n');
    text.push_str(&table(["FEATURE", "TITLE", "STATE"], rows));
    text
}

fn limits_table(limits: &[v1::Limit]) -> String {
    let rows = limits.iter().map(|limit| {
        let period = v1::Period::try_from(limit.period).map_or("?", |period| period.as_str_name());
        let period = values::show_name(period, "PERIOD_").to_lowercase();
        [limit.limit_id.clone(), limit.title.clone(), limit.unit.clone(), period, values::mark(limit.archived, "archived")]
    });
    table(["LIMIT", "TITLE", "UNIT", "PERIOD", "STATE"], rows)
}
