//! Documents: catalog, plans, add-ons and tenants as people write them, in YAML.
//!
//! A file holds any number of documents; each is about one thing, named by its key (`service`, `limit`, `plan`, `add_on`,
//! `tenant`). Reading is strict: unknown keys, keys given twice, unquoted texts that YAML takes for booleans or numbers, and
//! whatever the domain does not allow are refused with file, line and column. What is read is the domain's own words, and
//! writing them gives a document that reads back the same.
//!
//! Whether what is named is registered is the loader's business, not this module's.

mod bounds;
mod catalog;
mod outline;
mod plan;
mod scalar;
mod schema;
mod tenant;
pub mod wire;
mod words;
mod yaml;

use std::fmt;
use std::sync::Arc;

use tessera_core::catalog::{LimitDocument, ServiceDocument};
use tessera_core::ids::{AddOnId, PlanId, TenantId};
use tessera_core::shown::shown;
use tessera_core::tenant::TenantDocument;

pub use schema::schema;

/// Longest document, in bytes: a tenant with all its overrides, or a plan with all its features, fits well.
pub const DOCUMENT_LEN_MAX: usize = 1 << 20;

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A service and its features.
    Service(ServiceDocument),
    /// A limit.
    Limit(LimitDocument),
    /// What the newest version of a plan should say.
    Plan(PlanId, tessera_core::plan::Document),
    /// What the newest version of an add-on should say.
    AddOn(AddOnId, tessera_core::plan::Document),
    /// A whole tenant.
    Tenant(TenantId, Box<TenantDocument>),
}

/// A document and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The file, as the user named it.
    pub source: Arc<str>,
    /// The line it begins at, from 1.
    pub line: usize,
    /// The document.
    pub document: Document,
}

/// A document that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}:{column}: {}{message}", named(.field))]
pub struct DocumentError {
    /// The file, as the user named it.
    pub source_name: Arc<str>,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// Path of the field at fault, such as `services.reporting.features[1]`; empty when it is the whole document.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

fn named(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// The kinds of documents, in the order in which they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `service: …`
    Service,
    /// `limit: …`
    Limit,
    /// `plan: …`
    Plan,
    /// `add_on: …`
    AddOn,
    /// `tenant: …`
    Tenant,
}

impl Kind {
    /// All of them, in the order in which they are applied.
    pub const ALL: [Self; 5] = [Self::Service, Self::Limit, Self::Plan, Self::AddOn, Self::Tenant];

    /// The key that makes a document one of this kind.
    pub fn key(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Limit => "limit",
            Self::Plan => "plan",
            Self::AddOn => "add_on",
            Self::Tenant => "tenant",
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddOn => "add-on",
            other => other.key(),
        }
    }

