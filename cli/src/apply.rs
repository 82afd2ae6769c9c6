//! Making the control plane say what documents say: compare, rehearse, then change only what differs. What would be refused is told
//! before anything is done, as far as it can be known here.
//!
//! Order: catalog, then plans and add-ons, then tenants, since each may name what stands before it. A plan document that
//! differs from the newest published version becomes the draft and is published; an equal one changes nothing, and neither
//! does one that is archived. A tenant document is compared as what it means now, as the control plane does; a trial that it
//! states counts as had, even if a plan change of the past has cleared it. Kill switches are no part of documents and are never
//! touched.

mod compare;
mod execute;
mod registered;
mod rehearsal;

pub use compare::compare;
pub use execute::execute;
pub use registered::Registered;
pub use rehearsal::refused;

use tessera_core::ids::TenantId;

use crate::document::Located;

/// What has to happen for one document.
#[derive(Debug, Clone)]
pub struct Step {
    /// The document.
    pub located: Located,
    /// What is there now, as a document; `None` when there is nothing.
    pub before: Option<String>,
    /// What is to be there: the document, or what it means now where it states what has gone by.
    pub after: String,
    /// What has to be done.
    pub action: Action,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing: it says so already.
    Nothing,
    /// Register, revive or change a service or limit.
    Upsert,
    /// Create a plan or add-on and publish its first version.
    Create,
    /// Publish the next version, after putting the document into the draft where it is not there yet.
    Publish {
        /// The draft says something else.
        update: bool,
        /// As it was read: nothing may have come between.
        etag: String,
        /// The number that it will have.
        version: i32,
    },
    /// State the whole tenant.
    State {
        /// As it was read; `None` when it is new.
        etag: Option<String>,
    },
    /// Nothing can be: the tenant was deleted, and its id is never used again.
    Deleted,
}

/// What a change left behind: the newest revision, and for tenants whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Usable in `at_least`.
    pub revision: Vec<u8>,
    /// The tenant that was stated.
    pub tenant: Option<TenantId>,
}

impl Step {
    /// What happens, in a word.
    pub fn verb(&self) -> String {
        match &self.action {
            Action::Nothing => "unchanged".to_owned(),
            Action::Deleted => "deleted".to_owned(),
            Action::Publish { version, .. } => format!("publish version {version}"),
            _ if self.before.is_none() => "create".to_owned(),
            _ => "change".to_owned(),
        }
    }

    /// Whether anything happens.
    pub fn changes(&self) -> bool {
        !matches!(self.action, Action::Nothing | Action::Deleted)
    }
}
