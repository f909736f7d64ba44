//! The outermost service of a node.

mod onward;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderValue, Request, Response};
use sheaf_model::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use super::body::{Answer, Held, Question, Room};
use super::call::{Call, timeout};
use super::class::{comes_in_pieces, method};
use super::peers::{CARRIED, Peers};
use super::{Class, Route, Target};
use crate::caller::{DEFECTS, Deadline, FORWARDED, NOT_APPLIED, OUTCOME, REQUEST_ID, TIMEOUT};
use crate::error::{from_status, to_status};
use crate::guard::{self, Certificate, Guard, Need, door};
use crate::server::{Refused, ServeOptions};
use crate::trace::{self, Kind, TRACEPARENT};
use crate::transport::{Arrived, Nodes, Place, TO_ALL};
use crate::{ApiError, Applies, DEFAULT_DEADLINE};

/// How often a call is carried on before it must run in a circle.
const HOPS_MAX: u32 = 3;
/// The first wait before a call is routed anew; each further one doubles, up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A caller that names its deadline hears from us a tenth of it, at most this long, before: what we say is more
/// precise than what its own timer can.
const EARLY_MAX: Duration = Duration::from_millis(250);
/// A question that is not whole after so long is not waited for, whatever deadline it has.
const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// Memory for questions under way, in bytes; what is made of them may take several times as much.
const ROOM: usize = 256 << 20;
/// Streams at a time that people and programs have opened, whichever nodes they came through …
const STREAMS: usize = 4096;
/// … and those that tell nothing of the cluster, which whoever asks may open.
const STREAMS_TO_ALL: usize = 64;
/// What a node asks that has nothing to show yet.
const STRANGE: [&str; 2] = ["/sheaf.peer.v1.PeerService/Hello", "/sheaf.peer.v1.PeerService/Join"];
/// So many of these at a time, with so many bytes together, each whole within this.
const STRANGERS: usize = 1024;
const STRANGERS_ROOM: usize = 16 << 20;
const STRANGER_WITHIN: Duration = Duration::from_secs(10);
/// A question in pieces that is whole by then is kept, so that it can be asked again; of another, what has come so far
/// goes on at once.
const PIECES_WAIT: Duration = Duration::from_millis(50);
/// How calls end that go well.
const OK: &str = "OK";

/// Answers the calls of one service.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>> + Send + Sync>;

/// See [`super`].
#[derive(Clone)]
pub(crate) struct Front(Arc<Inner>);

struct Inner {
    /// By `PACKAGE.SERVICE`.
    handlers: BTreeMap<&'static str, Handler>,
    route: Arc<dyn Route>,
    peers: Peers,
    /// Calls under way that are neither streams nor `Own`.
    calls: AtomicUsize,
    calls_max: usize,
    /// Calls beyond.
    refused: Refused,
    room: Room,
    /// Answers that wait for their callers.
    answers: Room,
    /// The same where the caller is a node, which takes them at once.
    answers_to_nodes: Room,
    /// What nodes ask this one for themselves.
    nodes: Nodes,
    /// Public streams that nodes bring here, for others or themselves.
    carried: Nodes,
    /// Public streams that may be opened.
    streams: Arc<Semaphore>,
    /// The same of those for which nothing is needed.
    streams_to_all: Arc<Semaphore>,
    /// Questions of nodes that have nothing to show.
    strangers: Arc<Semaphore>,
    strangers_room: Room,
    /// Who is let in where a call is answered; none: whoever.
    guard: Option<Arc<dyn Guard>>,
    /// True from when the node stops.
    stopping: watch::Receiver<bool>,
}

impl Front {
    pub(crate) fn new(
        handlers: BTreeMap<&'static str, Handler>,
        route: Arc<dyn Route>,
        peers: Peers,
        (options, refused): (ServeOptions, Refused),
        guard: Option<Arc<dyn Guard>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Inner {
            handlers,
            route,
            peers,
            calls: AtomicUsize::new(0),
            calls_max: options.calls,
            refused,
            room: Room::of(ROOM),
            answers: Room::of_answers(options.answers),
            answers_to_nodes: Room::of_answers(options.answers),
            nodes: Nodes::with(options.node_calls),
            carried: Nodes::with(CARRIED as usize),
            streams: Arc::new(Semaphore::new(STREAMS)),
            streams_to_all: Arc::new(Semaphore::new(STREAMS_TO_ALL)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            strangers_room: Room::of(STRANGERS_ROOM),
            guard,
            stopping,
        }))
    }
}

