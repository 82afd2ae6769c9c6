//! Etags: which state of a resource somebody has seen. Opaque to callers.
//!
//! A plan, an add-on and a tenant are a stream each: their etag is the stream's seq. Services and limits share one stream, so
//! theirs is a hash of their own content: a change of another service must not look like a change of this one.

use sha2::{Digest as _, Sha256};
use tessera_core::catalog::{Limit, Service};
use tessera_core::stream::{Epoch, Seq};
use tessera_core::value::{Period, Reason};

use crate::digest::hexadecimal;

/// The etag of a resource that is a whole stream.
pub fn of_stream(epoch: Epoch, seq: Seq) -> String {
    format!("{epoch}-{seq}")
}

/// The etag of a service with its features.
pub fn of_service(service: &Service) -> String {
    let mut hash = Fields::new();
    hash.text(service.id.as_str()).text(service.title.as_str()).text(service.description.as_str());
    hash.flag(service.archived).reason(service.disabled.as_ref());
    for feature in &service.features {
        hash.text(feature.id.as_str()).text(feature.title.as_str()).text(feature.description.as_str());
        hash.flag(feature.archived).reason(feature.disabled.as_ref());
    }
    hash.finish()
}

/// The etag of a limit.
pub fn of_limit(limit: &Limit) -> String {
    let mut hash = Fields::new();
    hash.text(limit.id.as_str()).text(limit.title.as_str()).text(limit.description.as_str());
    let period = match limit.period {
        Period::Never => "never",
        Period::Hour => "hour",
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
    };
    hash.text(limit.unit.as_str()).text(period).flag(limit.archived);
    hash.finish()
}

/// Fields one after the other, each with its length, so that no two contents run into the same bytes.
struct Fields(Sha256);

impl Fields {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(text);
        self
    }

    fn flag(&mut self, flag: bool) -> &mut Self {
        self.0.update([u8::from(flag)]);
        self
    }

    fn reason(&mut self, reason: Option<&Reason>) -> &mut Self {
        self.flag(reason.is_some()).text(reason.map_or("", Reason::as_str))
    }

    fn finish(self) -> String {
        hexadecimal(self.0.finalize().iter().take(12))
    }
}
