//! Verdicts: a node's answer for one bucket, with all three gates.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{BucketName, ModuleRef, Revision, clipped};

/// Most bytes of a gate's reason: verdicts on many buckets share a message, and what ends an affinity goes into the log.
pub const REASON_MAX: usize = 1024;

/// One of the three checks, in the order they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Gate {
    /// The node's own config file.
    LocalConfig,
    /// The bucket's rules.
    NodeListRules,
    /// The module's answer.
    CanRunOnThisNode,
}

impl Gate {
    /// All, in order.
    pub const ALL: [Self; 3] = [Self::LocalConfig, Self::NodeListRules, Self::CanRunOnThisNode];

    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LocalConfig => "local_config",
            Self::NodeListRules => "node_list_rules",
            Self::CanRunOnThisNode => "can_run_on_this_node",
        }
    }
}

/// What one gate says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateOutcome {
    /// Passed, refused, or (none) not asked or not answered.
    pub pass: Option<bool>,
    /// Why, for people; empty where a pass needs no reason. At most [`REASON_MAX`] bytes, unless an agent of an earlier version
    /// says it.
    pub reason: Arc<str>,
}

impl GateOutcome {
    /// Passed, with what is worth saying about it (may be empty).
    pub fn pass(reason: &str) -> Self {
        Self { pass: Some(true), reason: shared(&clipped(reason, REASON_MAX)) }
    }

    /// Refused, and why.
    pub fn refuse(reason: impl Into<Arc<str>>) -> Self {
        Self { pass: Some(false), reason: short(reason.into()) }
    }

    /// Not asked, or not answered, and why.
    pub fn unknown(reason: impl Into<Arc<str>>) -> Self {
        Self { pass: None, reason: short(reason.into()) }
    }
}

/// Most reasons of a pass are empty; the empty one is never allocated.
fn shared(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

/// Nothing is allocated for one that is short, as nearly all are.
fn short(reason: Arc<str>) -> Arc<str> {
    if reason.len() <= REASON_MAX { reason } else { clipped(&reason, REASON_MAX).into() }
}

/// A node's answer for one bucket. Ephemeral; the leader keeps the newest of each node and bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The bucket.
    pub bucket: BucketName,
    /// The bucket's revision it is about.
    pub revision: Revision,
    /// The module's version that was asked.
    pub module: ModuleRef,
    /// What each gate says, in the order of [`Gate::ALL`].
    pub gates: [GateOutcome; 3],
}

impl Verdict {
    /// Available: all three gates pass.
    pub fn eligible(&self) -> bool {
        self.gates.iter().all(|gate| gate.pass == Some(true))
    }

    /// About how many bytes it takes in a message, and hardly ever more.
    pub fn weight(&self) -> usize {
        let ModuleRef { name, version } = &self.module;
        let module = name.as_str().len() + version.as_ref().map_or(0, |version| version.as_str().len());
        let reasons: usize = self.gates.iter().map(|gate| gate.reason.len()).sum();
        200 + self.bucket.as_str().len() + module + reasons
    }

    /// Whether a reason is longer than [`REASON_MAX`]: agents of earlier versions say any length, and so may whoever has taken a
    /// node's certificate.
    pub fn is_long(&self) -> bool {
        self.gates.iter().any(|outcome| outcome.reason.len() > REASON_MAX)
    }

    /// Leaves no more than that of each reason.
    pub fn clip(&mut self) {
        for outcome in &mut self.gates {
            outcome.reason = short(std::mem::take(&mut outcome.reason));
        }
    }

    /// The first gate that does not pass, with its outcome.
    pub fn refusal(&self) -> Option<(Gate, &GateOutcome)> {
        Gate::ALL.into_iter().zip(&self.gates).find(|(_, outcome)| outcome.pass != Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_is_too_long() {
        let long = "ä".repeat(100_000);
        let made = [
            GateOutcome::pass(&long),
            GateOutcome::refuse(long.as_str()),
            GateOutcome::unknown(long.as_str()),
        ];
        for outcome in &made {
            let reason = &outcome.reason;
            assert!(
                reason.len() <= REASON_MAX && reason.starts_with("ää") && reason.ends_with("ä…"),
                "{reason}"
            );
        }
        assert_eq!(made.map(|outcome| outcome.pass), [Some(true), Some(false), None]);
        let plain = "x".repeat(REASON_MAX);
        assert_eq!(&*GateOutcome::refuse(plain.as_str()).reason, plain);
    }
}
