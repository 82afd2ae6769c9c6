//! How many files a process may have open at a time: each connection is one, and where there are none left nobody can connect, to
//! the pages neither. A soft limit of 1,024, as sessions commonly get, is what one peer within its limits can use up; it stands
//! for the sake of programs that can count no further, of which this is none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// For all that is open beside connections of calls: pages, database, store and feed, log, certificates, snapshots.
const BESIDE_CONNECTIONS: u64 = 500;

/// Raises the limit to what this process may have without being asked for. As early as possible, before anything is opened.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    // Where it cannot be raised, `check` tells.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Says in the log when that is not enough for so many connections. Once there is a log.
pub fn check(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile).current;
    if let Some((limit, needed)) = lacking(limit, connections_max) {
        warn!(limit, needed, "fewer files may be open than connections need: raise RLIMIT_NOFILE, or lower `connections_max`");
    }
}

/// Limit and need, where the one is less than the other; `None` is no limit.
fn lacking(limit: Option<u64>, connections_max: usize) -> Option<(u64, u64)> {
    let needed = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(BESIDE_CONNECTIONS);
    limit.filter(|limit| *limit < needed).map(|limit| (limit, needed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_becomes_the_highest_that_is_allowed() {
        let before = getrlimit(Resource::Nofile);
        let low = before.maximum.map_or(1_024, |maximum| maximum.min(1_024));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), ..before }).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: before.maximum, ..before });
    }

    #[test]
    fn what_is_lacking_is_told_with_what_is_needed() {
        assert_eq!(lacking(Some(10_499), 10_000), Some((10_499, 10_500)));
        assert_eq!(lacking(Some(10_500), 10_000), None);
        assert_eq!(lacking(None, 10_000), None);
        assert_eq!(lacking(Some(1_024), usize::MAX), Some((1_024, u64::MAX)));
    }
}
