//! The hot messages on the wire: answers to checks are written straight into bytes, without the generated messages, whose
//! strings and vectors would cost an allocation each. Tests hold them equal to what prost writes.

pub(crate) mod codec;
pub(crate) mod encode;
