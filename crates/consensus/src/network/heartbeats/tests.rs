//! Heartbeats to a peer that does what a script says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use openraft::network::RPCOption;
use openraft::raft::AppendEntriesRequest;
use openraft::{BasicNode, RaftNetworkFactory as _, RaftNetworkV2 as _};
use sheaf_store::Store;
use tempfile::TempDir;

use super::*;
use crate::DATABASE;
use crate::network::{Client, Network, RpcError};
use crate::proof::Proof;
use crate::raft::{Vote, log_id};
use crate::snapshot::Copies;

const DEADLINE: Duration = Duration::from_millis(200);

/// What becomes of a stream.
enum Does {
    Refuse,
    NotReach,
    /// It is opened, but nobody says so.
    NotOpen,
    Answer,
    /// So many are answered, and no more.
    Hang(usize),
    /// It ends after so many answers.
    End(usize),
    /// The answer after so many is that it broke.
    Break(usize),
    /// Each answer, which deposes the leader, takes so long.
    Tarry(Duration),
    /// Each answer is followed by one that deposes the leader.
    Repeat,
    /// Every answer is this.
    Say(Response),
}

fn unreachable() -> PeerError {
    PeerError::Unreachable { peer: peer(), why: "cut off".to_owned() }
}

fn refused() -> PeerError {
    PeerError::Refused { peer: peer(), why: "no streams".to_owned() }
}

fn peer() -> Peer {
    Peer { node: crate::raft::node_id(2), address: "node-2".to_owned() }
}

/// As a member answers.
fn answer(message: &Bytes) -> Bytes {
    let matching = peer::decode_append(message).unwrap().prev_log_id;
    peer::encode_appended(&Response::PartialSuccess(matching))
}

fn deposing() -> Response {
    Response::HigherVote(Vote::new(4, 2))
}

impl Does {
    fn to(self, messages: BoxStream<'static, Bytes>) -> PeerStream {
        match self {
            Self::Refuse | Self::NotReach | Self::NotOpen => stream::empty().boxed(),
            Self::Answer => messages.map(|message| Ok(answer(&message))).boxed(),
            Self::Hang(after) => messages
                .enumerate()
                .then(move |(n, message)| async move {
                    if n >= after {
                        future::pending::<()>().await;
                    }
                    Ok(answer(&message))
                })
                .boxed(),
            Self::End(after) => messages.take(after).map(|message| Ok(answer(&message))).boxed(),
            Self::Break(after) => messages
                .enumerate()
                .map(move |(n, message)| if n < after { Ok(answer(&message)) } else { Err(unreachable()) })
                .boxed(),
            Self::Tarry(long) => messages
                .then(move |_| async move {
                    tokio::time::sleep(long).await;
                    Ok(peer::encode_appended(&deposing()))
                })
                .boxed(),
            Self::Repeat => messages
                .flat_map(|message| {
                    stream::iter([Ok(answer(&message)), Ok(peer::encode_appended(&deposing()))])
                })
                .boxed(),
            Self::Say(response) => messages.map(move |_| Ok(peer::encode_appended(&response))).boxed(),
        }
    }
}

/// See the module's doc. Where the script ends, it answers.
struct Scripted {
    has_streams: bool,
    script: Mutex<VecDeque<Does>>,
    opened: AtomicUsize,
    called: AtomicUsize,
}

impl Peers for Scripted {
    fn call<'a>(&'a self, _: &'a Peer, _: Bytes, _: Duration) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        self.called.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(peer::encode_appended(&Response::Success)) })
    }

    fn has_streams(&self) -> bool {
        self.has_streams
    }

    fn stream<'a>(
        &'a self,
        _: &'a Peer,
        traffic: Traffic,
        messages: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'a, Result<PeerStream, PeerError>> {
        assert_eq!(traffic, Traffic::Heartbeats);
        self.opened.fetch_add(1, Ordering::Relaxed);
        let does = self.script.lock().unwrap().pop_front().unwrap_or(Does::Answer);
        Box::pin(async move {
            match does {
                Does::Refuse => Err(refused()),
                Does::NotReach => Err(unreachable()),
                Does::NotOpen => future::pending().await,
                does => Ok(does.to(messages)),
            }
        })
    }

    fn upload<'a>(
        &'a self,
        _: &'a Peer,
        _: Bytes,
        _: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async { Err(refused()) })
    }
}

struct Scene {
    peers: Arc<Scripted>,
    client: Client,
    sent: u64,
    _dir: TempDir,
}

impl Scene {
    async fn of(script: impl IntoIterator<Item = Does>) -> Self {
        Self::over(true, script).await
    }

