//! A compiled row as bytes and back, so that a server can begin from a file instead of from every stored state.
//!
//! The bytes name services, features, limits, plans and add-ons by the numbers that they have in the tables, so they can be read
//! only beside tables of the same lineage in which plans and add-ons arrived in the same order. They are no format for ever:
//! whoever keeps them keeps [`ROW_FORMAT`] beside them and makes them anew from the states when it is another one.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::offer_table::Offers;
use super::row::{AccessRow, AddOnRow, Extras, FollowedOffer, LimitRow, More, Scheduled, TenantRow};
use super::tables::Tables;
use crate::stream::Seq;
use crate::tenant::Effect;
use crate::time::Timestamp;
use crate::value::{Amount, Familiarity, LimitValue, Quantity, Reason};

/// Counts up whenever a row holds something else, or the same is packed otherwise. A row that was compiled by software that
/// did not yet look at a part of the state must not be taken for one that did.
pub const ROW_FORMAT: u32 = 1;

const PENDING: u8 = 1;
const DELETED: u8 = 1 << 1;
const PINNED: u8 = 1 << 2;
const EXTRAS: u8 = 1 << 3;

const STARTS: u8 = 1;
const TRIAL: u8 = 1 << 1;
const CANCEL: u8 = 1 << 2;

/// The bytes are not a row beside these tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packed row does not fit the tables: {0}")]
pub struct NotARow(&'static str);

impl TenantRow {
    /// Appends the row, without its seq, to `out`.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let plan = self.plan();
        let mut flags = 0;
        flags |= if self.is_pending() { PENDING } else { 0 };
        flags |= if self.is_deleted() { DELETED } else { 0 };
        flags |= if plan.version.is_some() { PINNED } else { 0 };
        flags |= if self.extras().is_some() { EXTRAS } else { 0 };
        out.push(flags);
        put_offer(out, plan);
        if let Some(extras) = self.extras() {
            pack_extras(out, extras);
        }
    }

    /// Takes a row from the beginning of `bytes`, and says of anything that it names and `tables` do not have that it is no row.
    pub fn unpack(seq: Seq, bytes: &mut &[u8], tables: &Tables) -> Result<Self, NotARow> {
        let mut reader = Reader { bytes, tables };
        let flags = reader.byte()?;
        // Who is deleted is nothing else, and is never written as both.
        if flags & !(PENDING | DELETED | PINNED | EXTRAS) != 0 || flags & (PENDING | DELETED) == PENDING | DELETED {
            return Err(NotARow("its flags"));
        }
        let plan = reader.followed(flags & PINNED != 0, tables.plan_table())?;
        let extras = if flags & EXTRAS == 0 { None } else { Some(Arc::new(reader.extras()?)) };
        Ok(Self::from_parts(seq, plan, flags & PENDING != 0, flags & DELETED != 0, extras))
    }
}

// === packing ===

fn pack_extras(out: &mut Vec<u8>, extras: &Extras) {
    let times = [(extras.starts, STARTS), (extras.trial_until, TRIAL), (extras.cancel_at, CANCEL)];
    out.push(times.iter().filter(|(at, _)| at.is_some()).fold(0, |flags, (_, flag)| flags | flag));
    for at in times.into_iter().filter_map(|(at, _)| at) {
        put_time(out, at);
    }
    put_count(out, extras.scheduled.len());
    for scheduled in &extras.scheduled {
        put_time(out, scheduled.at);
        put_choice(out, scheduled.plan);
    }
    put_count(out, extras.suspensions.len());
    for (reason, at) in &extras.suspensions {
        put_reason(out, reason);
        put_time(out, *at);
    }
    put_count(out, extras.access.len());
    for row in &extras.access {
        put_number(out, row.service.into());
        put_number(out, row.feature.map_or(0, |feature| u64::from(feature).saturating_add(1)));
        put_number(out, row.rank.into());
        out.push(match row.effect {
            Effect::Grant => 0,
            Effect::Deny => 1,
        });
        put_until(out, row.until);
        put_reason(out, &row.reason);
    }
    put_count(out, extras.limits.len());
    for row in &extras.limits {
        put_number(out, row.limit.into());
        let maximum = match row.value {
            LimitValue::Unlimited => 0,
            LimitValue::Maximum(amount) => amount.get().unsigned_abs().saturating_add(1),
        };
        put_number(out, maximum);
        put_until(out, row.until);
    }
    put_count(out, extras.add_ons.len());
    for row in &extras.add_ons {
        put_choice(out, row.add_on);
        put_number(out, row.quantity.into());
    }
    put_count(out, extras.familiarity.len());
    for (service, familiarity) in &extras.familiarity {
        put_number(out, (*service).into());
        put_number(out, familiarity.basis_points().into());
    }
}

