//! Who calls, and what every call brings along beside its message.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Extensions;
use sheaf_model::{Actor, BucketName, Holder, NodeId, RequestId, Revision, Role, TraceContext};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use crate::ApiError;
use crate::bearer::Bearer;
use crate::guard::Admitted;
use crate::guard::door::{self, Carried};
use crate::trace::TRACEPARENT;
use crate::transport::Arrived;

/// What the actor of somebody with a token begins with; nobody else's may.
const USER: &str = "user:";
/// Who asks; else the peer's address.
pub(crate) const ACTOR: &str = "sheaf-actor";
/// Answer from a state at least this new.
pub(crate) const REVISION: &str = "sheaf-revision";
/// The same as the message's `request_id`, where the forwarding layer sees it.
pub(crate) const REQUEST_ID: &str = "sheaf-request-id";
/// `all`: the sender reads long headers, so details of errors need not be cut off at [`DETAILS_SHORT`].
pub(crate) const DEFECTS: &str = "sheaf-defects";
/// How often a call was forwarded.
pub(crate) const FORWARDED: &str = "sheaf-forwarded";
/// In an `UNAVAILABLE`: `not-applied` when surely nothing was changed.
pub(crate) const OUTCOME: &str = "sheaf-outcome";
/// Value of [`OUTCOME`].
pub(crate) const NOT_APPLIED: &str = "not-applied";
/// The caller's deadline, relative, as HTTP/2 gRPC has it.
pub(crate) const TIMEOUT: &str = "grpc-timeout";

/// Longest details of an error in bytes; what any gRPC library reads.
pub(crate) const DETAILS_SHORT: usize = 4 << 10;
/// The same for those who ask for all.
pub(crate) const DETAILS_LONG: usize = 512 << 10;

/// A call without a deadline of its own that is no stream gets this one.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// Longest actor and request id in bytes.
pub const CALLER_TEXT_MAX: usize = 128;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who asks, for history. With a token `user:` and its name; else the metadata `sheaf-actor`, else `grpc:` and the
    /// peer's IP address, which prove nothing.
    pub actor: Actor,
    /// Answer from a state at least this new.
    pub revision: Option<Revision>,
    /// When the caller no longer waits; streams have none unless they ask for one.
    pub deadline: Option<Instant>,
    /// The metadata `sheaf-request-id`.
    pub request: Option<RequestId>,
    /// Who it is, as far as that is proven.
    pub admitted: Admitted,
    /// Its token, where that could not be judged: it goes along to where the work is done.
    pub token: Option<Bearer>,
    /// Whose certificate the connection shows on which the call came, which may be that of a node that carries it on.
    pub holder: Option<Holder>,
    /// Where the call came from, before any node carried it or asked it for a browser, for whoever asks on in its name: as whose
    /// attempts those count that fail.
    pub remote: Option<IpAddr>,
    /// What the call is a part of, for telemetry alone: the metadata `traceparent`.
    pub trace: Option<TraceContext>,
}