    /// Tells the kind from the keys of a document. A tenant also has the key `plan`.
    fn of_keys(keys: &[String]) -> Result<Self, String> {
        let has = |kind: Self| keys.iter().any(|key| key == kind.key());
        if has(Self::Tenant) {
            return Ok(Self::Tenant);
        }
        let found: Vec<Self> = Self::ALL.into_iter().filter(|kind| has(*kind)).collect();
        match found.as_slice() {
            [kind] => Ok(*kind),
            [] => {
                let kinds = Self::ALL.map(Self::key);
                let meant = keys.iter().find_map(|key| words::meant(key, &kinds));
                let meant = meant.map(|kind| format!(" (did you mean `{kind}`?)")).unwrap_or_default();
                Err(format!(
                    "nothing says what this document is: found {}{meant}; one of `service`, `limit`, `plan`, `add_on` and `tenant` is \
                     needed",
                    quoted(keys.iter().map(String::as_str))
                ))
            }
            several => Err(format!(
                "a document is about one thing, this one has {}; put `---` between documents",
                quoted(several.iter().map(|kind| kind.key()))
            )),
        }
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let shown = |name: &str| format!("`{}`", shown(name));
    let names: Vec<String> = names.take(8).map(shown).collect();
    if names.is_empty() { "no keys".to_owned() } else { names.join(", ") }
}

impl Document {
    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::Limit(_) => Kind::Limit,
            Self::Plan(..) => Kind::Plan,
            Self::AddOn(..) => Kind::AddOn,
            Self::Tenant(..) => Kind::Tenant,
        }
    }

    /// The id of what it is about.
    pub fn id(&self) -> &str {
        match self {
            Self::Service(service) => service.id.as_str(),
            Self::Limit(limit) => limit.id.as_str(),
            Self::Plan(id, _) => id.as_str(),
            Self::AddOn(id, _) => id.as_str(),
            Self::Tenant(id, _) => id.as_str(),
        }
    }

    /// The document as YAML, without the line `---`.
    pub fn to_yaml(&self) -> String {
        match self {
            Self::Service(service) => yaml::to_string(&catalog::ServiceForm::from(service)),
            Self::Limit(limit) => yaml::to_string(&catalog::LimitForm::from(limit)),
            Self::Plan(id, document) => yaml::to_string(&plan::PlanForm::new(id, document)),
            Self::AddOn(id, document) => yaml::to_string(&plan::AddOnForm::new(id, document)),
            Self::Tenant(id, document) => yaml::to_string(&tenant::TenantForm::new(id, document)),
        }
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind().name(), self.id())
    }
}

/// A JSON value as YAML.
pub fn yaml_of(value: &serde_json::Value) -> String {
    yaml::to_string(value)
}

/// Reads the documents of one file one after the other, each only when it is asked for. After an unreadable document the next
/// one is read on, so that all faults of a file can be shown at once; after a failure to read the file nothing follows.
pub fn read<R: std::io::BufRead>(source: &str, reader: R) -> impl Iterator<Item = Result<Located, DocumentError>> + use<R> {
    let source: Arc<str> = source.into();
    yaml::split(reader).filter_map(move |piece| {
        let fault = |line: usize, fault: yaml::Fault| DocumentError {
            source_name: Arc::clone(&source),
            line: line + fault.line.saturating_sub(1),
            column: fault.column,
            field: fault.field,
            message: fault.message,
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Some(Err(fault(1, error))),
        };
        let located = |document| Located { source: Arc::clone(&source), line: piece.content_line(), document };
        match parse(&piece.text) {
            Ok(document) => document.map(|document| Ok(located(document))),
            Err(error) => Some(Err(fault(piece.line, error))),
        }
    })
}

/// Reads one document; `None` when there is nothing but blanks and comments.
fn parse(text: &str) -> Result<Option<Document>, yaml::Fault> {
    let Some(keys) = yaml::keys(text)? else { return Ok(None) };
    yaml::check_oddities(text)?;
    let kind = Kind::of_keys(&keys).map_err(|message| yaml::Fault::at_start(text, message))?;
    let document = match kind {
        Kind::Service => Document::Service(yaml::from_str::<catalog::ServiceForm>(text)?.into()),
        Kind::Limit => Document::Limit(yaml::from_str::<catalog::LimitForm>(text)?.into()),
        Kind::Plan => {
            let (id, document) = yaml::from_str::<plan::PlanForm>(text)?.into();
            Document::Plan(id, document)
        }
        Kind::AddOn => {
            let (id, document) = yaml::from_str::<plan::AddOnForm>(text)?.into();
            Document::AddOn(id, document)
        }
        Kind::Tenant => {
            let form = yaml::from_str::<tenant::TenantForm>(text)?;
            if form.has_flags() {
                // Once more, for booleans spelt `yes` or `on`.
                yaml::from_str_strict_booleans::<tenant::TenantForm>(text)?;
            }
            let (id, document) = form.into();
            Document::Tenant(id, Box::new(document))
        }
    };
    Ok(Some(document))
}

#[cfg(test)]
mod tests;
