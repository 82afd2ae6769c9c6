//! One call between HTTP and the services: who asks, the caller's deadline, how long its message may take, and what a panic
//! becomes. Costs nothing on the heap but the extensions of the request.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Request, Response, Uri};
use http_body::Frame;
use metrics::counter;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::util::Oneshot;
use tower::{BoxError, ServiceExt as _};
use tracing::error;

use super::Calls;
use super::answer::Answer;
use super::http2::poll_message;
use super::peer::Peer;
use super::traffic::{Ending, Traffic, UnderWay};
use crate::lifecycle::panic_text;
use crate::metric_definitions::CALL_PANICS;
use crate::overload::{HEALTH, HEALTH_CHECK, Refusals};

/// The message of a call that was answered before all of it was there may take so long to come; that of a stream never ends.
const MESSAGE_WAIT_MAX: Duration = Duration::from_millis(250);
/// A message that is longer is not a small one.
pub(super) const MESSAGE_LEN_MAX: usize = 64 << 10;

thread_local! {
    /// The call that is polled on this thread waits for more of its message.
    static WAITS_FOR_MESSAGE: Cell<bool> = const { Cell::new(false) };
}

/// The message of a call. What nobody reads any more of it, as when the call was refused, is let in for a while and forgotten: to
/// HTTP/2 whatever comes for a call that is over is a breach of the protocol, and whoever has many calls refused would lose the
/// connection.
#[derive(Debug)]
struct Message(Option<RecvStream>);

impl Drop for Message {
    fn drop(&mut self) {
        let Some(mut unread) = self.0.take().filter(|unread| !unread.is_end_stream()) else { return };
        // Most often the call was taken back, or the rest is there.
        if poll_unread(&mut unread, &mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            let rest = poll_fn(move |cx| poll_unread(&mut unread, cx));
            runtime.spawn(tokio::time::timeout(MESSAGE_WAIT_MAX, rest));
        }
    }
}

/// Forgets what comes of a message until all of it has.
fn poll_unread(message: &mut RecvStream, cx: &mut Context<'_>) -> Poll<()> {
    while let Some(Ok(_)) = ready!(poll_message(message, cx)) {}
    Poll::Ready(())
}

/// The body of a request that is looked at. Ends with an error when the connection has to end, so that nobody who reads on holds
/// it up: the end of a stream without one would mean that all of it was said. And when memory is short in the middle of a message
/// that is not a small one: whoever decodes it keeps what has come of it until all of it has, for as long as its sender likes.
#[derive(Debug)]
struct Question {
    inner: Message,
    traffic: Arc<Traffic>,
    /// Listened to once this one waits.
    ending: Ending,
    refusals: Arc<Refusals>,
    gathered: Gathered,
}

impl Question {
    fn new(inner: Message, traffic: &Arc<Traffic>, refusals: &Arc<Refusals>) -> Self {
        let (traffic, refusals) = (Arc::clone(traffic), Arc::clone(refusals));
        Self { inner, traffic, ending: Ending::default(), refusals, gathered: Gathered::default() }
    }
}

/// What has come of the message that comes: messages are a flag and four bytes of length each, and so many bytes (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
#[derive(Debug, Default)]
struct Gathered {
    head: [u8; 5],
    head_len: usize,
    /// Bytes that have come behind the head, and that have not yet.
    come: usize,
    rest: usize,
}

