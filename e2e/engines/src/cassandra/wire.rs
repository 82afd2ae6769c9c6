//! As much of CQL's binary protocol as it takes to see that a node serves: `OPTIONS`, answered by `SUPPORTED`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than a node that serves takes, short enough to ask again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Version 4, no flags, stream 0, opcode 5 (OPTIONS), no body.
const OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];
const OPCODE_SUPPORTED: u8 = 6;

/// Whether a node serves there.
pub(super) fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<[u8; 9]> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&OPTIONS)?;
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        Ok(header)
    };
    matches!(ask(), Ok([_, _, _, _, OPCODE_SUPPORTED, ..]))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_the_right_answer_counts() {
        for (opcode, expected) in [(OPCODE_SUPPORTED, true), (0, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let node = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 9];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&[0x84, 0, 0, 0, opcode, 0, 0, 0, 0]).unwrap();
                request
            });
            assert_eq!(answers(address), expected);
            assert_eq!(node.join().unwrap(), OPTIONS);
            assert!(!answers(address), "nobody listens any more");
        }
    }
}
