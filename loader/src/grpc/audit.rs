//! What stands behind the audit service: events as facts, verification, tenants as of a time.

pub(crate) mod at;
pub(crate) mod payload;
pub(crate) mod verify;
