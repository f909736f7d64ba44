//! Changes: rows of the replicated state as they are after a command. What memory, SQLite and watchers receive.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{
    AuthorityRecord, BackendName, Binding, BucketName, Digest, Event, Incarnation, Instance, JobId,
    ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Node, NodeId, ObjectKey, ObjectValue, Residue,
    Revision, SecretName, SinkName, TokenId, TokenRecord,
};

use crate::backend::Backend;
use crate::job::Job;
use crate::job::dependency::Dependencies;
use crate::job::step::Transitions;
use crate::job::submit::{Items, Submit};
use crate::objects::Object;
use crate::sink::Sink;
use crate::state::{Bucket, Cluster, Module, Pushed, Release, Request, Secret};

/// One row that changed: its whole new content, or that it is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The cluster's identity and settings.
    Cluster(Cluster),
    /// A node.
    Node(Node),
    /// A module's version.
    Module(Module),
    /// A module's version is gone.
    ModuleGone(ModuleName, ModuleVersion),
    /// A bucket.
    Bucket(Arc<Bucket>),
    /// A bucket is gone.
    BucketGone(BucketName),
    /// A binding.
    Binding(Arc<Binding>),
    /// A binding is gone.
    BindingGone(BucketName),
    /// What a multi-node bucket left behind.
    Residue(Residue),
    /// Nothing is left behind any more.
    ResidueGone(BucketName),
    /// An instance.
    Instance(Arc<Instance>),
    /// An instance is gone.
    InstanceGone(BucketName, NodeId),
    /// A request was answered.
    Request(Request),
    /// A request is forgotten.
    RequestGone(Revision),
    /// A revision of a bucket, kept as history.
    Release(BucketName, Release),
    /// A line of history. Lives only in the store.
    Event(Event),
    /// An object, without its value.
    Object(Object),
    /// The value of an object. Lives only in the store; no watcher is given it.
    ObjectValue(BucketName, ObjectKey, ObjectValue),
    /// An object is gone.
    ObjectGone(BucketName, ObjectKey),
    /// All objects of a bucket are gone.
    ObjectsGone(BucketName),
    /// The artifact of a module's version.
    Artifact(Pushed),
    /// A module's version has no artifact any more.
    ArtifactGone(ModuleRef),
    /// A secret, sealed; no watcher is given it.
    Secret(Arc<Secret>),
    /// A secret is gone.
    SecretGone(SecretName),
    /// A job as it is now; transitions before this are contained.
    Job(Arc<Job>),
    /// A job is gone, with its items and its history.
    JobGone(JobId),
    /// Which of a job's subtasks depend on which.
    Dependencies(JobId, Arc<Dependencies>),
    /// What a command did to a job's subtasks. It goes on from the job's row, and its history.
    Transitions(Arc<Transitions>),
    /// A submit under way. It is gone when its job is there.
    Submit(Arc<Submit>),
    /// It is gone without becoming a job, and its items are.
    SubmitGone(JobId),
    /// Items of a job, or of a submit under way, which it goes on from. Values live only in the store; no watcher is given
    /// them.
    Items(Items),
    /// The life of a node's agent that takes subtasks.
    Runner(NodeId, Incarnation),
    /// None does.
    RunnerGone(NodeId),
    /// A backend as it is now; no watcher is given it.
    Backend(Arc<Backend>),
    /// A backend is gone.
    BackendGone(BackendName),
    /// A token, without its secret; no watcher is given it.
    Token(Arc<TokenRecord>),
    /// A token is gone.
    TokenGone(TokenId),
    /// An authority whose certificates are believed; no watcher is given it.
    Authority(Arc<AuthorityRecord>),
    /// They are believed no more.
    AuthorityGone(Digest),
    /// A sink as it is now; no watcher is given it.
    Sink(Arc<Sink>),
    /// A sink is gone.
    SinkGone(SinkName),
}

/// A module is stored with the revision of its registration.
impl Module {
    /// The module's content.
    pub fn spec(&self) -> &ModuleSpec {
        &self.spec
    }
}
