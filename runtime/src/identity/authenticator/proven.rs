//! JSON Web Tokens that were verified a moment ago, by their hashes: to verify one takes longer than to decide.
//!
//! What they may take is bounded by weight and not by number alone: a token may bind its caller to a thousand tenants, and ten
//! thousand such callers would be a quarter of a gigabyte.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tessera_core::time::Timestamp;

use super::super::Principal;
use super::super::tokens::TokenHash;
use super::PROVEN_FOR;

/// Most that they may weigh together: so many callers, or fewer that are bound to many tenants. At most
/// some 20 MB.
const WEIGHT_MAX: usize = 10_000;
/// So many tenants weigh as much as a caller.
const TENANTS_PER_WEIGHT: usize = 10;

/// Whose they are, and until when that need not be asked.
#[derive(Debug, Default)]
pub(super) struct Proven {
    tokens: DashMap<TokenHash, (Principal, Timestamp), foldhash::fast::RandomState>,
    /// Of all that are there.
    weight: AtomicUsize,
}

impl Proven {
    /// Whose token it is, if that is known and stands.
    pub(super) fn find(&self, hash: &TokenHash, now: Timestamp) -> Option<(Principal, Timestamp)> {
        self.tokens.get(hash).filter(|proven| stands(proven.1, now)).map(|proven| proven.clone())
    }

    /// Remembers a token that was verified, if there is room; else it is verified each time. Callers who come at once may exceed
    /// the bound, by one each.
    pub(super) fn remember(&self, hash: TokenHash, principal: Principal, until: Timestamp) {
        let weight = weight_of(&principal);
        if self.weight.load(Ordering::Relaxed).saturating_add(weight) > WEIGHT_MAX {
            return;
        }
        self.weight.fetch_add(weight, Ordering::Relaxed);
        if let Some((before, _)) = self.tokens.insert(hash, (principal, until)) {
            self.weight.fetch_sub(weight_of(&before), Ordering::Relaxed);
        }
    }

    /// Forgets those that do not stand any more at `now`.
    pub(super) fn forget_before(&self, now: Timestamp) {
        self.tokens.retain(|_, (principal, until)| {
            let stands = stands(*until, now);
            if !stands {
                self.weight.fetch_sub(weight_of(principal), Ordering::Relaxed);
            }
            stands
        });
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// Whether that time has not come. Nor is it further away than any was: else the clock has been set back since, and what was verified by
/// the wrong one does not stand for as long as it was wrong.
fn stands(until: Timestamp, now: Timestamp) -> bool {
    now < until && until.saturating_since(now) <= PROVEN_FOR
}

fn weight_of(principal: &Principal) -> usize {
    1 + principal.tenants().map_or(0, |tenants| tenants.len() / TENANTS_PER_WEIGHT)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tessera_core::access::Scopes;
    use tessera_core::aggregate::Actor;
    use tessera_core::ids::TenantId;

    use super::super::super::Grant;
    use super::super::super::tokens::hash_of;
    use super::*;

    fn bound_to(tenants: usize) -> Principal {
        let actor = Actor::parse("an actor", "corp:shop").unwrap();
        let tenants = (0..tenants).map(|number| TenantId::parse(&format!("t{number}")).unwrap()).collect();
        Principal::new(Grant { actor, scopes: Scopes::all(), tenants: Some(tenants) })
    }

    fn hash(number: usize) -> TokenHash {
        hash_of(&number.to_string())
    }

    #[test]
    fn those_who_are_bound_to_many_tenants_take_the_room_of_many() {
        let (light, heavy, until) = (bound_to(1), bound_to(990), Timestamp::from_seconds(60).unwrap());
        let proven = Proven::default();
        for number in 0..2 * WEIGHT_MAX {
            proven.remember(hash(number), light.clone(), until);
        }
        assert_eq!(proven.len(), WEIGHT_MAX);
        let proven = Proven::default();
        for number in 0..WEIGHT_MAX {
            proven.remember(hash(number), heavy.clone(), until);
        }
        assert_eq!(proven.len(), WEIGHT_MAX / 100);
        assert!(proven.find(&hash(0), Timestamp::MIN).is_some(), "who came first is remembered");
    }

    #[test]
    fn what_was_verified_before_the_clock_was_set_back_does_not_stand() {
        let (now, ahead) = (Timestamp::from_seconds(60).unwrap(), Duration::from_hours(1));
        let proven = Proven::default();
        proven.remember(hash(0), bound_to(1), now.saturating_add(ahead + PROVEN_FOR));
        proven.remember(hash(1), bound_to(1), now.saturating_add(PROVEN_FOR));
        assert!(proven.find(&hash(0), now.saturating_add(ahead)).is_some());
        assert!(proven.find(&hash(0), now).is_none() && proven.find(&hash(1), now).is_some());
        proven.forget_before(now);
        assert_eq!(proven.len(), 1);
    }

    #[test]
    fn what_is_forgotten_or_replaced_makes_room() {
        let (heavy, start) = (bound_to(990), Timestamp::from_seconds(60).unwrap());
        let until = start.saturating_add(Duration::from_secs(1));
        let proven = Proven::default();
        for _ in 0..WEIGHT_MAX {
            proven.remember(hash(0), heavy.clone(), start);
        }
        for number in 1..WEIGHT_MAX {
            proven.remember(hash(number), heavy.clone(), until);
        }
        assert_eq!((proven.len(), proven.find(&hash(0), start)), (WEIGHT_MAX / 100, None));
        proven.forget_before(start);
        assert_eq!(proven.len(), WEIGHT_MAX / 100 - 1);
        proven.forget_before(until);
        assert_eq!((proven.len(), proven.weight.load(Ordering::Relaxed)), (0, 0));
    }
}
