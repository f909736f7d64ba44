//! Agents among themselves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_model::session::{Heartbeat, ToLeader, ToNode};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    ClusterId, Contact, Digest, Epoch, Facts, Load, Moment, Node, NodeId, NodeKey, NodeName, NodeStatus,
    Revision, Span, Timestamp, TokenId, TokenText,
};
use tokio::net::TcpListener;

use super::fake::name;
use crate::logs::{AttemptLogs, LogLine, LogsApi, LogsOf};
use crate::peer::{
    AgentApi, AuthorityKey, Certified, Confidential, Greeting, HelloAsk, JoinAsk, Joined, PeerApi,
    PeerClient, PeerHeader, WatchNode,
};
use crate::{Alone, Answers, ApiError, Caller, ServeOptions, Server, async_trait};

pub(super) const SOON: Duration = Duration::from_secs(5);
/// A node whose watch has more than a message may have.
const LARGE: NodeId = NodeId(20);

/// Echoes; of a snapshot it answers how many bytes came.
#[derive(Default)]
pub(super) struct Echo {
    headers: Mutex<Vec<PeerHeader>>,
}

fn greeting(key: NodeKey, nonce: Option<[u8; 32]>) -> Greeting {
    Greeting {
        instance: "me".to_owned(),
        key,
        name: NodeName::new("n1").unwrap(),
        address: "a:1".to_owned(),
        cluster: Some(ClusterId::from("c")),
        node: Some(NodeId(3)),
        member: true,
        leader: Some(Contact::of(NodeId(2), "b:2")),
        seen: vec!["me".to_owned(), "you".to_owned()],
        authorities: vec![vec![1, 2]],
        bridges: vec![vec![3]],
        left: true,
        proof: nonce.map(|nonce| nonce.to_vec()).unwrap_or_default(),
        wall: Some(Timestamp(1_700_000_000_000)),
    }
}

fn certified() -> Certified {
    let authorities = vec![vec![4, 5], vec![6]];
    let bridges = vec![vec![7]];
    Certified { certificate: vec![1, 2, 3], authorities, bridges, lifetime: Duration::from_secs(60) }
}

#[async_trait]
impl PeerApi for Echo {
    async fn hello(&self, _: Caller, ask: HelloAsk) -> Result<Greeting, ApiError> {
        Ok(greeting(ask.key, ask.nonce))
    }

    async fn join(&self, _: Caller, ask: JoinAsk) -> Result<Joined, ApiError> {
        Ok(match ask.cluster {
            None => Joined::Registered {
                cluster: ClusterId::from("c"),
                node: NodeId(4),
                certified: Some(certified()),
            },
            Some(cluster) if cluster.0 == "c" => {
                Joined::Redirect(Some(Contact::of(NodeId(2), ask.facts.address)))
            }
            Some(cluster) if cluster.0 == "old" => Joined::Redirect(Some(Contact::anyone("b:2"))),
            Some(cluster) => Joined::Refused(format!("you belong to {cluster}")),
        })
    }

    async fn renew(&self, _: Caller, cluster: ClusterId, public_key: Vec<u8>) -> Result<Certified, ApiError> {
        assert_eq!((cluster.0.as_str(), public_key.as_slice()), ("c", [4; 65].as_slice()));
        Ok(certified())
    }

    async fn fetch_authority(
        &self,
        _: Caller,
        cluster: ClusterId,
        fingerprint: Option<Digest>,
    ) -> Result<AuthorityKey, ApiError> {
        let certificate = fingerprint.map_or(vec![9], |fingerprint| fingerprint.0.to_vec());
        Ok(AuthorityKey { key: Confidential(cluster.0), certificate })
    }

    async fn raft(&self, header: PeerHeader, message: Bytes) -> Result<Bytes, ApiError> {
        self.headers.lock().unwrap().push(header);
        Ok(message)
    }

    async fn raft_stream(
        &self,
        header: PeerHeader,
        messages: Answers<Bytes>,
    ) -> Result<Answers<Bytes>, ApiError> {
        self.headers.lock().unwrap().push(header);
        Ok(messages)
    }

    async fn raft_snapshot(
        &self,
        header: PeerHeader,
        head: Bytes,
        pieces: Answers<Bytes>,
    ) -> Result<Bytes, ApiError> {
        self.headers.lock().unwrap().push(header);
        let size: usize =
            pieces.map(|piece| piece.unwrap().len()).fold(0, |sum, size| async move { sum + size }).await;
        Ok(Bytes::from(format!("{} and {size}", head.len())))
    }
}

