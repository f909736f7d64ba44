//! Peers that take connections and never answer, and peers that fall silent: nothing waits for them for ever.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use sheaf_model::session::ToLeader;
use sheaf_model::{ClusterId, Contact, NodeId, NodeKey};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::fake::{apply, name};
use super::peers::{SOON, facts, header, start};
use crate::bucket::{BucketLogs, ListBuckets, WatchBuckets};
use crate::debug::AskDebug;
use crate::event::WatchEvents;
use crate::instance::WatchObjects;
use crate::logs::LogsOf;
use crate::peer::{HelloAsk, JoinAsk, PeerClient, WatchNode};
use crate::proto::DESCRIPTORS;
use crate::{ApiError, Client, Options};

const PATIENCE: Duration = Duration::from_millis(200);

/// An address where connections are taken, and nothing is ever said: so does the kernel for a process that is stopped.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn is_late<T>(what: &str, answer: Result<T, ApiError>) {
    let error = answer.err().unwrap_or_else(|| panic!("{what}: nobody can have answered"));
    assert!(matches!(error, ApiError::DeadlineExceeded(_)), "{what}: {error:?}");
}

fn logs_of() -> LogsOf {
    LogsOf { bucket: name("/a"), follow: true, since: None, tail: None, previous: false }
}

#[tokio::test]
async fn calls_between_nodes_end_at_their_deadline() {
    let (_listener, address) = silent().await;
    let client = PeerClient::new(&Contact::anyone(&address), &crate::Transport::plain()).unwrap();
    let hello = HelloAsk {
        instance: "me".to_owned(),
        key: NodeKey::from("k"),
        cluster: None,
        node: None,
        nonce: None,
    };
    let join = JoinAsk {
        key: NodeKey::from("k"),
        cluster: None,
        facts: facts(),
        public_key: Vec::new(),
        token: None,
    };
    let watch = WatchNode { cluster: ClusterId::from("c"), node: NodeId(7), places: None };
    let cluster = ClusterId::from("c");
    let messages = || futures::stream::pending::<Bytes>().boxed();
    let said = || futures::stream::pending::<ToLeader>().boxed();
    let all = [
        ("hello", client.hello(hello, PATIENCE).map(|it| it.map(drop)).boxed()),
        ("join", client.join(&join, PATIENCE).map(|it| it.map(drop)).boxed()),
        ("raft", client.raft(header(), Bytes::new(), PATIENCE).map(|it| it.map(drop)).boxed()),
        ("raft stream", client.raft_stream(header(), messages(), PATIENCE).map(|it| it.map(drop)).boxed()),
        ("heartbeats", client.raft_heartbeats(header(), messages(), PATIENCE).map(|it| it.map(drop)).boxed()),
        ("session", client.session(said(), PATIENCE).map(|it| it.map(drop)).boxed()),
        ("watch", client.watch(watch, PATIENCE).map(|it| it.map(drop)).boxed()),
        ("logs", client.logs(logs_of(), PATIENCE).map(|it| it.map(drop)).boxed()),
        ("debug", client.collect_debug(&cluster, PATIENCE).map(|it| it.map(drop)).boxed()),
    ];
    let ended = all.map(|(what, call)| async move { is_late(what, call.await) });
    tokio::time::timeout(SOON, futures::future::join_all(ended)).await.expect("each at its deadline");
}

#[tokio::test]
async fn calls_of_clients_end_at_their_deadline() {
    let (_listener, address) = silent().await;
    let client = Client::lazy(&address, Options { deadline: PATIENCE, ..Options::default() }).unwrap();
    let objects = WatchObjects { bucket: name("/a"), prefix: String::new(), after: None };
    let all = [
        ("a change", client.apply_bucket(apply(None)).map(|it| it.map(drop)).boxed()),
        ("a list", client.list_buckets(ListBuckets::default()).map(|it| it.map(drop)).boxed()),
        ("cluster", client.cluster_status().map(|it| it.map(drop)).boxed()),
        ("snapshot", client.save_snapshot().map(|it| it.map(drop)).boxed()),
        ("debug", client.debug(AskDebug::default()).map(|it| it.map(drop)).boxed()),
        ("buckets", client.watch_buckets(WatchBuckets::default()).map(|it| it.map(drop)).boxed()),
        ("events", client.watch_events(WatchEvents::default()).map(|it| it.map(drop)).boxed()),
        ("objects", client.watch_objects(objects).map(|it| it.map(drop)).boxed()),
        (
            "logs",
            client
                .bucket_logs(BucketLogs { of: logs_of(), node: None, after: vec![] })
                .map(|it| it.map(drop))
                .boxed(),
        ),
    ];
    let ended = all.map(|(what, call)| async move { is_late(what, call.await) });
    tokio::time::timeout(SOON, futures::future::join_all(ended)).await.expect("each at its deadline");
}

