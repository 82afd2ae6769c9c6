//! Generators of everything in the domain, for property tests here and in other crates (feature `testing`).
//!
//! Names come from a small pool, so that what is generated apart meets: a tenant's plan is mostly one that the generated
//! [`world()`] has, and its catalog registers the whole pool. With [`Names::Any`] other names of the grammar come too, for tests
//! of encodings. Times lie on a coarse grid and a nanosecond beside it, so that edges coincide and are missed by the least
//! there is. Whatever is generated keeps the invariants of its type, unless it is an event: events need not follow anything.

mod catalog;
mod history;
mod plan;
mod tenant;
mod value;
mod world;

pub use catalog::{catalog, catalog_command, catalog_event, full_catalog, limit_document, service_document};
pub use history::{Fold, fold};
pub use plan::{document, plan, plan_action, plan_command, plan_event};
pub use tenant::{
    access_override, limit_override, plan_choice, tenant, tenant_action, tenant_command, tenant_document, tenant_event,
};
pub use value::{
    Names, add_on_id, amount, description, familiarity, feature_id, grid_time, label_key, label_value, limit_id, limit_value,
    offer, override_target, period, plan_id, quantity, reason, service_id, target, tenant_id, timestamp, title, trial_length,
    version, version_choice,
};
pub use world::{recorded, references, rejection, settled, world};
