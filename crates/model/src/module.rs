//! Modules: the technologies that buckets and subtasks run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Bytes, Call, FileName, Json, LifeCycleCall, ModuleName, ModuleVersion, Span, Template};

/// How a module is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// A command line, rendered from templates, supervised.
    Exec,
    /// A program that speaks `sheaf.module.v1` over a Unix socket.
    Plugin,
    /// Part of the binary: a worker of its own.
    Builtin(String),
    /// A plugin whose process takes the subtasks of a job, many at a time: `worker: true`.
    Worker,
}

impl Runtime {
    /// What is part of this binary, by name.
    pub const BUILTINS: [&str; 1] = ["http"];

    /// Whether its process takes the subtasks of a job, many at a time.
    pub const fn is_worker(&self) -> bool {
        matches!(self, Self::Worker | Self::Builtin(_))
    }

    /// Whether it is a program that speaks `sheaf.module.v1`.
    pub const fn is_plugin(&self) -> bool {
        matches!(self, Self::Plugin | Self::Worker)
    }
}

/// The word in documents and answers.
impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exec => f.write_str("exec"),
            Self::Plugin | Self::Worker => f.write_str("plugin"),
            Self::Builtin(name) => write!(f, "builtin:{name}"),
        }
    }
}

/// One condition of gate 3; all of a module's checks must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is looked at.
    pub kind: CheckKind,
    /// How long it may take; none: 5 s.
    pub timeout: Option<Span>,
}

/// What a check looks at, on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    /// A file (not a directory) exists there.
    File(Template),
    /// A directory exists there.
    Dir(Template),
    /// The agent's environment has this variable (`NAME`), or has it with this value (`NAME=value`).
    Env(Template),
    /// A label of the node matches this glob.
    Label(Template),
    /// At least so much memory is available. Asked before a start only.
    MemoryAvailable(Bytes),
    /// At least so much space is available where the node keeps its instances. Asked before a start only.
    DiskAvailable(Bytes),
    /// Nothing listens on this TCP port. Asked before a start only.
    PortFree(Template),
    /// This program exits with 0; its output is the reason when it does not.
    Command(Vec<Template>),
}

impl CheckKind {
    /// The word in documents and reasons.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Dir(_) => "dir",
            Self::Env(_) => "env",
            Self::Label(_) => "label",
            Self::MemoryAvailable(_) => "memory_available",
            Self::DiskAvailable(_) => "disk_available",
            Self::PortFree(_) => "port_free",
            Self::Command(_) => "command",
        }
    }

    /// Admission checks are asked before a start, never of a running instance, which itself uses what they look at.
    pub const fn is_admission(&self) -> bool {
        matches!(self, Self::MemoryAvailable(_) | Self::DiskAvailable(_) | Self::PortFree(_))
    }

    /// The templates in it, in order.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::File(t) | Self::Dir(t) | Self::Env(t) | Self::Label(t) | Self::PortFree(t) => vec![t],
            Self::Command(args) => args.iter().collect(),
            Self::MemoryAvailable(_) | Self::DiskAvailable(_) => Vec::new(),
        }
    }
}

/// The command line of an `exec` module, or of a plugin's program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program; looked up in the agent's `PATH` if it has no slash.
    pub command: Template,
    /// Its arguments.
    pub args: Vec<Template>,
    /// Added to the environment.
    pub env: BTreeMap<String, Template>,
}

/// Which signal asks a program to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is the signal of that name")]
pub enum Signal {
    #[default]
    Term,
    Int,
    Hup,
    Quit,
    Usr1,
    Usr2,
    Kill,
}

impl Signal {
    /// Every signal that a document may name.
    pub const ALL: [Self; 7] =
        [Self::Term, Self::Int, Self::Hup, Self::Quit, Self::Usr1, Self::Usr2, Self::Kill];

    /// The word in documents, without `SIG`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Term => "TERM",
            Self::Int => "INT",
            Self::Hup => "HUP",
            Self::Quit => "QUIT",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
            Self::Kill => "KILL",
        }
    }
}

