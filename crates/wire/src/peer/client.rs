//! The client side of `sheaf.peer.v1`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use sheaf_model::session::{ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{Artifact, ClusterId, Contact, Digest, NodeId};
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::{AuthorityKey, Certified, Greeting, HelloAsk, JoinAsk, Joined, PeerHeader, WatchNode, convert};
use crate::client::{Pings, endpoint};
use crate::debug::DebugFile;
use crate::error::from_status;
use crate::logs::{AttemptLogs, LogLine, LogsOf};
use crate::probe::Probe;
use crate::proto::peer::v1;
use crate::proto::peer::v1::agent_service_client::AgentServiceClient;
use crate::proto::peer::v1::artifact_service_client::ArtifactServiceClient;
use crate::proto::peer::v1::debug_service_client::DebugServiceClient;
use crate::proto::peer::v1::log_service_client::LogServiceClient;
use crate::proto::peer::v1::peer_service_client::PeerServiceClient;
use crate::server::MESSAGE_MAX;
use crate::transport::Transport;
use crate::{Answers, ApiError, Asking, call};

/// A peer that takes no connection for so long is taken for dead.
const CONNECT: Duration = Duration::from_secs(1);
/// After a partition a connection may be dead without knowing; these find out, also while it is idle.
const PINGS: Pings = Pings { every: Duration::from_secs(2), within: Duration::from_secs(3), idle: true };
/// A snapshot of which no piece was taken for so long has failed.
const STALLED: Duration = Duration::from_secs(30);

/// Two connections to one agent, shared by clones: one for what must not wait (heartbeats, votes, hello, join, session),
/// one for streams that may be long (entries, snapshots, watches, logs). They connect when first used, on the runtime
/// that uses them first, and reconnect by themselves. Each time it is looked whether it is the node that is dialled.
#[derive(Clone, Debug)]
pub struct PeerClient {
    contact: Contact,
    quick: Channel,
    bulk: Channel,
}

impl PeerClient {
    /// A client of that agent. To be called within a runtime.
    pub fn new(contact: &Contact, transport: &Transport) -> Result<Self, ApiError> {
        let endpoint = endpoint(&contact.address, CONNECT, PINGS)?;
        let transport = transport.to(contact.node);
        Ok(Self {
            contact: contact.clone(),
            quick: transport.lazy(&endpoint),
            bulk: transport.lazy(&endpoint),
        })
    }

    /// A client of that agent, all over a connection that is there.
    pub(crate) fn over(contact: &Contact, channel: &Channel) -> Self {
        Self { contact: contact.clone(), quick: channel.clone(), bulk: channel.clone() }
    }

