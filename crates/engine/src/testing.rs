//! A replica without a cluster around it, for scenarios.

mod job;

pub(crate) use job::failure;

use std::sync::Arc;

use sheaf_model::session::{Heartbeat, Hello};
use sheaf_model::*;

use crate::command::*;
use crate::{Bucket, Change, State, apply};

/// A state, what was proposed to it, and everything that changed.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) changes: Vec<Change>,
    pub(crate) term: Term,
    pub(crate) now: Timestamp,
}

impl World {
    pub(crate) fn unformed() -> Self {
        Self { term: Term(1), now: Timestamp(1_000_000), ..Self::default() }
    }

    /// A cluster with `n` ready nodes `n1`, `n2` … and the module `sleep@1`.
    pub(crate) fn with_nodes(n: u64) -> Self {
        let mut world = Self::unformed();
        world.form();
        for node in 1..=n {
            world.register(&format!("k{node}"), &format!("n{node}"));
            world.set_status(node, NodeStatus::Ready);
        }
        world.apply_module("sleep", "1", |_| {});
        world
    }

    pub(crate) fn propose(&mut self, command: Command) -> Reply {
        self.propose_as(command, None)
    }

    pub(crate) fn propose_as(&mut self, command: Command, request: Option<RequestId>) -> Reply {
        let proposal = Proposal { actor: Actor::from("test"), at: self.now, request, command };
        apply(&mut self.state, self.term, &proposal, &mut self.changes)
    }

    pub(crate) fn form(&mut self) {
        self.propose(Command::Form(Form { cluster: "c".into(), settings: Settings::default() }));
    }

    pub(crate) fn facts(&self, name: &str) -> Facts {
        Facts {
            name: NodeName::new(name).expect("a node's name"),
            hostname: format!("{name}.example.com"),
            address: format!("{name}:7420"),
            labels: vec![],
            allow: vec![],
            deny: vec![],
            version: "1".to_owned(),
            cpu: 2,
            memory_total: Bytes(1 << 30),
            notes: vec![],
        }
    }

    pub(crate) fn register(&mut self, key: &str, name: &str) -> Reply {
        let facts = self.facts(name);
        self.propose(Command::Register(Register { key: key.into(), facts }))
    }

    pub(crate) fn set_status(&mut self, node: u64, status: NodeStatus) {
        let term = Some(self.term);
        let set = SetNodeStatus { node: NodeId(node), status, reason: String::new(), term };
        self.propose(Command::SetNodeStatus(set));
    }

    pub(crate) fn name(&self, bucket: &str) -> BucketName {
        BucketName::new(bucket).expect("a bucket's name")
    }

    pub(crate) fn module(&self, name: &str, version: &str) -> ModuleSpec {
        let name = ModuleName::new(name).expect("a module's name");
        let version = ModuleVersion::new(version).expect("a version");
        let command = Template(vec![Part::Text("/bin/sleep".to_owned())]);
        let exec = Exec { command, args: vec![], env: Default::default() };
        ModuleSpec { exec: Some(exec), ..ModuleSpec::new(name, version, Runtime::Exec) }
    }

    pub(crate) fn apply_module(&mut self, name: &str, version: &str, change: impl FnOnce(&mut ModuleSpec)) {
        let mut module = self.module(name, version);
        change(&mut module);
        let reply = self.propose(Command::Apply(Apply { modules: vec![module], buckets: vec![] }));
        assert!(matches!(reply, Reply::Applied(_)), "{reply:?}");
    }

    /// An artifact of `sleep` at that version.
    pub(crate) fn artifact(&self, version: &str, digest: u8) -> Artifact {
        let module = ModuleRef::parse(&format!("sleep@{version}")).expect("a version of a module");
        Artifact { module, digest: Digest([digest; 32]), size: 1000, shape: Shape::Directory }
    }

    pub(crate) fn push(&mut self, version: &str, digest: u8) -> Reply {
        let artifact = self.artifact(version, digest);
        self.propose(Command::PutArtifact(artifact))
    }

    pub(crate) fn put(&self, bucket: &str, change: impl FnOnce(&mut PutBucket)) -> PutBucket {
        let spec = BucketSpec::new(self.name(bucket), ModuleRef::parse("sleep").expect("a module's name"));
        let mut put = PutBucket { spec, suspended: None, base: None, latest: false };
        change(&mut put);
        put
    }

