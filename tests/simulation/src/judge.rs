//! The end of a run: everything must be as it shall be.

use std::collections::BTreeSet;

use sheaf_engine::Bucket;
use sheaf_engine::reconcile::Mode;
use sheaf_model::{BucketName, NodeId, NodeStatus, OnNodeLost, Phase};

use crate::clock::MS;
use crate::link::Session;
use crate::outcome::Rule;
use crate::world::World;

impl World {
    pub(crate) fn judge_all(&mut self) {
        self.judge_replicas();
        self.judge_clients();
        self.judge_jobs();
        self.judge_paces();
        self.judge_records();
        let buckets: Vec<_> = self.truth.state.buckets.values().cloned().collect();
        for bucket in &buckets {
            if bucket.current.spec.multi_node {
                self.judge_multi(bucket);
            } else {
                self.judge_single(bucket);
            }
        }
        if self.plan.told_elsewhere {
            self.judge_disks();
        }
        for name in self.lives.buckets() {
            if !self.truth.state.buckets.contains_key(&name) {
                self.broken(Rule::Everywhere, format!("{name} is deleted and still runs"));
            }
        }
        self.end();
    }

    fn judge_replicas(&mut self) {
        if let Some(lost) = self.truth.lost_by(&self.truth.state) {
            let what = format!("{lost} was acknowledged and is forgotten");
            self.broken(Rule::Acknowledged, what);
        }
        for v in 0..self.voters.len() {
            let voter = &self.voters[v];
            if voter.applied == self.truth.length() && voter.state != self.truth.state {
                self.broken(Rule::Replicas, format!("voter {v} differs in the end"));
            }
        }
        if self.leader().is_none() {
            self.broken(Rule::Runs, "nobody leads".to_owned());
        }
    }

    /// Machines on which a bucket may run, with their numbers in the log.
    fn available(&self, bucket: &Bucket) -> Vec<(usize, NodeId)> {
        let spec = &bucket.current.spec;
        let rules = spec.node_list_rules.compile();
        let may = |m: &usize| {
            let machine = &self.machines[*m];
            let id = machine.disk.node?;
            let node = self.truth.state.nodes.get(&id)?;
            let passes = rules.check(&node.facts.hostname, &node.labels()).is_ok();
            let there = machine.gate.up && self.agents[*m].gate.is_there();
            (there && passes && machine.has_file && !bucket.gave_up.contains_key(&id)).then_some((*m, id))
        };
        (0..self.machines.len()).filter_map(|m| may(&m)).collect()
    }

    fn judge_multi(&mut self, bucket: &Bucket) {
        let name = bucket.name().clone();
        let wanted: BTreeSet<usize> = match bucket.suspended {
            true => BTreeSet::new(),
            false => self.available(bucket).into_iter().map(|(m, _)| m).collect(),
        };
        for m in 0..self.machines.len() {
            let runs = self.lives.on(&name, m);
            if runs != usize::from(wanted.contains(&m)) {
                let why = self.why(&name, m);
                let gave_up = &bucket.gave_up;
                let what = format!("{name} runs {runs} times on n{m}, gave up {gave_up:?}: {why}");
                self.broken(Rule::Everywhere, what);
            }
        }
    }

    fn judge_single(&mut self, bucket: &Bucket) {
        let name = bucket.name().clone();
        let lives = self.lives.of(&name);
        if bucket.suspended {
            if !lives.is_empty() {
                self.broken(Rule::Runs, format!("{name} is suspended and runs on {lives:?}"));
            }
            return;
        }
        let state = &self.truth.state;
        let gone = |id: &NodeId| state.nodes.get(id).is_none_or(|node| node.status == NodeStatus::Lost);
        let binding = state.bindings.get(&name);
        let waits = bucket.current.spec.on_node_lost == OnNodeLost::Wait
            && binding.is_some_and(|binding| gone(&binding.node));
        let residue = state.residues.get(&name).is_some_and(|residue| residue.nodes.keys().any(gone));
        if self.available(bucket).is_empty() || waits || residue {
            return;
        }
        let as_bound = |(m, mode): &(usize, Mode)| {
            binding.is_some_and(|it| {
                self.machines[*m].disk.node == Some(it.node) && mode.epoch() == Some(it.epoch)
            })
        };
        if lives.len() != 1 || !lives.iter().all(as_bound) {
            let bound = binding.map(|it| (it.node, it.epoch, it.leaving.clone()));
            let at = binding.and_then(|it| {
                (0..self.machines.len()).find(|m| self.machines[*m].disk.node == Some(it.node))
            });
            let why = at.map(|m| self.why(&name, m)).unwrap_or_default();
            let statuses: Vec<_> = state.nodes.values().map(|node| (node.id.0, node.status)).collect();
            let live = self.leader().and_then(|v| self.voters[v].live.sessions.as_ref());
            let connected: Vec<u64> =
                live.map(|it| it.connected().map(|id| id.0).collect()).unwrap_or_default();
            let what = format!(
                "{name} runs on {lives:?}, is bound to {bound:?}: {why}, nodes {statuses:?}, connected {connected:?}"
            );
            self.broken(Rule::Runs, what);
        }
    }

