//! The way to the two planes: where they are, how long to wait, and what to do when no answer comes.
//!
//! A mutation always carries a request id. When its fate is unknown (no answer, `OUTCOME_UNKNOWN`) or nothing was applied
//! (`UNAVAILABLE`), it is sent again a few times with the same id and the metadata `tessera-retry: 1`, so that it happens once
//! however often it is sent. An attempt of unknown fate stays so, whatever befalls those after it, until one of them is decided.

pub mod credentials;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;
use tessera_ports::IdSource as _;
use tessera_proto::status::code_name;
use tessera_proto::v1::add_on_service_client::AddOnServiceClient;
use tessera_proto::v1::audit_service_client::AuditServiceClient;
use tessera_proto::v1::catalog_service_client::CatalogServiceClient;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::plan_service_client::PlanServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::clock::SystemIds;
use tessera_runtime::settings;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::failure;
use credentials::{Bearer, Credentials, Files};

/// How often a call is made before its failure is believed.
const ATTEMPTS_MAX: u32 = 6;
/// First pause between attempts; doubles.
const BACKOFF: Duration = Duration::from_millis(100);
/// Silence of a connection that somebody waits on, before the peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long it may take to answer that.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(5);
/// How to go on with what consists of many commands, and names none of them.
pub const RUN_AGAIN: &str = "run the whole again: what is done is not done twice";
/// How long one answer is waited for, and a connection, where nobody says it.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read: answers are at most 4 MiB by construction.
const ANSWER_LEN_MAX: usize = 8 << 20;

/// Where the planes are. Flags win over the environment, the environment over the configuration file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to connect")]
pub struct Where {
    /// Data plane, for checks [default: 127.0.0.1:7400]
    #[arg(long, global = true, value_name = "ADDR", env = "TESSERA_DATA_ADDR", hide_env_values = true)]
    pub data_addr: Option<String>,
    /// Control plane, for everything that changes [default: 127.0.0.1:7401]
    #[arg(long, global = true, value_name = "ADDR", env = "TESSERA_CONTROL_ADDR", hide_env_values = true)]
    pub control_addr: Option<String>,
    /// Health and digest pages [default: 127.0.0.1:7402]
    #[arg(long, global = true, value_name = "ADDR", env = "TESSERA_HTTP_ADDR", hide_env_values = true)]
    pub http_addr: Option<String>,
    /// File with a token to show to the planes; `TESSERA_TOKEN` has one, too
    #[arg(long, global = true, value_name = "FILE", env = "TESSERA_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Certificate authorities (PEM) that the planes are known by, for https [default: those of the system]
    #[arg(long, global = true, value_name = "FILE", env = "TESSERA_CA_FILE", hide_env_values = true)]
    pub ca_file: Option<PathBuf>,
    /// Certificate (PEM) to show to the planes
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TESSERA_CLIENT_CERTIFICATE",
        hide_env_values = true,
        requires = "client_key"
    )]
    pub client_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "TESSERA_CLIENT_KEY",
        hide_env_values = true,
        requires = "client_certificate"
    )]
    pub client_key: Option<PathBuf>,
    /// File with any of `data_addr`, `control_addr`, `http_addr`, `token_file`, `ca_file`, `client_certificate` and
    /// `client_key` [default: tessera/config.toml in the user's configuration folder]
    #[arg(long, global = true, value_name = "FILE", env = "TESSERA_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// How long to wait for one answer, such as 10s or 500ms [default: 10s; 11m for a digest, of which the whole store is read]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_timeout)]
    pub timeout: Option<Timeout>,
}

/// A wait with a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(Duration);

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    let milliseconds = text.strip_suffix("ms").and_then(|count| count.parse().ok()).map(Duration::from_millis);
    let read = milliseconds.map_or_else(|| tessera_runtime::time_text::parse_duration(text), Ok)?;
    if read.is_zero() || read > Duration::from_hours(1) {
        return Err(format!("`{}` is not a wait; allowed are above 0 and at most 1h", tessera_core::shown::shown(text)));
    }
    Ok(Timeout(read))
}

