//! Who is let in, over real connections whose certificates are made up.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use sheaf_model::{
    Actor, ClusterId, Contact, NodeId, NodeKey, Prefix, Rights, Role, TokenId, TokenName, TokenText,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming};

use super::fake::{Fake, Script, apply, name};
use super::idle;
use super::peers::{Echo, SOON, header};
use crate::bucket::{BucketLogs, ListBuckets, OnBucket};
use crate::forward::Front;
use crate::logs::LogsOf;
use crate::peer::{HelloAsk, PeerClient, WatchNode};
use crate::transport::Arrived;
use crate::{
    Admitted, ApiError, Bearer, Certificate, Client, Guard, Need, Options, Presented, Refused, ServeOptions,
    Server, Target, guard,
};

/// How many calls of its own a node may have under way.
const OWN_CALLS: usize = 8;
/// Streams on one connection: more than a node opens.
const STREAMS: u32 = 10_000;

/// Knows tokens by their first byte, and one member.
struct Door {
    member: NodeId,
    revoked: watch::Sender<bool>,
    seen: Mutex<Vec<(Presented, Need)>>,
}

fn token(role: u8) -> TokenText {
    TokenText::new(TokenId([role; 6]), [0xcd; 32], None)
}

fn rights(token: &TokenText) -> Result<Rights, ApiError> {
    let unknown = || ApiError::Unauthenticated("this token is not known here".to_owned());
    match token.id().0[0] {
        1 => Ok(Rights::of(Role::Viewer)),
        2 => Rights::new(Role::Operator, Prefix::new("/team-a/").ok()).map_err(|_| unknown()),
        3 => Ok(Rights::of(Role::Operator)),
        4 => Ok(Rights::of(Role::Admin)),
        _ => Err(unknown()),
    }
}

impl Guard for Door {
    fn admit(&self, presented: Presented, need: Need) -> BoxFuture<'_, Result<Admitted, ApiError>> {
        self.seen.lock().unwrap().push((presented.clone(), need));
        let admitted = match (presented.token, presented.certificate, presented.on_behalf) {
            (Some(Bearer::Token(token)), ..) => {
                rights(&token).map(|rights| Admitted::User { name: TokenName::new("alice").unwrap(), rights })
            }
            (None, Some(Certificate::Node(_)), Some(node)) => Ok(Admitted::Node(node)),
            (None, Some(Certificate::Bootstrap), _) => {
                Ok(Admitted::Joining { may_vote: true, by: "key".to_owned() })
            }
            _ => Err(guard::nobody()),
        };
        Box::pin(async move {
            let admitted = admitted?;
            admitted.meets(need).map(|()| admitted)
        })
    }

    fn is_member(&self, node: NodeId) -> bool {
        node == self.member
    }

    fn until_gone(&self, _: &Admitted) -> BoxFuture<'static, ()> {
        let mut revoked = self.revoked.subscribe();
        Box::pin(async move { drop(revoked.wait_for(|revoked| *revoked).await) })
    }
}

/// As if every connection showed this certificate.
#[derive(Clone)]
struct Certified<S>(S, Option<Certificate>);

impl tower::Service<Request<Body>> for Certified<Front> {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let tcp = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        request.extensions_mut().insert(Arrived::new(tcp, None));
        if let Some(certificate) = self.1 {
            request.extensions_mut().insert(certificate);
        }
        self.0.call(request)
    }
}

/// Whoever connects there shows this.
fn serve(listener: TcpListener, front: Front, certificate: Option<Certificate>) {
    let serving = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS)
        .serve_with_incoming(Certified(front, certificate), TcpIncoming::from(listener));
    tokio::spawn(serving);
}

struct Node {
    address: String,
    front: Front,
    fake: Arc<Fake>,
    door: Arc<Door>,
    refused: Refused,
    _stop: watch::Sender<bool>,
}

