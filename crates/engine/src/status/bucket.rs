//! Where a bucket stands.

use std::ops::Bound;

use sheaf_model::view::{
    BucketCounts, BucketRow, BucketState, BucketStatus, InstanceView, PurgeFailure, PurgeView, RolloutView,
};
use sheaf_model::{BucketName, Exit, Instance, LeaveReason, Node, NodeId, NodeStatus, OnNodeLost, Phase};

use super::{Sight, texts};
use crate::state::{Bucket, Emergency, Rollout};

/// Counts over the nodes of one bucket.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Nodes that should run it now.
    desired: u32,
    /// Of these, up to date and running.
    running: u32,
    /// Nodes that should run it but gave up.
    gave_up: u32,
    /// Nodes where it has ended as wanted, and so should not run any more.
    ended: u32,
    /// Nodes whose answer is still awaited.
    awaited: u32,
    /// Nodes that nothing is known of: not lost, without a session, as after a change of leaders.
    unheard: u32,
    /// Instances that exist in any phase but stopped and failed.
    alive: u32,
}

impl<'a> Sight<'a> {
    /// The bucket's state and why, for people.
    pub fn bucket_state(&self, bucket: &Bucket) -> (BucketState, String) {
        if !bucket.current.spec.multi_node {
            return self.single_state(bucket, self.tally(bucket));
        }
        let (state, message) = self.multi_state(bucket, self.tally(bucket));
        match self.rollout(bucket) {
            Some(rollout) if state == BucketState::Running => {
                (BucketState::Partial, under_way(bucket, &rollout))
            }
            Some(rollout) if message.is_empty() => (state, under_way(bucket, &rollout)),
            Some(rollout) => (state, format!("{message}; {}", under_way(bucket, &rollout))),
            None => (state, message),
        }
    }

    /// How far the bucket's next release has come; none: it is not being rolled out.
    fn rollout(&self, bucket: &Bucket) -> Option<RolloutView> {
        let rollout = bucket.next.as_ref().filter(|_| !bucket.is_off())?;
        let alive = self.state.nodes.values().filter(|node| node.status.is_alive());
        let released = rollout.released.iter();
        Some(RolloutView {
            revision: rollout.release.revision.0,
            released: released.map(|node| self.state.node_name(*node)).collect(),
            nodes: u32::try_from(alive.count()).unwrap_or(u32::MAX),
            waits_for: self.unreachable_released(rollout),
            stopped: rollout.stopped.clone(),
        })
    }

    /// Lost nodes that a rollout waits for: nobody knows how they do.
    fn unreachable_released(&self, rollout: &Rollout) -> Vec<String> {
        let lost = rollout
            .released
            .iter()
            .filter(|node| self.state.nodes.get(node).is_some_and(|node| node.status == NodeStatus::Lost));
        lost.map(|node| self.state.node_name(*node)).collect()
    }

    /// A row of `bucket list`.
    pub fn bucket_row(&self, bucket: &Bucket) -> BucketRow {
        let status = self.bucket_status(bucket);
        BucketRow {
            name: status.name,
            state: status.state,
            kind: status.kind,
            module: status.module,
            multi_node: status.multi_node,
            suspended: status.suspended,
            node_affinity: status.node_affinity,
            affinity_epoch: status.affinity_epoch,
            affinity_since: status.affinity_since,
            desired: status.desired,
            running: status.running,
            revision: status.revision,
            owner: status.owner,
            labels: status.labels,
        }
    }

    /// `bucket status` of one bucket. What nodes say is cut where it would be too long for a message together.
    pub fn bucket_status(&self, bucket: &Bucket) -> BucketStatus {
        let mut status = self.whole_status(bucket);
        let instances = status.instances.iter_mut().map(|instance| &mut instance.message);
        let failed = status.purge.iter_mut().flat_map(|purge| &mut purge.failed);
        texts::fit(instances.chain(failed.map(|failure| &mut failure.message)), texts::MOST);
        status
    }