/// How an instance is stopped: the signal, then SIGKILL for all of it after the grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Asked with.
    pub signal: Signal,
    /// Waited for.
    pub grace: Span,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: Signal::Term, grace: Span::seconds(10) }
    }
}

/// When a program that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartWhen {
    /// However it ended.
    Always,
    /// Unless it exited with 0.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

impl RestartWhen {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on_failure",
            Self::Never => "never",
        }
    }
}

/// Restart with backoff and a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When at all.
    pub policy: RestartWhen,
    /// The first wait; each further one doubles.
    pub backoff_min: Span,
    /// The longest wait.
    pub backoff_max: Span,
    /// Gives up when it would restart more than this often …
    pub give_up_count: u32,
    /// … within this time.
    pub give_up_window: Span,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartWhen::OnFailure,
            backoff_min: Span::seconds(1),
            backoff_max: Span::seconds(60),
            give_up_count: 5,
            give_up_window: Span::seconds(600),
        }
    }
}

/// What one instance may use. What a node cannot enforce it says in the notes of its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory of all its processes.
    pub memory: Option<Bytes>,
    /// Processor cores in thousandths.
    pub cpu_millis: Option<u64>,
    /// Open files per process.
    pub open_files: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
}

/// A technology at one version. The content of a version never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleSpec {
    /// Its name.
    pub name: ModuleName,
    /// Its version.
    pub version: ModuleVersion,
    /// How it is run.
    pub runtime: Runtime,
    /// May a bucket of it be `multi_node`?
    pub supports_multi_node: bool,
    /// Gate 3 of `exec` modules; a plugin is asked in addition.
    pub can_run_on_this_node: Vec<Check>,
    /// What an `exec` module runs, and the program that a plugin is.
    pub exec: Option<Exec>,
    /// Rendered into the instance's directory before each start.
    pub files: BTreeMap<FileName, Template>,
    /// How an instance is stopped.
    pub stop: Stop,
    /// When a program that ended is started again.
    pub restart: Restart,
    /// JSON Schema of `bucket.config`.
    pub config_schema: Option<Json>,
    /// What one instance may use.
    pub limits: Limits,
    /// The user to run as; none: the agent's.
    pub user: Option<String>,
    /// What it says of the calls of a bucket's life. (Absent in what an earlier Sheaf sends as JSON.)
    #[serde(default)]
    pub life_cycle: BTreeMap<Call, LifeCycleCall>,
    /// Names of secrets that its instances may ask for; each a template, so that its bucket's config may say which.
    /// (Absent in what an earlier Sheaf sends as JSON.)
    #[serde(default)]
    pub secrets: Vec<Template>,
}

/// A module as it was stored, and stood in the log, before it could name secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is as in ModuleSpec")]
pub struct ModuleSpecV2 {
    pub name: ModuleName,
    pub version: ModuleVersion,
    pub runtime: Runtime,
    pub supports_multi_node: bool,
    pub can_run_on_this_node: Vec<Check>,
    pub exec: Option<Exec>,
    pub files: BTreeMap<FileName, Template>,
    pub stop: Stop,
    pub restart: Restart,
    pub config_schema: Option<Json>,
    pub limits: Limits,
    pub user: Option<String>,
    pub life_cycle: BTreeMap<Call, LifeCycleCall>,
}

impl From<ModuleSpecV2> for ModuleSpec {
    fn from(former: ModuleSpecV2) -> Self {
        Self {
            name: former.name,
            version: former.version,
            runtime: former.runtime,
            supports_multi_node: former.supports_multi_node,
            can_run_on_this_node: former.can_run_on_this_node,
            exec: former.exec,
            files: former.files,
            stop: former.stop,
            restart: former.restart,
            config_schema: former.config_schema,
            limits: former.limits,
            user: former.user,
            life_cycle: former.life_cycle,
            secrets: Vec::new(),
        }
    }
}

