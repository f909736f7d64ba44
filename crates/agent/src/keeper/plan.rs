//! What a keeper is told and what it says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sheaf_engine::keep::{End, Lease, Telling};
use sheaf_engine::node::{Purged, Told};
use sheaf_model::{
    BootId, BucketName, Bytes, Call, Epoch, Exit, FileName, Moment, NodeName, Phase, Piece, Restart,
    Revision, SecretName, Span, Stop, Timestamp, Trial,
};

use super::confine::Confine;
use super::opened::{Confided, Confidential, Opened};

/// What to run, everything rendered. `plan.json`.
///
/// The program gets the agent's environment, then `SHEAF_NODE`, `SHEAF_BUCKET`, `SHEAF_REVISION`, `SHEAF_DIR` and
/// for single-node work `SHEAF_EPOCH`, then `env`. A plugin gets its sockets too, and one for gate 3 no `SHEAF_BUCKET`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The bucket.
    pub bucket: BucketName,
    /// The node's name.
    pub node: NodeName,
    /// The bucket's revision, for the program.
    pub revision: Revision,
    /// The state it is started from ([`sheaf_engine::Bucket::basis_for`]); only copied into the status.
    pub basis: Revision,
    /// By what right.
    pub lease: Lease,
    /// The program; looked up in `PATH` if it has no slash.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<(String, String)>,
    /// Written into the instance's directory before each start.
    pub files: Vec<(FileName, String)>,
    /// What has secrets in it, of `env` and `files`; its keeper is given them apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confidential: Vec<Confidential>,
    /// How it is stopped.
    pub stop: Stop,
    /// When it is started again.
    pub restart: Restart,
    /// How much of its output is kept.
    pub output: OutputLimits,
    /// How often it was started again since the bucket last changed; see [`Plan::carry_on`].
    pub restarts: u32,
    /// The moments of those that count against the limit.
    pub recent: Vec<Moment>,
    /// Set if the program speaks `sheaf.module.v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
    /// Set if commands are run to tell the program of its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Box<Commands>>,
    /// How long calls may take, as far as the module's document says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<Call, Span>,
    /// Nothing is run: this is only told, for an instance that had ended before it could be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Call>,
    /// What it may use, and whom it runs as.
    #[serde(default, skip_serializing_if = "Confine::is_none")]
    pub confine: Confine,
    /// Set if it is a trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// What tells a program of its life that cannot be called: of an `exec` module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    /// The bucket as it is in this plan.
    pub bucket: sheaf_module::Bucket,
    /// A program and its arguments for each call that the module has one for.
    pub lines: BTreeMap<Call, Vec<String>>,
}

/// What a plugin's process is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plugin {
    /// To run a bucket: its keeper tells it this.
    Instance(Box<sheaf_module::Instance>),
    /// To be asked gate 3, by the agent. Its keeper tells it nothing, and ends with the agent.
    Gate,
}

impl Plan {
    /// How its program is told of its life; `resumed`: the instance was suspended before.
    pub(crate) fn telling(&self, resumed: bool) -> Telling {
        match (&self.plugin, &self.commands) {
            (Some(Plugin::Instance(_)), _) if self.farewell.is_some() => {
                Telling::farewell(self.limits.clone())
            }
            (Some(Plugin::Instance(_)), _) if self.trial.is_some() => Telling::trial(self.limits.clone()),
            (Some(Plugin::Instance(_)), _) => Telling::plugin(self.limits.clone(), resumed),
            (None, Some(commands)) => {
                Telling::commands(commands.lines.keys().copied().collect(), self.limits.clone(), resumed)
            }
            (Some(Plugin::Gate), _) | (None, None) => Telling::default(),
        }
    }

    /// Whether its program may be told anything while it runs or at its end.
    pub(crate) fn tells(&self) -> bool {
        self.plugin.is_some() || self.commands.is_some()
    }

    /// Whether it can be told this although it did not run when it was to be told: a plugin is started for it. Of a trial
    /// nobody is told anything.
    pub(crate) fn takes_farewell(&self, call: Call) -> bool {
        match (&self.plugin, &self.commands) {
            (Some(Plugin::Instance(_)), _) => self.trial.is_none(),
            (None, Some(commands)) => commands.lines.contains_key(&call),
            (Some(Plugin::Gate), _) | (None, None) => false,
        }
    }

    /// How long a keeper that only tells it that may take.
    pub(crate) fn farewell_within(&self) -> Span {
        let opening: &[Call] = if self.plugin.is_some() { &[Call::Hello, Call::Init] } else { &[] };
        let limits =
            opening.iter().map(|call| self.limits.get(call).copied().unwrap_or_else(|| call.limit()));
        let until_told = limits.fold(0, |sum: u64, limit| sum.saturating_add(limit.0));
        Span(until_told.saturating_add(self.stop.grace.0))
    }

    /// The same without what has secrets in it.
    pub(crate) fn without_secrets(self) -> Self {
        Self { confidential: Vec::new(), ..self }
    }