    /// A bucket that is bound to one node has left the disks of all others that hear of it.
    fn judge_disks(&mut self) {
        let mut left_over = Vec::new();
        for (m, machine) in self.machines.iter().enumerate() {
            let Some(id) = machine.disk.node.filter(|_| self.hears(m)) else { continue };
            for (name, plan) in &machine.disk.plans {
                let state = &self.truth.state;
                let bucket = state.buckets.get(name).filter(|bucket| {
                    !(bucket.suspended || bucket.current.spec.multi_node || bucket.gave_up.contains_key(&id))
                });
                let binding = state.bindings.get(name).filter(|it| it.node != id && it.leaving.is_none());
                if let (Some(_), Some(binding)) = (bucket, binding) {
                    let (node, epoch, lease) = (binding.node, binding.epoch, &plan.lease);
                    let why = self.why(name, m);
                    left_over.push(format!("{name} is bound to {node} under {epoch}, not {lease:?}: {why}"));
                }
            }
        }
        for what in left_over {
            self.broken(Rule::LeftOver, what);
        }
    }

    /// Every session goes at the pace of the settings, whenever it was opened; by a clock that may run wrong.
    fn judge_paces(&mut self) {
        let wanted = self.truth.state.cluster.settings.lease.heartbeat.0 * MS;
        for m in 0..self.machines.len() {
            if let Session::Open(open) = &self.agents[m].session
                && let Some(gap) = open.gap.filter(|gap| gap.abs_diff(wanted) > wanted / 50 + 20 * MS)
                && self.hears(m)
            {
                let (gap, wanted) = (gap / MS, wanted / MS);
                self.broken(Rule::Pace, format!("n{m} is heard every {gap} ms instead of {wanted}"));
            }
        }
    }

    /// What runs is on record as running, with the epoch it has; and what is on record as running runs.
    fn judge_records(&mut self) {
        for what in self.untold().into_iter().chain(self.told_in_vain()) {
            self.broken(Rule::Told, what);
        }
    }

    /// What runs, and is on record as something else.
    fn untold(&self) -> Vec<String> {
        let mut untold = Vec::new();
        for (name, bucket) in &self.truth.state.buckets {
            let on_record = self.truth.state.instances.get(name);
            for (m, mode) in self.lives.of(name) {
                let Some(id) = self.machines[m].disk.node.filter(|_| self.hears(m)) else { continue };
                let told = on_record.and_then(|nodes| nodes.get(&id));
                if told.is_none_or(|it| it.phase != Phase::Running || it.epoch != mode.epoch()) {
                    let (suspended, why) = (bucket.suspended, self.why(name, m));
                    untold.push(format!("{name} ({suspended}) runs and is known as {told:?}: {why}"));
                }
            }
        }
        untold
    }

    /// What is on record as running on a machine on which nothing of it runs.
    fn told_in_vain(&self) -> Vec<String> {
        let mut in_vain = Vec::new();
        for m in (0..self.machines.len()).filter(|m| self.hears(*m)) {
            let Some(id) = self.machines[m].disk.node else { continue };
            for (name, nodes) in &self.truth.state.instances {
                let told = nodes.get(&id).filter(|it| it.phase == Phase::Running);
                if let Some(told) = told.filter(|_| self.lives.on(name, m) == 0) {
                    let why = self.why(name, m);
                    in_vain.push(format!("{name} does not run and is known as {told:?}: {why}"));
                }
            }
        }
        in_vain
    }

    /// Whether a machine's agent is there, and the log has it as ready.
    fn hears(&self, m: usize) -> bool {
        let (machine, agent) = (&self.machines[m], &self.agents[m]);
        let node = machine.disk.node.and_then(|id| self.truth.state.nodes.get(&id));
        let is_ready = node.is_some_and(|node| node.status == NodeStatus::Ready);
        let stays = agent.node.is_some() && agent.stand_in.is_none() && !agent.closing && !agent.leaves;
        is_ready && machine.gate.up && !machine.frozen && agent.gate.is_there() && stays
    }

    /// What a node has of a bucket, for people.
    fn why(&self, bucket: &BucketName, m: usize) -> String {
        let Some(node) = &self.agents[m].node else { return "its agent is not there".to_owned() };
        let seen = node.instances().find(|(name, _)| *name == bucket).map(|(_, seen)| seen);
        let verdict = node.verdicts().find(|verdict| verdict.bucket == *bucket);
        let known = self.machines[m].disk.node.and_then(|id| self.truth.state.nodes.get(&id));
        let status = known.map(|known| known.status);
        format!("n{m} ({status:?}) at revision {} has {seen:?}, {verdict:?}", node.seen())
    }
}
