//! The settings of gRPC listeners, each with its bounds and its reason. What they do is the business of the other files here.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use tokio::time::Instant;

use super::Error;
use super::keepalive::Keepalive;
use crate::overload::buckets::Rate;
use crate::tls::TlsConfig;

/// How a gRPC listener behaves, and how long its connections live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerConfig {
    /// Most connections at a time, of the address and of the Unix socket each; further ones wait in the kernel. 1 to 100,000;
    /// default 10,000.
    pub connections_max: usize,
    /// Most connections at a time of one peer: an IPv4 address, or an IPv6 network of 64 bits, since one host has all of its
    /// addresses. Further ones are closed at once. 1 to 100,000; default 1,000: a tenth of all, so that one peer cannot have
    /// them all, and enough for a proxy that speaks for many.
    pub connections_per_peer_max: usize,
    /// New connections of one peer per second, when it has opened as many in a row as it may have; further ones are closed before
    /// anything is done for them. 1 to 100,000; default 100: what a handshake of TLS costs is up to a millisecond of a core, and
    /// a peer is to take no more than a tenth of one with them.
    pub connections_per_peer_per_second: u64,
    /// Most streams (calls under way) of one connection; further ones are refused. 1 to 100,000; default 1,000.
    pub streams_per_connection_max: u32,
    /// Bytes of a whole connection that may be under way unread. 65,535 to 2^31-1; default 8 MiB.
    pub connection_window_bytes: u32,
    /// Bytes of one stream that may be under way unread. 65,535 to 2^31-1; default 4 MiB, so that a request of 2 MiB never waits.
    pub stream_window_bytes: u32,
    /// Bytes of answers of one stream that HTTP/2 keeps for its reader. 16 KiB to 4 MiB; default 64 KiB. A peer that does not read
    /// makes us hold that, and the rest of the message that is being sent, for each stream until it is found to be slow.
    pub send_buffer_bytes: usize,
    /// Bytes of the headers of one call, unpacked. 4 KiB to 1 MiB; default 80 KiB: the headers of a request that an Envoy holds
    /// come in the message, but one that traces hands on what its client says of a trace, up to the 60 KiB of headers that it
    /// takes.
    pub header_list_bytes_max: u32,
    /// Calls of one connection that were cancelled before they were looked at; one more ends it. 1 to 10,000; default 200:
    /// clients whose deadlines pass cancel many at once, and a slow process is not to send them away for it.
    pub pending_resets_max: usize,
    /// Calls of one connection that broke the protocol, over its life; one more ends it. 1 to 100,000; default 128: well-behaved
    /// clients have none.
    pub error_resets_max: usize,
    /// The TLS handshake has to be over after so long. 1 to 60 s; default 5 s.
    pub handshake_timeout_s: u64,
    /// The beginning of HTTP/2, to the head of the first SETTINGS, has to be there so long after the connection was accepted, or
    /// after its handshake. 1 to 60 s; default 5 s.
    pub first_bytes_timeout_s: u64,
    /// The message of a call that is answered once all of it is there (all calls but streams of questions) has so long to come,
    /// from the call's headers on: what it is asked with is looked at then. 1 to 60 s; default 10 s.
    pub message_timeout_s: u64,
    /// A peer is asked after so long of silence, or up to a quarter more, whether it is still there; the first time not before
    /// `first_bytes_timeout_s` is over. 5 to 3,600 s; default 30 s.
    pub keepalive_interval_s: u64,
    /// It has so long to answer. 1 to 600 s; default 10 s.
    pub keepalive_timeout_s: u64,
    /// A connection without calls is told to go after so long. 10 to 86,400 s; default 300 s.
    pub idle_max_s: u64,
    /// A connection is told to go at this age, give or take a tenth, so that clients spread over new processes and change to new
    /// certificates. 10 to 2,592,000 s; default 3,600 s.
    pub age_max_s: u64,
    /// Calls and streams have so long to end after that. 1 to 3,600 s; default 60 s.
    pub age_grace_s: u64,
    /// A stream whose peer takes nothing for so long while something waits for it is ended, and so is a connection. 1 to 600 s;
    /// default 10 s.
    pub slow_reader_timeout_s: u64,
    /// Calls wait for their turn on a thread for this long, in ms; when most wait longer, connections take turns, and some calls of
    /// those that ask most are refused. Shorter and a moment's crowd is overload; longer and everybody waits for those who ask too
    /// much. 1 to 1,000; default 5.
    pub wait_target_ms: u64,
    /// From so much of the memory limit of the process's control group on, in percent, calls are refused; single checks only when
    /// two thirds of the rest are used, too. 10 to 100; default 85; 100 is as good as never.
    pub memory_percent_max: u64,
    /// How long new calls are still taken after draining began, so that balancers notice. 0 to 20 s; default 0.
    pub drain_delay_s: u64,
    /// Certificate and key: without them what listens speaks plain text. The Unix socket always does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// A Unix socket beside the address, for sidecars; of `tessera dev`, beside that of the data plane.
    pub unix_socket: Option<PathBuf>,
    /// Who may connect to it: the mode of its file, in octal, `600` to `777`. Default `600`, the user of the process alone.
    #[serde(deserialize_with = "digits")]
    pub unix_socket_mode: String,
}