    /// Where it connects to, and whom it believes there.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    fn peer(&self, channel: &Channel) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    fn agent(&self, channel: &Channel) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ApiError> {
        match timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(from_status(&self.contact.address, &status)),
            Err(_) => Err(ApiError::DeadlineExceeded(format!(
                "no answer from {} within {deadline:?}",
                self.contact.address
            ))),
        }
    }

    /// Who are you, and whom do you know?
    pub fn hello(&self, ask: HelloAsk, deadline: Duration) -> Asking<'_, Greeting> {
        Box::pin(async move {
            self.within(deadline, self.peer(&self.quick).hello(v1::HelloRequest::from(ask))).await?.try_into()
        })
    }

    /// Asks for a number.
    pub fn join<'a>(&'a self, ask: &'a JoinAsk, deadline: Duration) -> Asking<'a, Joined> {
        Box::pin(async move {
            let request = v1::JoinRequest::try_from(ask)?;
            self.within(deadline, self.peer(&self.quick).join(request)).await?.try_into()
        })
    }

    /// This node's next certificate.
    pub fn renew<'a>(
        &'a self,
        cluster: &'a ClusterId,
        public_key: &'a [u8],
        deadline: Duration,
    ) -> Asking<'a, Certified> {
        Box::pin(async move {
            let request =
                v1::RenewRequest { cluster: cluster.0.clone(), public_key: public_key.to_vec().into() };
            Ok(self.within(deadline, self.peer(&self.quick).renew(request)).await?.into())
        })
    }

    /// The key of the authority whose certificate has this SHA-256, if it is there. Nodes of earlier versions answer with
    /// the one that issues, whatever was asked for.
    pub fn fetch_authority<'a>(
        &'a self,
        cluster: &'a ClusterId,
        fingerprint: &'a Digest,
        deadline: Duration,
    ) -> Asking<'a, AuthorityKey> {
        Box::pin(async move {
            let fingerprint = fingerprint.0.to_vec().into();
            let request = v1::FetchAuthorityRequest { cluster: cluster.0.clone(), fingerprint };
            Ok(self.within(deadline, self.peer(&self.quick).fetch_authority(request)).await?.into())
        })
    }

    /// Sends one message of the replicated log.
    pub fn raft(&self, header: PeerHeader, message: Bytes, deadline: Duration) -> Asking<'_, Bytes> {
        Box::pin(async move {
            let request = v1::RaftMessage { header: Some(header.into()), message };
            Ok(self.within(deadline, self.peer(&self.quick).raft(request)).await?.message)
        })
    }

    /// Opens a stream of messages answered one for one, in order; `deadline` is for the opening alone.
    pub fn raft_stream(
        &self,
        header: PeerHeader,
        messages: BoxStream<'static, Bytes>,
        deadline: Duration,
    ) -> Asking<'_, Answers<Bytes>> {
        self.raft_stream_over(&self.bulk, header, messages, deadline)
    }

    /// The same for heartbeats, which must not wait: beside the calls, and not beside entries and snapshots.
    pub fn raft_heartbeats(
        &self,
        header: PeerHeader,
        messages: BoxStream<'static, Bytes>,
        deadline: Duration,
    ) -> Asking<'_, Answers<Bytes>> {
        self.raft_stream_over(&self.quick, header, messages, deadline)
    }

    fn raft_stream_over<'a>(
        &'a self,
        channel: &'a Channel,
        header: PeerHeader,
        messages: BoxStream<'static, Bytes>,
        deadline: Duration,
    ) -> Asking<'a, Answers<Bytes>> {
        Box::pin(async move {
            let mut header = Some(v1::PeerHeader::from(header));
            let messages = messages.map(move |message| v1::RaftMessage { header: header.take(), message });
            let messages = call::Outgoing(messages.boxed());
            let answers = self.within(deadline, self.peer(channel).raft_stream(messages)).await?;
            Ok(call::incoming(&self.contact.address, answers, |answer| Ok(answer.message)))
        })
    }

    /// Sends a snapshot: its head, then the file in order. Takes as long as it takes, as long as something moves.
    pub fn raft_snapshot(
        &self,
        header: PeerHeader,
        head: Bytes,
        pieces: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Asking<'_, Bytes> {
        Box::pin(async move {
            let sent = Arc::new(Mutex::new(Sent { last: Instant::now(), failed: None }));
            let first = v1::RaftMessage { header: Some(header.into()), message: head };
            let pieces = pieces.scan(sent.clone(), |sent, piece| {
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.last = Instant::now();
                std::future::ready(match piece {
                    Ok(message) => Some(v1::RaftMessage { header: None, message }),
                    Err(error) => {
                        sent.failed = Some(error);
                        None
                    }
                })
            });
            let messages =
                call::Outgoing(futures::stream::once(std::future::ready(first)).chain(pieces).boxed());
            let mut client = self.peer(&self.bulk);
            let mut call = std::pin::pin!(client.raft_snapshot(messages));
            loop {
                let answer = timeout(STALLED, &mut call).await;
                let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(error) = sent.failed.take() {
                    return Err(ApiError::Internal(format!("read a snapshot to send: {error}")));
                }
                match answer {
                    Ok(Ok(answer)) => return Ok(answer.into_inner().message),
                    Ok(Err(status)) => return Err(from_status(&self.contact.address, &status)),
                    Err(_) if sent.last.elapsed() < STALLED => {}
                    Err(_) => {
                        let reason =
                            format!("{} took nothing of a snapshot for {STALLED:?}", self.contact.address);
                        return Err(ApiError::DeadlineExceeded(reason));
                    }
                }
            }
        })
    }

    /// Opens a session; `deadline` is for the opening alone.
    pub fn session(
        &self,
        messages: BoxStream<'static, ToLeader>,
        deadline: Duration,
    ) -> Asking<'_, Answers<ToNode>> {
        Box::pin(async move {
            // One that cannot be written ends the session; the agent opens another.
            let messages = messages.map(|message| convert::json("ToLeader", &message));
            let messages = messages.take_while(|json| std::future::ready(json.is_ok()));
            let messages = messages.map(|json| v1::SessionMessage { json: json.unwrap_or_default() });
            let messages = call::Outgoing(messages.boxed());
            let answers = self.within(deadline, self.agent(&self.quick).session(messages)).await?;
            Ok(call::incoming(&self.contact.address, answers, to_node))
        })
    }

    /// Everything a node must know, then what changes; `deadline` is for the opening alone.
    pub fn watch(&self, ask: WatchNode, deadline: Duration) -> Asking<'_, Answers<Vec<WatchItem>>> {
        Box::pin(async move {
            let request = Request::new(v1::WatchNodeRequest::from(ask));
            let items = self.within(deadline, self.agent(&self.bulk).watch(request)).await?;
            Ok(call::incoming(&self.contact.address, items, watch_items))
        })
    }

    /// An artifact's archive from an offset on; `deadline` is for the opening alone.
    pub fn fetch_artifact<'a>(
        &'a self,
        cluster: &'a ClusterId,
        digest: Digest,
        offset: u64,
        deadline: Duration,
    ) -> Asking<'a, Answers<Bytes>> {
        Box::pin(async move {
            let mut client =
                ArtifactServiceClient::new(self.bulk.clone()).max_decoding_message_size(MESSAGE_MAX);
            let request = v1::FetchArtifactRequest {
                cluster: cluster.0.clone(),
                digest: digest.0.to_vec().into(),
                offset,
            };
            let pieces = self.within(deadline, client.fetch(request)).await?;
            Ok(call::incoming(&self.contact.address, pieces, |piece| Ok(piece.data)))
        })
    }

    /// Has that node fetch an artifact from the one named, and waits until it has it on disk.
    pub fn hold_artifact<'a>(
        &'a self,
        cluster: &'a ClusterId,
        artifact: &'a Artifact,
        from: &'a Contact,
        deadline: Duration,
    ) -> Asking<'a, ()> {
        Box::pin(async move {
            let mut client = ArtifactServiceClient::new(self.bulk.clone());
            let artifact = convert::json("Artifact", artifact)?;
            let (cluster, node) = (cluster.0.clone(), from.node.map_or(0, |node| node.0));
            let message = v1::HoldArtifactRequest { cluster, artifact, from: from.address.clone(), node };
            let mut request = Request::new(message);
            request.set_timeout(deadline);
            self.within(deadline, client.hold(request)).await.map(drop)
        })
    }

    /// How many hundredths of an artifact that node has.
    pub fn look_for_artifact<'a>(
        &'a self,
        cluster: &'a ClusterId,
        digest: Digest,
        size: u64,
        deadline: Duration,
    ) -> Asking<'a, u32> {
        Box::pin(async move {
            let mut client = ArtifactServiceClient::new(self.quick.clone());
            let digest = digest.0.to_vec().into();
            let request = v1::LookForArtifactRequest { cluster: cluster.0.clone(), digest, size };
            Ok(self.within(deadline, client.look(request)).await?.percent)
        })
    }

    /// Where nodes are that have all of an artifact, as that member finds out.
    pub fn artifact_holders<'a>(
        &'a self,
        cluster: &'a ClusterId,
        artifact: &'a Artifact,
        deadline: Duration,
    ) -> Asking<'a, Vec<Contact>> {
        Box::pin(async move {
            let mut client = ArtifactServiceClient::new(self.quick.clone());
            let (digest, size) = (artifact.digest.0.to_vec().into(), artifact.size);
            let request = v1::LookForArtifactRequest { cluster: cluster.0.clone(), digest, size };
            Ok(contacts(self.within(deadline, client.holders(request)).await?))
        })
    }

    /// What the instances of that agent printed; `deadline` is for the opening alone.
    pub fn logs(&self, ask: LogsOf, deadline: Duration) -> Asking<'_, Answers<LogLine>> {
        Box::pin(async move {
            let mut client = LogServiceClient::new(self.bulk.clone()).max_decoding_message_size(MESSAGE_MAX);
            let lines = self.within(deadline, client.read(v1::ReadLogsRequest::from(ask))).await?;
            Ok(call::incoming(&self.contact.address, lines, TryInto::try_into))
        })
    }

    /// What that node shows of itself; `deadline` is for the opening alone.
    pub fn collect_debug<'a>(
        &'a self,
        cluster: &'a ClusterId,
        deadline: Duration,
    ) -> Asking<'a, Answers<DebugFile>> {
        Box::pin(async move {
            let mut client =
                DebugServiceClient::new(self.bulk.clone()).max_decoding_message_size(MESSAGE_MAX);
            let request = v1::CollectRequest { cluster: cluster.0.clone() };
            let files = self.within(deadline, client.collect(request)).await?;
            Ok(call::incoming(&self.contact.address, files, TryInto::try_into))
        })
    }

    /// The same of an attempt of a subtask.
    pub fn attempt_logs(&self, ask: AttemptLogs, deadline: Duration) -> Asking<'_, Answers<LogLine>> {
        Box::pin(async move {
            let mut client = LogServiceClient::new(self.bulk.clone()).max_decoding_message_size(MESSAGE_MAX);
            let lines = self.within(deadline, client.read_attempt(v1::ReadAttemptRequest::from(ask))).await?;
            Ok(call::incoming(&self.contact.address, lines, TryInto::try_into))
        })
    }
}