impl Node {
    /// One that answers as told; whoever connects shows `certificate`, and node 7 is a member.
    async fn start(target: Target, certificate: Option<Certificate>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Fake::default());
        let door =
            Arc::new(Door { member: NodeId(7), revoked: watch::Sender::new(false), seen: Mutex::default() });
        let echo = Arc::new(Echo::default());
        let server = Server::new().buckets(fake.clone()).peers(echo.clone()).agents(echo);
        let (refused, (stop, stopped)) = (Refused::default(), watch::channel(false));
        let few = ServeOptions { calls: 100, node_calls: OWN_CALLS, ..ServeOptions::default() };
        let options = ServeOptions { answers: idle::LITTLE, ..few };
        let server = server.guarded(door.clone()).counting(refused.clone());
        let front = server.front(Script::new([target]), options, stopped).unwrap();
        serve(listener, front.clone(), certificate);
        Self { address, front, fake, door, refused, _stop: stop }
    }

    /// A viewer of the same node that comes by a connection with this certificate.
    async fn viewer_by(&self, certificate: Option<Certificate>) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        serve(listener, self.front.clone(), certificate);
        let options = Options { token: Some(Bearer::Token(token(1))), ..Options::default() };
        Client::connect(&address, options).await.unwrap()
    }

    async fn client(&self, token: Option<TokenText>) -> Client {
        let (actor, token) = (Some("cli:alice@ops1".to_owned()), token.map(Bearer::Token));
        let options = Options { actor, token, ..Options::default() };
        Client::connect(&self.address, options).await.unwrap()
    }

    fn actors(&self) -> Vec<Actor> {
        self.fake.callers.lock().unwrap().iter().map(|caller| caller.actor.clone()).collect()
    }

    fn last_seen(&self) -> Presented {
        self.door.seen.lock().unwrap().last().unwrap().0.clone()
    }
}

fn suspend() -> OnBucket {
    OnBucket { bucket: name("/team-a/web"), base: None, request: None }
}

#[tokio::test]
async fn a_call_needs_a_token_that_is_known_and_reaches_far_enough() {
    let node = Node::start(Target::Local, None).await;
    let error = node.client(None).await.apply_bucket(apply(None)).await.unwrap_err();
    assert_eq!(
        error,
        ApiError::Unauthenticated("this cluster asks for a token: sheaf login, or SHEAF_TOKEN".to_owned())
    );
    let error = node.client(Some(token(9))).await.apply_bucket(apply(None)).await.unwrap_err();
    assert!(matches!(error, ApiError::Unauthenticated(_)), "{error:?}");
    let error = node.client(Some(token(1))).await.apply_bucket(apply(None)).await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Forbidden(why) if why.contains("needs the role operator")),
        "{error:?}"
    );
    assert!(node.actors().is_empty(), "nobody was let in");

    let operator = node.client(Some(token(3))).await;
    operator.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(node.actors(), [Actor::from("user:alice")], "whatever it says itself");
    let caller = node.fake.callers.lock().unwrap()[0].clone();
    assert!(caller.may_change(&name("/anything")).is_ok() && caller.may(Role::Admin).is_err());
    assert!(caller.speaks_for(NodeId(1)).is_err());

    // Of an operator of some buckets it is asked again who they are.
    node.client(Some(token(2))).await.apply_bucket(apply(None)).await.unwrap();
    let caller = node.fake.callers.lock().unwrap()[1].clone();
    assert!(caller.may_change(&name("/team-a/x")).is_ok() && caller.may_change(&name("/team-b/x")).is_err());

    let viewer = node.client(Some(token(1))).await;
    assert!(matches!(viewer.bucket(&name("/a")).await, Err(ApiError::NotFound(_))), "it is let in");
    assert!(matches!(viewer.suspend_bucket(suspend()).await, Err(ApiError::Forbidden(_))));
    let printed = format!("{viewer:?}");
    assert!(!printed.contains("cdcd"), "{printed}");
}

/// What a question that never ends is answered.
async fn endless(node: &Node, begin: usize) -> ApiError {
    use http_body_util::StreamBody;
    use tower::ServiceExt as _;
    let first = http_body::Frame::data(Bytes::from(vec![0; begin]));
    let frames = futures::stream::iter([Ok::<_, tonic::Status>(first)]).chain(futures::stream::pending());
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
    let request = Request::post("/sheaf.v1.BucketService/List").header("content-type", "application/grpc");
    let request = request.body(Body::new(StreamBody::new(frames))).unwrap();
    let answer = channel.connect().await.unwrap().oneshot(request);
    let response = tokio::time::timeout(SOON, answer).await.expect("nobody waits for its end").unwrap();
    let status = tonic::Status::from_header_map(response.headers()).expect("an error");
    crate::error::from_status("a:1", &status)
}