impl tower::Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = self.0.clone();
        // Now, not when first polled: the transport's timer must not be earlier.
        let begun = Instant::now();
        Box::pin(async move { Ok(inner.measured(request, begun).await) })
    }
}

/// What came of one attempt.
enum Attempt {
    /// For the caller.
    Answered(Response<Body>),
    /// Not answered, and why; whether it may have been applied.
    Failed(String, Applies),
}

impl Inner {
    /// Answers, and counts how long that took; what peers ask of each other is not counted.
    async fn measured(&self, mut request: Request<Body>, begun: Instant) -> Response<Body> {
        let path = request.uri().path();
        let (class, stream) = method(path);
        if class == Class::Own {
            return self.answer(request, begun, (class, stream)).await;
        }
        // Of the calls there are, so that names are bounded.
        let (service, method) = path.trim_start_matches("/sheaf.v1.").split_once('/').unwrap_or((path, ""));
        let (service, method) = (service.to_owned(), method.to_owned());
        if stream {
            metrics::counter!("sheaf_api_streams_total", "service" => service, "method" => method)
                .increment(1);
            return self.answer(request, begun, (class, stream)).await;
        }
        let span = traced(&mut request, class);
        let response = self.answer(request, begun, (class, stream)).await;
        let code = code(&response);
        if let Some(mut span) = span.map(|span| span.with("rpc.grpc.status", &code))
            && code != OK
        {
            span.failed(&code);
        }
        let labels = [("service", service), ("method", method), ("code", code)];
        metrics::histogram!("sheaf_api_request_duration_seconds", &labels).record(begun.elapsed());
        response
    }

    async fn answer(
        &self,
        request: Request<Body>,
        begun: Instant,
        (class, stream): (Class, bool),
    ) -> Response<Body> {
        let long = request.headers().get(DEFECTS).is_some_and(|value| value == "all");
        if *self.stopping.borrow() {
            return refuse(ApiError::unavailable("this node is stopping"), long);
        }
        if class == Class::Own {
            return self.own(request, stream, long).await;
        }
        let Some(_slot) = Slot::take(&self.calls, self.calls_max) else {
            self.refused.another();
            let reason = format!("{} calls are under way on this node, the most it takes", self.calls_max);
            return refuse(ApiError::Busy(reason), long);
        };
        let asked = request.headers().get(TIMEOUT).and_then(timeout);
        let deadline = begun + asked.map_or(DEFAULT_DEADLINE, |asked| asked - (asked / 10).min(EARLY_MAX));
        let request = self.signed(request);
        let place = match stream.then(|| self.place_of_stream(&request)).transpose() {
            Ok(place) => place,
            Err(error) => return refuse(error, long),
        };
        let pieces = comes_in_pieces(request.uri().path());
        let (mut parts, body) = request.into_parts();
        let held = match self.looked_at(class, &parts).await {
            Ok(held) => held,
            Err(error) => return refuse(error, long),
        };
        if !(stream || pieces) || asked.is_some() {
            parts.extensions.insert(Deadline(deadline));
        }
        let whole_by = pieces.then(|| begun + PIECES_WAIT);
        let arrived_by = deadline.min(begun + WHOLE_WITHIN);
        let question = match timeout_at(arrived_by, Question::read(body, whole_by, held)).await {
            Ok(Ok(question)) => question,
            Ok(Err(status)) => return status.into_http(),
            Err(_) => {
                return refuse(ApiError::DeadlineExceeded("the request did not arrive in time".into()), long);
            }
        };
        let hops =
            parts.headers.get(FORWARDED).and_then(|hops| hops.to_str().ok()?.parse().ok()).unwrap_or(0);
        let repeatable = class != Class::Change || parts.headers.contains_key(REQUEST_ID);
        let call = Call {
            class,
            stream,
            pieces,
            parts,
            question,
            hops,
            begun,
            deadline,
            repeatable,
            asked: false,
            long,
        };
        placed(self.carry(call).await, place)
    }

