//! What the command line takes: `tessera <command>`.

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::apply::ApplyArguments;
use crate::commands::audit::AuditCommand;
use crate::commands::catalog::CatalogCommand;
use crate::commands::check::{CheckArguments, Freshness};
use crate::commands::data::{DigestArguments, MigrateArguments, RestoreArguments};
use crate::commands::dev::DevArguments;
use crate::commands::export::ExportArguments;
use crate::commands::import::WholeImport;
use crate::commands::offer::OfferCommand;
use crate::commands::tenant::TenantCommand;
use crate::commands::token::TokenCommand;
use crate::commands::watch::WatchArguments;
use crate::connection::Where;
use crate::console::Format;

/// May this tenant use this feature of this service, and how much of it?
///
/// Exit codes: 0 done, or entitled; 3 denied; 1 anything that went wrong.
#[derive(Debug, Parser)]
#[command(name = "tessera", version, about, disable_help_subcommand = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub place: Where,
    /// Form of the answer: a table for people, or the response as JSON or YAML
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run data plane and control plane in one process over an embedded database
    Dev(DevArguments),
    /// Ask whether a tenant may use a feature
    Check(CheckArguments),
    /// Ask the same, and see every step of the decision
    Explain(CheckArguments),
    /// List everything that a tenant may use
    List {
        /// The tenant
        tenant: String,
        #[command(flatten)]
        freshness: Freshness,
    },
    /// Print what tenants may use whenever it changes
    Watch(WatchArguments),
    /// Services, features and limits; kill switches; archiving
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Plans and their versions
    #[command(subcommand)]
    Plan(OfferCommand),
    /// Add-ons and their versions
    #[command(subcommand)]
    AddOn(OfferCommand),
    /// Tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Make things what documents say: shows the difference, asks, applies
    Apply(ApplyArguments),
    /// Write what stands as documents that apply and import read; no backup: without older versions, which tenants may be pinned
    /// to, archived and disabled things as if they were not, and without history; --history keeps all of it
    Export(ExportArguments),
    /// Read what export wrote: catalog, plans and add-ons as apply does, then all tenants over one stream
    Import(WholeImport),
    /// Bring the database of a data directory up to this version, and say which it is
    Migrate(MigrateArguments),
    /// Make a backup the database of a data directory, in the next epoch; the database it replaces is kept
    Restore(RestoreArguments),
    /// API tokens: make, list, rotate, revoke
    #[command(subcommand)]
    Token(TokenCommand),
    /// Digest of the store; equal to that of every server when nothing is under way
    Digest(DigestArguments),
    /// Who changed what; whether the log is what was written
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print the version
    Version,
    /// Print the JSON schema of documents
    #[command(hide = true)]
    Schema,
}