#[tokio::test]
async fn who_is_not_let_in_is_told_before_anything_is_read() {
    let node = Node::start(Target::Local, None).await;
    assert!(matches!(endless(&node, 5).await, ApiError::Unauthenticated(_)));
    // Where it is answered elsewhere nobody can be judged; but who shows nothing asks nothing long.
    let node = Node::start(Target::To(Contact::anyone(super::fake::nobody().await)), None).await;
    assert!(matches!(endless(&node, 100_000).await, ApiError::Unauthenticated(_)));
    assert!(node.door.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_is_refused_leaves_no_stream_behind_by_a_question_that_does_not_end() {
    let node = Node::start(Target::Local, None).await;
    let stream = TcpStream::connect(&node.address).await.unwrap();
    // Nothing is taken but what every answer begins with.
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for path in [
        "/sheaf.v1.BucketService/List",
        "/sheaf.v1.BucketService/Logs",
        "/sheaf.v1.JobService/Submit",
        "/sheaf.peer.v1.AgentService/Watch",
        "/x.Y/Z",
    ] {
        let request = Request::post(format!("http://{}{path}", node.address));
        let request = request.header("content-type", "application/grpc").body(()).unwrap();
        let (answer, mut question) = client.send_request(request, false).unwrap();
        let answer = tokio::time::timeout(SOON, answer).await.expect("nobody waits for its end").unwrap();
        let refused = tonic::Status::from_header_map(answer.headers()).expect("an error");
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{path}: {refused}");
        assert!(answer.body().is_end_stream(), "{path}: nothing else is to come");
        let over = std::future::poll_fn(|context| question.poll_reset(context));
        let over = tokio::time::timeout(SOON, over).await.expect("nor does anybody listen").unwrap();
        assert_eq!(over, h2::Reason::NO_ERROR, "{path}");
    }
}

#[tokio::test]
async fn what_streams_to_somebody_ends_when_its_token_is_revoked() {
    let node = Node::start(Target::Local, None).await;
    let of = LogsOf { bucket: name("/a"), follow: true, since: None, tail: None, previous: false };
    let viewer = node.client(Some(token(1))).await;
    let mut lines = viewer.bucket_logs(BucketLogs { of, node: None, after: vec![] }).await.unwrap();
    lines.next().await.unwrap().unwrap();
    node.door.revoked.send_replace(true);
    let last = tokio::time::timeout(SOON, lines.skip(1).next()).await.expect("it ends").unwrap();
    assert!(matches!(&last, Err(ApiError::Unauthenticated(why)) if why.contains("revoked")), "{last:?}");
}

#[tokio::test]
async fn what_is_no_token_is_refused_without_repeating_it() {
    let node = Node::start(Target::Local, None).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    for (shown, said) in [
        ("Basic aHVudGVyMjpodW50ZXIy", "is not `Bearer TOKEN`"),
        ("hunter2", "is not `Bearer TOKEN`"),
        ("Bearer hunter2", "is no token of Sheaf"),
        ("bearer sheaf_0101", "is no token of Sheaf"),
    ] {
        let mut client = crate::proto::v1::bucket_service_client::BucketServiceClient::new(channel.clone());
        let mut request = tonic::Request::new(crate::proto::v1::ListBucketsRequest::default());
        request.metadata_mut().insert("authorization", shown.parse().unwrap());
        let status = client.list(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().contains(said) && !status.message().contains("hunter2"), "{status:?}");
    }
    // What tells nothing needs nothing.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let ask = tonic_health::pb::HealthCheckRequest { service: String::new() };
    health.check(ask).await.unwrap();
}

#[tokio::test]
async fn a_token_travels_along_and_is_judged_where_the_call_is_answered() {
    let leader = Node::start(Target::Local, Some(Certificate::Node(NodeId(7)))).await;
    let node = Node::start(Target::To(Contact::anyone(&leader.address)), None).await;
    node.client(Some(token(4))).await.apply_bucket(apply(None)).await.unwrap();
    assert_eq!(leader.actors(), [Actor::from("user:alice")]);
    assert!(node.door.seen.lock().unwrap().is_empty(), "who carries it on has nothing to say");
    let seen = leader.last_seen();
    assert_eq!(seen.certificate, Some(Certificate::Node(NodeId(7))));
    assert_eq!(seen.remote, Some(IpAddr::from([127, 0, 0, 1])));

    // Who shows nothing does not become the node that carries the call.
    let error = node.client(None).await.apply_bucket(apply(None)).await.unwrap_err();
    assert!(matches!(error, ApiError::Unauthenticated(_)), "{error:?}");
    assert_eq!(leader.last_seen().on_behalf, None);
}

/// A client that says of itself what only members may say of others.
async fn liar(node: &Node) -> ApiError {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut client = crate::proto::v1::bucket_service_client::BucketServiceClient::new(channel);
    let mut request = tonic::Request::new(crate::proto::v1::SuspendBucketRequest {
        name: "/a".to_owned(),
        ..Default::default()
    });
    for (key, value) in [("sheaf-node", "9"), ("sheaf-remote", "10.9.9.9"), ("sheaf-forwarded", "1")] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    crate::error::from_status("a:1", &client.suspend(request).await.unwrap_err())
}

#[tokio::test]
async fn only_a_member_says_whose_call_it_carries() {
    let node = Node::start(Target::Local, None).await;
    assert!(matches!(liar(&node).await, ApiError::Unauthenticated(_)));
    let seen = node.last_seen();
    assert_eq!((seen.on_behalf, seen.remote), (None, Some(IpAddr::from([127, 0, 0, 1]))));

    let node = Node::start(Target::Local, Some(Certificate::Node(NodeId(3)))).await;
    let error = liar(&node).await;
    assert!(matches!(&error, ApiError::Forbidden(why) if why.starts_with("node 3 ")), "{error:?}");
    assert_eq!(node.last_seen().on_behalf, Some(NodeId(3)), "no member: it is itself");
    assert_eq!(
        node.last_seen().remote,
        Some([10, 9, 9, 9].into()),
        "a node: it knows where the call came from"
    );

    let node = Node::start(Target::Local, Some(Certificate::Node(NodeId(7)))).await;
    liar(&node).await;
    let seen = node.last_seen();
    assert_eq!((seen.on_behalf, seen.remote), (Some(NodeId(9)), Some(IpAddr::from([10, 9, 9, 9]))));

    // Through a member: a node's own call stays its own.
    let leader = Node::start(Target::Local, Some(Certificate::Node(NodeId(7)))).await;
    let through = Target::To(Contact::anyone(&leader.address));
    let member = Node::start(through.clone(), Some(Certificate::Node(NodeId(3)))).await;
    liar(&member).await;
    assert_eq!(leader.last_seen().on_behalf, Some(NodeId(3)));
    let member = Node::start(through, None).await;
    liar(&member).await;
    assert_eq!(
        (leader.last_seen().on_behalf, leader.last_seen().remote),
        (None, Some([127, 0, 0, 1].into()))
    );
}

#[tokio::test]
async fn what_a_node_asks_for_somebody_comes_from_there_as_far_as_the_leader() {
    let browser = IpAddr::from([192, 0, 2, 7]);
    for node in [3, 7] {
        let leader = Node::start(Target::Local, Some(Certificate::Node(NodeId(node)))).await;
        let through = Target::To(Contact::anyone(&leader.address));
        let own = Node::start(through, Some(Certificate::Node(NodeId(node)))).await;
        let client = own.client(Some(token(9))).await.asking_for(browser);
        let error = client.acting_as("web:192.0.2.7").unwrap().apply_bucket(apply(None)).await.unwrap_err();
        assert!(matches!(error, ApiError::Unauthenticated(_)), "{error:?}");
        assert_eq!(leader.last_seen().remote, Some(browser), "through node {node}");
        own.client(Some(token(9))).await.apply_bucket(apply(None)).await.unwrap_err();
        assert_eq!(leader.last_seen().remote, Some([127, 0, 0, 1].into()), "its own");
        // Whoever asks on in its name says so, too.
        own.client(Some(token(3))).await.asking_for(browser).apply_bucket(apply(None)).await.unwrap();
        assert_eq!(leader.fake.callers.lock().unwrap()[0].remote, Some(browser));
    }
    // Of anybody else it is not believed.
    let node = Node::start(Target::Local, None).await;
    let client = node.client(Some(token(9))).await.asking_for(browser);
    client.apply_bucket(apply(None)).await.unwrap_err();
    assert_eq!(node.last_seen().remote, Some([127, 0, 0, 1].into()));
    node.client(Some(token(3))).await.asking_for(browser).apply_bucket(apply(None)).await.unwrap();
    assert_eq!(node.fake.callers.lock().unwrap()[0].remote, Some([127, 0, 0, 1].into()));
}

#[tokio::test]
async fn a_node_speaks_for_itself_and_nobody_as_a_user() {
    let node = Node::start(Target::Local, Some(Certificate::Node(NodeId(1)))).await;
    let peer = PeerClient::new(&Contact::anyone(&node.address), &crate::Transport::plain()).unwrap();
    peer.raft(header(), "vote".into(), SOON).await.expect("node 1 sends its own messages");
    let other = crate::peer::PeerHeader { from: NodeId(2), ..header() };
    let error = peer.raft(other, "vote".into(), SOON).await.unwrap_err();
    assert_eq!(error, ApiError::Forbidden("node 1 does not speak for node 2".to_owned()));
    let options = Options { actor: Some("user:root".to_owned()), ..Options::default() };
    let client = Client::connect(&node.address, options).await.unwrap();
    let error = client.bucket(&name("/a")).await.unwrap_err();
    assert_eq!(error, ApiError::Forbidden("node 1 is not user:root: only a token says so".to_owned()));

    let ask = WatchNode { cluster: ClusterId::from("c"), node: NodeId(1), places: None };
    let hello = HelloAsk {
        instance: "i".to_owned(),
        key: NodeKey::from("k"),
        cluster: None,
        node: None,
        nonce: None,
    };
    let stranger = Node::start(Target::Local, None).await;
    let peer = PeerClient::new(&Contact::anyone(&stranger.address), &crate::Transport::plain()).unwrap();
    assert!(matches!(peer.watch(ask.clone(), SOON).await.map(drop), Err(ApiError::Unauthenticated(_))));
    peer.hello(hello.clone(), SOON).await.expect("whoever may ask where to join");
    let joining = Node::start(Target::Local, Some(Certificate::Bootstrap)).await;
    let peer = PeerClient::new(&Contact::anyone(&joining.address), &crate::Transport::plain()).unwrap();
    peer.hello(hello, SOON).await.expect("it may join");
    assert!(matches!(peer.watch(ask, SOON).await.map(drop), Err(ApiError::Forbidden(_))));
    let error = peer.raft(header(), "vote".into(), SOON).await.unwrap_err();
    assert!(matches!(error, ApiError::Forbidden(_)), "{error:?}");
}

#[tokio::test]
async fn a_node_has_so_many_calls_under_way_and_is_told_so() {
    let node = Node::start(Target::Local, Some(Certificate::Node(NodeId(1)))).await;
    let peer = PeerClient::new(&Contact::anyone(&node.address), &crate::Transport::plain()).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..OWN_CALLS {
        // It says nothing, and ends where its other side does, as an agent's does.
        let (ends, ended) = tokio::sync::oneshot::channel::<()>();
        let nothing = futures::stream::once(ended).filter_map(async |_| None);
        sessions.push((peer.session(nothing.boxed(), SOON).await.expect("there is room"), ends));
    }
    let error = peer.raft(header(), "vote".into(), SOON).await.unwrap_err();
    let ApiError::Busy(why) = &error else { panic!("{error:?}") };
    assert!(why.contains("node 1 has 8 calls under way with this node"), "{why}");
    assert_eq!(node.refused.times(), 1);
    // What is carried on to here is somebody else's.
    let viewer = node.client(Some(token(1))).await;
    assert!(matches!(viewer.bucket(&name("/a")).await, Err(ApiError::NotFound(_))), "it is let in");

    sessions.pop();
    let begun = std::time::Instant::now();
    while let Err(error) = peer.raft(header(), "vote".into(), SOON).await {
        assert!(begun.elapsed() < SOON, "the place is not given back: {error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn streams_through_one_node_leave_places_for_others() {
    let leader = Node::start(Target::Local, None).await;
    let [seven, eight] = [7, 8].map(|node| Some(Certificate::Node(NodeId(node))));
    let through = leader.viewer_by(seven).await;
    let of = LogsOf { bucket: name("/a"), follow: true, since: None, tail: None, previous: false };
    let logs = || BucketLogs { of: of.clone(), node: None, after: vec![] };
    let mut taken = Vec::new();
    let error = loop {
        match through.bucket_logs(logs()).await {
            Ok(lines) => taken.push(lines),
            Err(error) => break error,
        }
    };
    let ApiError::Busy(why) = &error else { panic!("{error:?} after {} streams", taken.len()) };
    assert!(why.contains("node 7 has 1024 streams under way with this node"), "{why}");
    assert_eq!((taken.len(), leader.refused.times()), (1024, 1));
    for certificate in [None, eight] {
        let other = leader.viewer_by(certificate).await;
        let mut lines = other.bucket_logs(logs()).await.expect("there are places");
        lines.next().await.unwrap().unwrap();
    }
    // What node 7 carries that is no stream is not among them.
    assert!(matches!(through.bucket(&name("/a")).await, Err(ApiError::NotFound(_))));

    taken.pop();
    let begun = std::time::Instant::now();
    while let Err(error) = through.bucket_logs(logs()).await {
        assert!(begun.elapsed() < SOON, "the place is not given back: {error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_does_not_read_its_answers_leaves_room_for_those_that_other_nodes_carry() {
    let leader = Node::start(Target::Local, None).await;
    let shown = format!("Bearer {}", Bearer::Token(token(1)).reveal());
    let channel = idle::caller(&leader.address).await;
    let unread = idle::until_refused(&channel, &shown).await;
    assert_eq!(unread.len(), idle::FEW);
    let through = leader.viewer_by(Some(Certificate::Node(NodeId(7)))).await;
    through.list_buckets(ListBuckets::default()).await.expect("it is read at once");
    drop(unread);
}