    pub(crate) fn try_bucket(&mut self, bucket: &str, change: impl FnOnce(&mut PutBucket)) -> Reply {
        let put = self.put(bucket, change);
        self.propose(Command::Apply(Apply { modules: vec![], buckets: vec![put] }))
    }

    pub(crate) fn apply_bucket(&mut self, bucket: &str, change: impl FnOnce(&mut PutBucket)) -> Outcome {
        match self.try_bucket(bucket, change) {
            Reply::Applied(mut outcomes) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn on(&mut self, bucket: &str, verb: fn(OnBucket) -> Command) -> Reply {
        let reply = self.propose(verb(OnBucket { bucket: self.name(bucket), base: None }));
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        reply
    }

    pub(crate) fn bucket(&self, name: &str) -> Arc<Bucket> {
        self.state.buckets.get(name).expect("the bucket exists").clone()
    }

    pub(crate) fn binding(&self, name: &str) -> Arc<Binding> {
        self.state.bindings.get(name).expect("the bucket is bound").clone()
    }

    pub(crate) fn bind_command(&self, bucket: &str, node: u64, basis: Revision) -> Bind {
        let (bucket, node, decision) = (self.name(bucket), NodeId(node), Decision::default());
        Bind { bucket, node, basis, term: self.term, decision }
    }

    /// Registers a single-node bucket and binds it to `node`.
    pub(crate) fn bound(&mut self, bucket: &str, node: u64) -> Epoch {
        let basis = self.apply_bucket(bucket, |_| {}).revision;
        let bind = Command::Bind(self.bind_command(bucket, node, basis));
        let reply = self.propose(bind);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
        self.binding(bucket).epoch
    }

    pub(crate) fn free_command(&self, bucket: &str, epoch: Epoch) -> Command {
        Command::Free(Free { bucket: self.name(bucket), epoch, term: self.term, why: "test".to_owned() })
    }

    pub(crate) fn free(&mut self, bucket: &str, epoch: Epoch) {
        let free = self.free_command(bucket, epoch);
        let reply = self.propose(free);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    pub(crate) fn confirm_command(&self, bucket: &str, node: u64, revision: Revision) -> Command {
        Command::ConfirmResidue(ConfirmResidue { bucket: self.name(bucket), node: NodeId(node), revision })
    }

    pub(crate) fn instance(&self, bucket: &str, node: u64, epoch: Option<Epoch>, phase: Phase) -> Instance {
        Instance {
            bucket: self.name(bucket),
            node: NodeId(node),
            phase,
            epoch,
            revision: self.state.revision,
            pid: None,
            started_at: None,
            restarts: 0,
            exit: None,
            message: "said by the test".to_owned(),
        }
    }

    pub(crate) fn phase(&mut self, bucket: &str, node: u64, epoch: Option<Epoch>, phase: Phase) {
        let instances = vec![self.instance(bucket, node, epoch, phase)];
        self.propose(Command::RecordPhases(RecordPhases { node: NodeId(node), instances }));
    }

    /// A node's answer for the bucket as it is now.
    pub(crate) fn verdict(&self, bucket: &str, refusal: Option<&str>) -> Verdict {
        let bucket = self.bucket(bucket);
        let gate = refusal.map_or_else(|| GateOutcome::pass(""), GateOutcome::refuse);
        Verdict {
            bucket: bucket.name().clone(),
            revision: bucket.current.revision,
            module: bucket.current.spec.module.clone(),
            gates: [GateOutcome::pass(""), GateOutcome::pass(""), gate],
        }
    }

    /// What the agent of `node` says first, in the life named.
    pub(crate) fn hello(&self, node: u64, life: &str) -> Hello {
        Hello {
            cluster: "c".into(),
            node: NodeId(node),
            key: NodeKey(format!("k{node}")),
            boot: "boot".into(),
            incarnation: life.into(),
            facts: self.facts(&format!("n{node}")),
            fresh: false,
            stand_in: false,
            work: None,
        }
    }

    pub(crate) fn heartbeat(&self, sent_at: Moment) -> Heartbeat {
        Heartbeat { sent_at, load: Load::default(), seen: self.state.revision }
    }
}