    /// Answers what is meant for this node. It is never carried on, so that nobody is asked for whom.
    async fn own(&self, mut request: Request<Body>, stream: bool, long: bool) -> Response<Body> {
        request.headers_mut().remove(FORWARDED);
        let request = self.signed(request);
        let (by_node, place) = match self.places_of_own(&request, stream) {
            Ok(places) => places,
            Err(error) => return refuse(error, long),
        };
        let response = if STRANGE.contains(&request.uri().path()) {
            match self.strange(request).await {
                Ok((request, _place)) => self.local(request, long).await,
                Err(error) => return refuse(error, long),
            }
        } else {
            self.local(request, long).await
        };
        let response = if stream { self.ending(response) } else { response };
        placed(response, (by_node.is_some() || place.is_some()).then_some((by_node, place)))
    }

    /// What a call that is meant for this node takes until its answer has gone: a place among those of the node whose it is; and
    /// where nothing is needed, one among the streams of all who ask, or among the calls of its connection.
    fn places_of_own(
        &self,
        request: &Request<Body>,
        stream: bool,
    ) -> Result<(Option<Place<NodeId>>, Option<OwnedSemaphorePermit>), ApiError> {
        let by_node = self.place_of_node(request, &self.nodes, "calls")?;
        let path = request.uri().path();
        let place = if stream && path.starts_with("/grpc.") {
            Some(self.place(&self.streams_to_all)?)
        } else if by_node.is_none() && guard::need(path) == Need::Nothing {
            self.place_on_connection(request)?
        } else {
            None
        };
        Ok((by_node, place))
    }

