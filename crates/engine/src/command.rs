//! Commands: everything that can be asked of the replicated state, and the answers.

mod access;
mod job;
mod settings;
mod sink;

pub use access::{
    AccessCommand, Admit, BeginRotation, CreateToken, ExpireToken, IssueBy, PutAuthority, RetireAuthority,
};
pub use job::{
    AddItems, BeginSubmit, CancelJob, CollectSubmit, CommitSubmit, Grant, GrantAll, RecordResults,
    ReprioritizeJob, RetryJob, SubmitAll, TakeUp, WakeSubtasks,
};
pub use settings::{SettingsCommand, SettleLease};
pub use sink::{RecordSink, SinkCommand, SinkOutcome};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{
    Actor, Artifact, Attempt, BackendName, BackendSpec, BucketName, ChangeableV1, Claim, ClusterId, Decision,
    Defect, Drain, Epoch, Facts, Instance, JobId, LeaveReason, ModuleName, ModuleSpec, ModuleSpecV1,
    ModuleSpecV2, ModuleVersion, NodeId, NodeKey, NodeStatus, ObjectKey, ObjectValue, PutBucket, RequestId,
    Revision, Sealed, SecretName, Settings, Term, Timestamp, Trial,
};

/// A command with who asked for it, when, and under which request; what the log carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Who asked.
    pub actor: Actor,
    /// The proposing leader's wall time. For history; nothing is decided by it.
    pub at: Timestamp,
    /// Repeating a request under the same id is answered as the first time and changes nothing. Something else under it is
    /// refused as conflicting.
    pub request: Option<RequestId>,
    /// What is asked.
    pub command: Command,
}

