//! How much one caller may ask for, and how much may be asked about one tenant: a check costs one, whichever call it comes in. Without
//! settings nobody is limited, and nothing is charged.
//!
//! What all of a thread's callers ask for together is not the business of this file: see `tessera_runtime::overload`.

use std::borrow::Cow;
use std::hash::Hash;
use std::net::IpAddr;

use tessera_proto::status::Failure;
use tessera_runtime::overload::buckets::{Buckets, Rate};
use tokio::time::Instant;

use crate::Config;
use crate::consistency::Caller;

/// The buckets of callers and of tenants.
#[derive(Debug)]
pub(crate) struct Limits {
    callers: Option<Buckets>,
    tenants: Option<Buckets>,
    began: Instant,
}

/// Who pays: a caller by its name, or by its address where nobody is asked who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Payer<'a> {
    Principal(Cow<'a, str>),
    Address(Option<IpAddr>),
}

impl<'a> Payer<'a> {
    pub(crate) fn of(caller: &'a Caller) -> Self {
        match &caller.principal {
            Some(principal) => Self::Principal(Cow::Borrowed(principal.actor().as_str())),
            None => Self::Address(caller.address.map(|address| address.to_canonical())),
        }
    }

    /// To be kept for longer than the call.
    pub(crate) fn into_owned(self) -> Payer<'static> {
        match self {
            Self::Principal(name) => Payer::Principal(Cow::Owned(name.into_owned())),
            Self::Address(address) => Payer::Address(address),
        }
    }
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let buckets = |per_second, burst| (per_second > 0).then(|| Buckets::new(Rate { per_second, burst }));
        Self {
            callers: buckets(config.caller_checks_per_second, config.caller_checks_burst),
            tenants: buckets(config.tenant_checks_per_second, config.tenant_checks_burst),
            began: Instant::now(),
        }
    }

    /// Charges whoever calls for so many checks; `RATE_LIMITED` when that is more than is left.
    pub(crate) fn charge_caller(&self, caller: &Caller, checks: usize) -> Result<(), Failure> {
        let Some(callers) = &self.callers else { return Ok(()) };
        self.charge(callers, Payer::of(caller), checks, "this caller")
    }

    /// Charges a tenant for so many checks. Who does not see it uses up nothing of it.
    #[inline]
    pub(crate) fn charge_tenant(&self, caller: &Caller, tenant: &str, checks: usize) -> Result<(), Failure> {
        match &self.tenants {
            Some(tenants) if caller.sees(tenant) => self.charge(tenants, tenant, checks, "this tenant"),
            _ => Ok(()),
        }
    }

    fn charge(&self, buckets: &Buckets, payer: impl Hash, checks: usize, whose: &str) -> Result<(), Failure> {
        let cost = u64::try_from(checks).unwrap_or(u64::MAX);
        buckets.take(payer, cost, self.began.elapsed()).map_err(|early| {
            let Rate { per_second, burst } = buckets.rate();
            let message = format!("allowed of {whose} are `{per_second}` checks a second and `{burst}` at once");
            Failure::rate_limited(message, early)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn caller(address: [u8; 4]) -> Caller {
        Caller { principal: None, address: Some(IpAddr::from(address)), deadline: None }
    }

    #[tokio::test(start_paused = true)]
    async fn callers_and_tenants_have_their_own() {
        let config = Config {
            caller_checks_per_second: 10,
            caller_checks_burst: 5,
            tenant_checks_per_second: 100,
            tenant_checks_burst: 2,
            ..Config::default()
        };
        let limits = Limits::new(&config);
        let (one, other) = (caller([192, 0, 2, 1]), caller([192, 0, 2, 2]));
        assert!(limits.charge_caller(&one, 5).is_ok());
        let refused = limits.charge_caller(&one, 1).unwrap_err();
        assert_eq!(refused.reason(), "RATE_LIMITED");
        assert_eq!(refused.message(), "allowed of this caller are `10` checks a second and `5` at once");
        assert!(limits.charge_caller(&other, 5).is_ok());
        assert!(limits.charge_tenant(&one, "acme", 2).is_ok());
        let refused = limits.charge_tenant(&other, "acme", 1).unwrap_err();
        assert_eq!(refused.message(), "allowed of this tenant are `100` checks a second and `2` at once");
        assert!(limits.charge_tenant(&one, "globex", 2).is_ok());
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(limits.charge_caller(&one, 1).is_ok());
        assert!(limits.charge_caller(&one, 1).is_err());
        assert!(limits.charge_tenant(&one, "acme", 2).is_ok());
    }

    #[test]
    fn nobody_is_limited_unless_told() {
        let limits = Limits::new(&Config::default());
        let one = caller([192, 0, 2, 1]);
        for _ in 0..100_000 {
            assert!(limits.charge_caller(&one, 10_000).is_ok());
            assert!(limits.charge_tenant(&one, "acme", 10_000).is_ok());
        }
    }
}
