//! The server side of `sheaf.peer.v1`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryFutureExt as _};
use sheaf_model::ClusterId;
use sheaf_model::session::ToLeader;
use tonic::{Request, Response, Status, Streaming};

use super::{AgentApi, PeerApi, PeerHeader, convert, pieces};
use crate::call::{self, Messages, messages};
use crate::error::to_status;
use crate::guard::Admitted;
use crate::probe::Probe;
use crate::proto::peer::v1;
use crate::proto::peer::v1::agent_service_server::AgentService;
use crate::proto::peer::v1::peer_service_server::PeerService;
use crate::{Answers, ApiError, Caller};

/// Messages in, questions to the API, messages out.
pub(crate) struct ServePeer(pub(crate) Arc<dyn PeerApi>);

/// Errors between agents are read by agents.
fn refused(error: ApiError) -> Status {
    to_status(error, true)
}

/// A node sends messages of its own and nobody else's.
fn said_by<T>(request: &Request<T>) -> impl FnOnce(PeerHeader) -> Result<PeerHeader, ApiError> + use<T> {
    let admitted = request.extensions().get::<Admitted>().cloned().unwrap_or_default();
    move |header| admitted.speaks_for(header.from).map(|()| header)
}

/// The first message of a stream: its header and what it says; then what all others say.
async fn opened(
    request: Request<Streaming<v1::RaftMessage>>,
) -> Result<(PeerHeader, Bytes, Answers<Bytes>), Status> {
    let from = said_by(&request);
    let mut stream = request.into_inner();
    let first = stream.message().await?;
    let first =
        first.ok_or_else(|| refused(ApiError::invalid("header", "an empty stream", "a first message")))?;
    let header = convert::header(first.header).and_then(from).map_err(refused)?;
    Ok((header, first.message, call::incoming("the peer", stream, |message| Ok(message.message))))
}

#[tonic::async_trait]
impl PeerService for ServePeer {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        let ask = |caller, ask| self.0.hello(caller, ask);
        call::unary(request, |q, _| convert::hello(q), ask, Into::into).await
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let ask = |caller, ask| self.0.join(caller, ask);
        call::unary(request, |q, _| convert::join(q), ask, Into::into).await
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::Certified>, Status> {
        let ask =
            |caller, q: v1::RenewRequest| self.0.renew(caller, ClusterId(q.cluster), q.public_key.into());
        call::unary(request, |q, _| Ok(q), ask, Into::into).await
    }

    async fn fetch_authority(
        &self,
        request: Request<v1::FetchAuthorityRequest>,
    ) -> Result<Response<v1::AuthorityKey>, Status> {
        let ask = |caller, (cluster, wanted)| self.0.fetch_authority(caller, cluster, wanted);
        call::unary(request, |q, _| convert::fetch_authority(q), ask, Into::into).await
    }

    async fn raft(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftAnswer>, Status> {
        let from = said_by(&request);
        let asked = request.into_inner();
        let header = convert::header(asked.header).and_then(from).map_err(refused)?;
        let message = self.0.raft(header, asked.message).await.map_err(refused)?;
        Ok(Response::new(v1::RaftAnswer { message }))
    }

    type RaftStreamStream = Messages<v1::RaftAnswer>;

    async fn raft_stream(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<Self::RaftStreamStream>, Status> {
        let (header, first, rest) = opened(request).await?;
        let all = futures::stream::once(std::future::ready(Ok(first))).chain(rest).boxed();
        let answers = self.0.raft_stream(header, all).await.map_err(refused)?;
        Ok(Response::new(messages(answers, true, |message| Ok(v1::RaftAnswer { message }))))
    }

    async fn raft_snapshot(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<v1::RaftAnswer>, Status> {
        let (header, head, pieces) = opened(request).await?;
        let message = self.0.raft_snapshot(header, head, pieces).await.map_err(refused)?;
        Ok(Response::new(v1::RaftAnswer { message }))
    }
}

/// Messages in, questions to the API, messages out.
pub(crate) struct ServeAgent(pub(crate) Arc<dyn AgentApi>);

#[tonic::async_trait]
impl AgentService for ServeAgent {
    type SessionStream = Messages<v1::SessionMessage>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = Caller::of(&request).map_err(refused)?;
        let read = |message: v1::SessionMessage| convert::from_json("ToLeader", &message.json);
        let questions = call::incoming("the agent", request.into_inner(), read);
        let answers = self.0.session(caller, questions).await.map_err(refused)?;
        let write = |answer| Ok(v1::SessionMessage { json: convert::json("ToNode", &answer)? });
        Ok(Response::new(messages(answers, true, write)))
    }

    type WatchStream = Messages<v1::WatchItems>;

    async fn watch(
        &self,
        request: Request<v1::WatchNodeRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let ask = |caller, ask| self.0.watch(caller, ask).map_ok(pieces::messages);
        call::stream(request, |q, _| convert::watch(q), ask, Ok).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::both("PeerService/Hello", |q, _| convert::hello(q), v1::HelloRequest::from),
        Probe::of("PeerService/Join", |q, _| convert::join(q)),
        Probe::of("PeerService/FetchAuthority", |q, _| convert::fetch_authority(q)),
        Probe::of("PeerService/Raft: its head", |q: v1::RaftMessage, _| convert::header(q.header)),
        Probe::of("AgentService/Session: a message", |q: v1::SessionMessage, _| {
            convert::from_json::<ToLeader>("ToLeader", &q.json)
        }),
        Probe::both("AgentService/Watch", |q, _| convert::watch(q), v1::WatchNodeRequest::from),
    ]
}