/// Everything that can be asked of the replicated state. New variants are added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a cluster. Refused in one that is formed.
    Form(Form),
    /// A node's data directory asks for a number, or says that its facts changed.
    Register(Register),
    /// The leader records where a node stands.
    SetNodeStatus(SetNodeStatus),
    /// [`Command::Apply`] as earlier builds wrote it. Never proposed any more.
    ApplyV1(ApplyV1),
    /// Switches a bucket off.
    Suspend(OnBucket),
    /// Switches a bucket on, and lets nodes that gave up try again.
    Resume(OnBucket),
    /// Restarts a bucket's instances once, everywhere.
    Restart(OnBucket),
    /// Deletes a bucket. What still runs of it is stopped as if it were suspended.
    DeleteBucket(OnBucket),
    /// Deletes a module's version that no bucket uses.
    DeleteModule(DeleteModule),
    /// Gives a node labels and takes them away.
    LabelNode(LabelNode),
    /// Binds a single-node bucket; verified when applied.
    Bind(Bind),
    /// Marks a binding as leaving.
    Leave(Leave),
    /// Ends a binding; verified when applied.
    Free(Free),
    /// What a node's instances are doing.
    RecordPhases(RecordPhases),
    /// A node confirms that nothing multi-node of a name is alive on it.
    ConfirmResidue(ConfirmResidue),
    /// Empties a node.
    Drain(DrainNode),
    /// Lets it take work again.
    Undrain(NodeId),
    /// Vouches that nothing of a node that is gone is alive, and never will be again.
    Forget(NodeId),
    /// Takes a single-node bucket from its node.
    Move(MoveBucket),
    /// All settings at once, as earlier builds wrote them. Never proposed any more: it undoes what others change
    /// meanwhile.
    ChangeSettingsV1(ChangeableV1),
    /// [`SettingsCommand::Settle`] as earlier builds wrote it. Never proposed any more: it does not say which change it
    /// means.
    DropFormer(Term),
    /// The state goes on as another cluster, after a disaster. Never in a log: `recover` and `restore` write it.
    Refound(Refound),
    /// Releases nodes to the next release of a bucket.
    ReleaseNodes(ReleaseNodes),
    /// Releases no further node to a bucket's next release until an operator says so.
    StopRollout(StopRollout),
    /// A bucket's next release runs wherever it should, and becomes the current one.
    FinishRollout(FinishRollout),
    /// A bucket goes back to what it was at an earlier revision.
    Rollback(Rollback),
    /// An instance writes an object of its bucket.
    PutObject(PutObject),
    /// An instance deletes an object of its bucket.
    DeleteObject(DeleteObject),
    /// An instance says something to its bucket's owner.
    AddStatusLine(AddStatusLine),
    /// An instance has its bucket suspended.
    Disable(Disable),
    /// An instance has its bucket stopped for a time.
    Quarantine(Quarantine),
    /// The time is over; verified when applied.
    EndQuarantine(EndQuarantine),
    /// [`Command::Apply`] as earlier builds wrote it. Never proposed any more.
    ApplyV2(ApplyV2),
    /// Throws away what a bucket has collected, wherever it runs.
    Purge(OnBucket),
    /// How a purge went on a node.
    RecordPurge(RecordPurge),
    /// Registers a bucket that is a trial.
    PutTrial(PutTrial),
    /// A blob that a majority of the voters hold becomes the artifact of a module's version.
    PutArtifact(Artifact),
    /// Documents, all or none; modules come before buckets.
    Apply(Apply),
    /// Sets a secret, which comes sealed.
    PutSecret(PutSecret),
    /// Deletes a secret that nothing names.
    DeleteSecret(SecretName),
    /// A job's submit begins; nobody sees the job yet.
    BeginSubmit(BeginSubmit),
    /// The next items of a submit.
    AddItems(AddItems),
    /// The submit is complete: the job is there.
    CommitSubmit(CommitSubmit),
    /// A whole submit at once.
    Submit(SubmitAll),
    /// A submit that nobody goes on with is thrown away.
    CollectSubmit(CollectSubmit),
    /// A life of a node's agent takes subtasks from now on. What was granted to a former one is lost.
    TakeUp(TakeUp),
    /// Attempts for nodes; each is verified when applied.
    Grant(GrantAll),
    /// How attempts on a node ended.
    RecordResults(RecordResults),
    /// The time of further attempts has come.
    WakeSubtasks(WakeSubtasks),
    /// Nothing new of a job is started.
    PauseJob(JobId),
    /// It goes on.
    ResumeJob(JobId),
    /// Cancels a job, or some of its subtasks.
    CancelJob(CancelJob),
    /// What failed or was canceled is tried again, as if it had not been tried yet.
    RetryJob(RetryJob),
    /// What waits has another priority.
    ReprioritizeJob(ReprioritizeJob),
    /// Deletes a job that is over, and its history.
    DeleteJob(JobId),
    /// Registers a backend, or changes it.
    PutBackend(Arc<BackendSpec>),
    /// Deletes a backend that no job needs any more.
    DeleteBackend(BackendName),
    /// Who may do what, and who belongs to the cluster.
    Access(AccessCommand),
    /// What holds for all nodes.
    Settings(SettingsCommand),
    /// Where history is delivered to.
    Sink(SinkCommand),
}

/// See [`Command::PutSecret`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PutSecret {
    /// Which one.
    pub name: SecretName,
    /// Its value.
    pub sealed: Sealed,
}

/// See [`Command::PutTrial`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PutTrial {
    /// What is tried, under a name of its own.
    pub put: PutBucket,
    /// How long, and how much of it.
    pub trial: Trial,
}

/// See [`Command::RecordPurge`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordPurge {
    /// The bucket.
    pub bucket: BucketName,
    /// The node that reports.
    pub node: NodeId,
    /// The purge meant; another: of no interest any more.
    pub revision: Revision,
    /// Why it failed; empty: it did not.
    pub failure: String,
}

