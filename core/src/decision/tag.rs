//! The tag of an effective document: equal for equal documents, different for different ones, whatever the process.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::{EffectiveDocument, Reason, ServiceEntitlement, TenantStatus};
use crate::time::Timestamp;
use crate::value::{Familiarity, LimitValue};

/// Bytes of the hash that a tag shows: enough that two documents of one tenant never meet by chance.
const SHOWN_BYTES: usize = 16;
/// First byte of what is hashed; another encoding begins with another.
const FORMAT: u8 = 2;

impl EffectiveDocument {
    /// 32 lower-case hexadecimal digits that change whenever anything does, also by time. `valid_until` is part of it: whoever keeps a
    /// document has to hear that it ends sooner.
    pub fn tag(&self) -> String {
        let mut canonical = Canonical(Sha256::new());
        canonical.document(self);
        let hash = canonical.0.finalize();
        hash.iter().take(SHOWN_BYTES).fold(String::with_capacity(2 * SHOWN_BYTES), |mut tag, byte| {
            // Writing to a string cannot fail.
            let _ = write!(tag, "{byte:02x}");
            tag
        })
    }
}

/// An encoding in which different documents are different bytes: fixed order, every text and list after its length, every
/// option after a byte that says whether it is there.
struct Canonical(Sha256);

impl Canonical {
    fn document(&mut self, document: &EffectiveDocument) {
        // Named one by one, so that a new field cannot be forgotten here.
        let EffectiveDocument {
            plan: (plan, version),
            status,
            grace_until,
            starts,
            trial_until,
            cancel_at,
            next_change,
            services,
            limits,
            valid_until,
        } = document;
        self.byte(FORMAT);
        self.text(plan.as_str());
        self.number(u64::from(version.get()));
        self.byte(status_number(*status));
        for time in [grace_until, starts, trial_until, cancel_at, valid_until] {
            self.option(time.as_ref(), |canonical, time| canonical.time(*time));
        }
        self.option(next_change.as_ref(), |canonical, (at, plan)| {
            canonical.time(*at);
            canonical.text(plan.as_str());
        });
        self.length(services.len());
        for (id, service) in services {
            self.text(id.as_str());
            self.service(service);
        }
        self.length(limits.len());
        for (id, value) in limits {
            self.text(id.as_str());
            let maximum = match value {
                LimitValue::Unlimited => None,
                LimitValue::Maximum(amount) => Some(amount.get().unsigned_abs()),
            };
            self.option(maximum.as_ref(), |canonical, maximum| canonical.number(*maximum));
        }
    }

    fn service(&mut self, service: &ServiceEntitlement) {
        let ServiceEntitlement { entitled, reason, familiarity, add_on, features } = service;
        self.byte(u8::from(*entitled));
        self.byte(reason_number(*reason));
        self.number(u64::from(familiarity.map_or(0, Familiarity::basis_points)));
        self.option(add_on.as_ref(), |canonical, add_on| canonical.text(add_on.as_str()));
        self.length(features.len());
        for (id, feature) in features {
            let super::FeatureEntitlement { entitled, reason, add_on } = feature;
            self.text(id.as_str());
            self.byte(u8::from(*entitled));
            self.byte(reason_number(*reason));
            self.option(add_on.as_ref(), |canonical, add_on| canonical.text(add_on.as_str()));
        }
    }

    fn byte(&mut self, byte: u8) {
        self.0.update([byte]);
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text.as_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        self.0.update(time.as_nanos().to_be_bytes());
    }

    fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.byte(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Numbers of this encoding alone; two processes of one release must agree, nothing else.
fn status_number(status: TenantStatus) -> u8 {
    match status {
        TenantStatus::Active => 1,
        TenantStatus::Pending => 2,
        TenantStatus::Suspended => 3,
        TenantStatus::Deleted => 4,
    }
}

/// Position in the order of the steps.
fn reason_number(reason: Reason) -> u8 {
    reason as u8
}