/// LEB128, seven bits a byte, the least first.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while let Ok(low) = u8::try_from(number & 0x7f) {
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_number(out, u64::try_from(count).unwrap_or(u64::MAX));
}

/// Whether it is pinned is told elsewhere.
fn put_offer(out: &mut Vec<u8>, offer: FollowedOffer) {
    put_number(out, offer.index.into());
    if let Some(version) = offer.version {
        put_number(out, version.get().into());
    }
}

fn put_choice(out: &mut Vec<u8>, offer: FollowedOffer) {
    out.push(u8::from(offer.version.is_some()));
    put_offer(out, offer);
}

fn put_time(out: &mut Vec<u8>, at: Timestamp) {
    put_number(out, at.seconds().unsigned_abs());
    put_number(out, at.subsec_nanos().into());
}

fn put_until(out: &mut Vec<u8>, until: Option<Timestamp>) {
    out.push(u8::from(until.is_some()));
    if let Some(until) = until {
        put_time(out, until);
    }
}

fn put_reason(out: &mut Vec<u8>, reason: &Reason) {
    put_count(out, reason.as_str().len());
    out.extend_from_slice(reason.as_str().as_bytes());
}

// === unpacking ===

struct Reader<'a, 'b> {
    bytes: &'a mut &'b [u8],
    tables: &'a Tables,
}

impl Reader<'_, '_> {
    fn byte(&mut self) -> Result<u8, NotARow> {
        let (first, rest) = self.bytes.split_first().ok_or(NotARow("it ends early"))?;
        *self.bytes = rest;
        Ok(*first)
    }

