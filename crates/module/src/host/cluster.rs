//! The agent's side of what a bucket's process asks of the cluster: messages in, questions to [`ClusterApi`], messages out.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

use super::forward::{BUCKET, REVISION};
use crate::proto::cluster_service_server::{ClusterService, ClusterServiceServer};
use crate::proto::{
    AddStatusLineRequest, AddStatusLineResponse, DeleteObjectRequest, DeleteObjectResponse,
    EmergencyDisableRequest, EmergencyDisableResponse, EmergencyQuarantineRequest,
    EmergencyQuarantineResponse, GetCheckpointRequest, GetCheckpointResponse, GetObjectRequest,
    GetObjectResponse, GetSecretRequest, GetSecretResponse, ListObjectsRequest, ListObjectsResponse,
    ListPeersRequest, ListPeersResponse, ObjectChange, PutObjectRequest, PutObjectResponse,
    SetCheckpointRequest, SetCheckpointResponse, WatchObjectsRequest,
};
use crate::{MESSAGE_MAX, Node, Object, ObjectPage, ObjectStep, Refused, Secret, Why};

/// Steps of a watch, for as long as it is held.
pub type Steps = Pin<Box<dyn Stream<Item = Result<ObjectStep, Refused>> + Send>>;

/// A write of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Its key, as the module sent it.
    pub key: String,
    /// Its value, of any size.
    pub value: Vec<u8>,
    /// Only at this version; 0: only if there is none.
    pub expected: Option<u64>,
    /// Marks a repetition; 0: nothing.
    pub token: u64,
}

/// A line of status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of what kind, as the module sent it.
    pub kind: String,
    /// The line, as the module sent it.
    pub text: String,
    /// Marks a repetition; 0: nothing.
    pub token: u64,
}

/// What answers a bucket's process in the cluster's name. Writes answer the revision that they made; 0: it was so already.
///
/// `seen` is the newest revision that the process was answered, 0 while it has written nothing: what is read is to be at least
/// as new, and as all that was answered to the bucket's processes before it.
pub trait ClusterApi: Send + Sync + 'static {
    /// Who asks.
    type Speaker: Send;

    /// Who asks: the instance of `bucket` whose keeper is the process `keeper`, or nobody. An empty `bucket`: a process that
    /// names none, as no keeper does.
    fn speaker(
        &self,
        bucket: &str,
        keeper: u32,
    ) -> impl Future<Output = Result<Self::Speaker, Refused>> + Send;
    /// An object; none: there is no such object.
    fn get_object(
        &self,
        by: Self::Speaker,
        seen: u64,
        key: String,
    ) -> impl Future<Output = Result<Option<Object>, Refused>> + Send;
    /// Writes an object.
    fn put_object(&self, by: Self::Speaker, put: Put) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// Deletes an object, only at a version if one is expected.
    fn delete_object(
        &self,
        by: Self::Speaker,
        key: String,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// A page of objects: at most `size` of them, going on at `token`.
    fn list_objects(
        &self,
        by: Self::Speaker,
        seen: u64,
        prefix: String,
        size: u32,
        token: String,
    ) -> impl Future<Output = Result<ObjectPage, Refused>> + Send;
    /// Objects as they are, then what changes.
    fn watch_objects(
        &self,
        by: Self::Speaker,
        seen: u64,
        prefix: String,
        after: Option<u64>,
    ) -> impl Future<Output = Result<Steps, Refused>> + Send;
    /// The checkpoint; empty: there is none.
    fn checkpoint(
        &self,
        by: Self::Speaker,
        seen: u64,
    ) -> impl Future<Output = Result<Vec<u8>, Refused>> + Send;
    /// Writes the checkpoint.
    fn set_checkpoint(
        &self,
        by: Self::Speaker,
        checkpoint: Vec<u8>,
    ) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// Adds a line to the history.
    fn add_status_line(
        &self,
        by: Self::Speaker,
        line: Line,
    ) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// Has the bucket suspended.
    fn emergency_disable(
        &self,
        by: Self::Speaker,
        reason: String,
    ) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// Has the bucket stopped for a time.
    fn emergency_quarantine(
        &self,
        by: Self::Speaker,
        until: SystemTime,
        reason: String,
    ) -> impl Future<Output = Result<u64, Refused>> + Send;
    /// The nodes that run the bucket.
    fn peers(&self, by: Self::Speaker, seen: u64) -> impl Future<Output = Result<Vec<Node>, Refused>> + Send;
    /// A secret that the bucket's module names.
    fn secret(&self, by: Self::Speaker, name: String)
    -> impl Future<Output = Result<Secret, Refused>> + Send;
}

/// Serves keepers until it is dropped. Whoever can enter the socket's directory can connect; what a process may ask depends
/// on which one it is.
///
/// # Errors
/// If the server ends by itself.
pub async fn serve_cluster(
    listener: UnixListener,
    api: impl ClusterApi,
) -> Result<(), tonic::transport::Error> {
    let calls = ClusterServiceServer::new(Served(api))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    Server::builder().add_service(calls).serve_with_incoming(UnixListenerStream::new(listener)).await
}

struct Served<A>(A);