impl Gathered {
    fn take_in(&mut self, mut bytes: &[u8]) {
        while let Some((first, behind)) = bytes.split_first() {
            if self.rest > 0 {
                let part = self.rest.min(bytes.len());
                (self.come, self.rest) = (self.come + part, self.rest - part);
                bytes = bytes.get(part..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.head_len) {
                *place = *first;
                self.head_len += 1;
            }
            bytes = behind;
            if self.head_len == self.head.len() {
                let [_, length @ ..] = self.head;
                let rest = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                (self.head_len, self.come, self.rest) = (0, 0, rest);
            }
        }
    }

    /// Bytes of a message of which more is to come.
    fn unfinished(&self) -> usize {
        if self.rest > 0 { self.come } else { 0 }
    }
}

impl http_body::Body for Question {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(message) = &mut this.inner.0 else { return Poll::Ready(None) };
        if let Poll::Ready(next) = poll_message(message, cx) {
            let Some(Ok(frame)) = &next else { return Poll::Ready(next.map(|frame| frame.map_err(BoxError::from))) };
            this.gathered.take_in(frame.data_ref().map_or(&[][..], Bytes::as_ref));
            if this.gathered.unfinished() > MESSAGE_LEN_MAX
                && let Some(status) = this.refusals.lacks_memory_for_more()
            {
                return Poll::Ready(Some(Err(status.into())));
            }
            return Poll::Ready(next.map(|frame| frame.map_err(BoxError::from)));
        }
        WAITS_FOR_MESSAGE.set(true);
        let status = ready!(this.ending.poll(&this.traffic, cx));
        Poll::Ready(Some(Err(Status::clone(&status).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.0.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

/// Takes the calls of one connection.
#[derive(Debug)]
pub(super) struct Taker<S> {
    pub(super) service: S,
    pub(super) peer: Peer,
    /// For `tonic::Request::remote_addr`.
    pub(super) addresses: Option<TcpConnectInfo>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) refusals: Arc<Refusals>,
    /// The message of a call that is answered when all of it is there has so long to come.
    pub(super) message_max: Duration,
}

impl<S: Calls> Taker<S> {
    pub(super) fn call(&self, request: Request<RecvStream>) -> Call<S> {
        let now = Instant::now();
        let request = request.map(|message| Message(Some(message)));
        let under_way = self.admit(request.uri().path(), now);
        // What takes long would hold up the others.
        let at_once = under_way.is_none() || self.refusals.is_small(request.uri().path());
        if at_once {
            self.traffic.hold_back();
        }
        let Some(under_way) = under_way else { return Call::refused(self.refusal(), &self.traffic) };
        let mut request = request.map(|message| Body::new(Question::new(message, &self.traffic, &self.refusals)));
        let deadline = time_max(request.headers()).and_then(|time_max| now.checked_add(time_max));
        if request.uri().path().starts_with(HEALTH) {
            forget_what_nobody_reads(&mut request);
        }
        let extensions = request.extensions_mut();
        extensions.insert(self.peer.clone());
        if let Some(addresses) = &self.addresses {
            extensions.insert(addresses.clone());
        }
        Call {
            inner: Some(self.service.clone().oneshot(request)),
            refused: None,
            has_begun: false,
            deadline,
            message_until: now + self.message_max,
            timer: None,
            under_way: Some(under_way),
            at_once,
        }
    }

    /// Lets a call to that path begin, unless it is refused now; counted if it is.
    fn admit(&self, path: &str, now: Instant) -> Option<UnderWay> {
        // Whoever was told to go has had time to hear of it; by calling on they would hold up the end.
        if self.traffic.ending().is_some() || self.refusals.lacks_memory(path) {
            return None;
        }
        if path != HEALTH_CHECK && self.traffic.refuses(now) {
            self.refusals.waits_too_long();
            return None;
        }
        if !path.starts_with(HEALTH) {
            return Some(UnderWay::on(&self.traffic));
        }
        let under_way = UnderWay::asking_health_on(&self.traffic);
        if under_way.is_none() {
            self.refusals.asks_health_too_often();
        }
        under_way
    }

    /// What is said to a call that may not begin.
    fn refusal(&self) -> Response<Body> {
        self.traffic.ending().map_or_else(|| self.refusals.response(), |status| status.clone().into_http())
    }
}

/// Nobody has to say who they are to have a call to health held until its message is there, with headers a hundred times as long as
/// what was sent of them: repeated ones are a byte each on the wire.
fn forget_what_nobody_reads(request: &mut Request<Body>) {
    *request.headers_mut() = HeaderMap::new();
    if request.uri().path() == HEALTH_CHECK {
        *request.uri_mut() = Uri::from_static(HEALTH_CHECK);
    }
}

pin_project! {
    /// A call that is under way, until its answer begins.
    pub(super) struct Call<S: Calls> {
        // `None` once it has panicked, and when it was refused.
        #[pin]
        inner: Option<Oneshot<S, Request<Body>>>,
        refused: Option<Response<Body>>,
        // The thread has got to it.
        has_begun: bool,
        deadline: Option<Instant>,
        message_until: Instant,
        // Begins to run when the call waits for something that has to come in time.
        #[pin]
        timer: Option<Sleep>,
        under_way: Option<UnderWay>,
        at_once: bool,
    }
}

impl<S: Calls> Call<S> {
    /// Whether it is served within the step that its connection's task is making.
    pub(super) fn is_served_at_once(&self) -> bool {
        self.at_once
    }

    fn refused(response: Response<Body>, traffic: &Arc<Traffic>) -> Self {
        let under_way = Some(UnderWay::on(traffic));
        let message_until = Instant::now();
        Self {
            inner: None,
            refused: Some(response),
            has_begun: false,
            deadline: None,
            message_until,
            timer: None,
            under_way,
            at_once: true,
        }
    }
}

impl<S: Calls> Future for Call<S> {
    type Output = Response<Answer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(response) = this.refused.take() {
            return Poll::Ready(response.map(|body| Answer::new(body, this.under_way.take())));
        }
        // Whoever has ceased to wait is not worked for.
        let begins = !std::mem::replace(this.has_begun, true);
        if begins && this.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Poll::Ready(too_late().map(|body| Answer::new(body, this.under_way.take())));
        }
        WAITS_FOR_MESSAGE.set(false);
        let polled = catch_unwind(AssertUnwindSafe(|| match this.inner.as_mut().as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => Poll::Pending,
        }));
        let response = match polled {
            Ok(Poll::Ready(Ok(response))) => response,
            Ok(Poll::Pending) => {
                // Credentials were looked at when the headers came: what they let in is not held back until they are good no more.
                let message_until = WAITS_FOR_MESSAGE.get().then_some(*this.message_until);
                let until = message_until.into_iter().chain(*this.deadline).min();
                if !is_over(until, this.timer.as_mut(), cx) {
                    return Poll::Pending;
                }
                if until == *this.deadline { too_late() } else { message_too_late() }
            }
            Err(panic) => {
                this.inner.set(None);
                panicked(&*panic).into_http()
            }
        };
        let under_way = this.under_way.take();
        Poll::Ready(response.map(|body| Answer::new(body, under_way)))
    }
}

fn too_late() -> Response<Body> {
    Status::deadline_exceeded("the deadline of the call has passed").into_http()
}

fn message_too_late() -> Response<Body> {
    Status::deadline_exceeded("the message of the call did not come in time after its headers").into_http()
}

/// Whether that time has come, if there is one; whoever asks is woken when it does.
fn is_over(until: Option<Instant>, mut timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> bool {
    let Some(until) = until else { return false };
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(tokio::time::sleep_until(until))),
        Some(timer) if timer.deadline() != until => timer.reset(until),
        Some(_) => {}
    }
    timer.as_pin_mut().is_some_and(|timer| timer.poll(cx).is_ready())
}

