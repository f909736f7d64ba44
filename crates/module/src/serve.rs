//! The server around a module.

use std::env;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinError;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::module::{CanRun, Module, Taken};
use crate::proto::module_service_server::{ModuleService as Calls, ModuleServiceServer};
use crate::proto::{
    CanRunOnThisNodeRequest, CanRunOnThisNodeResponse, HelloRequest, HelloResponse, OnDecommissionRequest,
    OnDecommissionResponse, OnDeleteRequest, OnDeleteResponse, OnInitRequest, OnInitResponse,
    OnNewSourceRequest, OnNewSourceResponse, OnPeriodicPollRequest, OnPeriodicPollResponse, OnPurgeRequest,
    OnPurgeResponse, OnResumeRequest, OnResumeResponse, OnStopRequest, OnStopResponse, OnSuspendRequest,
    OnSuspendResponse, OnTestSourceRequest, OnTestSourceResponse, OnUpdatedSourceRequest,
    OnUpdatedSourceResponse, WorkRequest,
};
use crate::work::Answers;
use crate::{ARTIFACT, CONTEXT, Context, Failure, MESSAGE_MAX, PROTOCOL, SOCKET};

/// Why a module cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nobody asks for it.
    #[error("{SOCKET} is not set: Sheaf starts this program and says there where to serve")]
    NoSocket,
    /// The socket cannot be made.
    #[error("cannot listen at {socket}")]
    Listen {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Signals cannot be listened to.
    #[error("cannot listen to SIGTERM")]
    Signal(#[source] io::Error),
    /// The server ended by itself.
    #[error("the server ended")]
    Ended(#[source] tonic::transport::Error),
}

/// Where what was pushed for the module's version is: the directory, or the file if one was pushed. It is the same for all
/// processes of the version on a node, and not to be written to. None if nothing was pushed.
pub fn artifact() -> Option<PathBuf> {
    env::var_os(ARTIFACT).map(PathBuf::from)
}

/// Serves a module where Sheaf wants it, until SIGTERM asks to end. What the module has begun in the background ends with
/// the runtime.
///
/// # Errors
/// If the program was not started by Sheaf, or its socket cannot be made.
pub async fn serve(module: impl Module) -> Result<(), ServeError> {
    let socket = env::var_os(SOCKET).map(PathBuf::from).ok_or(ServeError::NoSocket)?;
    let context = env::var_os(CONTEXT).map(PathBuf::from);
    let mut terminated = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    tokio::select! {
        // Dropping it ends connections of a caller that has just asked for that end.
        ended = serve_at(module, socket, context) => ended,
        _ = terminated.recv() => Ok(()),
    }
}

/// Serves at a socket until it is dropped.
pub(crate) async fn serve_at(
    module: impl Module,
    socket: PathBuf,
    context: Option<PathBuf>,
) -> Result<(), ServeError> {
    let listener = UnixListener::bind(&socket)
        .map_err(|source| ServeError::Listen { socket: socket.clone(), source })?;
    let served = ModuleServiceServer::new(Served { module: Arc::new(module), context })
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let serving =
        Server::builder().add_service(served).serve_with_incoming(UnixListenerStream::new(listener));
    serving.await.map_err(ServeError::Ended)
}

struct Served<M> {
    module: Arc<M>,
    context: Option<PathBuf>,
}

#[tonic::async_trait]
impl<M: Module> Calls for Served<M> {
    type WorkStream = Answers;

    async fn work(&self, request: Request<Streaming<WorkRequest>>) -> Result<Response<Answers>, Status> {
        crate::work::serve(self.module.clone(), self.context.clone(), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn hello(&self, _request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let sdk = concat!("sheaf-module ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Response::new(HelloResponse { protocol: PROTOCOL, sdk }))
    }

    async fn can_run_on_this_node(
        &self,
        request: Request<CanRunOnThisNodeRequest>,
    ) -> Result<Response<CanRunOnThisNodeResponse>, Status> {
        let CanRunOnThisNodeRequest { bucket, node } = request.into_inner();
        let (bucket, node) = (bucket.unwrap_or_default().into(), node.unwrap_or_default().into());
        let module = self.module.clone();
        let answer = run(async move { module.can_run_on_this_node(bucket, node).await }).await?;
        let (can_run, reason) = match answer {
            CanRun::Yes => (true, String::new()),
            CanRun::No(reason) => (false, reason),
        };
        Ok(Response::new(CanRunOnThisNodeResponse { can_run, reason }))
    }

    async fn on_init(&self, request: Request<OnInitRequest>) -> Result<Response<OnInitResponse>, Status> {
        let instance = request.into_inner().instance.unwrap_or_default().into();
        let context = Context::new(instance, self.context.clone());
        let module = self.module.clone();
        run(async move { module.on_init(context).await }).await?;
        Ok(Response::new(OnInitResponse {}))
    }

    async fn on_new_source(
        &self,
        request: Request<OnNewSourceRequest>,
    ) -> Result<Response<OnNewSourceResponse>, Status> {
        let bucket = request.into_inner().bucket.unwrap_or_default().into();
        let module = self.module.clone();
        run(async move { module.on_new_source(bucket).await }).await?;
        Ok(Response::new(OnNewSourceResponse {}))
    }

    async fn on_resume(
        &self,
        request: Request<OnResumeRequest>,
    ) -> Result<Response<OnResumeResponse>, Status> {
        let bucket = request.into_inner().bucket.unwrap_or_default().into();
        let module = self.module.clone();
        run(async move { module.on_resume(bucket).await }).await?;
        Ok(Response::new(OnResumeResponse {}))
    }

    async fn on_periodic_poll(
        &self,
        request: Request<OnPeriodicPollRequest>,
    ) -> Result<Response<OnPeriodicPollResponse>, Status> {
        let bucket = request.into_inner().bucket.unwrap_or_default().into();
        let module = self.module.clone();
        run(async move { module.on_periodic_poll(bucket).await }).await?;
        Ok(Response::new(OnPeriodicPollResponse {}))
    }

    async fn on_updated_source(
        &self,
        request: Request<OnUpdatedSourceRequest>,
    ) -> Result<Response<OnUpdatedSourceResponse>, Status> {
        let OnUpdatedSourceRequest { old, new, differences } = request.into_inner();
        let (old, new) = (old.unwrap_or_default().into(), new.unwrap_or_default().into());
        let differences = differences.into_iter().map(Into::into).collect();
        let module = self.module.clone();
        match run(async move { module.on_updated_source(old, new, differences).await }).await? {
            Taken::Live => Ok(Response::new(OnUpdatedSourceResponse {})),
            Taken::Restart => Err(Status::unimplemented("the module is to be started anew")),
        }
    }

    async fn on_purge(&self, _request: Request<OnPurgeRequest>) -> Result<Response<OnPurgeResponse>, Status> {
        let module = self.module.clone();
        run(async move { module.on_purge().await }).await?;
        Ok(Response::new(OnPurgeResponse {}))
    }

    async fn on_test_source(
        &self,
        request: Request<OnTestSourceRequest>,
    ) -> Result<Response<OnTestSourceResponse>, Status> {
        let OnTestSourceRequest { bucket, max_objects, max_time_ms } = request.into_inner();
        let (bucket, max_time) = (bucket.unwrap_or_default().into(), Duration::from_millis(max_time_ms));
        let module = self.module.clone();
        run(async move { module.on_test_source(bucket, max_objects, max_time).await }).await?;
        Ok(Response::new(OnTestSourceResponse {}))
    }

    async fn on_suspend(
        &self,
        _request: Request<OnSuspendRequest>,
    ) -> Result<Response<OnSuspendResponse>, Status> {
        let module = self.module.clone();
        run(async move { module.on_suspend().await }).await?;
        Ok(Response::new(OnSuspendResponse {}))
    }

    async fn on_delete(
        &self,
        _request: Request<OnDeleteRequest>,
    ) -> Result<Response<OnDeleteResponse>, Status> {
        let module = self.module.clone();
        run(async move { module.on_delete().await }).await?;
        Ok(Response::new(OnDeleteResponse {}))
    }

    async fn on_decommission(
        &self,
        _request: Request<OnDecommissionRequest>,
    ) -> Result<Response<OnDecommissionResponse>, Status> {
        let module = self.module.clone();
        run(async move { module.on_decommission().await }).await?;
        Ok(Response::new(OnDecommissionResponse {}))
    }

    async fn on_stop(&self, _request: Request<OnStopRequest>) -> Result<Response<OnStopResponse>, Status> {
        let module = self.module.clone();
        run(async move { module.on_stop().await }).await?;
        Ok(Response::new(OnStopResponse {}))
    }
}

/// Runs a call as a task of its own: a panic is a failure of that call alone, and a caller that goes away does not break
/// off the module's work halfway.
pub(crate) async fn run<T: Send + 'static>(
    call: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(failure)) => Err(Status::aborted(failure.to_string())),
        Err(broken) => Err(Status::internal(panic_text(broken))),
    }
}

pub(crate) fn panic_text(broken: JoinError) -> String {
    let Ok(panic) = broken.try_into_panic() else { return "it was broken off".to_owned() };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    match text.or_else(|| panic.downcast_ref::<&str>().copied()) {
        Some(text) => format!("it panicked: {text}"),
        None => "it panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests;