    /// A place among the calls of its connection that whoever asks may make.
    fn place_on_connection(&self, request: &Request<Body>) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let Some(arrived) = request.extensions().get::<Arrived>() else { return Ok(None) };
        arrived.to_all.clone().try_acquire_owned().map(Some).map_err(|_| {
            self.refused.another();
            let why = format!("{TO_ALL} calls that need no token are under way on this connection");
            ApiError::Busy(format!("{why}, the most that it may have; their answers must be taken first"))
        })
    }

    /// A place among public streams; and among those of the node whose certificate comes with it, if that is one's: whoever opens
    /// them through one node takes a part of all.
    fn place_of_stream(
        &self,
        request: &Request<Body>,
    ) -> Result<(Option<Place<NodeId>>, OwnedSemaphorePermit), ApiError> {
        let by_node = self.place_of_node(request, &self.carried, "streams")?;
        Ok((by_node, self.place(&self.streams)?))
    }

    /// A place among `what` the node has whose certificate comes with a question, if that is one's.
    fn place_of_node(
        &self,
        request: &Request<Body>,
        nodes: &Nodes,
        what: &str,
    ) -> Result<Option<Place<NodeId>>, ApiError> {
        let Some(Certificate::Node(node)) = request.extensions().get::<Certificate>() else {
            return Ok(None);
        };
        let place = nodes.enter(*node);
        if place.is_none() {
            self.refused.another();
            let most = nodes.each();
            return Err(ApiError::Busy(format!(
                "node {node} has {most} {what} under way with this node, the most that one may have"
            )));
        }
        Ok(place)
    }

    /// A question of somebody who has nothing to show, whole, and its place among those.
    async fn strange(
        &self,
        request: Request<Body>,
    ) -> Result<(Request<Body>, OwnedSemaphorePermit), ApiError> {
        let place = self.place(&self.strangers)?;
        let (parts, body) = request.into_parts();
        let reading = Question::read(body, None, self.strangers_room.nothing(false));
        let late = || ApiError::DeadlineExceeded("the request did not arrive in time".into());
        let read = tokio::time::timeout(STRANGER_WITHIN, reading).await.map_err(|_| late())?;
        let mut question = read.map_err(|status| from_status("the caller", &status))?;
        let body = question.ask().unwrap_or_default();
        Ok((Request::from_parts(parts, body), place))
    }

    /// A place among so many.
    fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
        places.clone().try_acquire_owned().map_err(|_| {
            self.refused.another();
            let why = "as much of this is under way on this node as it takes; ask again, or another node";
            ApiError::Busy(why.into())
        })
    }

    /// What a question may take, before anything of it is read. Who may be judged here, and is refused, is told so now.
    async fn looked_at(&self, class: Class, parts: &Parts) -> Result<Held, ApiError> {
        let Some(guard) = &self.guard else { return Ok(self.room.nothing(true)) };
        let known = match self.route.target(class, parts.uri.path()) {
            Target::Local => match door::look(&**guard, parts).await {
                Ok(()) => true,
                // It may be judged later, or elsewhere.
                Err(ApiError::Unavailable { .. }) => false,
                Err(error) => return Err(error),
            },
            Target::To(_) | Target::Unavailable(_) => door::shows_something(parts),
        };
        Ok(self.room.nothing(known))
    }

    /// Routes a call until it is answered or its deadline has come.
    async fn carry(&self, mut call: Call) -> Response<Body> {
        let mut pause = PAUSE_MIN;
        let mut applied = Applies::No;
        loop {
            let (why, outcome) = match timeout_at(call.answered_by(), self.attempt(&mut call)).await {
                Ok(Attempt::Answered(response)) => return response,
                Ok(Attempt::Failed(why, outcome)) => (why, outcome),
                Err(_) => return refuse(call.late(), call.long),
            };
            self.route.failed();
            if outcome == Applies::Perhaps {
                applied = Applies::Perhaps;
            }
            call.asked = applied == Applies::Perhaps;
            // Whoever forwarded it knows better where to ask next, and has kept the question.
            let give_up = call.hops > 0 || !call.question.can_ask_again();
            if give_up || (outcome == Applies::Perhaps && !call.repeatable) {
                return refuse(call.unanswered(why, applied), call.long);
            }
            if Instant::now() + pause >= call.deadline {
                let waited = call.begun.elapsed().as_secs_f32();
                let why = format!("not answered within {waited:.1} s: {why}");
                return refuse(call.unanswered(why, applied), call.long);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn attempt(&self, call: &mut Call) -> Attempt {
        match self.route.target(call.class, call.parts.uri.path()) {
            Target::Unavailable(reason) => Attempt::Failed(reason, Applies::No),
            Target::Local => {
                let Some(body) = call.question.ask() else {
                    return Attempt::Failed(
                        "the request is too large to be asked again".to_owned(),
                        Applies::No,
                    );
                };
                call.asked = true;
                let response = self.local(Request::from_parts(call.parts.clone(), body), call.long).await;
                let attempt = judged(call, response);
                match attempt {
                    Attempt::Answered(response) if call.stream => Attempt::Answered(self.ending(response)),
                    Attempt::Answered(response) if matches!(call.class, Class::Read | Class::LiveRead) => {
                        self.taken(call.class, call.long, self.for_answer(call), response).await
                    }
                    other => other,
                }
            }
            Target::To(contact) if call.hops >= HOPS_MAX => Attempt::Failed(
                format!("forwarded {HOPS_MAX} times and still not where it is answered, now to {contact}"),
                Applies::No,
            ),
            Target::To(contact) => self.forward(&contact, call).await,
        }
    }

    /// With what the guard, here or elsewhere, must know of where it comes from.
    fn signed(&self, request: Request<Body>) -> Request<Body> {
        let (mut parts, body) = request.into_parts();
        if let Some(guard) = &self.guard {
            if let Some(certificate) = parts.extensions.get::<Arrived>().and_then(Arrived::certificate) {
                parts.extensions.insert(certificate);
            }
            door::sign(&**guard, &mut parts);
        }
        Request::from_parts(parts, body)
    }

    async fn local(&self, mut request: Request<Body>, long: bool) -> Response<Body> {
        let mut gone = None;
        if let Some(guard) = &self.guard {
            match door::admit(&**guard, &mut request).await {
                Ok(admitted) if method(request.uri().path()).1 => gone = Some(guard.until_gone(&admitted)),
                Ok(_) => {}
                Err(error) => return refuse(error, long),
            }
        }
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let response = match self.handlers.get(service) {
            Some(handler) => match handler(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None => Status::unimplemented(format!("this node has no service {service:?}")).into_http(),
        };
        match gone {
            Some(gone) => ending(response, gone.map(|()| to_status(guard::gone(), false)).boxed()),
            None => response,
        }
    }

    /// A stream of this node's: it ends when the node stops.
    fn ending(&self, response: Response<Body>) -> Response<Body> {
        ending(response, self.stopped())
    }

    fn stopped(&self) -> BoxFuture<'static, Status> {
        let mut stopping = self.stopping.clone();
        async move {
            // An error means that whoever would say so is gone, which is the same.
            let _ = stopping.wait_for(|stopping| *stopping).await;
            to_status(ApiError::unavailable("this node is stopping"), false)
        }
        .boxed()
    }
}

/// A span for a call, here or carried on from here: what comes of it is a part of that. What only reads is asked again and
/// again, so that it is told only as a part of something else.
fn traced(request: &mut Request<Body>, class: Class) -> Option<trace::Span> {
    if !trace::is_on() {
        return None;
    }
    let parent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok());
    if parent.is_none() && class != Class::Change {
        return None;
    }
    let name = request.uri().path().trim_start_matches('/').to_owned();
    let span = trace::begin_as(Kind::Server, name, parent).with("rpc.system", &"grpc");
    // Hexadecimal digits and dashes.
    if let Some(own) = span.context().and_then(|own| HeaderValue::try_from(own.to_string()).ok()) {
        request.headers_mut().insert(TRACEPARENT, own);
    }
    Some(span)
}

/// An answer that has a place until the last of it has gone to its caller.
fn placed(response: Response<Body>, place: Option<impl Send + Sync + 'static>) -> Response<Body> {
    match place {
        Some(place) => response.map(|body| Body::new(Answer::new(body).at(place))),
        None => response,
    }
}

/// A stream that ends with the status of `until`, when that is done.
fn ending(response: Response<Body>, until: BoxFuture<'static, Status>) -> Response<Body> {
    response.map(|body| {
        if http_body::Body::is_end_stream(&body) {
            return body;
        }
        Body::new(Answer::new(body).until(until))
    })
}

/// An answer for the caller, unless it is that nobody could answer, and asking again does no harm: then another may
/// know better.
fn judged(call: &Call, response: Response<Body>) -> Attempt {
    // Whoever forwarded it judges for itself.
    if call.hops > 0
        || !call.question.can_ask_again()
        || !response.headers().contains_key(Status::GRPC_STATUS)
    {
        return Attempt::Answered(response);
    }
    let not_applied = response.headers().get(OUTCOME).is_some_and(|outcome| outcome == NOT_APPLIED);
    let applied = if not_applied || call.class != Class::Change { Applies::No } else { Applies::Perhaps };
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Unavailable && (not_applied || call.repeatable) => {
            Attempt::Failed(status.message().to_owned(), applied)
        }
        _ => Attempt::Answered(response),
    }
}

fn refuse(error: ApiError, long: bool) -> Response<Body> {
    to_status(error, long).into_http()
}

/// How a call ended, by the name that gRPC's own metrics use. What went well says so only at its end.
fn code(response: &Response<Body>) -> String {
    match Status::from_header_map(response.headers()).map(|status| status.code()) {
        None | Some(Code::Ok) => OK.to_owned(),
        Some(code) => format!("{code:?}"),
    }
}

/// A place among the calls under way, given back when dropped.
struct Slot<'a>(&'a AtomicUsize);

impl<'a> Slot<'a> {
    fn take(calls: &'a AtomicUsize, max: usize) -> Option<Self> {
        let slot = Self(calls);
        (calls.fetch_add(1, Ordering::Relaxed) < max).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let calls = AtomicUsize::new(0);
        let first = Slot::take(&calls, 1);
        assert!(first.is_some() && Slot::take(&calls, 1).is_none());
        drop(first);
        assert!(Slot::take(&calls, 1).is_some());
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
