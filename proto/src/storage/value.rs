//! Stored values that several messages share. The functions without `to_` read, those with it write.

use std::collections::BTreeMap;

use tessera_core::aggregate::{References, Settled};
use tessera_core::ids::{AddOnId, FeatureId, IdError, LimitId, PlanId, ServiceId};
use tessera_core::rejection::{Rejection, RejectionKind, Violation};
use tessera_core::stream::Seq;
use tessera_core::time::Timestamp;
use tessera_core::value::{Amount, Familiarity, LimitValue, Target, Version, VersionChoice};

use super::StorageError;
use crate::generated::storage as stored;

pub(super) fn hash(bytes: &[u8], field: &'static str) -> Result<[u8; 32], StorageError> {
    bytes.try_into().map_err(|_| StorageError::field(field, format_args!("it has {} bytes, not 32", bytes.len())))
}

pub(super) fn to_instant(at: Timestamp) -> stored::Instant {
    stored::Instant { seconds: at.seconds(), nanos: at.subsec_nanos() }
}

pub(super) fn instant(at: Option<&stored::Instant>, field: &'static str) -> Result<Timestamp, StorageError> {
    let at = at.ok_or_else(|| StorageError::missing(field))?;
    Timestamp::new(at.seconds, i64::from(at.nanos)).map_err(|e| StorageError::field(field, e))
}

pub(super) fn optional_instant(at: Option<&stored::Instant>, field: &'static str) -> Result<Option<Timestamp>, StorageError> {
    at.map(|at| instant(Some(at), field)).transpose()
}

pub(super) fn to_optional_instant(at: Option<Timestamp>) -> Option<stored::Instant> {
    at.map(to_instant)
}

pub(super) fn to_references(references: &References) -> Option<stored::References> {
    let entry = |(id, seq): (&str, &Seq)| stored::Reference { id: id.to_owned(), seq: *seq };
    (*references != References::default()).then(|| stored::References {
        catalog: references.catalog,
        plans: references.plans.iter().map(|(id, seq)| entry((id.as_str(), seq))).collect(),
        add_ons: references.add_ons.iter().map(|(id, seq)| entry((id.as_str(), seq))).collect(),
    })
}

pub(super) fn references(references: Option<stored::References>) -> Result<References, StorageError> {
    let Some(references) = references else { return Ok(References::default()) };
    Ok(References {
        catalog: references.catalog,
        plans: entries(references.plans, PlanId::parse)?,
        add_ons: entries(references.add_ons, AddOnId::parse)?,
    })
}

fn entries<K: Ord>(
    list: Vec<stored::Reference>,
    parse: fn(&str) -> Result<K, IdError>,
) -> Result<BTreeMap<K, Seq>, StorageError> {
    list.into_iter().map(|entry| Ok((parse(&entry.id)?, entry.seq))).collect()
}

pub(super) fn to_target(target: &Target) -> stored::Target {
    stored::Target {
        service: target.service.as_str().to_owned(),
        feature: target.feature.as_ref().map(|f| f.as_str().to_owned()).unwrap_or_default(),
    }
}

pub(super) fn target(target: Option<stored::Target>) -> Result<Target, StorageError> {
    let target = target.ok_or_else(|| StorageError::missing("target"))?;
    let feature = if target.feature.is_empty() { None } else { Some(FeatureId::parse(&target.feature)?) };
    Ok(Target { service: ServiceId::parse(&target.service)?, feature })
}

pub(super) fn to_limit(limit: &LimitId, value: LimitValue) -> stored::LimitValue {
    let maximum = match value {
        LimitValue::Maximum(amount) => Some(amount.get()),
        LimitValue::Unlimited => None,
    };
    stored::LimitValue { limit: limit.as_str().to_owned(), maximum }
}

pub(super) fn limit(value: &stored::LimitValue) -> Result<(LimitId, LimitValue), StorageError> {
    let given = match value.maximum {
        Some(maximum) => LimitValue::Maximum(Amount::new(maximum)?),
        None => LimitValue::Unlimited,
    };
    Ok((LimitId::parse(&value.limit)?, given))
}

pub(super) fn to_familiarity(familiarity: Option<Familiarity>) -> u32 {
    familiarity.map_or(0, |f| u32::from(f.basis_points()))
}

pub(super) fn familiarity(basis_points: u32) -> Result<Option<Familiarity>, StorageError> {
    if basis_points == 0 { Ok(None) } else { Ok(Some(Familiarity::from_basis_points(i64::from(basis_points))?)) }
}

pub(super) fn to_version(version: VersionChoice) -> u32 {
    match version {
        VersionChoice::Latest => 0,
        VersionChoice::Pinned(version) => version.get(),
    }
}

pub(super) fn version(version: u32) -> VersionChoice {
    Version::new(version).map_or(VersionChoice::Latest, VersionChoice::Pinned)
}

pub(super) fn to_settled(settled: &Settled) -> stored::CommandSettled {
    let rejection = match settled {
        Settled::NoChange => None,
        Settled::Rejected(rejection) => Some(stored::Rejection {
            kind: rejection.kind as u32,
            reason: rejection.reason.to_string(),
            message: rejection.message.clone(),
            violations: rejection
                .violations
                .iter()
                .map(|v| stored::Violation { field: v.field.clone(), description: v.description.clone() })
                .collect(),
        }),
    };
    stored::CommandSettled { rejection }
}

pub(super) fn settled(settled: stored::CommandSettled) -> Result<Settled, StorageError> {
    let Some(rejection) = settled.rejection else { return Ok(Settled::NoChange) };
    let kind = u8::try_from(rejection.kind)
        .ok()
        .and_then(RejectionKind::from_number)
        .ok_or_else(|| StorageError::field("kind", format_args!("{} is not a kind of rejection", rejection.kind)))?;
    let violations = rejection.violations.into_iter().map(|v| Violation { field: v.field, description: v.description }).collect();
    Ok(Settled::Rejected(Rejection { kind, reason: rejection.reason.into(), message: rejection.message, violations }))
}
