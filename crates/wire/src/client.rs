//! The client of any node's public API. Its calls stand beside what they ask: [`crate::bucket`] and its siblings.

mod channel;

use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use sheaf_model::{RequestId, Revision, TraceContext};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(crate) use channel::{CONNECTION_WINDOW, Pings, broke, caused_by, endpoint, explain, never_sent};

use crate::bearer::Bearer;
use crate::caller::{ACTOR, DEFECTS, REQUEST_ID, REVISION};
use crate::error::from_status;
use crate::guard::door::REMOTE;
use crate::trace::TRACEPARENT;
use crate::transport::Transport;
use crate::{ApiError, DEFAULT_DEADLINE};

/// A call under way: dropping it gives the call up. Boxed, so that calls are compiled here, and not with each that makes them.
pub type Asking<'a, T> = BoxFuture<'a, Result<T, ApiError>>;

/// How a client calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who asks, for history, e.g. `cli:alice@ops1`; printable ASCII. None: the server takes the peer's address.
    pub actor: Option<String>,
    /// What says who it is, and what it may do. It is sent as it is: over a connection that others cannot read.
    pub token: Option<Bearer>,
    /// How long a call may take that is no stream.
    pub deadline: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How connections are made.
    pub transport: Transport,
    /// What calls are parts of, for telemetry alone.
    pub trace: Option<TraceContext>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            actor: None,
            token: None,
            deadline: DEFAULT_DEADLINE,
            connect_timeout: Duration::from_secs(3),
            transport: Transport::plain(),
            trace: None,
        }
    }
}

/// As it stands in a header; none: it cannot be signed, or not be sent.
fn header(token: &Bearer) -> Option<MetadataValue<Ascii>> {
    let mut value = MetadataValue::try_from(format!("Bearer {}", token.reveal())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The same, if it is the same for each call.
fn once(token: &Bearer) -> Option<MetadataValue<Ascii>> {
    if matches!(token, Bearer::Signer(_)) { None } else { header(token) }
}

/// A connection to one node, shared by its clones; any node answers every call. Reconnects by itself.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    channel: Channel,
    options: Options,
    actor: Option<MetadataValue<Ascii>>,
    /// Marked as sensitive: it is printed nowhere. None of what is signed anew for each call.
    token: Option<MetadataValue<Ascii>>,
    /// Where who is asked for is.
    remote: Option<MetadataValue<Ascii>>,
    revision: Option<Revision>,
}

impl Client {
    /// Connects to `address` (`host:port`).
    pub async fn connect(address: &str, options: Options) -> Result<Self, ApiError> {
        let endpoint = endpoint(address, options.connect_timeout, Pings::default())?;
        let connecting = tokio::time::timeout(options.connect_timeout, options.transport.connect(&endpoint));
        let channel = match connecting.await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => {
                return Err(ApiError::Unreachable { address: address.to_owned(), why: explain(&error) });
            }
            Err(_) => {
                let why = format!("no connection within {:?}", options.connect_timeout);
                return Err(ApiError::Unreachable { address: address.to_owned(), why });
            }
        };
        Self::over(address, channel, options)
    }

    /// A client that connects when it is first used.
    pub fn lazy(address: &str, options: Options) -> Result<Self, ApiError> {
        let endpoint = endpoint(address, options.connect_timeout, Pings::default())?;
        let channel = options.transport.lazy(&endpoint);
        Self::over(address, channel, options)
    }

    fn over(address: &str, channel: Channel, options: Options) -> Result<Self, ApiError> {
        let actor = match &options.actor {
            Some(actor) => Some(actor.parse().map_err(|_| {
                ApiError::invalid("actor", format!("{actor:?} cannot be sent"), "printable ASCII")
            })?),
            None => None,
        };
        let token = options.token.as_ref().and_then(once);
        Ok(Self { address: address.to_owned(), channel, options, actor, token, remote: None, revision: None })
    }

    /// Where it connects to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same connection with another deadline.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        let options = Options { deadline, ..self.options.clone() };
        Self { options, ..self.clone() }
    }

    /// The same connection, on which another asks, see [`Options::actor`].
    pub fn acting_as(&self, actor: &str) -> Result<Self, ApiError> {
        let options = Options { actor: Some(actor.to_owned()), ..self.options.clone() };
        let asking = Self::over(&self.address, self.channel.clone(), options)?;
        Ok(Self { revision: self.revision, remote: self.remote.clone(), ..asking })
    }

    /// The same connection, on which a node asks for somebody at this address: what it shows that is not valid counts as an attempt
    /// from there. Of others than nodes it is not believed.
    #[must_use]
    pub fn asking_for(&self, remote: IpAddr) -> Self {
        Self { remote: remote.to_canonical().to_string().parse().ok(), ..self.clone() }
    }

    /// The same connection, on which somebody else's token is shown.
    #[must_use]
    pub fn presenting(&self, token: Option<Bearer>) -> Self {
        let shown = token.as_ref().and_then(once);
        Self { options: Options { token, ..self.options.clone() }, token: shown, ..self.clone() }
    }

    /// The same connection whose answers come from a state at least as new as `revision`, e.g. that of a change.
    #[must_use]
    pub fn at_least(&self, revision: Revision) -> Self {
        Self { revision: Some(revision), ..self.clone() }
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A message with what every call brings along.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert(DEFECTS, MetadataValue::from_static("all"));
        if let Some(actor) = &self.actor {
            metadata.insert(ACTOR, actor.clone());
        }
        let anew = || self.options.token.as_ref().and_then(header);
        if let Some(token) = self.token.clone().or_else(anew) {
            metadata.insert(AUTHORIZATION.as_str(), token);
        }
        if let Some(remote) = &self.remote {
            metadata.insert(REMOTE, remote.clone());
        }
        if let Some(revision) = self.revision {
            metadata.insert(REVISION, MetadataValue::from(revision.0));
        }
        // Hexadecimal digits and dashes.
        if let Some(trace) = self.options.trace.and_then(|trace| trace.to_string().parse().ok()) {
            metadata.insert(TRACEPARENT, trace);
        }
        request
    }

    /// The same for a change.
    pub(crate) fn change<T>(&self, message: T, id: Option<&RequestId>) -> Request<T> {
        let mut request = self.request(message);
        // An id that no header can carry is in the message all the same.
        if let Some(id) = id.and_then(|id| MetadataValue::try_from(id.0.as_str()).ok()) {
            request.metadata_mut().insert(REQUEST_ID, id);
        }
        request
    }

    /// Makes a call that is no stream, within the deadline.
    pub(crate) async fn unary<T, U, F>(
        &self,
        mut request: Request<T>,
        call: impl FnOnce(Request<T>) -> F,
    ) -> Result<U, ApiError>
    where
        F: Future<Output = Result<Response<U>, Status>>,
    {
        let deadline = self.options.deadline;
        request.set_timeout(deadline);
        match tokio::time::timeout(deadline, call(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(from_status(&self.address, &status)),
            Err(_) => Err(self.late()),
        }
    }

    /// Opens a stream within the deadline, which does not hold for what comes after.
    pub(crate) async fn stream<T, U, F>(
        &self,
        request: Request<T>,
        call: impl FnOnce(Request<T>) -> F,
    ) -> Result<U, ApiError>
    where
        F: Future<Output = Result<Response<U>, Status>>,
    {
        match tokio::time::timeout(self.options.deadline, call(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(from_status(&self.address, &status)),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> ApiError {
        ApiError::DeadlineExceeded(format!(
            "no answer from {} within {:?}",
            self.address, self.options.deadline
        ))
    }
}
