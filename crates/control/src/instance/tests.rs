#[path = "../../../consensus/tests/harness/mod.rs"]
mod harness;

use std::path::Path;
use std::sync::Arc;

use harness::{Mesh, MeshPeers};
use sheaf_consensus::Replica;
use sheaf_engine::{Apply, Proposal, RecordPhases, Register, Reply, SetNodeStatus};
use sheaf_model::{
    Actor, BucketSpec, Instance, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, NodeId, NodeKey, Phase,
    PutBucket, Runtime, Timestamp,
};
use sheaf_wire::PageOf;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::propose::tests::{Still, control_by, facts, form, member_among};

/// A member with what answers there.
struct Answering {
    control: Control,
    replica: Replica,
    running: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Answering {
    async fn start(node: u64, mesh: &Arc<Mesh>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (control, replica, running) = Self::open(dir.path(), NodeId(node), mesh).await;
        Self { control, replica, running, _dir: dir }
    }

    async fn open(dir: &Path, node: NodeId, mesh: &Arc<Mesh>) -> (Control, Replica, JoinHandle<()>) {
        let peers = MeshPeers { mesh: mesh.clone(), from: node, streams: false };
        let (member, service) = member_among(dir, node, Arc::new(peers)).await;
        let replica = member.replica.clone();
        mesh.put(&replica);
        let running = tokio::spawn(async move {
            let _ = service.run(CancellationToken::new()).await;
        });
        (control_by(dir, member, Arc::new(Still)), replica, running)
    }

    /// One that leads, with the multi-node bucket `/m`, and node 1.
    async fn leading(mesh: &Arc<Mesh>) -> Self {
        let it = Self::start(1, mesh).await;
        form(&it.replica).await;
        it.propose(Command::Register(Register { key: NodeKey::from("n1"), facts: facts("n1") })).await;
        let (name, version) = (ModuleName::new("m").expect("a name"), ModuleVersion::new("1").expect("one"));
        let module = ModuleSpec::new(name, version, Runtime::Exec);
        let mut spec = BucketSpec::new(bucket(), ModuleRef::parse("m").expect("a module"));
        spec.multi_node = true;
        let put = PutBucket { spec, suspended: None, base: None, latest: false };
        it.propose(Command::Apply(Apply { modules: vec![module], buckets: vec![put] })).await;
        it
    }

    async fn propose(&self, command: Command) {
        let (actor, at) = (Actor::from("test"), Timestamp::default());
        let proposal = Proposal { actor, at, request: None, command };
        let reply = self.replica.propose(&proposal).await.expect("it leads").reply;
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }

    /// Node 1 says that it runs `/m`.
    async fn runs(&self) {
        let instance = Instance {
            bucket: bucket(),
            node: NodeId(1),
            phase: Phase::Running,
            epoch: None,
            revision: self.replica.state().revision,
            pid: None,
            started_at: None,
            restarts: 0,
            exit: None,
            message: String::new(),
        };
        self.propose(Command::RecordPhases(RecordPhases { node: NodeId(1), instances: vec![instance] }))
            .await;
    }

    /// What node 1 is answered that writes an object, and waits for so long.
    async fn write(&self, value: &str, within: Duration) -> Result<Revision, ApiError> {
        let caller = Caller { deadline: Some(Instant::now() + within), ..Caller::local("test") };
        let put = PutObject {
            bucket: bucket(),
            key: key(),
            value: value.as_bytes().into(),
            base: None,
            claim: Claim { node: NodeId(1), epoch: None },
            token: 0,
        };
        InstanceApi::put_object(&self.control, caller, put).await.map(|done| done.revision)
    }

    /// The object, as somebody reads it who has seen that revision.
    async fn read(&self, seen: Option<Revision>) -> Result<Vec<u8>, ApiError> {
        let caller = Caller { revision: seen, ..Caller::local("test") };
        let got = InstanceApi::get_object(&self.control, caller, GetObject { bucket: bucket(), key: key() });
        got.await.map(|got| got.value.as_bytes().to_vec())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn bucket() -> BucketName {
    BucketName::new("/m").expect("a name")
}

fn key() -> ObjectKey {
    ObjectKey::new("k").expect("a key")
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_behind_shows_no_object_as_it_was() {
    let mesh = Arc::new(Mesh::default());
    let leading = Answering::leading(&mesh).await;
    leading.runs().await;
    let behind = Answering::start(2, &mesh).await;
    leading.replica.add_learner(NodeId(2), "127.0.0.1:2").await.expect("a learner");
    let first = leading.write("one", SOON).await.expect("it runs there");
    timeout(SOON, behind.replica.wait_for(first)).await.expect("it has it");
    assert_eq!(behind.read(None).await.expect("all of it is here"), b"one");

    mesh.deafen(NodeId(2));
    let second = leading.write("two", SOON).await.expect("the learner is not waited for");
    // The leader says up to where it must wait, and it comes to nothing.
    let error = behind.read(None).await.expect_err("not as it was");
    assert!(matches!(error, ApiError::Unavailable { .. }), "{error:?}");
    assert_eq!(behind.read(Some(first)).await.expect("who asks for no more"), b"one");
    let list = ListObjects { bucket: bucket(), prefix: String::new(), page: PageOf::default() };
    let error =
        InstanceApi::list_objects(&behind.control, Caller::local("test"), list).await.expect_err("nor");
    assert!(matches!(error, ApiError::Unavailable { .. }), "{error:?}");
    // Nobody can be asked.
    mesh.deafen(NodeId(1));
    let error = behind.read(None).await.expect_err("not as it was");
    assert!(matches!(error, ApiError::Unavailable { .. }), "{error:?}");

    mesh.heal();
    timeout(SOON, behind.replica.wait_for(second)).await.expect("it catches up");
    assert_eq!(behind.read(None).await.expect("all of it is here"), b"two");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_recorded_yet_is_not_over() {
    let leading = Answering::leading(&Arc::default()).await;
    let a_moment = Duration::from_millis(50);
    let error = leading.write("early", a_moment).await.expect_err("nobody has said that it runs");
    let text = "it is not recorded yet that bucket /m runs on node n1";
    assert_eq!(error, ApiError::unavailable(text));
    // It waits for that.
    let (written, ()) = tokio::join!(leading.write("in time", SOON), leading.runs());
    written.expect("it runs there");
    // Its record goes before the node is forgotten; then it is over.
    let status = |status| SetNodeStatus { node: NodeId(1), status, reason: String::new(), term: None };
    leading.propose(Command::SetNodeStatus(status(NodeStatus::Lost))).await;
    leading.propose(Command::Forget(NodeId(1))).await;
    let error = leading.write("late", SOON).await.expect_err("the node has left");
    assert!(matches!(error, ApiError::Precondition(_)), "{error:?}");
}
