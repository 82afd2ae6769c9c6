//! The real clock and fresh ids. Everything else takes them as arguments, so that tests and simulations can stand still.

use tessera_core::ids::RequestId;
use tessera_core::time::Timestamp;
use tessera_ports::clock::{Clock, IdSource};
use uuid::Uuid;

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one real clock; everybody else takes it as an argument")]
    fn now(&self) -> Timestamp {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.saturating_add(since_1970)
    }
}

/// Ids that nobody has used before: UUIDs of version 7, which sort by the time they were made.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemIds;

impl SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one real source of ids; everybody else takes it as an argument")]
    fn uuid() -> String {
        Uuid::now_v7().to_string()
    }

    /// For traces: the last seven bytes are random, each time anew (version 4). Those of version 7 count within a millisecond, so
    /// that what goes by them would take whole bursts or none of them.
    #[expect(clippy::disallowed_methods, reason = "the one real source of ids; everybody else takes it as an argument")]
    pub(crate) fn bytes() -> [u8; 16] {
        Uuid::new_v4().into_bytes()
    }
}

impl IdSource for SystemIds {
    fn request_id(&self) -> RequestId {
        RequestId::parse(&Self::uuid()).expect("a UUID is 36 printable ASCII characters")
    }

    fn unique(&self) -> String {
        Self::uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_traces_do_not_hang_together() {
        // The highest of the 56 bits that samples go by; by chance beyond these bounds less than once in 10^20 runs.
        let set = (0..1_000).filter(|_| SystemIds::bytes()[9] & 0x80 != 0).count();
        assert!((350..650).contains(&set), "{set}");
    }

    #[test]
    fn the_clock_is_past_2024_and_ids_differ() {
        assert!(SystemClock.now() > Timestamp::from_seconds(1_704_067_200).unwrap());
        let (first, second) = (SystemIds.unique(), SystemIds.unique());
        assert_ne!(first, second);
        assert!(first.len() <= 36 && first.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
        assert_ne!(SystemIds.request_id(), SystemIds.request_id());
    }
}
