use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sheaf_artifact::Cache;
use sheaf_consensus::{Options, Peer, PeerError, Peers, Replica};
use sheaf_engine::{Command, Form, Proposal};
use sheaf_model::session::Hello;
use sheaf_model::{Actor, ClusterId, Facts, Moment, NodeId, NodeKey, NodeName, Settings, Span, Timestamp};
use sheaf_store::Store;
use sheaf_wire::bucket::{BucketApi, ListBuckets};
use sheaf_wire::cluster::ClusterApi;
use sheaf_wire::{ApiError, Caller};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Control;
use crate::clock::Clock;
use crate::place::{Identity, Member, Opener, Place};

/// Stands still at the beginning of all time.
pub(crate) struct Still;

impl Clock for Still {
    fn moment(&self) -> Moment {
        Moment(0)
    }

    fn wall(&self) -> Timestamp {
        Timestamp::default()
    }
}

/// Goes on when it is told to.
#[derive(Default)]
pub(crate) struct ByHand(AtomicU64);

impl ByHand {
    pub(crate) fn pass(&self, span: Span) {
        self.0.fetch_add(span.0, Ordering::Relaxed);
    }
}

impl Clock for ByHand {
    fn moment(&self) -> Moment {
        Moment(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.0.load(Ordering::Relaxed))
    }
}

/// No other node, and no other replica than the one at hand.
struct Alone;

impl Peers for Alone {
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        _: Bytes,
        after: Duration,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        Box::pin(async move { Err(PeerError::TimedOut { peer: peer.clone(), after }) })
    }

    fn upload<'a>(
        &'a self,
        peer: &'a Peer,
        _: Bytes,
        _: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        self.call(peer, Bytes::new(), Duration::ZERO)
    }
}

impl Opener for Alone {
    fn open(&self, _: NodeId) -> BoxFuture<'_, Result<Member, String>> {
        Box::pin(async { Err("opened already".to_owned()) })
    }
}

pub(crate) async fn member(dir: &Path) -> (Member, sheaf_consensus::Service) {
    member_among(dir, NodeId(1), Arc::new(Alone)).await
}

/// Of that number, which reaches others by `peers`.
pub(crate) async fn member_among(
    dir: &Path,
    node: NodeId,
    peers: Arc<dyn Peers>,
) -> (Member, sheaf_consensus::Service) {
    let store = Store::open(&dir.join(sheaf_consensus::DATABASE)).expect("a database");
    let reader = store.reader();
    let options = Options::new(dir.join(sheaf_consensus::LOG));
    let opened = Replica::open(options, store, node, peers).await;
    let (replica, service) = opened.expect("a replica");
    (Member { replica, reader }, service)
}

fn control(dir: &Path, member: Member) -> Control {
    control_by(dir, member, Arc::new(Still))
}

pub(crate) fn control_by(dir: &Path, member: Member, clock: Arc<dyn Clock>) -> Control {
    control_of(dir, member, clock, crate::Trust::default())
}

pub(crate) fn control_of(dir: &Path, member: Member, clock: Arc<dyn Clock>, trust: crate::Trust) -> Control {
    let control = control_without(dir, clock, trust);
    control.place.member.send_replace(Some(member));
    control
}

/// Of a node that is no member.
pub(crate) fn control_without(dir: &Path, clock: Arc<dyn Clock>, trust: crate::Trust) -> Control {
    let identity = Identity {
        instance: "a".to_owned(),
        key: NodeKey::from("a"),
        name: NodeName::new("a").expect("a name"),
        address: "127.0.0.1:1".to_owned(),
    };
    let place = Place::new(identity, Arc::new(Alone), trust);
    let cache = Cache::open(&dir.join("cache"), 1 << 20).expect("a cache");
    Control::new(Arc::new(place), clock, cache).0
}

/// Of a node that is made up.
pub(crate) fn facts(name: &str) -> Facts {
    Facts {
        name: NodeName::new(name).expect("a name"),
        hostname: name.to_owned(),
        address: "127.0.0.1:1".to_owned(),
        labels: Vec::new(),
        allow: Vec::new(),
        deny: Vec::new(),
        version: "1".to_owned(),
        cpu: 2,
        memory_total: sheaf_model::Bytes(1 << 30),
        notes: Vec::new(),
    }
}

/// Of the agent of such a node.
pub(crate) fn hello(node: NodeId) -> Hello {
    Hello {
        cluster: "c".into(),
        node,
        key: NodeKey::from("k1"),
        boot: "boot".into(),
        incarnation: "life".into(),
        facts: facts("n1"),
        fresh: false,
        stand_in: false,
        work: None,
    }
}

fn somebody() -> Caller {
    Caller::local("test")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_has_not_received_the_state_shows_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let (member, service) = member(dir.path()).await;
    let replica = member.replica.clone();
    let control = control(dir.path(), member);
    let list = || BucketApi::list(&control, somebody(), ListBuckets::default());
    let refused = list().await.expect_err("there is nothing to list yet, which is not an empty list");
    assert!(matches!(&refused, ApiError::Unavailable { reason, .. } if reason.contains("not received")));
    assert!(ClusterApi::status(&control, somebody()).await.is_ok(), "what is known of the cluster is told");

    let running = tokio::spawn(service.run(CancellationToken::new()));
    form(&replica).await;
    assert_eq!(list().await.expect("a list").rows.len(), 0);
    running.abort();
}

/// A cluster of one member, which runs until this is dropped.
pub(crate) struct One {
    pub(crate) member: Member,
    pub(crate) dir: TempDir,
    running: JoinHandle<()>,
}

impl One {
    pub(crate) async fn formed() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (member, service) = member(dir.path()).await;
        let running = tokio::spawn(async move {
            let _ = service.run(CancellationToken::new()).await;
        });
        form(&member.replica).await;
        Self { member, dir, running }
    }

    pub(crate) fn control(&self, clock: Arc<dyn Clock>) -> Control {
        control_by(self.dir.path(), self.member.clone(), clock)
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Makes it a cluster of one.
pub(crate) async fn form(replica: &Replica) {
    replica.initialize("127.0.0.1:1".to_owned()).await.expect("a cluster of one");
    let mut leadership = replica.leadership();
    leadership.wait_for(|now| now.leading).await.expect("it leads");
    let form = Command::Form(Form { cluster: ClusterId::from("c"), settings: Settings::default() });
    let proposal =
        Proposal { actor: Actor::from("test"), at: Timestamp::default(), request: None, command: form };
    replica.propose(&proposal).await.expect("formed");
}
