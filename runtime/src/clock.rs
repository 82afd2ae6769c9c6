//! The real clock and fresh ids. Everything else takes them as arguments, so that tests and simulations can stand still.
//!
//! With the cargo feature `test-hooks` the clock is ahead of the machine's by `TESSERA_TEST_CLOCK_AHEAD_S`: whole seconds, behind
//! it where they are negative, or the name of a file that says how many, which is read at each look.

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
        switched::told(Timestamp::MIN.saturating_add(since_1970))
    }
}

#[cfg(not(feature = "test-hooks"))]
mod switched {
    use tessera_core::time::Timestamp;

    /// What the machine says.
    #[inline]
    pub(super) const fn told(at: Timestamp) -> Timestamp {
        at
    }
}

#[cfg(feature = "test-hooks")]
mod switched {
    use std::sync::LazyLock;
    use std::time::Duration;

    use tessera_core::time::Timestamp;

    static AHEAD: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("TESSERA_TEST_CLOCK_AHEAD_S").ok());

    /// What the machine says, put off.
    pub(super) fn told(at: Timestamp) -> Timestamp {
        AHEAD.as_deref().map_or(at, |said| put_off(at, seconds(said)))
    }

    /// Those of `said`, or of the file of that name; without either none.
    pub(super) fn seconds(said: &str) -> i64 {
        let whole = |text: &str| text.trim().parse::<i64>().ok();
        whole(said).or_else(|| whole(&std::fs::read_to_string(said).ok()?)).unwrap_or(0)
    }

    pub(super) fn put_off(at: Timestamp, seconds: i64) -> Timestamp {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { at.saturating_sub(by) } else { at.saturating_add(by) }
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

    #[cfg(feature = "test-hooks")]
    #[test]
    fn a_clock_is_put_off_by_what_is_said_or_by_what_a_file_says() {
        let at = |seconds| Timestamp::from_seconds(seconds).unwrap();
        assert_eq!(switched::put_off(at(5_000), switched::seconds("3600")), at(8_600));
        assert_eq!(switched::put_off(at(5_000), switched::seconds("-3600")), at(1_400));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ahead");
        let name = file.to_str().unwrap();
        assert_eq!(switched::seconds(name), 0);
        for (said, expected) in [("-40\n", -40), ("7", 7), ("", 0)] {
            std::fs::write(&file, said).unwrap();
            assert_eq!(switched::seconds(name), expected, "{said}");
        }
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
