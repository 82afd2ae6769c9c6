//! A way to both planes from inside their process: past listeners, encryption and the question who asks, which are for others.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tessera_runtime::lifecycle::Tasks;
use tessera_server::Services;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};

use crate::connection::{Addresses, Planes};

/// How long one command of `--apply` may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that may be under way in each direction.
const PIPE_BYTES: usize = 64 << 10;

/// Both planes; whoever calls over these is `local`. Errors speak of `addresses`.
pub(super) fn planes(addresses: Addresses, (data, control): (Services, Routes), tasks: &Tasks) -> Planes {
    Planes::over(addresses, channel(data, tasks), channel(control, tasks), COMMAND_TIMEOUT)
}

fn channel<S>(services: S, tasks: &Tasks) -> Channel
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let (sender, receiver) = mpsc::unbounded_channel::<io::Result<DuplexStream>>();
    let soft = tasks.shutdown().soft;
    tasks.spawn_behind("dev.inside", async move {
        let serving = Server::builder().serve_with_incoming(services, UnboundedReceiverStream::new(receiver));
        tokio::select! {
            served = serving => Ok(served?),
            () = soft.cancelled() => Ok(()),
        }
    });
    Endpoint::from_static("http://inside").connect_with_connector_lazy(tower::service_fn(move |_| {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let sent = sender.send(Ok(theirs)).map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the process ends"));
        async move { sent.map(|()| TokioIo::new(ours)) }
    }))
}