/// What a configuration file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_field_names, reason = "the names are what users write")]
struct File {
    data_addr: Option<String>,
    control_addr: Option<String>,
    http_addr: Option<String>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// Where the planes are, finally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Data plane.
    pub data: String,
    /// Control plane.
    pub control: String,
    /// Pages.
    pub http: String,
}

impl Where {
    /// Where the planes are; reads the configuration file.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(self.addresses_beside(self.file()?))
    }

    /// How long to wait, if somebody said it.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout.map(|Timeout(wait)| wait)
    }

    fn file(&self) -> anyhow::Result<File> {
        let file = match &self.config {
            Some(path) => Some(path.clone()),
            None => default_file().filter(|path| path.is_file()),
        };
        match &file {
            Some(path) => settings::load(settings::Sources { file: Some(path), ..Default::default() })
                .with_context(|| format!("in the configuration file `{}`", path.display())),
            None => Ok(File::default()),
        }
    }

    fn addresses_beside(&self, file: File) -> Addresses {
        let first = |flag: &Option<String>, file: Option<String>, default: &str| {
            flag.clone().or(file).unwrap_or_else(|| default.to_owned())
        };
        Addresses {
            data: first(&self.data_addr, file.data_addr, "127.0.0.1:7400"),
            control: first(&self.control_addr, file.control_addr, "127.0.0.1:7401"),
            http: first(&self.http_addr, file.http_addr, "127.0.0.1:7402"),
        }
    }

    /// Where credentials are. A certificate and its key come from one place.
    fn credentials(&self, file: &File) -> anyhow::Result<Files> {
        let first = |flag: &Option<PathBuf>, file: &Option<PathBuf>| flag.clone().or_else(|| file.clone());
        let of_file = match (&file.client_certificate, &file.client_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => anyhow::bail!(
                "the configuration file has one of `client_certificate` and `client_key`; allowed are both or neither"
            ),
        };
        let client = self.client_certificate.clone().zip(self.client_key.clone()).or(of_file);
        Ok(Files { token: first(&self.token_file, &file.token_file), ca: first(&self.ca_file, &file.ca_file), client })
    }

    /// The planes; nothing is connected before the first call.
    pub fn planes(&self) -> anyhow::Result<Planes> {
        let file = self.file()?;
        let credentials = self.credentials(&file)?.read()?;
        Planes::new(self.addresses_beside(file), &credentials, self.timeout().unwrap_or(TIMEOUT))
    }
}

fn default_file() -> Option<PathBuf> {
    let folder = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(folder.join("tessera/config.toml"))
}

/// Which process is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// Decisions.
    Data,
    /// Changes.
    Control,
}

/// Clients of both planes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Planes {
    addresses: Addresses,
    timeout: Duration,
    bearer: Bearer,
    /// Addresses without a scheme are spoken to over TLS.
    encrypts: bool,
    data: Channel,
    control: Channel,
}

/// The request id of a command, and who knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandId {
    /// The user gave it. Nobody here knows whether it was sent before, so every attempt says that it may have been.
    Given(String),
    /// It is fresh, and the command takes it with `--request-id`.
    Fresh(String),
    /// It is fresh, and belongs to one of the many commands of a run, which takes none, or to one that would be another if it were
    /// done again.
    OneOfMany(String),
}

impl CommandId {
    /// The id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Given(id) | Self::Fresh(id) | Self::OneOfMany(id) => id,
        }
    }

    /// What tells whether the command was done.
    fn advice(&self) -> String {
        match self {
            Self::Given(id) | Self::Fresh(id) => format!("do it again with --request-id {id}"),
            Self::OneOfMany(_) => RUN_AGAIN.to_owned(),
        }
    }
}

/// A call that failed in the end.
#[derive(Debug)]
struct Failed {
    /// How the last attempt ended.
    status: Status,
    /// Whether one of the attempts may have been applied, or may still be.
    unknown: bool,
}

