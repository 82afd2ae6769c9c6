//! What carries calls: a connection to an endpoint or, with the feature `fake`, a service in this process. Everything above is
//! the same for both.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};
use tonic::transport::{Channel, Endpoint};

use crate::endpoint::Address;
use crate::settings::Settings;

/// A client of one endpoint.
pub(crate) type Client = EntitlementServiceClient<Wire>;

/// Longest answer that is read, in bytes: servers keep theirs below.
const ANSWER_LEN_MAX: usize = 4 << 20;
/// Flow control window of a stream: a frame of 1,000 answers with everything in it fits.
const STREAM_WINDOW: u32 = 2 << 20;
/// Flow control window of a connection; small frames are budgeted from half of it.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Connects when it is used, and again after the connection broke.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Network(Channel),
    #[cfg(feature = "fake")]
    InProcess(crate::fake::InProcess),
}

impl Wire {
    /// A connection that is not made yet. Must be called inside a runtime.
    pub(crate) fn to(address: &Address, settings: &Settings) -> Self {
        let mut endpoint = Endpoint::from(address.uri().clone())
            .connect_timeout(settings.connect_timeout)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if let Some(keepalive) = settings.keepalive {
            endpoint = endpoint
                .http2_keep_alive_interval(keepalive.interval)
                .keep_alive_timeout(keepalive.timeout)
                .keep_alive_while_idle(true);
        }
        Self::Network(endpoint.connect_lazy())
    }

    pub(crate) fn client(self) -> Client {
        EntitlementServiceClient::new(self).max_decoding_message_size(ANSWER_LEN_MAX)
    }
}

impl Service<http::Request<Body>> for Wire {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Network(channel) => channel.poll_ready(context).map_err(Into::into),
            #[cfg(feature = "fake")]
            Self::InProcess(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self {
            Self::Network(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            #[cfg(feature = "fake")]
            Self::InProcess(service) => service.answer(request),
        }
    }
}
