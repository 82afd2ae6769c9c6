//! The hot messages on the wire: checks are read from bytes and answers written into bytes, without the generated messages, whose
//! strings and vectors would cost an allocation each. Tests hold both equal to prost.

pub(crate) mod codec;
pub(crate) mod decode;
pub(crate) mod encode;
