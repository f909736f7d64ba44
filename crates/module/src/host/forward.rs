//! What a bucket's process asks of the cluster goes on to the node's agent, byte for byte, with who it is.
//!
//! The agent may be away: a keeper outlives it. Then every call is answered at once with `UNAVAILABLE`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::server::NamedService;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};

use super::lazy_channel;
use crate::failure::causes;
use crate::proto::cluster_service_server::SERVICE_NAME;

/// Names the bucket for which the process speaks. Set by its keeper, which the agent knows by its process.
pub(super) const BUCKET: &str = "sheaf-bucket";
/// The newest revision that the process was answered that it made, both ways: what it reads is at least as new.
pub(super) const REVISION: &str = "sheaf-revision";

/// How long a call may take, or a stream to begin: longer than any try of ours (see [`crate::Context`]), for modules that name
/// no deadline. What hangs for longer is stopped.
const ANSWERED: Duration = Duration::from_secs(60);

/// Takes the place of the cluster's service. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Forward {
    agent: Channel,
    /// None: a name that no header can carry, which no bucket has.
    bucket: Option<HeaderValue>,
    seen: Arc<AtomicU64>,
    within: Duration,
}

impl Forward {
    /// Forwards what is asked for `bucket`. Within a runtime.
    pub(super) fn new(bucket: &str, agent: PathBuf) -> Self {
        let bucket = HeaderValue::try_from(bucket).ok();
        Self { agent: lazy_channel(agent), bucket, seen: Arc::default(), within: ANSWERED }
    }

    fn sign(&self, headers: &mut HeaderMap) {
        headers.remove(BUCKET);
        if let Some(bucket) = &self.bucket {
            headers.insert(BUCKET, bucket.clone());
        }
        headers.insert(REVISION, HeaderValue::from(self.seen.load(Ordering::Relaxed)));
    }

    async fn forward(mut self, mut request: Request<Body>) -> Response<Body> {
        self.sign(request.headers_mut());
        let asked = async {
            let agent = self.agent.ready().await?;
            agent.call(request).await
        };
        let Ok(answer) = timeout(self.within, asked).await else {
            let why = format!("the node's agent has not answered within {:?}", self.within);
            return Status::unavailable(why).into_http();
        };
        match answer {
            Ok(answer) => {
                if let Some(revision) = revision(answer.headers()) {
                    self.seen.fetch_max(revision, Ordering::Relaxed);
                }
                answer
            }
            Err(error) => {
                let why = causes(&error);
                Status::unavailable(format!("the node's agent does not answer, it may be restarting: {why}"))
                    .into_http()
            }
        }
    }
}

fn revision(headers: &HeaderMap) -> Option<u64> {
    headers.get(REVISION)?.to_str().ok()?.parse().ok()
}

impl Service<Request<Body>> for Forward {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let forward = self.clone();
        Box::pin(async move { Ok(forward.forward(request).await) })
    }
}

impl NamedService for Forward {
    const NAME: &'static str = SERVICE_NAME;
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;
    use tonic::Code;

    use super::*;

    /// It takes connections, as a stopped process does: the kernel takes them.
    #[tokio::test]
    async fn an_agent_that_never_answers_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let _silent = UnixListener::bind(&socket).unwrap();
        let forward = Forward { within: Duration::from_millis(50), ..Forward::new("/a", socket) };
        let answer = forward.forward(Request::new(Body::empty())).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("has not answered within 50ms"), "{status}");
    }
}