/// Where calls are made. Whoever adds a service adds its client here.
const CLIENTS: [&str; 12] = [
    include_str!("../backend/client.rs"),
    include_str!("../bucket/client.rs"),
    include_str!("../cluster/client.rs"),
    include_str!("../event/client.rs"),
    include_str!("../instance/client.rs"),
    include_str!("../job/client.rs"),
    include_str!("../module/client.rs"),
    include_str!("../node/client.rs"),
    include_str!("../peer/client.rs"),
    include_str!("../query/client.rs"),
    include_str!("../secret/client.rs"),
    include_str!("../sink/client.rs"),
];
/// How a call is made that ends at its deadline, as those above show.
const WAYS: [&str; 3] = ["self.unary(request,", "self.stream(request,", "self.within(deadline,"];
/// These take as long as what they carry: a submit as its items, and a snapshot ends when nothing of it is taken.
const LONG: [&str; 2] = ["JobService/Submit", "PeerService/RaftSnapshot"];

/// What stands before each place where a client makes a call, from the beginning of the statement on; without blanks.
fn places<'a>(source: &'a str, call: &str) -> Vec<&'a str> {
    let mut name = String::new();
    for (at, letter) in call.char_indices() {
        name.extend((at > 0 && letter.is_ascii_uppercase()).then_some('_'));
        name.push(letter.to_ascii_lowercase());
    }
    let made = [format!(".{name}("), format!(".r#{name}(")];
    let found = made.iter().flat_map(|made| source.match_indices(made.as_str()));
    // Iterators have a `collect`, too, which takes nothing.
    let found = found.filter(|(at, made)| !source[at + made.len()..].starts_with(')'));
    let begin = |at: usize| source[..at].rfind([';', '{']).map_or(0, |end| end + 1);
    found.map(|(at, _)| &source[begin(at)..at]).collect()
}

#[test]
fn no_call_is_made_without_a_deadline() {
    let sources: Vec<String> = CLIENTS.iter().map(|text| text.split_whitespace().collect()).collect();
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
    for file in files.file.iter().filter(|file| file.package().starts_with("sheaf.")) {
        for service in &file.service {
            let client = format!("{}Client::new(", service.name());
            let clients: Vec<&String> = sources.iter().filter(|source| source.contains(&client)).collect();
            for call in &service.method {
                let name = format!("{}/{}", service.name(), call.name());
                let places: Vec<&str> =
                    clients.iter().flat_map(|source| places(source, call.name())).collect();
                assert!(!places.is_empty(), "{name}: no client makes it");
                let ends = |place: &&str| WAYS.iter().any(|way| place.contains(way));
                assert_eq!(places.iter().all(ends), !LONG.contains(&name.as_str()), "{name}: {places:?}");
            }
        }
    }
}

/// A way to `to` that carries bytes until it is told to carry nothing more; the connection stays.
async fn way(to: String) -> (String, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cut, is_cut) = watch::channel(false);
    tokio::spawn(async move {
        let mut carried = Vec::new();
        while let Ok((here, _)) = listener.accept().await {
            let there = TcpStream::connect(&to).await.unwrap();
            let mut is_cut = is_cut.clone();
            carried.push(tokio::spawn(async move {
                let ((mut from, mut back), (mut answers, mut forth)) = (here.into_split(), there.into_split());
                tokio::select! {
                    _ = async { tokio::join!(copy(&mut from, &mut forth), copy(&mut answers, &mut back)) } => {}
                    _ = is_cut.wait_for(|cut| *cut) => {}
                }
                // Held open, and silent.
                std::future::pending::<()>().await;
                drop((from, back, answers, forth));
            }));
        }
    });
    (address, cut)
}

/// What a partition does to a stream: nobody says that it is over.
#[tokio::test]
async fn a_session_whose_peer_falls_silent_ends_by_its_pings() {
    let (_, there) = start().await;
    let (address, cut) = way(there.contact().address.clone()).await;
    let client = PeerClient::new(&Contact::anyone(&address), &crate::Transport::plain()).unwrap();
    let said = futures::stream::iter([ToLeader::Goodbye]).chain(futures::stream::pending());
    let mut answers = client.session(said.boxed(), SOON).await.unwrap();
    answers.next().await.unwrap().unwrap();
    cut.send_replace(true);
    let begun = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(15), answers.next()).await;
    let error = ended.expect("pings find out").expect("as an error").unwrap_err();
    assert!(error.can_retry(), "{error:?}");
    assert!(begun.elapsed() > Duration::from_secs(2), "not before they were missed: {:?}", begun.elapsed());
}
