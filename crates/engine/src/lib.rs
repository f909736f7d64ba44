//! The verbs of Sheaf: a pure core that decides. No clock, no randomness, no async, no hash-map order.

pub mod access;
pub mod apply;
pub mod artifact;
pub mod asked;
pub mod backend;
pub mod change;
pub mod command;
pub mod dispatch;
pub mod gates;
pub mod invariants;
pub mod job;
pub mod keep;
pub mod lease;
pub mod membership;
pub mod node;
pub mod objects;
pub mod placement;
pub mod reconcile;
pub mod registration;
pub mod restart;
pub mod rotation;
pub mod sessions;
pub mod sink;
pub mod state;
pub mod status;
pub mod steward;
pub mod watched;

#[cfg(test)]
mod testing;

pub use access::Access;
pub use apply::apply;
pub use asked::Asked;
pub use change::Change;
pub use command::{
    AccessCommand, AddItems, AddStatusLine, Admit, Apply, ApplyV1, ApplyV2, BeginRotation, BeginSubmit, Bind,
    CancelJob, CollectSubmit, Command, CommitSubmit, ConfirmResidue, CreateToken, DeleteModule, DeleteObject,
    Disable, DrainNode, EndQuarantine, ExpireToken, FinishRollout, Form, Free, Grant, GrantAll, IssueBy,
    LabelNode, Leave, MoveBucket, OnBucket, Outcome, OutcomeVerb, Proposal, PutAuthority, PutObject,
    PutSecret, PutTrial, Quarantine, RecordPhases, RecordPurge, RecordResults, RecordSink, Refound, Refusal,
    Register, ReleaseNodes, Reply, ReprioritizeJob, RetireAuthority, RetryJob, Rollback, SetNodeStatus,
    SettingsCommand, SettleLease, SinkCommand, SinkOutcome, StopRollout, SubmitAll, TakeUp, WakeSubtasks,
};
pub use job::Job;
pub use job::table::Jobs;
pub use objects::{Entry, Object, Objects};
pub use sessions::{Heard, Sessions};
pub use state::{
    Bucket, Cluster, Emergency, Module, Purge, Pushed, Release, Request, Rollout, Secret, State,
};