/// See [`Command::ReleaseNodes`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleaseNodes {
    /// The bucket.
    pub bucket: BucketName,
    /// Its next release; another: stale.
    pub release: Revision,
    /// Which nodes.
    pub nodes: Vec<NodeId>,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`Command::StopRollout`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StopRollout {
    /// The bucket.
    pub bucket: BucketName,
    /// Its next release; another: stale.
    pub release: Revision,
    /// Where it failed.
    pub node: NodeId,
    /// How, for people.
    pub why: String,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`Command::FinishRollout`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishRollout {
    /// The bucket.
    pub bucket: BucketName,
    /// Its next release; another: stale.
    pub release: Revision,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`Command::Rollback`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollback {
    /// What the bucket was then, as a change of what it is.
    pub put: PutBucket,
    /// The revision of that release.
    pub to: Revision,
}

/// See [`Command::AddStatusLine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddStatusLine {
    /// The bucket.
    pub bucket: BucketName,
    /// Who says it; another than who runs the bucket now: stale.
    pub claim: Claim,
    /// Of what kind, one word of the module's.
    pub kind: String,
    /// The line.
    pub text: String,
}

/// See [`Command::Disable`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disable {
    /// The bucket.
    pub bucket: BucketName,
    /// Who asks; another than who runs the bucket now: stale.
    pub claim: Claim,
    /// Why, in the module's words.
    pub reason: String,
}

/// See [`Command::Quarantine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The bucket.
    pub bucket: BucketName,
    /// Who asks; another than who runs the bucket now: stale.
    pub claim: Claim,
    /// By the leader's clock.
    pub until: Timestamp,
    /// Why, in the module's words.
    pub reason: String,
}

/// See [`Command::EndQuarantine`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndQuarantine {
    /// The bucket.
    pub bucket: BucketName,
    /// The quarantine meant; another: stale.
    pub until: Timestamp,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`Command::PutObject`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PutObject {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub key: ObjectKey,
    /// Its new value.
    pub value: ObjectValue,
    /// Refuse as conflicting unless the object is at this version; 0: unless there is none.
    pub base: Option<Revision>,
    /// Who writes; another than who runs the bucket now: stale.
    pub claim: Claim,
    /// Chosen at random by the writer: the same again is answered as the first time, as long as nothing else was written
    /// to the object since. 0: none.
    pub token: u64,
}

/// See [`Command::DeleteObject`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteObject {
    /// The bucket.
    pub bucket: BucketName,
    /// Which of its objects.
    pub key: ObjectKey,
    /// Refuse as conflicting if the object is at another version; one that is gone is gone.
    pub base: Option<Revision>,
    /// Who deletes; another than who runs the bucket now: stale.
    pub claim: Claim,
}

/// See [`Command::Refound`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refound {
    /// The cluster's new identity, which succeeds the present one.
    pub cluster: ClusterId,
    /// The state may be an earlier one than that which ran last, as that of a snapshot, or of a voter among others: any bucket
    /// may have been multi-node since, so that each node must confirm that it runs nothing of it before it is bound.
    pub may_be_behind: bool,
}

/// See [`Command::Drain`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainNode {
    /// Which node.
    pub node: NodeId,
    /// How.
    pub drain: Drain,
}

/// See [`Command::Move`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MoveBucket {
    /// The bucket.
    pub bucket: BucketName,
    /// To this node if it is available then; none: anywhere else.
    pub to: Option<NodeId>,
    /// Refuse as conflicting unless the bucket is at this revision.
    pub base: Option<Revision>,
}

/// See [`Command::Form`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Form {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// What the forming node brings.
    pub settings: Settings,
}

/// See [`Command::Register`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// The data directory.
    pub key: NodeKey,
    /// What the node says of itself.
    pub facts: Facts,
}

/// See [`Command::SetNodeStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetNodeStatus {
    /// Which node.
    pub node: NodeId,
    /// Where it stands now.
    pub status: NodeStatus,
    /// Why.
    pub reason: String,
    /// The term the leader saw it in; refused in another. None: an operator or the node itself says so.
    pub term: Option<Term>,
}

/// See [`Command::Apply`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    /// Registered first.
    pub modules: Vec<ModuleSpec>,
    /// Registered or changed.
    pub buckets: Vec<PutBucket>,
}

/// See [`Command::ApplyV1`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyV1 {
    /// Registered first.
    pub modules: Vec<ModuleSpecV1>,
    /// Registered or changed.
    pub buckets: Vec<PutBucket>,
}

impl From<ApplyV1> for Apply {
    fn from(former: ApplyV1) -> Self {
        let ApplyV1 { modules, buckets } = former;
        ApplyV2 { modules: modules.into_iter().map(ModuleSpecV2::from).collect(), buckets }.into()
    }
}