/// When a call must be answered, put into a request by the outermost layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Caller {
    /// A caller within this process.
    pub fn local(actor: impl Into<String>) -> Self {
        Self {
            actor: Actor(actor.into()),
            revision: None,
            deadline: None,
            request: None,
            admitted: Admitted::Open,
            token: None,
            holder: None,
            remote: None,
            trace: None,
        }
    }

    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, ApiError> {
        let metadata = request.metadata();
        let extensions = request.extensions();
        let admitted = extensions.get::<Admitted>().cloned().unwrap_or_default();
        let actor = actor(&admitted, text(metadata, ACTOR)?, extensions)?;
        let revision = match text(metadata, REVISION)? {
            Some(text) => Some(Revision(text.parse().map_err(|_| {
                ApiError::invalid(
                    REVISION,
                    format!("{text:?} is no revision"),
                    "a number, as answers have it",
                )
            })?)),
            None => None,
        };
        let deadline = extensions.get::<Deadline>().map(|deadline| deadline.0);
        let token = extensions.get::<Carried>().map(|carried| carried.0.clone());
        let request = text(metadata, REQUEST_ID)?.map(RequestId::from);
        let holder = extensions.get::<Arrived>().and_then(|arrived| arrived.holder);
        // The guard has seen to it that it is true; without one it is anybody's word.
        let said = extensions.get::<Admitted>().and_then(|_| door::from(metadata.as_ref()));
        let remote = said.or_else(|| remote(extensions).map(|address| address.ip()));
        let trace = metadata.get(TRACEPARENT).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self { actor, revision, deadline, request, admitted, token, holder, remote, trace })
    }

    /// The node whose certificate the connection shows.
    pub fn certified_node(&self) -> Option<NodeId> {
        match self.holder {
            Some(Holder::Node(node)) => Some(node),
            Some(Holder::Joining | Holder::Person(_)) | None => None,
        }
    }

    /// Whether it may do all that the role may.
    ///
    /// # Errors
    /// Who it is, what is needed, and how to get it.
    pub fn may(&self, role: Role) -> Result<(), ApiError> {
        self.admitted.may(role)
    }

    /// Whether it may change that bucket.
    ///
    /// # Errors
    /// As [`Self::may`].
    pub fn may_change(&self, bucket: &BucketName) -> Result<(), ApiError> {
        self.admitted.may_change(bucket)
    }

    /// Whether what `node` says may come from it.
    ///
    /// # Errors
    /// Who it is instead.
    pub fn speaks_for(&self, node: NodeId) -> Result<(), ApiError> {
        self.admitted.speaks_for(node)
    }

    /// The id of a request: the message's or the metadata's.
    pub(crate) fn request_id(&self, field: String) -> Result<Option<RequestId>, ApiError> {
        if field.len() > CALLER_TEXT_MAX {
            let problem = format!("a request id of {} bytes", field.len());
            return Err(ApiError::invalid("request_id", problem, format!("at most {CALLER_TEXT_MAX} bytes")));
        }
        match (&self.request, field.is_empty()) {
            (Some(metadata), false) if metadata.0 != field => Err(ApiError::invalid(
                "request_id",
                format!("{field:?} here and {:?} in the metadata {REQUEST_ID}", metadata.0),
                "the same in both, or one of them",
            )),
            (metadata, true) => Ok(metadata.clone()),
            (_, false) => Ok(Some(RequestId(field))),
        }
    }
}

/// Who asks, for history; `said` is what it says itself.
fn actor(admitted: &Admitted, said: Option<&str>, extensions: &Extensions) -> Result<Actor, ApiError> {
    match (admitted, said) {
        (Admitted::User { name, .. }, _) => Ok(Actor(format!("{USER}{name}"))),
        (Admitted::Node(_) | Admitted::Joining { .. } | Admitted::Nobody, Some(said))
            if said.starts_with(USER) =>
        {
            Err(ApiError::Forbidden(format!("{admitted} is not {said}: only a token says so")))
        }
        (_, Some(said)) => Ok(Actor(said.to_owned())),
        (Admitted::Node(node), None) => Ok(Actor(format!("node:{node}"))),
        (_, None) => Ok(peer_actor(remote(extensions))),
    }
}

/// The other end of the connection that a request came on.
pub(crate) fn remote(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<Arrived>().and_then(|arrived| arrived.remote)
}

/// The actor of a caller that does not say who it is.
pub(crate) fn peer_actor(address: Option<SocketAddr>) -> Actor {
    Actor(address.map_or_else(|| "grpc".to_owned(), |address| format!("grpc:{}", address.ip())))
}

/// Metadata that is a text of at most [`CALLER_TEXT_MAX`] bytes.
fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    match value.to_str() {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= CALLER_TEXT_MAX => Ok(Some(text)),
        Ok(text) => {
            let problem = format!("{} bytes", text.len());
            Err(ApiError::invalid(key, problem, format!("at most {CALLER_TEXT_MAX} bytes")))
        }
        Err(_) => Err(ApiError::invalid(key, "not printable ASCII", "printable ASCII")),
    }
}
