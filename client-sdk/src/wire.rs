//! What carries calls: a connection to an endpoint or, with the feature `fake`, a service in this process. Everything above is
//! the same for both.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tonic::body::Body;
use tonic::codegen::{Service, StdError, http};
use tonic::transport::{Channel, Endpoint};

use crate::credentials::Credentials;
use crate::credentials::bearer::Bearer;
use crate::endpoint::Address;
use crate::error::Error;
use crate::settings::Settings;

/// A client of one endpoint.
pub(crate) type Client = EntitlementServiceClient<Wire>;

/// Longest answer that is read, in bytes: servers keep theirs below.
const ANSWER_LEN_MAX: usize = 4 << 20;
/// Flow control window of a stream: a frame of 1,000 answers with everything in it fits.
const STREAM_WINDOW: u32 = 2 << 20;
/// Flow control window of a connection; small frames are budgeted from half of it.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Connects when it is used, and again after the connection broke; shows who asks.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    way: Way,
    bearer: Option<Bearer>,
}

#[derive(Clone, Debug)]
enum Way {
    Network(Channel),
    #[cfg(feature = "fake")]
    InProcess(crate::fake::InProcess),
}

/// How an endpoint is connected to.
pub(crate) fn endpoint(address: &Address, settings: &Settings, credentials: &Credentials) -> Result<Endpoint, Error> {
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
    credentials.secure(address, endpoint)
}

impl Wire {
    /// A connection that is not made yet. Must be called inside a runtime.
    pub(crate) fn to(endpoint: &Endpoint, bearer: Option<Bearer>) -> Self {
        Self { way: Way::Network(endpoint.connect_lazy()), bearer }
    }

    /// A service in this process, which asks nobody who they are.
    #[cfg(feature = "fake")]
    pub(crate) fn in_process(service: crate::fake::InProcess) -> Self {
        Self { way: Way::InProcess(service), bearer: None }
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
        match &mut self.way {
            Way::Network(channel) => channel.poll_ready(context).map_err(Into::into),
            #[cfg(feature = "fake")]
            Way::InProcess(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(http::header::AUTHORIZATION, bearer.value());
        }
        match &mut self.way {
            Way::Network(channel) => {
                let answer = channel.call(request);
                Box::pin(async move { answer.await.map_err(Into::into) })
            }
            #[cfg(feature = "fake")]
            Way::InProcess(service) => service.answer(request),
        }
    }
}
