//! Who calls, and what every call brings along beside its message.

use std::net::SocketAddr;
use std::time::Duration;

use sheaf_model::{Actor, RequestId, Revision};
use tokio::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpConnectInfo;

use crate::ApiError;

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
    /// Who asks: the metadata `sheaf-actor`, else `grpc:` and the peer's IP address. For history; proves nothing.
    pub actor: Actor,
    /// Answer from a state at least this new.
    pub revision: Option<Revision>,
    /// When the caller no longer waits; streams have none unless they ask for one.
    pub deadline: Option<Instant>,
    /// The metadata `sheaf-request-id`.
    pub request: Option<RequestId>,
}

/// When a call must be answered, put into a request by the outermost layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Instant);

impl Caller {
    /// A caller within this process.
    pub fn local(actor: impl Into<String>) -> Self {
        Self { actor: Actor(actor.into()), revision: None, deadline: None, request: None }
    }

    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, ApiError> {
        let metadata = request.metadata();
        let actor = match text(metadata, ACTOR)? {
            Some(actor) => Actor(actor.to_owned()),
            None => {
                peer_actor(request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr))
            }
        };
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
        let deadline = request.extensions().get::<Deadline>().map(|deadline| deadline.0);
        Ok(Self { actor, revision, deadline, request: text(metadata, REQUEST_ID)?.map(RequestId::from) })
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