/// See [`Command::ApplyV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyV2 {
    /// Registered first.
    pub modules: Vec<ModuleSpecV2>,
    /// Registered or changed.
    pub buckets: Vec<PutBucket>,
}

impl From<ApplyV2> for Apply {
    fn from(former: ApplyV2) -> Self {
        let ApplyV2 { modules, buckets } = former;
        Self { modules: modules.into_iter().map(ModuleSpec::from).collect(), buckets }
    }
}

/// A verb on one bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnBucket {
    /// The bucket.
    pub bucket: BucketName,
    /// Refuse as conflicting unless the bucket is at this revision.
    pub base: Option<Revision>,
}

/// See [`Command::DeleteModule`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteModule {
    /// The module.
    pub name: ModuleName,
    /// Which version.
    pub version: ModuleVersion,
}

/// See [`Command::LabelNode`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelNode {
    /// Which node.
    pub node: NodeId,
    /// Labels to give.
    pub add: Vec<String>,
    /// Labels to take away; only given ones can be.
    pub remove: Vec<String>,
}

/// See [`Command::Bind`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bind {
    /// The bucket.
    pub bucket: BucketName,
    /// The node chosen.
    pub node: NodeId,
    /// The bucket's revision that the choice was made for; another: stale.
    pub basis: Revision,
    /// The term of the decision; another: stale.
    pub term: Term,
    /// Why.
    pub decision: Decision,
}

/// See [`Command::Leave`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leave {
    /// The bucket.
    pub bucket: BucketName,
    /// The binding meant; another: stale.
    pub epoch: Epoch,
    /// Why.
    pub reason: LeaveReason,
    /// The term of the decision, when the leader decides; another: stale.
    pub term: Option<Term>,
}

/// See [`Command::Free`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Free {
    /// The bucket.
    pub bucket: BucketName,
    /// The binding meant; another: stale.
    pub epoch: Epoch,
    /// The term of the decision; another: stale.
    pub term: Term,
    /// Why: given up by its node, or fenced and waited for.
    pub why: String,
}

/// See [`Command::RecordPhases`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordPhases {
    /// The node that reports.
    pub node: NodeId,
    /// Its instances that changed; one in phase `stopped` is recorded as gone.
    pub instances: Vec<Instance>,
}

/// See [`Command::ConfirmResidue`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfirmResidue {
    /// The bucket's name.
    pub bucket: BucketName,
    /// The node that confirms.
    pub node: NodeId,
    /// Up to which ending.
    pub revision: Revision,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done; the command's own revision.
    Done(Revision),
    /// Nothing to do: it is so already. The revision of the last change.
    Unchanged(Revision),
    /// Documents applied: one outcome each, modules first, in the order given.
    Applied(Vec<Outcome>),
    /// The number given to a node.
    Registered(NodeId),
    /// Refused; the state is untouched.
    Refused(Refusal),
    /// Where a submit stands.
    Submit {
        /// The job.
        job: JobId,
        /// The subtask that the next item is.
        next: u32,
        /// The job is there; nothing more is to come.
        committed: bool,
    },
    /// Results are recorded, but for those of attempts that had ended for the cluster before.
    Recorded(Vec<Attempt>),
    /// So many subtasks were touched by the command at this revision.
    Touched(Revision, u64),
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `Module flume@1.11.0` or `Bucket /logs/web`.
    pub document: String,
    /// What was done.
    pub verb: OutcomeVerb,
    /// The revision it is at now.
    pub revision: Revision,
}

/// What was done with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is its word")]
pub enum OutcomeVerb {
    Created,
    Updated,
    Unchanged,
}

impl OutcomeVerb {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Why a command was refused. The state is as before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// What is named does not exist: its kind and name.
    #[error("there is no {0} {1}")]
    NotFound(String, String),
    /// It changed meanwhile, or exists with other content.
    #[error("{0}")]
    Conflict(String),
    /// A decision that no longer holds; decide again.
    #[error("stale: {0}")]
    Stale(String),
    /// Documents with defects.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Defect>),
    /// Not possible as things stand.
    #[error("{0}")]
    Precondition(String),
    /// More than is kept.
    #[error("{0}")]
    Exhausted(String),
}