#[async_trait]
impl AgentApi for Echo {
    async fn session(&self, _: Caller, messages: Answers<ToLeader>) -> Result<Answers<ToNode>, ApiError> {
        let answers = messages.map(|message| match message? {
            ToLeader::Heartbeat(heartbeat) => Ok(ToNode::Recorded { seq: heartbeat.seen.0 }),
            _ => Ok(ToNode::Welcome { heartbeat: Span::millis(500), start_in: Span(0) }),
        });
        Ok(answers.boxed())
    }

    async fn watch(&self, _: Caller, ask: WatchNode) -> Result<Answers<Vec<WatchItem>>, ApiError> {
        if ask.node == LARGE {
            return Ok(futures::stream::iter([Ok(large())]).boxed());
        }
        let mut items = vec![WatchItem::Reset];
        let elsewhere = ask.places.iter().flatten().cloned();
        items.extend(elsewhere.map(|place| WatchItem::BoundElsewhere(place, Epoch(1))));
        items.push(WatchItem::Synced(Revision(ask.node.0)));
        Ok(futures::stream::iter([Ok(items)]).boxed())
    }
}

/// Items of one MiB each, as they are sent.
fn large() -> Vec<WatchItem> {
    let node = Node {
        id: LARGE,
        key: NodeKey::from("k"),
        facts: facts(),
        given_labels: Vec::new(),
        status: NodeStatus::Ready,
        since: Timestamp(0),
        reason: "\"".repeat(512 << 10),
        registered: Revision(1),
        revision: Revision(2),
        drain: None,
        may_vote: true,
    };
    let mut items = vec![WatchItem::Own(Box::new(node)); 20];
    items.push(WatchItem::Synced(Revision(3)));
    items
}

#[async_trait]
impl LogsApi for Echo {
    async fn read(&self, _: Caller, ask: LogsOf) -> Result<Answers<LogLine>, ApiError> {
        Err(ApiError::NotFound(format!("{} never ran here", ask.bucket)))
    }