/// Digits, written as text or, where quotes are easily forgotten, as a number.
fn digits<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "three digits, as in `600`")]
    enum Digits {
        Text(String),
        Number(u32),
    }
    Ok(match Digits::deserialize(from)? {
        Digits::Text(text) => text,
        Digits::Number(number) => number.to_string(),
    })
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_peer_max: 1_000,
            connections_per_peer_per_second: 100,
            streams_per_connection_max: 1_000,
            connection_window_bytes: 8 << 20,
            stream_window_bytes: 4 << 20,
            send_buffer_bytes: 64 << 10,
            header_list_bytes_max: 80 << 10,
            pending_resets_max: 200,
            error_resets_max: 128,
            handshake_timeout_s: 5,
            first_bytes_timeout_s: 5,
            message_timeout_s: 10,
            keepalive_interval_s: 30,
            keepalive_timeout_s: 10,
            idle_max_s: 300,
            age_max_s: 3_600,
            age_grace_s: 60,
            slow_reader_timeout_s: 10,
            wait_target_ms: 5,
            memory_percent_max: 85,
            drain_delay_s: 0,
            tls: None,
            unix_socket: None,
            unix_socket_mode: "600".to_owned(),
        }
    }
}

impl ListenerConfig {
    /// Checks every field against its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let number = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let bounds = [
            ("connections_max", number(self.connections_max), 1, 100_000),
            ("connections_per_peer_max", number(self.connections_per_peer_max), 1, 100_000),
            ("connections_per_peer_per_second", self.connections_per_peer_per_second, 1, 100_000),
            ("streams_per_connection_max", self.streams_per_connection_max.into(), 1, 100_000),
            ("connection_window_bytes", self.connection_window_bytes.into(), 65_535, (1 << 31) - 1),
            ("stream_window_bytes", self.stream_window_bytes.into(), 65_535, (1 << 31) - 1),
            ("send_buffer_bytes", number(self.send_buffer_bytes), 16 << 10, 4 << 20),
            ("header_list_bytes_max", self.header_list_bytes_max.into(), 4 << 10, 1 << 20),
            ("pending_resets_max", number(self.pending_resets_max), 1, 10_000),
            ("error_resets_max", number(self.error_resets_max), 1, 100_000),
            ("handshake_timeout_s", self.handshake_timeout_s, 1, 60),
            ("first_bytes_timeout_s", self.first_bytes_timeout_s, 1, 60),
            ("message_timeout_s", self.message_timeout_s, 1, 60),
            ("keepalive_interval_s", self.keepalive_interval_s, 5, 3_600),
            ("keepalive_timeout_s", self.keepalive_timeout_s, 1, 600),
            ("idle_max_s", self.idle_max_s, 10, 86_400),
            ("age_max_s", self.age_max_s, 10, 2_592_000),
            ("age_grace_s", self.age_grace_s, 1, 3_600),
            ("slow_reader_timeout_s", self.slow_reader_timeout_s, 1, 600),
            ("wait_target_ms", self.wait_target_ms, 1, 1_000),
            ("memory_percent_max", self.memory_percent_max, 10, 100),
            ("drain_delay_s", self.drain_delay_s, 0, 20),
        ];
        for (field, given, min, max) in bounds {
            if !(min..=max).contains(&given) {
                return Err(Error::Setting { field, given, min, max });
            }
        }
        self.unix_socket_mode()?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.validate().map_err(Error::Tls))
    }

    /// The mode of the Unix socket's file as a number. Its owner has to be able to connect.
    pub fn unix_socket_mode(&self) -> Result<u32, Error> {
        let mode = u32::from_str_radix(&self.unix_socket_mode, 8).ok().filter(|mode| (0o600..=0o777).contains(mode));
        mode.ok_or_else(|| Error::Mode { given: self.unix_socket_mode.chars().take(20).collect() })
    }

    /// How often one peer may connect: as often in a row as it may have connections, so that whoever loses all of them has all of
    /// them back at once.
    pub(super) fn connecting(&self) -> Rate {
        let burst = u64::try_from(self.connections_per_peer_max).unwrap_or(u64::MAX);
        Rate { per_second: self.connections_per_peer_per_second, burst }
    }

    pub(super) fn wait_target(&self) -> Duration {
        Duration::from_millis(self.wait_target_ms)
    }

    /// Of a connection that begins at `now`.
    pub(super) fn keepalive(&self, now: Instant) -> Keepalive {
        Keepalive::begin(Duration::from_secs(self.keepalive_interval_s), Duration::from_secs(self.keepalive_timeout_s), now)
    }

    pub(super) fn slow_reader(&self) -> Duration {
        Duration::from_secs(self.slow_reader_timeout_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_bounds() {
        assert!(ListenerConfig::default().validate().is_ok());
        let error = ListenerConfig { connections_max: 0, ..ListenerConfig::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`connections_max` is `0`; allowed are 1 to 100000");
        let error = ListenerConfig { connections_per_peer_per_second: 0, ..ListenerConfig::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`connections_per_peer_per_second` is `0`; allowed are 1 to 100000");
        let error = ListenerConfig { age_max_s: 9, ..ListenerConfig::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "`age_max_s` is `9`; allowed are 10 to 2592000");
    }

    #[test]
    fn the_mode_of_the_socket_is_octal() {
        let of =
            |mode: &str| ListenerConfig { unix_socket_mode: mode.to_owned(), ..ListenerConfig::default() }.unix_socket_mode();
        assert_eq!(of("600").unwrap(), 0o600);
        assert_eq!(of("0660").unwrap(), 0o660);
        for (written, mode) in [("\"660\"", 0o660), ("660", 0o660)] {
            let read: ListenerConfig = toml::from_str(&format!("unix_socket_mode = {written}")).unwrap();
            assert_eq!(read.unix_socket_mode().unwrap(), mode, "{written}");
        }
        assert!(toml::from_str::<ListenerConfig>("unix_socket_mode = true").unwrap_err().to_string().contains("`600`"));
        for wrong in ["", "rw", "0o600", "400", "1777", "-600", "888", "99999999999999999999999999"] {
            let error = of(wrong).unwrap_err().to_string();
            assert!(error.starts_with("`unix_socket_mode` is `") && error.contains("`600` to `777`"), "{error}");
        }
    }
}
