//! What a bucket's process may ask of Sheaf.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;
use tonic::transport::Channel;

use crate::host::channel;
use crate::proto::SetStatusRequest;
use crate::proto::context_service_client::ContextServiceClient;
use crate::{CONTEXT, Instance};

/// The bucket's process and its line to Sheaf. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instance: Instance,
    socket: Option<PathBuf>,
    /// Made at first need.
    client: OnceCell<ContextServiceClient<Channel>>,
}

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
    /// It was refused.
    #[error("{call}: {reason}")]
    Refused {
        /// What was asked.
        call: &'static str,
        /// Why.
        reason: String,
    },
}

impl Context {
    pub(crate) fn new(instance: Instance, socket: Option<PathBuf>) -> Self {
        Self { inner: Arc::new(Inner { instance, socket, client: OnceCell::new() }) }
    }

    /// Which bucket the process runs, where, and under which epoch.
    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    /// Says in one line, of at most [`crate::STATUS_MAX`] bytes, how things are; shown to the bucket's owner. The newest
    /// counts, and more than one a second is not passed on.
    ///
    /// # Errors
    /// If nobody listens, or the line is too long.
    pub async fn set_status(&self, line: impl Into<String> + Send) -> Result<(), ContextError> {
        let mut client = self.client().await?;
        let answer = client.set_status(SetStatusRequest { line: line.into() }).await;
        answer.map(drop).map_err(|status| ContextError::Refused {
            call: "SetStatus",
            reason: status.message().to_owned(),
        })
    }

    async fn client(&self) -> Result<ContextServiceClient<Channel>, ContextError> {
        let socket = self.inner.socket.as_ref().ok_or(ContextError::None)?;
        let connect = || async {
            let connected = channel(Path::new(socket)).await;
            connected
                .map(ContextServiceClient::new)
                .map_err(|source| ContextError::Connect { socket: socket.clone(), source })
        };
        self.inner.client.get_or_try_init(connect).await.cloned()
    }
}
