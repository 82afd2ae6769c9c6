//! As much of Kafka's protocol as it takes to see that a broker serves: the versions it speaks, then metadata that names it.
//! Its port opens a moment before its metadata is there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than a broker that serves takes, short enough to ask again.
const PATIENCE: Duration = Duration::from_secs(2);
/// Far above what either answer takes, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

const KEY_API_VERSIONS: i16 = 18;
const KEY_METADATA: i16 = 3;

/// Whether a broker serves there, and says that it is one.
pub(super) fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let versions = call(&mut stream, &request(KEY_API_VERSIONS, 0, &[]))?;
        if versions.get(..2) != Some(&[0, 0]) {
            return Ok(false);
        }
        // Of no topic: an empty list, which since version 1 is not all of them.
        let metadata = call(&mut stream, &request(KEY_METADATA, 1, &0_i32.to_be_bytes()))?;
        Ok(names_a_broker(&metadata))
    };
    ask().unwrap_or(false)
}

/// A request with its length, under number 7 and without a client's name.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = [key.to_be_bytes(), version.to_be_bytes()].concat();
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(body);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &bytes].concat()
}

/// The answer to a request without its length and number.
fn call(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header)?;
    let [a, b, c, d, _number @ ..] = header;
    let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
    if length > ANSWER_MAX {
        return Err(std::io::Error::other("an answer of that length is none of Kafka"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Metadata begins with the number of brokers.
fn names_a_broker(metadata: &[u8]) -> bool {
    metadata.first_chunk().is_some_and(|count| i32::from_be_bytes(*count) > 0)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn requests_are_framed() {
        let bytes = request(KEY_METADATA, 1, &[0, 0, 0, 0]);
        assert_eq!(bytes, [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0]);
    }

    #[test]
    fn a_broker_is_ready_when_its_metadata_names_one() {
        for (brokers, expected) in [(0_u8, false), (1, true)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let broker = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                for (request_length, answer) in [(14, [0, 0, 0, 0]), (18, [0, 0, 0, brokers])] {
                    let mut request = vec![0; request_length];
                    stream.read_exact(&mut request).unwrap();
                    stream.write_all(&[0, 0, 0, 8, 0, 0, 0, 7]).unwrap();
                    stream.write_all(&answer).unwrap();
                }
            });
            assert_eq!(answers(address), expected);
            broker.join().unwrap();
            assert!(!answers(address), "nobody listens any more");
        }
    }
}