/// A channel that shows who calls.
pub type Way = InterceptedService<Channel, Bearer>;

macro_rules! clients {
    ($($(#[$doc:meta])* $name:ident: $client:ident over $channel:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> $client<Way> {
            $client::with_interceptor(self.$channel.clone(), self.bearer.clone()).max_decoding_message_size(ANSWER_LEN_MAX)
        }
    )*};
}

impl Planes {
    /// Channels to both addresses, connected when first used.
    pub fn new(addresses: Addresses, credentials: &Credentials, timeout: Duration) -> anyhow::Result<Self> {
        let channel = |address: &str| -> anyhow::Result<Channel> {
            Ok(attentive(credentials.endpoint(address)?).connect_timeout(timeout).tcp_nodelay(true).connect_lazy())
        };
        let (data, control) = (channel(&addresses.data)?, channel(&addresses.control)?);
        Ok(Self { addresses, timeout, bearer: credentials.bearer(), encrypts: credentials.has_certificates(), data, control })
    }

    /// Over channels that are there already; errors speak of `addresses`.
    pub fn over(addresses: Addresses, data: Channel, control: Channel, timeout: Duration) -> Self {
        Self { addresses, timeout, bearer: Bearer::default(), encrypts: false, data, control }
    }

    clients! {
        /// Checks.
        entitlements: EntitlementServiceClient over data;
        /// Services and limits.
        catalog: CatalogServiceClient over control;
        /// Plans.
        plans: PlanServiceClient over control;
        /// Add-ons.
        add_ons: AddOnServiceClient over control;
        /// Tenants.
        tenants: TenantServiceClient over control;
        /// The audit log.
        audit: AuditServiceClient over control;
    }

    /// Where the planes are.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// A fresh request id.
    pub fn request_id(&self) -> String {
        SystemIds.request_id().to_string()
    }

    /// Asks, and asks again while that may help.
    pub async fn read<M: Clone, R>(
        &self,
        plane: Plane,
        message: M,
        call: impl AsyncFnMut(Request<M>) -> Result<Response<R>, Status>,
    ) -> anyhow::Result<R> {
        self.attempt(message, call, |_| false).await.map_err(|failed| self.failed(plane, &failed.status))
    }

    /// Asks; `None` when what is asked for does not exist.
    pub async fn find<M: Clone, R>(
        &self,
        message: M,
        call: impl AsyncFnMut(Request<M>) -> Result<Response<R>, Status>,
    ) -> anyhow::Result<Option<R>> {
        match self.attempt(message, call, |_| false).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failed { status, .. }) if status.code() == Code::NotFound && failure::reason(&status).is_some() => Ok(None),
            Err(Failed { status, .. }) => Err(self.failed(Plane::Control, &status)),
        }
    }

    /// Sends a command that carries `id`, and sends it again while its fate is unknown or nothing was applied.
    pub async fn change<M: Clone, R>(
        &self,
        id: &CommandId,
        message: M,
        call: impl AsyncFnMut(Request<M>) -> Result<Response<R>, Status>,
    ) -> anyhow::Result<R> {
        let sent_before = matches!(id, CommandId::Given(_));
        self.attempt(message, call, |attempt| sent_before || attempt > 1).await.map_err(|Failed { status, unknown }| {
            let error = self.failed(Plane::Control, &status);
            if unknown {
                error.context(format!("whether this was done is not known; to find out, {}", id.advice()))
            } else {
                error
            }
        })
    }

    async fn attempt<M: Clone, R>(
        &self,
        message: M,
        mut call: impl AsyncFnMut(Request<M>) -> Result<Response<R>, Status>,
        is_retry: impl Fn(u32) -> bool,
    ) -> Result<R, Failed> {
        let (mut attempt, mut unknown) = (1, false);
        loop {
            let mut request = Request::new(message.clone());
            request.set_timeout(self.timeout);
            if is_retry(attempt) {
                mark_retry(&mut request);
            }
            let status = match call(request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            unknown = fate_is_unknown(&status) || unknown && !settles(&status);
            if attempt >= ATTEMPTS_MAX || !may_help(&status) {
                return Err(Failed { status, unknown });
            }
            let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
            tokio::time::sleep(asked.min(self.timeout).max(BACKOFF * 2_u32.pow(attempt - 1))).await;
            attempt += 1;
        }
    }

    /// The error for people.
    pub fn failed(&self, plane: Plane, status: &Status) -> anyhow::Error {
        let said = failure::explain(status);
        let (data, control) = ("data plane", "control plane");
        let (name, other, address, flag) = match plane {
            Plane::Data => (data, control, &self.addresses.data, "--data-addr"),
            Plane::Control => (control, data, &self.addresses.control, "--control-addr"),
        };
        if failure::is_unknown_call(status) {
            return anyhow::anyhow!(
                "`{address}` was asked as the {name} and does not know this call ({}); is it the {other}, or of another version? \
                 say where the {name} is with {flag}",
                code_name(status.code())
            );
        }
        if let Some(advice) = advice_on_tls(address, self.encrypts, &said).filter(|_| failure::reason(status).is_none()) {
            return anyhow::anyhow!("cannot speak with the {name} at `{address}`: {said}; {advice}");
        }
        if !failure::unreachable(status) {
            return anyhow::anyhow!(said);
        }
        anyhow::anyhow!(
            "cannot reach the {name} at `{address}`: {said}; start one with `tessera dev`, or say where it is with {flag}"
        )
    }
}