    async fn read_attempt(&self, _: Caller, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError> {
        Err(ApiError::NotFound(format!("{ask:?} never ran here")))
    }
}

pub(super) async fn start() -> (Arc<Echo>, PeerClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let echo = Arc::new(Echo::default());
    let server = Server::new().peers(echo.clone()).agents(echo.clone()).logs(echo.clone());
    tokio::spawn(server.serve(listener, Arc::new(Alone), ServeOptions::default(), std::future::pending()));
    (echo, PeerClient::new(&Contact::anyone(&address), &crate::Transport::plain()).unwrap())
}

pub(super) fn header() -> PeerHeader {
    PeerHeader { cluster: ClusterId::from("c"), from: NodeId(1), to: NodeId(2) }
}

pub(super) fn facts() -> Facts {
    Facts {
        name: NodeName::new("n2").unwrap(),
        hostname: "h2".to_owned(),
        address: "b:2".to_owned(),
        labels: vec!["gpu".to_owned()],
        allow: Vec::new(),
        deny: Vec::new(),
        version: "0.1.0".to_owned(),
        cpu: 2,
        memory_total: sheaf_model::Bytes(1 << 30),
        notes: Vec::new(),
    }
}

#[tokio::test]
async fn nodes_greet_and_join() {
    let (_, client) = start().await;
    for nonce in [None, Some([7; 32])] {
        let (instance, key) = ("you".to_owned(), NodeKey::from("k"));
        let ask = HelloAsk { instance, key: key.clone(), cluster: None, node: None, nonce };
        assert_eq!(client.hello(ask, SOON).await.unwrap(), greeting(key, nonce));
    }
    let mut ask = JoinAsk {
        key: NodeKey::from("k"),
        cluster: None,
        facts: facts(),
        public_key: vec![4; 65],
        token: Some(TokenText::new(TokenId([1; 6]), [2; 32], None)),
    };
    let joined =
        Joined::Registered { cluster: ClusterId::from("c"), node: NodeId(4), certified: Some(certified()) };
    assert_eq!(client.join(&ask, SOON).await.unwrap(), joined);
    ask.cluster = Some(ClusterId::from("c"));
    let leader = Contact::of(NodeId(2), "b:2");
    assert_eq!(client.join(&ask, SOON).await.unwrap(), Joined::Redirect(Some(leader)));
    ask.cluster = Some(ClusterId::from("old"));
    let anyone = Contact::anyone("b:2");
    assert_eq!(client.join(&ask, SOON).await.unwrap(), Joined::Redirect(Some(anyone)), "it does not say who");
    ask.cluster = Some(ClusterId::from("d"));
    assert_eq!(client.join(&ask, SOON).await.unwrap(), Joined::Refused("you belong to d".to_owned()));
    let (instance, key) = (String::new(), NodeKey::from("k"));
    let nobody = HelloAsk { instance, key, cluster: None, node: None, nonce: None };
    assert!(matches!(client.hello(nobody, SOON).await, Err(ApiError::Invalid(_))));
}

#[tokio::test]
async fn a_key_is_asked_for_by_its_authoritys_fingerprint() {
    let (_, client) = start().await;
    let cluster = ClusterId::from("c");
    let got = client.fetch_authority(&cluster, &Digest([5; 32]), SOON).await.unwrap();
    assert_eq!((got.key.0.as_str(), got.certificate), ("c", vec![5; 32]));
    assert_eq!(client.renew(&cluster, &[4; 65], SOON).await.unwrap(), certified());
}

#[tokio::test]
async fn the_log_travels_as_bytes_with_a_header() {
    let (echo, client) = start().await;
    let large = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(client.raft(header(), large.clone(), SOON).await.unwrap(), large);
    let messages = futures::stream::iter((0..100_u8).map(|n| Bytes::from(vec![n; 1000]))).boxed();
    let answers = client.raft_stream(header(), messages, SOON).await.unwrap();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap()[0]).collect().await;
    assert_eq!(answers, (0..100).collect::<Vec<u8>>());
    let beats = futures::stream::iter([Bytes::from_static(b"1"), Bytes::from_static(b"2")]).boxed();
    let answers = client.raft_heartbeats(header(), beats, SOON).await.unwrap();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers, ["1", "2"]);
    let pieces = futures::stream::iter((0..20).map(|_| Ok(Bytes::from(vec![0; 1 << 20])))).boxed();
    let answer = client.raft_snapshot(header(), Bytes::from_static(b"head"), pieces).await.unwrap();
    assert_eq!(answer, format!("4 and {}", 20 << 20));
    assert_eq!(*echo.headers.lock().unwrap(), [header(), header(), header(), header()]);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_is_the_senders_error() {
    let (_, client) = start().await;
    let broken = std::io::Error::other("disk on fire");
    let pieces = futures::stream::iter([Ok(Bytes::from_static(b"x")), Err(broken)]).boxed();
    let error = client.raft_snapshot(header(), Bytes::new(), pieces).await.unwrap_err();
    assert!(error.to_string().contains("disk on fire"), "{error}");
}

#[tokio::test]
async fn agents_hold_sessions_and_watch() {
    let (_, client) = start().await;
    let heartbeat = Heartbeat { sent_at: Moment(5), load: Load::default(), seen: Revision(9) };
    let messages = vec![ToLeader::Goodbye, ToLeader::Heartbeat(heartbeat)];
    let answers = client.session(futures::stream::iter(messages).boxed(), SOON).await.unwrap();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    assert_eq!(
        answers,
        [ToNode::Welcome { heartbeat: Span::millis(500), start_in: Span(0) }, ToNode::Recorded { seq: 9 }]
    );
    let places = [name("/b"), name("/a")];
    let ask =
        WatchNode { cluster: ClusterId::from("c"), node: NodeId(7), places: Some(places.clone().into()) };
    let items: Vec<_> = client.watch(ask, SOON).await.unwrap().map(Result::unwrap).collect().await;
    let [b, a] = places.map(|place| WatchItem::BoundElsewhere(place, Epoch(1)));
    assert_eq!(items, [vec![WatchItem::Reset, a, b, WatchItem::Synced(Revision(7))]]);
    let of = LogsOf { bucket: name("/a"), follow: false, since: None, tail: None, previous: false };
    let error = client.logs(of, SOON).await.err().unwrap();
    assert_eq!(error, ApiError::NotFound("/a never ran here".to_owned()));
}

#[tokio::test]
async fn a_watch_of_more_than_a_message_may_have_is_told_whole() {
    let (_, client) = start().await;
    let ask = WatchNode { cluster: ClusterId::from("c"), node: LARGE, places: None };
    let told: Vec<_> = client.watch(ask, SOON).await.unwrap().map(Result::unwrap).collect().await;
    assert!(told.len() >= 5, "{} messages", told.len());
    assert!(told.concat() == large(), "{} items", told.concat().len());
}
