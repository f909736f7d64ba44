//! The context's server: what a bucket's process asks is answered, what it says is passed on, and what it asks of the cluster
//! is forwarded to the node's agent.

use std::path::PathBuf;

use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::host::forward::Forward;
use crate::proto::context_service_server::{ContextService, ContextServiceServer as Calls};
use crate::proto::{SetStatusRequest, SetStatusResponse, WhoAmIRequest, WhoAmIResponse};
use crate::{Instance, MESSAGE_MAX, STATUS_MAX};

/// Serves the context of one process.
#[derive(Debug)]
pub struct ContextServer {
    served: Served,
    agent: PathBuf,
}

/// What the process has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The newest line of SetStatus; empty: nothing to say.
    pub status: String,
}

#[derive(Debug)]
struct Served {
    instance: Instance,
    said: watch::Sender<Said>,
}

impl ContextServer {
    /// A context of this instance, and what its process says. `agent` is where the node's agent serves
    /// [`crate::host::serve_cluster`] while it is up.
    pub fn new(instance: Instance, agent: PathBuf) -> (Self, watch::Receiver<Said>) {
        let (said, heard) = watch::channel(Said::default());
        (Self { served: Served { instance, said }, agent }, heard)
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// If the server ends by itself.
    pub async fn serve(self, listener: UnixListener) -> Result<(), tonic::transport::Error> {
        let forward = Forward::new(&self.served.instance.bucket.name, self.agent);
        let calls = Calls::new(self.served)
            .max_decoding_message_size(MESSAGE_MAX)
            .max_encoding_message_size(MESSAGE_MAX);
        let server = Server::builder().add_service(calls).add_service(forward);
        server.serve_with_incoming(UnixListenerStream::new(listener)).await
    }
}

#[tonic::async_trait]
impl ContextService for Served {
    async fn who_am_i(&self, _request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(WhoAmIResponse { instance: Some(self.instance.clone().into()) }))
    }

    async fn set_status(
        &self,
        request: Request<SetStatusRequest>,
    ) -> Result<Response<SetStatusResponse>, Status> {
        let line = status_line(&request.into_inner().line)?;
        self.said.send_if_modified(|said| std::mem::replace(&mut said.status, line.clone()) != line);
        Ok(Response::new(SetStatusResponse {}))
    }
}

/// A line as it is shown.
pub(super) fn status_line(text: &str) -> Result<String, Status> {
    if text.len() > STATUS_MAX {
        let length = text.len();
        return Err(Status::invalid_argument(format!(
            "the line has {length} bytes; at most {STATUS_MAX} are shown"
        )));
    }
    Ok(text.replace(|c: char| c.is_control(), " ").trim().to_owned())
}
