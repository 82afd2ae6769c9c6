//! Who listens on a port, as the kernel tells it in `/proc`. Something that answers is not proof enough of an engine: another
//! one may have taken its port while it started.

use std::path::Path;

/// How the kernel writes the state of a listening socket.
const LISTENING: &str = "0A";

/// Whether the process has a socket that listens on the port, of either family.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let names: Vec<String> = tables.iter().flat_map(|table| sockets(table, port)).collect();
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|link| names.iter().any(|name| Path::new(name) == link))
}

/// The listening sockets of a port, by the names that open files have: the second column is the address, the fourth the state,
/// the tenth the number.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = rows.filter(|row| row.get(1).is_some_and(|address| address.ends_with(&suffix)) && row.get(3) == Some(&LISTENING));
    ours.filter_map(|row| row.get(9).map(|number| format!("socket:[{number}]"))).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_that_of_its_process() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                // A machine without the newer family has nothing to tell of it.
                assert_eq!(address, "[::1]:0");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            assert!(listens(std::process::id(), port), "{address}");
            assert!(!listens(1, port) || std::process::id() == 1, "it is not that of the first process");
        }
    }

    #[test]
    fn a_connection_is_no_listener() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let row = |state: &str| {
            format!("   0: 0100007F:2352 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 4711 1 0\n")
        };
        assert_eq!(sockets(&(head.to_owned() + &row("0A")), 9042), ["socket:[4711]"]);
        assert!(sockets(&(head.to_owned() + &row("01")), 9042).is_empty());
        assert!(sockets(&(head.to_owned() + &row("0A")), 9043).is_empty());
    }
}