fn to_node(v1::SessionMessage { json }: v1::SessionMessage) -> Result<ToNode, ApiError> {
    convert::from_json("ToNode", &json)
}

fn watch_items(v1::WatchItems { json }: v1::WatchItems) -> Result<Vec<WatchItem>, ApiError> {
    convert::from_json("WatchItem", &json)
}

/// Members of earlier versions name no nodes.
fn contacts(message: v1::HoldersResponse) -> Vec<Contact> {
    let v1::HoldersResponse { addresses, nodes } = message;
    let nodes = nodes.into_iter().map(|node| (node != 0).then_some(NodeId(node)));
    let nodes = nodes.chain(std::iter::repeat(None));
    addresses.into_iter().zip(nodes).map(|(address, node)| Contact { address, node }).collect()
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::answer::<v1::HelloResponse, Greeting>(),
        Probe::answer::<v1::JoinResponse, Joined>(),
        Probe::plain::<v1::Certified, Certified>(),
        Probe::plain::<v1::AuthorityKey, AuthorityKey>(),
        Probe::answered(to_node),
        Probe::answered(watch_items),
        Probe::answered(|answer: v1::HoldersResponse| Ok(contacts(answer))),
        Probe::answer::<crate::proto::v1::DebugFile, DebugFile>(),
    ]
}

/// How far a snapshot is.
struct Sent {
    /// When the last piece was taken.
    last: Instant,
    /// Why there is no next one.
    failed: Option<std::io::Error>,
}
