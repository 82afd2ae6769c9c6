//! Ports for engines. They have to be known before an engine runs, and stay its own while it is down, so they are taken from
//! below the range out of which the kernel serves connections and port 0: nobody gets one of them by chance.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;

/// Above the well-known ports, below 32768, where the range of Linux begins.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// What this process has handed out: an engine that is down still owns its ports.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Whether nobody listens on the port of 127.0.0.1.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A port of 127.0.0.1 on which nobody listens, and which this process has not handed out before.
pub(crate) fn choose() -> anyhow::Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Another place to begin for every call: runs beside each other seldom look at the same port.
    let begin = RandomState::new().hash_one("port") % u64::from(COUNT);
    let candidates = (0..u64::from(COUNT)).map(|step| (begin + step) % u64::from(COUNT));
    let mut candidates = candidates.filter_map(|offset| Some(FIRST + u16::try_from(offset).ok()?));
    let port = candidates.find(|port| !taken.contains(port) && is_free(*port));
    let port = port.with_context(|| format!("no free port from {FIRST} to {}", FIRST + COUNT - 1))?;
    taken.insert(port);
    Ok(port)
}

/// `preferred` where nobody listens there, else any.
pub(crate) fn choose_preferably(preferred: u16) -> anyhow::Result<u16> {
    if is_free(preferred) { Ok(preferred) } else { choose() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: Vec<u16> = (0..50).map(|_| choose().unwrap()).collect();
        let distinct: BTreeSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), ports.len());
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)), "{ports:?}");
    }

    #[test]
    fn a_preferred_port_is_taken_only_where_it_is_free() {
        let free = choose().unwrap();
        assert_eq!(choose_preferably(free).unwrap(), free);
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        assert_ne!(choose_preferably(port).unwrap(), port);
    }
}
