//! Invariant 3, all along: what runs where it may not any more is ended soon by whoever can, the node's agent.
//!
//! It knows its config, what the machine said of the module last, and the rules of the newest state that it has seen. While it
//! is not there, or knows nothing yet, what it started before goes on.

use sheaf_model::{BucketName, CompiledRules, Revision};

use crate::clock::{MS, SECOND, Time};
use crate::event::{AtWorld, Process, What};
use crate::outcome::Rule;
use crate::world::World;

/// How often it is looked at.
const LOOK_AGAIN: Time = 250 * MS;
/// A keeper that hangs is waited for beyond the grace of its program before all is killed, and a step that failed is tried again
/// only after a while.
const SOON: Time = 12 * SECOND;

impl World {
    pub(crate) fn look_whether_allowed(&mut self) {
        self.later(LOOK_AGAIN, Process::World, What::World(AtWorld::Allowed));
        let mut late = Vec::new();
        for (bucket, m, pid) in self.lives.all() {
            let why = self.forbids(&bucket, m);
            let Some(since) = self.lives.forbidden_since(&bucket, (m, pid), why.is_some(), self.now) else {
                continue;
            };
            if let Some(why) = why.filter(|_| self.now - since > SOON) {
                late.push(format!("{bucket} runs on n{m} {} ms after {why}", (self.now - since) / MS));
            }
        }
        for what in late {
            self.broken(Rule::Available, what);
        }
    }

    /// Why a bucket may not run on a machine, as far as its agent knows and can do anything about it.
    fn forbids(&self, bucket: &BucketName, m: usize) -> Option<&'static str> {
        let (machine, agent) = (&self.machines[m], &self.agents[m]);
        let is_there = machine.gate.up && !machine.frozen && agent.gate.is_there();
        let acts = is_there && agent.stand_in.is_none() && agent.seen() > Revision::default();
        let node = machine.disk.node.filter(|_| acts)?;
        let bucket = self.truth.state.buckets.get(bucket)?;
        let spec = &bucket.release_for(node).spec;
        let here = agent.here.as_ref()?;
        let may_have = |rules: &CompiledRules| rules.check(&here.hostname, &here.labels).is_ok();
        if here.deny.iter().any(|denied| denied == spec.module.name.as_str()) {
            Some("its config forbids the module")
        } else if agent.conclusive.get(&spec.module.to_string()) == Some(&false) {
            Some("the module refused")
        } else if agent.seen() >= bucket.revision && !may_have(&spec.node_list_rules.compile()) {
            Some("it has seen rules that refuse")
        } else {
            None
        }
    }
}