    fn whole_status(&self, bucket: &Bucket) -> BucketStatus {
        let spec = &bucket.newest().spec;
        let (state, message) = self.bucket_state(bucket);
        let tally = self.tally(bucket);
        let objects = self.state.objects.get(bucket.name());
        let binding = self.state.bindings.get(bucket.name()).filter(|_| !spec.multi_node);
        BucketStatus {
            name: spec.name.to_string(),
            revision: bucket.revision.0,
            kind: spec.kind.as_str().to_owned(),
            module: spec.module.to_string(),
            multi_node: spec.multi_node,
            suspended: bucket.suspended,
            node_list_rules: spec.node_list_rules.texts(),
            node_affinity: self.hostnames(bucket),
            affinity_epoch: binding.map(|binding| binding.epoch.0),
            affinity_since: binding.map(|binding| binding.since.to_string()),
            state,
            desired: match spec.multi_node {
                true => tally.desired,
                false => u32::from(!bucket.is_off() && !self.has_ended_where_bound(bucket)),
            },
            running: tally.running,
            instances: self.instances(bucket).map(|instance| self.instance_view(instance)).collect(),
            owner: spec.owner.clone(),
            labels: spec.labels.clone(),
            message,
            rollout: self.rollout(bucket),
            quarantined_until: bucket.quarantined_until().map(|until| until.to_string()),
            emergency: bucket.emergency.as_ref().map(|emergency| emergency.reason().to_owned()),
            objects: objects.map_or(0, |objects| objects.len() as u64),
            object_bytes: objects.map_or(0, |objects| objects.bytes()),
            purge: bucket.purge.as_ref().map(|purge| PurgeView {
                revision: purge.revision.0,
                waiting: purge.waiting.iter().map(|node| self.state.node_name(*node)).collect(),
                failed: (purge.failed.iter())
                    .map(|(node, why)| PurgeFailure {
                        node: self.state.node_name(*node),
                        message: why.clone(),
                    })
                    .collect(),
            }),
        }
    }

    /// Counts by state up to `at_most` buckets whose names come after `after`. Returns the last of them while there may be
    /// more.
    pub fn count_buckets(
        &self,
        after: Option<&BucketName>,
        at_most: usize,
        counts: &mut BucketCounts,
    ) -> Option<BucketName> {
        let (mut counted, mut last) = (0, None);
        for bucket in self.buckets_after(after).take(at_most) {
            counts.add(self.bucket_state(bucket).0);
            (counted, last) = (counted + 1, Some(bucket.name()));
        }
        last.filter(|_| counted == at_most).cloned()
    }

