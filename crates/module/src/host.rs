//! The other side: who starts a module's program, calls it, and serves its context.
//!
//! [`Host`] is one connection to one process. Its calls have no time limit here: one that takes too long is dropped by who
//! made it, and is then cancelled. What a process asks of the cluster has.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::failure::causes;
use crate::proto::module_service_client::ModuleServiceClient;
use crate::proto::{
    CanRunOnThisNodeRequest, CanRunOnThisNodeResponse, HelloRequest, HelloResponse, OnDecommissionRequest,
    OnDeleteRequest, OnInitRequest, OnNewSourceRequest, OnPeriodicPollRequest, OnPurgeRequest,
    OnResumeRequest, OnStopRequest, OnSuspendRequest, OnTestSourceRequest, OnUpdatedSourceRequest,
};
use crate::{Bucket, CanRun, Difference, Instance, MESSAGE_MAX, Node, PROTOCOL};

mod cluster;
mod context;
mod forward;
pub mod probe;
mod strange;
mod work;

pub use cluster::{ClusterApi, Line, Put, Steps, serve_cluster};
pub use context::{ContextServer, Said};
pub use work::{End, Given, Printed, Told, Work};

/// Longest text of a module that is passed on, in characters.
const TEXT_MAX: usize = 1000;
/// How often a keeper or an agent is asked whether it is there while a stream from it is held.
const PING: Duration = Duration::from_secs(10);
/// A process of this machine that does not answer for so long is stopped or hangs: streams are opened anew.
const PING_WITHIN: Duration = Duration::from_secs(10);

/// A connection to a module's process. Cheap to clone; clones call side by side.
#[derive(Clone, Debug)]
pub struct Host {
    client: ModuleServiceClient<Channel>,
    /// The same connection.
    channel: Channel,
}

/// Why a call came to nothing. Its text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The module speaks another version of the protocol.
    #[error("it speaks version {theirs} of sheaf.module.v1's protocol, this node speaks version {PROTOCOL}")]
    OtherProtocol {
        /// What it said.
        theirs: u32,
    },
    /// The module has no such call. To most callers that is an answer.
    #[error("{call}: it does not implement this call")]
    Unimplemented {
        /// Which call.
        call: &'static str,
    },
    /// The module says that it failed.
    #[error("{call}: {reason}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// In its words.
        reason: String,
    },
    /// What came over the socket was no answer: the connection broke, or there is no gRPC spoken, or far too much.
    #[error("{call}: no answer came over its socket: {reason}")]
    Broken {
        /// Which call.
        call: &'static str,
        /// What was wrong.
        reason: String,
    },
}

impl CallError {
    /// The same of another kind of answer: what came makes no sense, and why.
    fn senseless(call: &'static str, reason: &str) -> Self {
        Self::Failed { call, reason: reason.to_owned() }
    }
}

/// A call under way. Boxed, so that calls are compiled here, and not with each that makes them.
pub type Calling<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