/// A module as it was stored, and stood in the log, before it could say anything of the calls of a bucket's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each is as in ModuleSpec")]
pub struct ModuleSpecV1 {
    pub name: ModuleName,
    pub version: ModuleVersion,
    pub runtime: Runtime,
    pub supports_multi_node: bool,
    pub can_run_on_this_node: Vec<Check>,
    pub exec: Option<Exec>,
    pub files: BTreeMap<FileName, Template>,
    pub stop: Stop,
    pub restart: Restart,
    pub config_schema: Option<Json>,
    pub limits: Limits,
    pub user: Option<String>,
}

impl From<ModuleSpecV1> for ModuleSpecV2 {
    fn from(former: ModuleSpecV1) -> Self {
        let ModuleSpecV1 {
            name,
            version,
            runtime,
            supports_multi_node,
            can_run_on_this_node,
            exec,
            files,
            ..
        } = former;
        let ModuleSpecV1 { stop, restart, config_schema, limits, user, .. } = former;
        let life_cycle = BTreeMap::new();
        Self {
            name,
            version,
            runtime,
            supports_multi_node,
            can_run_on_this_node,
            exec,
            files,
            stop,
            restart,
            config_schema,
            limits,
            user,
            life_cycle,
        }
    }
}

impl ModuleSpec {
    /// A module with every optional field as when a document leaves it out.
    pub fn new(name: ModuleName, version: ModuleVersion, runtime: Runtime) -> Self {
        Self {
            name,
            version,
            runtime,
            supports_multi_node: true,
            can_run_on_this_node: Vec::new(),
            exec: None,
            files: BTreeMap::new(),
            stop: Stop::default(),
            restart: Restart::default(),
            config_schema: None,
            limits: Limits::default(),
            user: None,
            life_cycle: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }

    /// How long a call may take.
    pub fn limit(&self, call: Call) -> Span {
        let own = self.life_cycle.get(&call).and_then(|it| it.timeout);
        own.unwrap_or(if call.is_farewell() { self.stop.grace } else { call.limit() })
    }

    /// Whether its instances may be told this: a plugin's any call, an `exec` module's those that it gives a command for.
    pub fn takes(&self, call: Call) -> bool {
        match self.runtime {
            Runtime::Plugin => true,
            Runtime::Exec => self.life_cycle.contains_key(&call),
            Runtime::Builtin(_) | Runtime::Worker => false,
        }
    }

    /// Whether gate 3 must be asked for each bucket apart: some check uses `${bucket.*}`, or a plugin is told the bucket.
    pub fn checks_use_bucket(&self) -> bool {
        self.runtime.is_plugin() || self.declared_checks_use_bucket()
    }

    /// Whether what it runs depends on the subtask, or takes some, so that no bucket can be of it.
    pub fn is_for_subtasks(&self) -> bool {
        self.runtime.is_worker() || self.programs().any(Template::uses_subtask)
    }

    /// Whether anything of it depends on the bucket, so that no job can be of it.
    pub fn is_for_buckets(&self) -> bool {
        self.programs().any(Template::uses_bucket) || self.declared_checks_use_bucket()
    }

    /// The templates of what it runs.
    fn programs(&self) -> impl Iterator<Item = &Template> {
        let exec = self
            .exec
            .iter()
            .flat_map(|exec| std::iter::once(&exec.command).chain(&exec.args).chain(exec.env.values()));
        exec.chain(self.files.values())
    }

    /// Whether it cannot run without its artifact: it names `${artifact}`.
    pub fn uses_artifact(&self) -> bool {
        let exec = self
            .exec
            .iter()
            .flat_map(|exec| std::iter::once(&exec.command).chain(&exec.args).chain(exec.env.values()));
        let checks = self.can_run_on_this_node.iter().flat_map(|check| check.kind.templates());
        let calls = self.life_cycle.values().flat_map(|call| &call.command);
        exec.chain(self.files.values()).chain(checks).chain(calls).any(Template::uses_artifact)
    }

    fn declared_checks_use_bucket(&self) -> bool {
        self.can_run_on_this_node.iter().flat_map(|check| check.kind.templates()).any(Template::uses_bucket)
    }
}