    async fn over(has_streams: bool, script: impl IntoIterator<Item = Does>) -> Self {
        let script = Mutex::new(script.into_iter().collect());
        let peers = Arc::new(Scripted {
            has_streams,
            script,
            opened: AtomicUsize::new(0),
            called: AtomicUsize::new(0),
        });
        let dir = TempDir::new().unwrap();
        let store = Store::open(&dir.path().join(DATABASE)).unwrap();
        let copies = Copies::new(store.reader(), dir.path(), 0).unwrap();
        let mut network =
            Network { peers: peers.clone(), copies, append_deadline: 10 * DEADLINE, proof: Proof::default() };
        let client = network.new_heartbeat_client(2, &BasicNode::new("node-2")).await;
        Self { peers, client, sent: 0, _dir: dir }
    }

    /// Each names another log id.
    async fn beat(&mut self) -> Result<Response, RpcError> {
        self.sent += 1;
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id(3, self.sent)),
            leader_commit: None,
            entries: Vec::new(),
        };
        self.client.append_entries(request, RPCOption::new(DEADLINE)).await
    }

    /// Sends one, which is acknowledged; so many streams were opened and calls made until then.
    async fn succeeds(&mut self, opened: usize, called: usize) {
        assert_eq!(self.beat().await.unwrap(), Response::Success);
        self.counted(opened, called);
    }

    /// Sends one, which is not answered: that takes as long as is allowed.
    async fn is_late(&mut self, opened: usize) {
        let begun = Instant::now();
        let error = self.beat().await.unwrap_err();
        assert!(error.to_string().contains("did not answer within"), "{error}");
        let took = begun.elapsed();
        assert!((DEADLINE..DEADLINE + Duration::from_millis(20)).contains(&took), "{took:?}");
        self.counted(opened, 0);
    }

    fn counted(&self, opened: usize, called: usize) {
        let counts = [&self.peers.opened, &self.peers.called].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [opened, called], "streams, calls");
    }
}

#[tokio::test(start_paused = true)]
async fn all_go_over_one_stream() {
    let mut scene = Scene::of([]).await;
    for _ in 0..100 {
        scene.succeeds(1, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_hangs_takes_no_more_than_a_deadline_and_is_replaced() {
    let mut scene = Scene::of([Does::NotOpen, Does::Hang(0), Does::Hang(2)]).await;
    scene.is_late(1).await;
    scene.is_late(2).await;
    scene.succeeds(3, 0).await;
    scene.succeeds(3, 0).await;
    scene.is_late(3).await;
    scene.succeeds(4, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_taken_for_no_other() {
    let mut scene = Scene::of([Does::Tarry(2 * DEADLINE), Does::Repeat]).await;
    scene.is_late(1).await;
    tokio::time::sleep(3 * DEADLINE).await;
    scene.succeeds(2, 0).await;
    // One more answer than there were messages.
    scene.succeeds(3, 0).await;
    scene.succeeds(3, 0).await;
}

/// openraft may give up first.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_given_up_takes_its_stream_along() {
    let mut scene = Scene::of([Does::Tarry(DEADLINE), Does::Hang(1)]).await;
    assert!(tokio::time::timeout(DEADLINE / 2, scene.beat()).await.is_err());
    tokio::time::sleep(2 * DEADLINE).await;
    scene.succeeds(2, 0).await;
    assert!(tokio::time::timeout(DEADLINE / 2, scene.beat()).await.is_err());
    scene.succeeds(3, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_ended_is_replaced_at_once() {
    let mut scene = Scene::of([Does::End(2), Does::Break(1)]).await;
    scene.succeeds(1, 0).await;
    scene.succeeds(1, 0).await;
    scene.succeeds(2, 0).await;
    scene.succeeds(3, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_not_reached_is_tried_once_a_heartbeat() {
    let mut scene = Scene::of([Does::NotReach, Does::Break(0), Does::Break(1), Does::NotReach]).await;
    for opened in 1..=2 {
        let error = scene.beat().await.unwrap_err();
        assert!(error.to_string().contains("cut off"), "{error}");
        scene.counted(opened, 0);
    }
    scene.succeeds(3, 0).await;
    let error = scene.beat().await.unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
    scene.succeeds(5, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_stream_gets_calls_for_a_while() {
    let other = Response::PartialSuccess(Some(log_id(9, 9)));
    for refusal in [Does::Refuse, Does::End(0), Does::Say(other), Does::Say(Response::Success)] {
        let mut scene = Scene::of([refusal]).await;
        for called in 1..=5 {
            scene.succeeds(1, called).await;
        }
        tokio::time::sleep(CALLS_FOR).await;
        scene.succeeds(2, 5).await;
        scene.succeeds(2, 5).await;
    }
    let mut scene = Scene::over(false, []).await;
    for called in 1..=5 {
        scene.succeeds(0, called).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_ends_a_stream_is_passed_on() {
    let mut scene = Scene::of([Does::Say(Response::Conflict), Does::Say(deposing())]).await;
    assert_eq!(scene.beat().await.unwrap(), Response::Conflict);
    assert_eq!(scene.beat().await.unwrap(), deposing());
    scene.succeeds(3, 0).await;
}