impl Host {
    /// Connects to a socket on which somebody listens already. Nothing is said before the first call.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(socket: &Path) -> Result<Self, CallError> {
        let channel = channel(socket)
            .await
            .map_err(|error| CallError::Broken { call: "connecting", reason: causes(&error) })?;
        let client = ModuleServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        Ok(Self { client, channel })
    }

    /// The handshake; `sheaf` is the caller's own version.
    ///
    /// # Errors
    /// Also if the module speaks another version of the protocol.
    pub fn hello<'a>(&'a self, sheaf: &'a str) -> Calling<'a, ()> {
        Box::pin(async move {
            let request = HelloRequest { protocol: PROTOCOL, sheaf: sheaf.to_owned() };
            let answer =
                self.client.clone().hello(request).await.map_err(|status| failed("Hello", &status))?;
            spoken(&answer.into_inner())
        })
    }

    /// Gate 3. A module that does not implement it can run anywhere.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn can_run_on_this_node(&self, bucket: Bucket, node: Node) -> Calling<'_, CanRun> {
        Box::pin(async move {
            let request = CanRunOnThisNodeRequest { bucket: Some(bucket.into()), node: Some(node.into()) };
            let answer = match self.client.clone().can_run_on_this_node(request).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => {
                    return done(failed("CanRunOnThisNode", &status)).map(|()| CanRun::Yes);
                }
            };
            Ok(gate(&answer))
        })
    }

    /// Tells the process who it is.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_init(&self, instance: Instance) -> Calling<'_, ()> {
        Box::pin(async move {
            let request = OnInitRequest { instance: Some(instance.into()) };
            settled("OnInit", self.client.clone().on_init(request).await)
        })
    }

    /// The bucket is to run in that process.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_new_source(&self, bucket: Bucket) -> Calling<'_, ()> {
        Box::pin(async move {
            let request = OnNewSourceRequest { bucket: Some(bucket.into()) };
            settled("OnNewSource", self.client.clone().on_new_source(request).await)
        })
    }

    /// The same, after the bucket was suspended on this node. A module that does not know it gets OnNewSource.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_resume(&self, bucket: Bucket) -> Calling<'_, ()> {
        Box::pin(async move {
            let request = OnResumeRequest { bucket: Some(bucket.clone().into()) };
            match self.client.clone().on_resume(request).await.map_err(|status| failed("OnResume", &status)) {
                Ok(_) => Ok(()),
                Err(CallError::Unimplemented { .. }) => self.on_new_source(bucket).await,
                Err(error) => Err(error),
            }
        })
    }

    /// The bucket changed.
    ///
    /// # Errors
    /// [`CallError::Unimplemented`] if the process is to be started anew for it.
    pub fn on_updated_source(
        &self,
        old: Bucket,
        new: Bucket,
        differences: Vec<Difference>,
    ) -> Calling<'_, ()> {
        Box::pin(async move {
            let differences = differences.into_iter().map(Into::into).collect();
            let request =
                OnUpdatedSourceRequest { old: Some(old.into()), new: Some(new.into()), differences };
            let answer = self.client.clone().on_updated_source(request).await;
            answer.map(drop).map_err(|status| failed("OnUpdatedSource", &status))
        })
    }

    /// The bucket's `poll_frequency` has passed.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_periodic_poll(&self, bucket: Bucket) -> Calling<'_, ()> {
        Box::pin(async move {
            let request = OnPeriodicPollRequest { bucket: Some(bucket.into()) };
            settled("OnPeriodicPoll", self.client.clone().on_periodic_poll(request).await)
        })
    }

    /// What the bucket has collected is to be thrown away.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_purge(&self) -> Calling<'_, ()> {
        Box::pin(async move { settled("OnPurge", self.client.clone().on_purge(OnPurgeRequest {}).await) })
    }

    /// The process is to show what comes of a bucket: so many objects, in so many milliseconds.
    ///
    /// # Errors
    /// If it fails, or the module cannot be tested.
    pub fn on_test_source(&self, bucket: Bucket, max_objects: u64, max_time_ms: u64) -> Calling<'_, ()> {
        Box::pin(async move {
            let call = "OnTestSource";
            let request = OnTestSourceRequest { bucket: Some(bucket.into()), max_objects, max_time_ms };
            let answer = self.client.clone().on_test_source(request).await;
            answer.map(drop).map_err(|status| match failed(call, &status) {
                CallError::Unimplemented { .. } => {
                    let reason =
                        "the module cannot be tested, for it does not implement this call".to_owned();
                    CallError::Failed { call, reason }
                }
                error => error,
            })
        })
    }

    /// The bucket was suspended.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_suspend(&self) -> Calling<'_, ()> {
        Box::pin(
            async move { settled("OnSuspend", self.client.clone().on_suspend(OnSuspendRequest {}).await) },
        )
    }

    /// The bucket was deleted.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_delete(&self) -> Calling<'_, ()> {
        Box::pin(async move { settled("OnDelete", self.client.clone().on_delete(OnDeleteRequest {}).await) })
    }

    /// The bucket leaves the node for good.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_decommission(&self) -> Calling<'_, ()> {
        Box::pin(async move {
            settled("OnDecommission", self.client.clone().on_decommission(OnDecommissionRequest {}).await)
        })
    }

    /// The process is about to end.
    ///
    /// # Errors
    /// If it fails.
    pub fn on_stop(&self) -> Calling<'_, ()> {
        Box::pin(async move { settled("OnStop", self.client.clone().on_stop(OnStopRequest {}).await) })
    }
}

/// Whether it speaks our version of the protocol.
fn spoken(answer: &HelloResponse) -> Result<(), CallError> {
    match answer.protocol {
        PROTOCOL => Ok(()),
        theirs => Err(CallError::OtherProtocol { theirs }),
    }
}

fn gate(answer: &CanRunOnThisNodeResponse) -> CanRun {
    match (answer.can_run, shown(&answer.reason)) {
        (true, _) => CanRun::Yes,
        (false, reason) if reason.is_empty() => CanRun::No("the module says no, and not why".to_owned()),
        (false, reason) => CanRun::No(reason),
    }
}

fn settled<T>(call: &'static str, answer: Result<tonic::Response<T>, Status>) -> Result<(), CallError> {
    answer.map(drop).or_else(|status| done(failed(call, &status)))
}

/// A call that the module does not know is done.
fn done(error: CallError) -> Result<(), CallError> {
    match error {
        CallError::Unimplemented { .. } => Ok(()),
        error => Err(error),
    }
}

fn failed(call: &'static str, status: &Status) -> CallError {
    // A status that came over the wire has no source; our own side's has.
    if let Some(source) = std::error::Error::source(status) {
        return CallError::Broken { call, reason: shown(&causes(source)) };
    }
    let reason = match shown(status.message()) {
        text if text.is_empty() => format!("gRPC status {:?}", status.code()),
        text => text,
    };
    match status.code() {
        Code::Unimplemented => CallError::Unimplemented { call },
        _ => CallError::Failed { call, reason },
    }
}

/// What is shown of a module's text.
fn shown(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A channel over a Unix socket to a module, whose calls have limits of their own, and which may be busy for as long.
async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    over(socket, Endpoint::from_static("http://module.sheaf")).await
}

/// The same to a keeper.
pub(crate) async fn keeper_channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    over(socket, with_pings(Endpoint::from_static("http://keeper.sheaf"))).await
}

/// Streams have no deadline: whoever is stopped or hangs is found out by pings, while there are any.
fn with_pings(endpoint: Endpoint) -> Endpoint {
    endpoint.http2_keep_alive_interval(PING).keep_alive_timeout(PING_WITHIN)
}

/// The name is never resolved: the connector goes to the socket.
async fn over(socket: &Path, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
    let socket: PathBuf = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await
}

/// The same to where nobody may listen yet: it connects when it is first used, and again after that breaks.
pub(crate) fn lazy_channel(socket: PathBuf) -> Channel {
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    with_pings(Endpoint::from_static("http://agent.sheaf")).connect_with_connector_lazy(connector)
}