    /// Buckets whose names come after `after`, by name; none: all of them.
    pub fn buckets_after(&self, after: Option<&BucketName>) -> impl Iterator<Item = &'a Bucket> + use<'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.state.buckets.range::<BucketName, _>((from, Bound::Unbounded)).map(|(_, bucket)| &**bucket)
    }

    /// The nodes a bucket is bound to: of a multi-node one, those that run it.
    pub fn affinity_of(&self, bucket: &Bucket) -> Vec<NodeId> {
        if !bucket.current.spec.multi_node {
            return self.state.bindings.get(bucket.name()).map(|binding| binding.node).into_iter().collect();
        }
        self.instances(bucket)
            .filter(|instance| is_alive(instance) && self.is_reachable(instance.node))
            .map(|instance| instance.node)
            .collect()
    }

    fn instances(&self, bucket: &Bucket) -> impl Iterator<Item = &Instance> + '_ {
        let nodes = self.state.instances.get(bucket.name());
        nodes.into_iter().flatten().map(|(_, instance)| &**instance)
    }

    fn instance_view(&self, instance: &Instance) -> InstanceView {
        let mut message = instance.message.clone();
        if !self.is_reachable(instance.node) {
            message = format!("as last heard: {}", instance.phase.as_str());
        }
        InstanceView {
            node: self.state.node_name(instance.node),
            phase: instance.phase.as_str().to_owned(),
            epoch: instance.epoch.map(|epoch| epoch.0),
            pid: instance.pid,
            started_at: instance.started_at.map(|at| at.to_string()),
            restarts: instance.restarts,
            message,
            revision: instance.revision.0,
            node_id: instance.node.0,
        }
    }

    fn hostnames(&self, bucket: &Bucket) -> Vec<String> {
        let mut names: Vec<String> =
            self.affinity_of(bucket).into_iter().map(|node| self.hostname(node)).collect();
        names.sort();
        names
    }

    /// A node's hostname for `node_affinity`.
    pub fn hostname(&self, node: NodeId) -> String {
        let node = self.state.nodes.get(&node);
        node.map(|node| node.facts.hostname.clone()).unwrap_or_default()
    }

    fn is_reachable(&self, node: NodeId) -> bool {
        self.state.is_alive(node)
    }

    fn runs_up_to_date(&self, bucket: &Bucket, node: NodeId) -> bool {
        let instance = self.state.instances.get(bucket.name()).and_then(|nodes| nodes.get(&node));
        let basis = bucket.basis_for(node);
        self.is_reachable(node) && instance.is_some_and(|i| i.phase == Phase::Running && i.revision >= basis)
    }

    /// Whether its program has ended there by itself, and well: nobody wants it to run again.
    fn has_ended(&self, bucket: &Bucket, node: NodeId) -> bool {
        let instance = self.state.instances.get(bucket.name()).and_then(|nodes| nodes.get(&node));
        self.is_reachable(node)
            && instance.is_some_and(|i| {
                i.phase == Phase::Stopped
                    && i.exit.is_some_and(Exit::is_success)
                    && i.revision >= bucket.basis_for(node)
            })
    }

    /// The same of a single-node bucket, on the node that it is bound to.
    fn has_ended_where_bound(&self, bucket: &Bucket) -> bool {
        let Some(bound) = self.state.bindings.get(bucket.name()) else { return false };
        let instance = self.state.instances.get(bucket.name()).and_then(|nodes| nodes.get(&bound.node));
        bound.leaving.is_none()
            && instance.is_some_and(|instance| instance.epoch == Some(bound.epoch))
            && self.has_ended(bucket, bound.node)
    }

    /// Where it has ended, and how to run it again; empty: nowhere.
    fn said_of_the_end(&self, bucket: &Bucket) -> String {
        let ended = self.instances(bucket).filter(|instance| self.has_ended(bucket, instance.node));
        let nodes: Vec<String> = ended.map(|instance| self.state.node_name(instance.node)).collect();
        if nodes.is_empty() {
            return String::new();
        }
        let (name, nodes) = (bucket.name(), nodes.join(", "));
        format!("ended well on {nodes}, exit code 0; `sheaf bucket restart {name}` runs it again")
    }

    /// Whether the node is being drained, and of this bucket, too.
    fn is_emptied_of(&self, bucket: &Bucket, node: &Node) -> bool {
        let bound = self.state.bindings.get(bucket.name()).is_some_and(|bound| bound.node == node.id);
        let stays = |keep_multi_node| bound || (bucket.current.spec.multi_node && keep_multi_node);
        node.drain.is_some_and(|drain| !stays(drain.keep_multi_node))
    }

    fn tally(&self, bucket: &Bucket) -> Tally {
        // What a lost node still runs of it is not known, and ends when it is heard again.
        let alive = self.instances(bucket).filter(|i| is_alive(i) && self.is_reachable(i.node));
        let mut tally = Tally { alive: u32::try_from(alive.count()).unwrap_or(u32::MAX), ..Tally::default() };
        let nodes = self.state.nodes.values().filter(|node| node.status.is_alive());
        let multi = bucket.current.spec.multi_node;
        for node in nodes {
            let verdict = self.sessions.map(|sessions| {
                sessions.verdict(bucket.name(), bucket.release_for(node.id).revision, node.id)
            });
            let running = self.runs_up_to_date(bucket, node.id);
            let ended = multi && !running && self.has_ended(bucket, node.id);
            let available = match verdict {
                Some(Some(verdict)) => verdict.eligible() || (multi && running),
                Some(None) => {
                    let connected = self.sessions.is_some_and(|sessions| sessions.is_connected(node.id));
                    tally.awaited += u32::from(connected && node.status != NodeStatus::Joining);
                    tally.unheard += u32::from(!connected && node.status != NodeStatus::Joining);
                    running || ended
                }
                None => running || ended,
            };
            let available = available && (running || !self.is_emptied_of(bucket, node));
            tally.desired += u32::from(available && !ended);
            tally.ended += u32::from(available && ended);
            tally.running += u32::from(running);
            tally.gave_up += u32::from(available && bucket.gave_up.contains_key(&node.id));
        }
        if bucket.is_off() {
            tally.desired = 0;
        } else if !multi {
            let bound = self.state.bindings.get(bucket.name());
            tally.running = u32::from(bound.is_some_and(|bound| self.runs_up_to_date(bucket, bound.node)));
        }
        tally
    }

    fn multi_state(&self, bucket: &Bucket, tally: Tally) -> (BucketState, String) {
        let Tally { desired, running, gave_up, ended, awaited, unheard, alive } = tally;
        if bucket.is_off() {
            return match alive {
                0 => off_state(bucket),
                n => (BucketState::Stopping, format!("{n} instances are being stopped")),
            };
        }
        match desired {
            0 if awaited > 0 || (self.sessions.is_none() && ended == 0) => {
                (BucketState::Placing, unanswered(awaited + unheard))
            }
            // As wanted: it runs wherever it should, which is nowhere any more.
            0 if ended > 0 => (BucketState::Running, self.said_of_the_end(bucket)),
            0 if unheard > 0 => (BucketState::Placing, unanswered(unheard)),
            0 => (BucketState::Unplaced, "no node is available".to_owned()),
            n if gave_up == n => (BucketState::Failed, "its instances gave up restarting".to_owned()),
            n if running >= n && awaited == 0 => (BucketState::Running, self.said_of_the_end(bucket)),
            n if running >= n => (BucketState::Partial, unanswered(awaited)),
            n if running == 0 => (BucketState::Starting, format!("0 of {n} run")),
            n => (BucketState::Partial, format!("{running} of {n} run")),
        }
    }

    fn single_state(&self, bucket: &Bucket, tally: Tally) -> (BucketState, String) {
        let name = bucket.name();
        let Some(binding) = self.state.bindings.get(name) else {
            if bucket.is_off() {
                return off_state(bucket);
            }
            return self.unbound_state(bucket, tally);
        };
        let node = self.state.node_name(binding.node);
        let lost = !self.is_reachable(binding.node);
        if let Some(reason) = &binding.leaving {
            if let LeaveReason::GaveUp(message) = reason
                && tally.desired == tally.gave_up
            {
                return (BucketState::Failed, message.clone());
            }
            let wait = if lost { " which is lost; its lease must surely be over first" } else { "" };
            return (BucketState::Stopping, format!("leaves node {node}{wait}: {reason}"));
        }
        if lost && bucket.current.spec.on_node_lost == OnNodeLost::Wait {
            return (BucketState::WaitingForNode, format!("node {node} is lost; on_node_lost: wait"));
        }
        if lost {
            return (
                BucketState::Placing,
                format!("node {node} is lost; its lease must surely be over first"),
            );
        }
        if tally.running > 0 {
            return (BucketState::Running, String::new());
        }
        if self.has_ended_where_bound(bucket) {
            return (BucketState::Running, self.said_of_the_end(bucket));
        }
        let instance = self.state.instances.get(name).and_then(|nodes| nodes.get(&binding.node));
        match instance {
            Some(i) if i.phase == Phase::Failed => (BucketState::Failed, i.message.clone()),
            Some(i) => (BucketState::Starting, format!("{} on node {node}; {}", i.phase.as_str(), i.message)),
            None => (BucketState::Starting, format!("bound to node {node}, not started yet")),
        }
    }

    fn unbound_state(&self, bucket: &Bucket, tally: Tally) -> (BucketState, String) {
        if let Some(residue) = self.state.residues.get(bucket.name()) {
            let nodes: Vec<String> = residue.nodes.keys().map(|node| self.state.node_name(*node)).collect();
            let lost = residue.nodes.keys().filter(|node| !self.state.is_alive(**node));
            let lost: Vec<String> = lost.map(ToString::to_string).collect();
            let mut message = format!(
                "may have been multi-node until lately; waits for {} to confirm that nothing of it is left there",
                nodes.join(", ")
            );
            if !lost.is_empty() {
                message.push_str("; of those that are gone for good say so: sheaf node forget ");
                message.push_str(&lost.join(" "));
            }
            return (BucketState::Placing, message);
        }
        match tally.desired {
            0 if tally.awaited + tally.unheard > 0 || self.sessions.is_none() => {
                (BucketState::Placing, unanswered(tally.awaited + tally.unheard))
            }
            0 => (BucketState::Unplaced, "no node is available".to_owned()),
            n if tally.gave_up == n => {
                let last = bucket.gave_up.values().next_back().cloned().unwrap_or_default();
                (BucketState::Failed, format!("gave up restarting on every available node: {last}"))
            }
            _ => (BucketState::Placing, "a node is being chosen".to_owned()),
        }
    }
}

