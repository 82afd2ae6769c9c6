//! What a watch tells its user.

use std::time::Duration;

use tessera_proto::v1;

use crate::document::Entitlements;
use crate::error::Error;
use crate::freshness::Staleness;

/// Something that happened on a watch.
///
/// Documents and heartbeats speak for the stream they came on. Between [`WatchEvent::Disconnected`] and the next document of a
/// tenant nothing is known of what became of it: whoever keeps documents must let them grow stale.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WatchEvent {
    /// The newest document of a tenant: after it was subscribed, after every reconnection, and whenever it changes, also by
    /// time. States in between may be left out.
    Document(Box<Entitlements>),
    /// The server cannot serve a subscription.
    Refused {
        /// Which tenant.
        tenant: String,
        /// Why.
        error: Error,
        /// When it is tried again by itself, up to a minute later where a server has no room for it; `None` when the subscription has
        /// ended, such as that of an unknown tenant.
        retry_in: Option<Duration>,
    },
    /// The stream is alive.
    Heartbeat {
        /// How far the server may lag behind.
        staleness: Staleness,
    },
    /// There is a stream; every subscription is sent on it.
    Connected {
        /// To which endpoint.
        endpoint: String,
        /// Whether there was one before; subscriptions then go on from their last revisions.
        resumed: bool,
    },
    /// The stream broke, or could not be opened.
    Disconnected {
        /// Why. [`Error::Unauthenticated`] and [`Error::NotAllowed`] say that this client is not let in: that passes only when it has
        /// another token or certificate, or may do more; it is tried again all the same.
        error: Error,
        /// When the next endpoint is tried.
        retry_in: Duration,
    },
}

/// A pause from which on a refusal is no matter of moments any more: it has been repeated for about as long, or the server itself
/// asks for so much.
const LASTING: Duration = Duration::from_secs(5);

impl WatchEvent {
    /// The tenant that a server goes on refusing because there is no room for it, and how it says so.
    pub(crate) fn no_room(&self) -> Option<(&str, &Error)> {
        match self {
            Self::Refused { tenant, error: error @ Error::Overloaded(_), retry_in: Some(retry_in) } if *retry_in > LASTING => {
                Some((tenant, error))
            }
            _ => None,
        }
    }
}

pub(super) fn heartbeat(heartbeat: v1::Heartbeat) -> WatchEvent {
    WatchEvent::Heartbeat { staleness: Staleness::of_wire(heartbeat.staleness_ms) }
}
