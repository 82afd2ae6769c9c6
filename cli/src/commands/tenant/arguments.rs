//! What `tessera tenant` takes.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use prost_types::{Duration, Timestamp};
use tessera_proto::v1;

use crate::commands::Change;
use crate::commands::import::TenantImport;
use crate::values;

/// What of tenants.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// List tenants
    List {
        /// Only those on this plan
        #[arg(long)]
        plan: Option<String>,
        /// Only those that are this
        #[arg(long)]
        status: Option<Status>,
        /// Only those with this label; may be given several times, for a key each
        #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
        label: Vec<(String, String)>,
        /// Deleted ones too
        #[arg(long)]
        deleted: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Go on where a list with the same filters was cut off: its `nextPageToken`, as in -o json
        #[arg(long, value_name = "TOKEN")]
        page_token: Option<String>,
    },
    /// Show a tenant as it stands
    Show {
        /// The tenant
        tenant: String,
        /// Even if it was deleted
        #[arg(long)]
        deleted: bool,
    },
    /// Show a tenant and what it may use as of a time, past or to come
    At {
        /// The tenant
        tenant: String,
        /// The time, such as 2026-01-31T12:00:00Z
        #[arg(value_parser = values::time)]
        time: Timestamp,
    },
    /// Create a tenant
    Create(CreateArguments),
    /// Import tenant documents, any number of them
    Import(TenantImport),
    /// Move a tenant to another plan or version, now or later
    #[command(group(ArgGroup::new("move").required(true).args(["plan", "undo"])))]
    ChangePlan {
        /// The tenant
        tenant: String,
        /// The plan, `gold` or `gold@3`
        #[arg(value_parser = values::choice)]
        plan: Option<values::Choice>,
        /// When; a past time is now [default: now]
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        at: Option<Timestamp>,
        /// Undo the scheduled change with this number instead
        #[arg(long, value_name = "NUMBER", conflicts_with = "at")]
        undo: Option<i32>,
        #[command(flatten)]
        change: Change,
    },
    /// End a tenant's subscription, now or later, or undo that
    Cancel {
        /// The tenant
        tenant: String,
        /// When; a past time is now [default: now]
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        at: Option<Timestamp>,
        /// Undo a cancellation, past or coming
        #[arg(long, conflicts_with = "at")]
        undo: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Start or end a trial of the tenant's plan
    #[command(subcommand)]
    Trial(TrialCommand),
    /// Attach or detach an add-on
    #[command(subcommand)]
    AddOn(AddOnCommand),
    /// Make or remove an exception for one tenant
    #[command(subcommand)]
    Override(OverrideCommand),
    /// Activate a tenant that was created to be pending
    Activate {
        /// The tenant
        tenant: String,
        #[command(flatten)]
        change: Change,
    },
    /// Suspend a tenant for a reason; reasons are a set
    Suspend {
        /// The tenant
        tenant: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// From when; until then the tenant is in grace; a past time is now [default: now]
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        effective_at: Option<Timestamp>,
        #[command(flatten)]
        change: Change,
    },
    /// Take reasons for suspension back
    Resume {
        /// The tenant
        tenant: String,
        /// Which reason; may be given several times [default: all]
        #[arg(long)]
        reason: Vec<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Delete a tenant for ever
    Delete {
        /// The tenant
        tenant: String,
        #[command(flatten)]
        change: Change,
    },
}

/// A new tenant.
#[derive(Debug, Args)]
pub struct CreateArguments {
    /// Its id [default: one is made]
    pub tenant: Option<String>,
    /// The plan, `gold` or `gold@3`
    #[arg(long, value_parser = values::choice)]
    pub plan: values::Choice,
    /// For people
    #[arg(long)]
    pub title: Option<String>,
    /// A label; may be given several times, for a key each
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    pub label: Vec<(String, String)>,
    /// Not running before [default: from the beginning]
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub starts: Option<Timestamp>,
    /// Begin with a trial, as long as the plan says or so long, such as --trial=14d
    #[arg(
        long,
        value_name = "LENGTH",
        value_parser = values::trial,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub trial: Option<v1::Trial>,
    /// Not to be served before it is activated
    #[arg(long)]
    pub pending: bool,
    #[command(flatten)]
    pub change: Change,
}

/// What of a trial.
#[derive(Debug, Subcommand)]
pub enum TrialCommand {
    /// Start a trial now
    Start {
        /// The tenant
        tenant: String,
        /// How long, such as 14d [default: as the plan says]
        #[arg(long, value_parser = values::length)]
        length: Option<Duration>,
        #[command(flatten)]
        change: Change,
    },
    /// End a trial: convert it to paid, or end it now
    #[command(group(ArgGroup::new("end").required(true).args(["convert", "now"])))]
    End {
        /// The tenant
        tenant: String,
        /// It is paid from now on
        #[arg(long)]
        convert: bool,
        /// It is over
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        change: Change,
    },
}

/// What of a tenant's add-ons.
#[derive(Debug, Subcommand)]
pub enum AddOnCommand {
    /// Attach an add-on, or set its quantity, its version or both; what is not said of an attached one stays, which takes the
    /// scope `read`, too
    Attach {
        /// The tenant
        tenant: String,
        /// The add-on, `extra-seats`, `extra-seats@2` or `extra-seats@latest` [default version: that which is attached, or the latest]
        #[arg(value_parser = values::add_on_choice)]
        add_on: values::AddOnChoice,
        /// How many [default: as many as are attached, or 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
        quantity: Option<i64>,
        #[command(flatten)]
        change: Change,
    },
    /// Detach an add-on
    Detach {
        /// The tenant
        tenant: String,
        /// The add-on
        add_on: String,
        #[command(flatten)]
        change: Change,
    },
}

/// What of a tenant's exceptions.
#[derive(Debug, Subcommand)]
pub enum OverrideCommand {
    /// Grant or deny a service or feature, or set a limit
    #[command(group(ArgGroup::new("effect").required(true).args(["grant", "deny", "maximum"])))]
    Set {
        /// The tenant
        tenant: String,
        #[command(flatten)]
        subject: OverrideSubject,
        /// Grant the service or feature
        #[arg(long, conflicts_with = "limit")]
        grant: bool,
        /// Deny the service or feature
        #[arg(long, conflicts_with = "limit")]
        deny: bool,
        /// The whole value of the limit, a count or `unlimited`
        #[arg(long, value_parser = values::limit_value, conflicts_with = "service")]
        maximum: Option<v1::LimitGrant>,
        /// As if absent from then on [default: it lasts]
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        until: Option<Timestamp>,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        change: Change,
    },
    /// Remove an exception
    Remove {
        /// The tenant
        tenant: String,
        #[command(flatten)]
        subject: OverrideSubject,
        #[command(flatten)]
        change: Change,
    },
}

/// What an exception is about.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["service", "limit"])))]
pub struct OverrideSubject {
    /// A service
    #[arg(long)]
    pub service: Option<String>,
    /// One feature of the service
    #[arg(long, requires = "service")]
    pub feature: Option<String>,
    /// A limit
    #[arg(long)]
    pub limit: Option<String>,
}

impl std::fmt::Display for OverrideSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.service, &self.feature, &self.limit) {
            (Some(service), Some(feature), _) => write!(f, "feature `{feature}` of service `{service}`"),
            (Some(service), None, _) => write!(f, "service `{service}`"),
            (_, _, Some(limit)) => write!(f, "limit `{limit}`"),
            _ => f.write_str("nothing"),
        }
    }
}

/// What a tenant may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Not pending, suspended or deleted
    Active,
    /// Not activated yet
    Pending,
    /// Suspended
    Suspended,
    /// Deleted
    Deleted,
}

impl From<Status> for v1::TenantStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Active => Self::Active,
            Status::Pending => Self::Pending,
            Status::Suspended => Self::Suspended,
            Status::Deleted => Self::Deleted,
        }
    }
}