/// So many nodes may yet say that it can run there; 0: it is not known how many.
fn unanswered(nodes: u32) -> String {
    match nodes {
        0 => "the nodes have not answered yet".to_owned(),
        1 => "1 node has not answered yet".to_owned(),
        n => format!("{n} nodes have not answered yet"),
    }
}

/// How a rollout stands, for people.
fn under_way(bucket: &Bucket, rollout: &RolloutView) -> String {
    let bucket = bucket.name();
    let RolloutView { revision, released, nodes, waits_for, stopped } = rollout;
    let so_far = format!("{} of {nodes} nodes are released to revision {revision}", released.len());
    match stopped {
        Some(why) => format!(
            "{so_far}, and no more: {why}; go back with `sheaf bucket rollback {bucket}`, or on with \
             `sheaf bucket resume {bucket}` once that is mended"
        ),
        None if !waits_for.is_empty() => format!(
            "{so_far}; lost since: {}; of one that is gone for good say so: sheaf node forget NODE",
            waits_for.join(", ")
        ),
        None => so_far,
    }
}

/// Where a bucket that is switched off stands once nothing of it runs.
fn off_state(bucket: &Bucket) -> (BucketState, String) {
    match &bucket.emergency {
        None => (BucketState::Suspended, String::new()),
        Some(Emergency::Disabled { reason }) => {
            (BucketState::Suspended, format!("its module had it suspended: {reason}"))
        }
        Some(Emergency::Quarantined { until, reason }) => {
            (BucketState::Quarantined, format!("its module had it stopped until {until}: {reason}"))
        }
    }
}

/// Whether the instance is, or is about to be, a process.
const fn is_alive(instance: &Instance) -> bool {
    !matches!(instance.phase, Phase::Stopped | Phase::Failed)
}