impl<A: ClusterApi> Served<A> {
    /// Who asks, what it has seen, and what it asks.
    async fn open<T>(&self, request: Request<T>) -> Result<(A::Speaker, u64, T), Status> {
        let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
        let keeper = peer.and_then(|peer| peer.pid()).and_then(|pid| u32::try_from(pid).ok());
        let bucket = text(request.metadata(), BUCKET).unwrap_or_default();
        let Some(keeper) = keeper else {
            return Err(Refused::new(Why::Fenced, "only a process of this machine is answered here").into());
        };
        let speaker = self.0.speaker(bucket, keeper).await?;
        let seen = text(request.metadata(), REVISION).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok((speaker, seen, request.into_inner()))
    }
}

impl From<PutObjectRequest> for Put {
    fn from(ask: PutObjectRequest) -> Self {
        Self { key: ask.key, value: ask.value, expected: ask.expected_version, token: ask.token }
    }
}

impl From<AddStatusLineRequest> for Line {
    fn from(ask: AddStatusLineRequest) -> Self {
        Self { kind: ask.kind, text: ask.text, token: ask.token }
    }
}

/// Until when a bucket is to be stopped.
pub(super) fn until(ask: &EmergencyQuarantineRequest) -> Result<SystemTime, Refused> {
    let until = UNIX_EPOCH.checked_add(Duration::from_millis(ask.until_ms));
    until.ok_or_else(|| Refused::new(Why::Invalid, "until_ms is beyond all clocks"))
}

fn text<'a>(metadata: &'a MetadataMap, key: &'static str) -> Option<&'a str> {
    metadata.get(key)?.to_str().ok()
}

/// An answer with the revision that the change made.
fn changed<T>(revision: u64, message: T) -> Response<T> {
    let mut response = Response::new(message);
    response.metadata_mut().insert(REVISION, MetadataValue::from(revision));
    response
}

#[tonic::async_trait]
impl<A: ClusterApi> ClusterService for Served<A> {
    async fn get_object(
        &self,
        request: Request<GetObjectRequest>,
    ) -> Result<Response<GetObjectResponse>, Status> {
        let (by, seen, ask) = self.open(request).await?;
        let key = ask.key;
        match self.0.get_object(by, seen, key.clone()).await? {
            Some(Object { version, value }) => Ok(Response::new(GetObjectResponse { version, value })),
            None => Err(Refused::new(Why::NotFound, format!("there is no object {key}")).into()),
        }
    }

    async fn put_object(
        &self,
        request: Request<PutObjectRequest>,
    ) -> Result<Response<PutObjectResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let version = self.0.put_object(by, ask.into()).await?;
        Ok(changed(version, PutObjectResponse { version }))
    }

    async fn delete_object(
        &self,
        request: Request<DeleteObjectRequest>,
    ) -> Result<Response<DeleteObjectResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let revision = self.0.delete_object(by, ask.key, ask.expected_version).await?;
        Ok(changed(revision, DeleteObjectResponse {}))
    }

    async fn list_objects(
        &self,
        request: Request<ListObjectsRequest>,
    ) -> Result<Response<ListObjectsResponse>, Status> {
        let (by, seen, ask) = self.open(request).await?;
        let page = self.0.list_objects(by, seen, ask.prefix, ask.page_size, ask.page_token).await?;
        Ok(Response::new(page.into()))
    }

    type WatchObjectsStream = Pin<Box<dyn Stream<Item = Result<ObjectChange, Status>> + Send>>;

    async fn watch_objects(
        &self,
        request: Request<WatchObjectsRequest>,
    ) -> Result<Response<Self::WatchObjectsStream>, Status> {
        let (by, seen, ask) = self.open(request).await?;
        let steps = self.0.watch_objects(by, seen, ask.prefix, ask.after).await?;
        let messages = steps.map(|step| step.map(Into::into).map_err(Into::into));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let (by, seen, _) = self.open(request).await?;
        let checkpoint = self.0.checkpoint(by, seen).await?;
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn set_checkpoint(
        &self,
        request: Request<SetCheckpointRequest>,
    ) -> Result<Response<SetCheckpointResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let revision = self.0.set_checkpoint(by, ask.checkpoint).await?;
        Ok(changed(revision, SetCheckpointResponse {}))
    }

    async fn add_status_line(
        &self,
        request: Request<AddStatusLineRequest>,
    ) -> Result<Response<AddStatusLineResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let revision = self.0.add_status_line(by, ask.into()).await?;
        Ok(changed(revision, AddStatusLineResponse {}))
    }

    async fn emergency_disable(
        &self,
        request: Request<EmergencyDisableRequest>,
    ) -> Result<Response<EmergencyDisableResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let revision = self.0.emergency_disable(by, ask.reason).await?;
        Ok(changed(revision, EmergencyDisableResponse {}))
    }

    async fn emergency_quarantine(
        &self,
        request: Request<EmergencyQuarantineRequest>,
    ) -> Result<Response<EmergencyQuarantineResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let revision = self.0.emergency_quarantine(by, until(&ask)?, ask.reason).await?;
        Ok(changed(revision, EmergencyQuarantineResponse {}))
    }

    async fn list_peers(
        &self,
        request: Request<ListPeersRequest>,
    ) -> Result<Response<ListPeersResponse>, Status> {
        let (by, seen, _) = self.open(request).await?;
        let nodes = self.0.peers(by, seen).await?.into_iter().map(Into::into).collect();
        Ok(Response::new(ListPeersResponse { nodes }))
    }

    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let (by, _, ask) = self.open(request).await?;
        let value = self.0.secret(by, ask.name).await?.bytes().to_vec();
        Ok(Response::new(GetSecretResponse { value }))
    }
}
