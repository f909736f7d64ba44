//! What a bucket's process may ask of Sheaf.

mod objects;
mod watch;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::host::keeper_channel;
use crate::proto::cluster_service_client::ClusterServiceClient;
use crate::proto::context_service_client::ContextServiceClient;
use crate::proto::{
    AddStatusLineRequest, EmergencyDisableRequest, EmergencyQuarantineRequest, GetSecretRequest,
    ListPeersRequest, SetStatusRequest,
};
use crate::{CONTEXT, Instance, MESSAGE_MAX, Node, Refused, Secret, Why};

pub use watch::ObjectWatch;

/// How long is asked, again and again, before a call is given up: longer than an agent's restart or a new leader takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one try may take: what is not answered by then has got lost.
const TRY: Duration = Duration::from_secs(10);
/// Before the second try …
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// … doubled each time, and never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The bucket's process and its line to Sheaf. Cheap to clone.
///
/// What the cluster answers is asked again, for half a minute or as [`Context::within`] says, while nobody answers: an agent
/// restarts, a leader is elected. Dropping a call gives it up; what it asked for may be done all the same.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
    patience: Duration,
}

#[derive(Debug)]
struct Inner {
    instance: Instance,
    socket: Option<PathBuf>,
    /// Made at first need.
    channel: OnceCell<Channel>,
}

/// Calls that the cluster answers.
type Client = ClusterServiceClient<Channel>;

/// Why something could not be asked of Sheaf.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The process was not started by Sheaf.
    #[error("{CONTEXT} is not set: only Sheaf serves a context")]
    None,
    /// Nobody answers there. A retry can help.
    #[error("cannot connect to {socket}")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// It was refused, or not answered for too long.
    #[error("{call}: {refused}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// Why not.
        refused: Refused,
    },
}

impl ContextError {
    /// What follows of it; none: this process has no context.
    pub fn why(&self) -> Option<Why> {
        match self {
            Self::None => None,
            Self::Connect { .. } => Some(Why::Unavailable),
            Self::Refused { refused, .. } => Some(refused.why),
        }
    }

    fn refused(call: &'static str, status: &Status) -> Self {
        Self::Refused { call, refused: status.into() }
    }
}

impl Context {
    pub(crate) fn new(instance: Instance, socket: Option<PathBuf>) -> Self {
        let inner = Inner { instance, socket, channel: OnceCell::new() };
        Self { inner: Arc::new(inner), patience: PATIENCE }
    }

    /// Which bucket the process runs, where, and under which epoch.
    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    /// The same, whose calls are given up after `patience`.
    #[must_use]
    pub fn within(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// Says in one line, of at most [`crate::STATUS_MAX`] bytes, how things are; shown to the bucket's owner. The newest
    /// counts, and more than one a second is not passed on.
    ///
    /// # Errors
    /// If nobody listens, or the line is too long.
    pub async fn set_status(&self, line: impl Into<String> + Send) -> Result<(), ContextError> {
        let mut client = ContextServiceClient::new(self.channel().await?);
        // Answered by the keeper itself, so at once: not asked again.
        let said = client.set_status(SetStatusRequest { line: line.into() });
        let answer = timeout(self.patience, said).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        answer.map(drop).map_err(|status| ContextError::refused("SetStatus", &status))
    }

    /// Adds a line to the bucket's history, for its owner: of a kind, one word like `progress`, and at most
    /// [`crate::STATUS_MAX`] bytes. Ten at once and ten a minute are taken.
    ///
    /// # Errors
    /// [`Why::Exhausted`] when that many were said.
    pub async fn add_status_line(
        &self,
        kind: impl Into<String> + Send,
        text: impl Into<String> + Send,
    ) -> Result<(), ContextError> {
        let request = AddStatusLineRequest { kind: kind.into(), text: text.into(), token: token() };
        let added = self.ask("AddStatusLine", |mut client: Client| {
            let request = request.clone();
            async move { client.add_status_line(request).await }
        });
        added.await.map(drop)
    }

    /// Has the bucket suspended, everywhere, until somebody resumes it. This process is ended soon.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn emergency_disable(&self, reason: impl Into<String> + Send) -> Result<(), ContextError> {
        let request = EmergencyDisableRequest { reason: reason.into() };
        let disabled = self.ask("EmergencyDisable", |mut client: Client| {
            let request = request.clone();
            async move { client.emergency_disable(request).await }
        });
        disabled.await.map(drop)
    }

    /// Has the bucket stopped, everywhere, until then; it runs again by itself. This process is ended soon.
    ///
    /// # Errors
    /// [`Why::Invalid`] if the time is over or more than 366 days ahead.
    pub async fn emergency_quarantine(
        &self,
        until: SystemTime,
        reason: impl Into<String> + Send,
    ) -> Result<(), ContextError> {
        let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let until_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let request = EmergencyQuarantineRequest { until_ms, reason: reason.into() };
        let quarantined = self.ask("EmergencyQuarantine", |mut client: Client| {
            let request = request.clone();
            async move { client.emergency_quarantine(request).await }
        });
        quarantined.await.map(drop)
    }

    /// The nodes that run the bucket, this one included, by name.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn peers(&self) -> Result<Vec<Node>, ContextError> {
        let peers = self.ask("ListPeers", |mut client: Client| async move {
            client.list_peers(ListPeersRequest {}).await
        });
        Ok(peers.await?.nodes.into_iter().map(Into::into).collect())
    }

    /// A secret that the module's document lists under `secrets`, as it is now.
    ///
    /// # Errors
    /// [`Why::NotFound`] as long as nobody has set it, [`Why::Invalid`] if it is not listed.
    pub async fn secret(&self, name: impl Into<String> + Send) -> Result<Secret, ContextError> {
        let request = GetSecretRequest { name: name.into() };
        let secret = self.ask("GetSecret", |mut client: Client| {
            let request = request.clone();
            async move { client.get_secret(request).await }
        });
        Ok(Secret::new(secret.await?.value))
    }

    /// Asks until there is an answer, or patience ends. Every call may be repeated.
    async fn ask<T, F>(
        &self,
        call: &'static str,
        attempt: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, ContextError>
    where
        T: Send,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let deadline = Instant::now() + self.patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let client = ClusterServiceClient::new(self.channel().await?)
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX);
            let status = match timeout_at(deadline.min(Instant::now() + TRY), attempt(client)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let again = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
            if !again || Instant::now() + pause >= deadline {
                return Err(ContextError::refused(call, &status));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn channel(&self) -> Result<Channel, ContextError> {
        let socket = self.inner.socket.as_ref().ok_or(ContextError::None)?;
        let connect = || async {
            let connected = keeper_channel(Path::new(socket)).await;
            connected.map_err(|source| ContextError::Connect { socket: socket.clone(), source })
        };
        self.inner.channel.get_or_try_init(connect).await.cloned()
    }
}

/// A number that no other call has.
fn token() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    // The standard library's hasher has random keys, which is all the chance that is needed here.
    RandomState::new().hash_one(CALLS.fetch_add(1, Ordering::Relaxed)).max(1)
}

#[cfg(test)]
mod tests;