    fn bit(&mut self) -> Result<bool, NotARow> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(NotARow("a mark that is neither 0 nor 1")),
        }
    }

    fn number(&mut self) -> Result<u64, NotARow> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            if low << shift >> shift != low {
                break;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(NotARow("a number of more than 64 bits"))
    }

    fn small(&mut self) -> Result<u32, NotARow> {
        u32::try_from(self.number()?).map_err(|_| NotARow("a number of more than 32 bits"))
    }

    /// As many of them as are announced. Nothing is set aside for more than there are bytes.
    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, NotARow>) -> Result<Vec<T>, NotARow> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let mut list = Vec::with_capacity(count.min(self.bytes.len()));
        for _ in 0..count {
            list.push(one(self)?);
        }
        Ok(list)
    }

    fn time(&mut self) -> Result<Timestamp, NotARow> {
        let seconds = i64::try_from(self.number()?).map_err(|_| NotARow("a time"))?;
        Timestamp::new(seconds, self.small()?.into()).map_err(|_| NotARow("a time"))
    }

    fn until(&mut self) -> Result<Option<Timestamp>, NotARow> {
        if self.bit()? { self.time().map(Some) } else { Ok(None) }
    }

    fn reason(&mut self) -> Result<Reason, NotARow> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let (text, rest) = self.bytes.split_at_checked(length).ok_or(NotARow("it ends early"))?;
        *self.bytes = rest;
        let text = std::str::from_utf8(text).map_err(|_| NotARow("a reason"))?;
        Reason::parse("a reason", text).map_err(|_| NotARow("a reason"))
    }

    fn followed<I>(&mut self, pinned: bool, offers: &Offers<I>) -> Result<FollowedOffer, NotARow>
    where
        I: Clone + std::borrow::Borrow<str>,
    {
        let index = self.small()?;
        let version = if pinned { Some(NonZeroU32::new(self.small()?).ok_or(NotARow("version 0"))?) } else { None };
        let followed = FollowedOffer { index, version };
        let offer = offers.get(index).ok_or(NotARow("a plan or add-on that is not there"))?;
        offer.version(followed.choice()).ok_or(NotARow("a version that is not there"))?;
        Ok(followed)
    }

    fn choice<I>(&mut self, offers: &Offers<I>) -> Result<FollowedOffer, NotARow>
    where
        I: Clone + std::borrow::Borrow<str>,
    {
        let pinned = self.bit()?;
        self.followed(pinned, offers)
    }

    fn service(&mut self) -> Result<u32, NotARow> {
        let ordinal = self.small()?;
        self.tables.catalog().service(ordinal).map(|_| ordinal).ok_or(NotARow("a service that is not there"))
    }

    fn extras(&mut self) -> Result<Extras, NotARow> {
        let flags = self.byte()?;
        if flags & !(STARTS | TRIAL | CANCEL) != 0 {
            return Err(NotARow("its flags"));
        }
        let mut time = |flag| if flags & flag == 0 { Ok(None) } else { self.time().map(Some) };
        let (starts, trial_until, cancel_at) = (time(STARTS)?, time(TRIAL)?, time(CANCEL)?);
        let plans = self.tables.plan_table();
        let add_ons = self.tables.add_on_table();
        let scheduled = self.list(|reader| Ok(Scheduled { at: reader.time()?, plan: reader.choice(plans)? }))?;
        let suspensions = self.list(|reader| Ok((reader.reason()?, reader.time()?)))?;
        let (access, limits) = (self.list(Self::access)?, self.list(Self::limit)?);
        let add_ons = self.list(|reader| {
            let add_on = reader.choice(add_ons)?;
            let quantity = Quantity::new(reader.small()?.into()).map_err(|_| NotARow("a quantity"))?;
            Ok(AddOnRow { add_on, quantity: quantity.get() })
        })?;
        let familiarity = self.list(|reader| {
            let service = reader.service()?;
            let familiarity = Familiarity::from_basis_points(reader.small()?.into());
            Ok((service, familiarity.map_err(|_| NotARow("a familiarity"))?))
        })?;
        let more = More { starts, trial_until, cancel_at, scheduled, suspensions, add_ons, familiarity };
        Ok(Extras::new(access.into(), limits.into(), more))
    }

    fn access(&mut self) -> Result<AccessRow, NotARow> {
        let service = self.service()?;
        let feature = match self.small()?.checked_sub(1) {
            None => None,
            Some(ordinal) => {
                let feature = self.tables.catalog().feature(ordinal).filter(|feature| feature.service == service);
                feature.ok_or(NotARow("a feature that is not there"))?;
                Some(ordinal)
            }
        };
        let rank = self.small()?;
        let effect = if self.bit()? { Effect::Deny } else { Effect::Grant };
        Ok(AccessRow { service, feature, rank, effect, until: self.until()?, reason: self.reason()? })
    }

    fn limit(&mut self) -> Result<LimitRow, NotARow> {
        let limit = self.small()?;
        self.tables.catalog().limit(limit).ok_or(NotARow("a limit that is not there"))?;
        let value = match self.number()?.checked_sub(1) {
            None => LimitValue::Unlimited,
            Some(maximum) => {
                let maximum = i64::try_from(maximum).ok().and_then(|maximum| Amount::new(maximum).ok());
                LimitValue::Maximum(maximum.ok_or(NotARow("a maximum"))?)
            }
        };
        Ok(LimitRow { limit, value, until: self.until()? })
    }
}
