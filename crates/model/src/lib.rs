//! The nouns of Sheaf: what there is, without what happens to it.
//!
//! Everything here is plain data, valid once built: no clock, no randomness, no network, no async. Read in this
//! order: [`id`] and [`time`] (positions and clocks), [`name`] (what people call things), [`bucket`] and [`module`]
//! (what they ask for, with [`rule`], [`template`], [`life_cycle`], [`trial`], [`measure`], [`artifact`]), [`job`]
//! (finite work, with [`ranges`], [`selector`], [`fingerprint`], [`backend`]), [`node`]
//! and [`contact`] (where one is reached), [`queue`] and [`verdict`] (what nodes say), [`binding`] and [`instance`] (what was decided and what runs), [`object`]
//! (what modules keep), [`secret`] (what they must know), [`access`] (who may do what), [`event`] (what happened), [`sink`] (who is told), [`settings`], [`session`] and [`watch`] (what agents and the control
//! plane say to each other), [`trace`] (what follows from what),
//! [`view`] and [`query`] (answers), [`bound`] (what is remembered of them all), [`redact`] and [`clip`] (what of a text may leave the cluster, and how much), and [`document`] (what people write, and everything that can be wrong with it).
//!
//! ```text
//!  document ──parse──► PutBucket, ModuleSpec        view ◄──made from── Node, Binding, Instance, Event
//!      └── or Defects, all at once                    └── printed, or sent as JSON
//! ```
//!
//! Types that are stored derive serde in the plainest way (no skipped, flattened or untagged fields), because the
//! log and snapshots are written in a compact form that does not describe itself.

pub mod access;
pub mod artifact;
pub mod backend;
pub mod binding;
pub mod bound;
pub mod bucket;
pub mod certificate;
pub mod clip;
pub mod contact;
pub mod defect;
pub mod document;
pub mod event;
pub mod fingerprint;
pub mod id;
pub mod instance;
pub mod job;
pub mod life_cycle;
pub mod measure;
pub mod module;
pub mod name;
pub mod node;
pub mod object;
pub mod query;
pub mod queue;
pub mod ranges;
pub mod redact;
pub mod rule;
pub mod secret;
pub mod selector;
pub mod session;
pub mod settings;
pub mod sink;
pub mod template;
pub mod time;
pub mod trace;
pub mod trial;
pub mod verdict;
pub mod version;
pub mod view;
pub mod watch;

pub use access::{
    AUTHORITIES_MAX, AuthorityRecord, AuthorityStage, CERTIFICATE_MAX, NoToken, Prefix, Rights, Role,
    TOKENS_MAX, TokenId, TokenRecord, TokenText, TokenUse, Trusting,
};
pub use artifact::{Artifact, Digest, Holding, Shape};
pub use backend::{BackendSpec, Breaker};
pub use binding::{Binding, Decision, LeaveReason, Residue};
pub use bound::remember;
pub use bucket::{BucketSpec, BucketType, Json, OnNodeLost, Placement, PutBucket};
pub use certificate::{AGENT_NAME, Holder, JOIN_NAME};
pub use clip::clipped;
pub use contact::Contact;
pub use defect::Defect;
pub use document::{Difference, Document, Parsed, nearest};
pub use event::{Behind, Cursor, CursorError, Event, StepPlace};
pub use fingerprint::Fingerprint;
pub use id::{
    Actor, BootId, ClusterEpoch, ClusterId, Epoch, Incarnation, NodeId, NodeKey, RequestId, Revision, Term,
};
pub use instance::{Exit, Instance, Phase};
pub use job::{
    ArrayRange, Attempt, AttemptEnd, Ending, Failure, FailureClass, Item, ItemSource, JobId, JobSpec,
    JobState, Retry, SubmitJob, SubtaskCounts, SubtaskState, Subtasks,
};
pub use life_cycle::{Call, LifeCycleCall};
pub use measure::{Bytes, Cores, Frequency, MeasureError, SpanRange};
pub use module::{
    Check, CheckKind, Exec, Limits, ModuleSpec, ModuleSpecV1, ModuleSpecV2, Restart, RestartWhen, Runtime,
    Signal, Stop,
};
pub use name::{
    BackendName, BucketName, FileName, JobName, ModuleName, ModuleRef, ModuleVersion, NameError, NodeName,
    ObjectKey, SecretName, SinkName, TokenName,
};
pub use node::{Drain, Facts, Load, Node, NodeStatus};
pub use object::{
    Claim, OBJECT_KEY_MAX, OBJECT_VALUE_MAX, OBJECTS_BYTES_MAX, OBJECTS_MAX, ObjectValue, STATUS_KIND_MAX,
    STATUS_LINE_MAX,
};
pub use query::{Cell, QueryEnd, QueryPart, QueryView};
pub use queue::{FullQueues, Queue};
pub use ranges::{Ranges, Run, RunMap};
pub use redact::{REDACTED, first_lines, redacted};
pub use rule::{CompiledRules, NodeListRules, NodeRule, Pattern, RuleError, glob_matches};
pub use secret::{KeyId, SEAL_TAG, SECRET_MAX, SECRETS_MAX, Sealed, SecretError, SecretValue};
pub use selector::Selector;
pub use settings::{
    Changeable, ChangeableV1, HistorySettings, JobSettings, LeaseSettings, Repair, Setting, Settings, Voters,
};
pub use sink::{
    Confided, Deliverable, Mail, MailSecurity, SINK_BATCH_MAX, SINKS_MAX, SinkExec, SinkFilter, SinkSpec,
    SinkTarget, SubtaskEnd, Webhook,
};
pub use template::{
    BucketScope, Part, Piece, RenderError, Scope, SubtaskScope, Template, TemplateError, TemplateName,
    TemplateSet,
};
pub use time::{Moment, Span, Timestamp};
pub use trace::{NoTraceContext, TraceContext, Traced};
pub use trial::Trial;
pub use verdict::{Gate, GateOutcome, Verdict};
pub use version::version;