/// Takes note of a panic, and says what the caller is told of it.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> Status {
    counter!(CALL_PANICS).increment(1);
    error!(panic = panic_text(panic), "a call panicked");
    Status::internal("the call failed by a mistake of the server's, which is in its log")
}

/// What the caller says that it waits for, of the gRPC header `grpc-timeout`: at most eight digits and a unit. Anything else is
/// as if it were not there.
fn time_max(headers: &HeaderMap) -> Option<Duration> {
    let (unit, digits) = headers.get("grpc-timeout")?.as_bytes().split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::listener::ListenerConfig;
    use crate::overload::Policy;
    use crate::overload::limiter::Limiter;
    use crate::overload::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn no_call_begins_once_the_streams_of_its_connection_are_ended() {
        let now = Instant::now();
        let limiter = Limiter::new(Duration::from_millis(5), now);
        let traffic = Arc::new(Traffic::new(limiter, Arc::new(Status::unavailable("it ends"))));
        let taker = Taker {
            service: tower::service_fn(|_: Request<Body>| async { Ok::<_, Infallible>(Response::new(Body::empty())) }),
            peer: Peer::default(),
            addresses: None,
            traffic: Arc::clone(&traffic),
            refusals: Arc::new(Refusals::new(Policy::default(), Memory::default(), &ListenerConfig::default())),
            message_max: Duration::from_secs(10),
        };
        let begins = |path: &str| taker.admit(path, now).is_some();
        let paths = ["/some/path", HEALTH_CHECK, "/grpc.health.v1.Health/Watch"];
        assert_eq!(paths.map(begins), [true; 3]);
        assert_eq!(taker.refusal().headers()["grpc-status"], "8");
        traffic.end_streams();
        assert_eq!(paths.map(begins), [false; 3]);
        assert_eq!(taker.refusal().headers()["grpc-status"], "14");
    }

    #[test]
    fn messages_are_followed_however_they_are_cut() {
        let message = |len: u8| [vec![0, 0, 0, 0, len], vec![7; len.into()]].concat();
        let whole = [message(3), message(0), message(200), message(1), message(9)].concat();
        for piece in 1..whole.len() {
            let mut gathered = Gathered::default();
            let mut most = 0;
            for bytes in whole.chunks(piece) {
                gathered.take_in(bytes);
                most = most.max(gathered.unfinished());
            }
            assert_eq!((gathered.rest, gathered.head_len, gathered.unfinished()), (0, 0, 0), "in pieces of {piece}");
            assert!(most < 200, "in pieces of {piece}");
        }
        let mut gathered = Gathered::default();
        gathered.take_in(&[0, 0, 2, 0, 0]);
        gathered.take_in(&vec![7; 70_000]);
        assert_eq!(gathered.unfinished(), 70_000);
    }

    #[test]
    fn a_deadline_is_digits_and_a_unit() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            time_max(&headers)
        };
        assert_eq!(of("2H"), Some(Duration::from_hours(2)));
        assert_eq!(of("3M"), Some(Duration::from_mins(3)));
        assert_eq!(of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(of("0n"), Some(Duration::ZERO));
        for wrong in ["", "S", "1", "1s", "-1S", "+1S", "1 S", "123456789S", "1.5S", "0x1S"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(time_max(&HeaderMap::new()), None);
    }
}
