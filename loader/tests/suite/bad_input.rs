//! Bad input to the control plane, line by line: what is given, and the answer with its code, its reason, the field, the value
//! as it is shown, and what is allowed.
//!
//! - [`ids`]: every id field of every rpc, against every way in which an id can be wrong; names that nothing has;
//! - [`amounts`]: counts, versions, familiarity, lengths and times beyond their bounds;
//! - [`sizes`]: documents, registries, tenants and requests over their limits;
//! - [`calls`]: deadlines, etags, request ids, pages, filters, masks, enums;
//! - [`imports`]: streams of rows that are none, and rows that fail alone.
//!
//! What documents and the command line say of bad input is tested in `cli/`.

mod amounts;
mod asking;
mod calls;
mod ids;
mod imports;
mod sizes;