/// What helps where one end speaks TLS and the other does not, or where its certificate is not believed. The libraries have no
/// kinds for that, only words.
fn advice_on_tls(address: &str, encrypts: bool, said: &str) -> Option<String> {
    let (is_https, host) = match address.split_once("://") {
        Some((scheme, host)) => (scheme == "https", host),
        None => (encrypts, address),
    };
    let has = |words: &str| said.contains(words);
    if has("invalid peer certificate") {
        Some("its certificate has to be for that name, and of an authority that --ca-file names".to_owned())
    } else if has("InvalidContentType") {
        Some(format!("if it is without TLS, say http://{host}, and no certificates"))
    } else if !is_https && (has("frame with invalid size") || has("broken pipe") || has("Broken pipe")) {
        Some(format!("if it speaks TLS, say https://{host}"))
    } else {
        None
    }
}

/// Notices a peer that is gone without a word while a call waits for it.
fn attentive(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_ANSWER)
}

/// Says that an earlier attempt may still be on its way.
pub fn mark_retry<M>(request: &mut Request<M>) {
    request.metadata_mut().insert("tessera-retry", MetadataValue::from_static("1"));
}

/// Whether the same call may succeed a moment later.
pub fn may_help(status: &Status) -> bool {
    match failure::reason(status).as_deref() {
        Some("OUTCOME_UNKNOWN" | "OVERLOADED") => true,
        Some(_) => status.code() == Code::Unavailable,
        None => fate_is_unknown(status),
    }
}

/// Whether the same stream may succeed later: whoever has opened one has time.
pub fn may_pass(status: &Status) -> bool {
    may_help(status) || failure::reason(status).as_deref() == Some("RATE_LIMITED")
}

/// Whether a command that failed like this may have been applied.
fn fate_is_unknown(status: &Status) -> bool {
    match failure::reason(status).as_deref() {
        Some(reason) => reason == "OUTCOME_UNKNOWN",
        // RESOURCE_EXHAUSTED without words is a stream that was reset, as those of slow readers are.
        None => matches!(
            status.code(),
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::ResourceExhausted
                | Code::Unknown
                | Code::Internal
        ),
    }
}

/// Whether this answer to a retry tells what came of all attempts: it was decided, and written down before it was given, or it is
/// about what every attempt says. Whoever was not heard (not let in, too much asked, nobody ready) has learnt nothing of them.
fn settles(status: &Status) -> bool {
    let decided = matches!(
        status.code(),
        Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted
    );
    decided && failure::reason(status).is_some()
}

#[cfg(test)]
mod tests;