    /// The secrets that it leaves open, each as often as it stands there.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        self.confidential.iter().flat_map(|it| &it.pieces).filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name),
            Piece::Text(_) => None,
        })
    }

    /// The files that have secrets in them.
    pub(crate) fn confided_files(&self) -> impl Iterator<Item = &FileName> {
        self.confidential.iter().filter_map(|it| match &it.place {
            Confided::File(name) => Some(name),
            Confided::Env(_) => None,
        })
    }

    /// How often it is polled.
    pub(crate) fn poll_every(&self) -> Option<Span> {
        let bucket = match (&self.plugin, &self.commands) {
            (Some(Plugin::Instance(instance)), _) => &instance.bucket,
            (None, Some(commands)) if commands.lines.contains_key(&Call::PeriodicPoll) => &commands.bucket,
            _ => return None,
        };
        bucket.poll_frequency_ms.map(Span::millis)
    }

    /// Goes on counting where an earlier keeper of the same basis has left off.
    /// Moments of another boot mean nothing in this one and are left out.
    pub fn carry_on(&mut self, former: &Status, boot: &BootId) {
        if former.basis == self.basis {
            self.restarts = former.restarts;
            self.recent = if former.boot == *boot { former.recent.clone() } else { Vec::new() };
        }
    }
}

/// How much output is kept: `files` files of `file` bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputLimits {
    /// Bytes per file.
    pub file: Bytes,
    /// Number of files, the current one included; at least 1.
    pub files: u32,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self { file: Bytes(10 << 20), files: 5 }
    }
}

/// Where an instance is. `status.json`, and what a keeper pushes at every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The bucket.
    pub bucket: BucketName,
    /// From the plan: the state it was started from.
    pub basis: Revision,
    /// Single-node: under which epoch.
    pub epoch: Option<Epoch>,
    /// Single-node: until when it may live in `boot`. On disk as of the last change, from the keeper as of now.
    #[serde(default)]
    pub until: Option<Moment>,
    /// Its phase.
    pub phase: Phase,
    /// Why, for people; with the last lines of output when it failed.
    pub message: String,
    /// The program's process and process group, while it runs.
    pub pid: Option<u32>,
    /// When the program last started.
    pub started_at: Option<Timestamp>,
    /// How often it was started again since the bucket last changed.
    pub restarts: u32,
    /// The moments of those that count against the limit.
    pub recent: Vec<Moment>,
    /// How the program last ended.
    pub exit: Option<Exit>,
    /// Set when the keeper is done, and why; nothing of the instance is alive then.
    pub end: Option<End>,
    /// It was suspended: a next start here resumes it.
    #[serde(default)]
    pub suspended: bool,
    /// What its program was told last of why it ends.
    #[serde(default)]
    pub told: Option<Call>,
    /// The last purge that was done, and why it failed if it did. Kept over restarts.
    #[serde(default)]
    pub purged: Option<(Revision, String)>,
    /// When it was polled last, or when it first ran if it never was. Kept over restarts.
    #[serde(default)]
    pub polled: Option<Timestamp>,
    /// Its keeper knows of purges; one from before an upgrade does not, and must not be told.
    #[serde(default)]
    pub purges: bool,
    /// How often it has asked for the secrets of the next start; none: it is from before an upgrade, and does not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// What the program had started and left alive when it last ended, by name and process id. All of it is killed then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
    /// Which process keeps it.
    pub keeper: KeeperProcess,
    /// The boot all this is said in; after another one nothing of it is alive.
    pub boot: BootId,
    /// When this was said.
    pub at: Timestamp,
}

impl Status {
    /// What of it the node must know.
    pub(crate) fn told(&self) -> Told {
        Told {
            phase: self.phase,
            message: self.message.clone(),
            pid: self.pid,
            started_at: self.started_at,
            restarts: self.restarts,
            exit: self.exit,
            end: self.end.clone(),
            purged: self.purged.clone().map(|(revision, failure)| Purged { revision, failure }),
        }
    }
}

/// A process that cannot be mistaken for a later one with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperProcess {
    /// Its id, which is also its session's.
    pub pid: u32,
    /// When it started, in the kernel's ticks since boot.
    pub started: u64,
}

/// From an agent to a keeper, one JSON value a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// A heartbeat was acknowledged: the epoch is valid until then. Counts only for the same epoch and boot.
    Deadline {
        /// The epoch acknowledged.
        epoch: Epoch,
        /// The boot in which `until` holds.
        boot: BootId,
        /// The new deadline.
        until: Moment,
    },
    /// The bucket changed: go on with the plan in `update.json`, and tell the program. (Not in this line: a plan may be long.)
    /// One that is not newer than the present one says nothing.
    Update,
    /// What the plan that is there, or the next `Update`, leaves open. Kept in memory only.
    Secrets(Opened),
    /// The same as it is now, as far as it can be had: the answer to a keeper that has asked so often ([`Status::asked`]).
    Renewed {
        /// Which question.
        asked: u64,
        /// The secrets; those that are missing stay as they are.
        opened: Opened,
    },
    /// What the bucket has collected is to be thrown away, as asked at this revision. One that was done says nothing.
    Purge(Revision),
    /// As `Stop`; the program is told this before.
    Part(Call),
    /// End the instance: signal, grace, SIGKILL for all of it.
    Stop,
    /// Say where the instance is. (Said without being asked on connecting and at every change.)
    Status,
}

/// From a keeper to an agent, one JSON value a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// Where the instance is.
    Status(Box<Status>),
    /// Another keeper holds the bucket; this one ends and has done nothing.
    Busy,
    /// It could not begin, and why; nothing was started.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_mebibytes_of_output_are_kept_unless_it_is_said_otherwise() {
        assert_eq!(OutputLimits::default(), OutputLimits { file: Bytes(10 * 1024 * 1024), files: 5 });
    }
}
