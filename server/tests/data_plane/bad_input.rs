//! What the data plane says to bad input, as a specification: a table per kind of input, walked through every call that takes it.
//! Each refusal is compared whole: code, reason, field, the value as it is shown, and what is allowed.

mod amounts;
mod caps;
mod deadlines;
mod envoys;
mod fuzz;
mod ids;
mod messages;
mod readiness;
mod request_ids;
mod revisions;
mod rpc;
mod sizes;
mod unknown;
mod watches;
