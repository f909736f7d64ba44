//! An operator: drains and empties nodes, moves buckets, forgets machines that will not come back, changes how long
//! leases last and how often agents are heard. It asks whoever leads and does not wait for an answer; what it asked for
//! may be made late, or never.

use std::sync::Arc;

use sheaf_engine::{Command, DrainNode, MoveBucket, SettingsCommand};
use sheaf_model::{BucketName, Drain, NodeId, NodeKey, NodeStatus, Setting, Span};

use crate::agent::node_key;
use crate::clock::{MS, SECOND};
use crate::event::{Ask, AtAgent, AtWorld, Process, What};
use crate::voter::proposal;
use crate::world::World;

/// The longest lease that any settings here give.
pub(crate) const LONGEST_TTL: u64 = 5 * SECOND;

impl World {
    fn operate(&mut self, command: Command) {
        self.line(|| format!("the operator asks for {command:?}"));
        let it = Arc::new(proposal("operator", self.now, command));
        for v in 0..self.voters.len() {
            let ask = Ask { from: Process::World, number: 0, proposal: it.clone() };
            self.datagram(Process::World, Process::Voter(v), What::Asked(ask));
        }
    }

    /// Counts what was made of it.
    pub(crate) fn operated(&mut self, command: &Command) {
        let counts = &mut self.counts;
        match command {
            Command::Drain(_) => counts.drained += 1,
            Command::Move(_) => counts.moved += 1,
            Command::Forget(_) => counts.forgotten += 1,
            Command::Settings(SettingsCommand::Change(_)) => counts.leases_changed += 1,
            Command::Settings(SettingsCommand::Settle(_)) => counts.leases_settled += 1,
            _ => {}
        }
    }

    /// A node is to be emptied, and is given back after a while.
    pub(crate) fn drain(&mut self, m: usize) {
        let Some(node) = self.machines[m].disk.node else { return };
        let deadline = self.random.chance(500).then(|| Span::millis(self.random.between(200, 6000)));
        let keep_multi_node = self.random.chance(300);
        self.operate(Command::Drain(DrainNode { node, drain: Drain { deadline, keep_multi_node } }));
        let delay = self.random.between(500 * MS, 10 * SECOND);
        self.later(delay, Process::World, What::World(AtWorld::Undrain(node)));
    }

    /// Until it is done.
    pub(crate) fn undrain(&mut self, node: NodeId) {
        if self.truth.state.nodes.get(&node).is_some_and(|node| node.drain.is_some()) {
            self.operate(Command::Undrain(node));
            self.later(SECOND, Process::World, What::World(AtWorld::Undrain(node)));
        }
    }

    /// Whatever was drained, however late, is given back in the end.
    pub(crate) fn undrain_all(&mut self) {
        let drained = self.truth.state.nodes.values().filter(|node| node.drain.is_some());
        let drained: Vec<NodeId> = drained.map(|node| node.id).collect();
        for node in drained {
            self.operate(Command::Undrain(node));
        }
        self.later(2 * SECOND, Process::World, What::World(AtWorld::UndrainAll));
    }

    /// A bucket that is bound is to go to another node, or to this one.
    pub(crate) fn move_bucket(&mut self, m: usize) {
        let bound = self.truth.state.bindings.values().filter(|binding| binding.leaving.is_none());
        let bound: Vec<BucketName> = bound.map(|binding| binding.bucket.clone()).collect();
        if !bound.is_empty() {
            let bucket = bound[self.random.index(bound.len())].clone();
            let to = self.machines[m].disk.node.filter(|_| self.random.chance(500));
            self.operate(Command::Move(MoveBucket { bucket, to, base: None }));
        }
    }

    /// A machine's config forbids a module from now on, or none.
    pub(crate) fn change_config(&mut self, m: usize) {
        let denied = [None, Some("plain"), Some("gated")][self.random.index(3)];
        self.counts.configs_changed += u64::from(self.machines[m].denied != denied);
        self.configure(m, denied);
    }

    pub(crate) fn configure(&mut self, m: usize, denied: Option<&'static str>) {
        self.line(|| format!("the config of n{m} forbids {denied:?}"));
        self.machines[m].denied = denied;
        self.later(0, Process::Agent(m), What::Agent(AtAgent::Config));
    }

    /// Who is lost and has no disk any more never comes back: that nothing of it is alive can be vouched for.
    pub(crate) fn forget_the_gone(&mut self) {
        for node in self.gone() {
            self.operate(Command::Forget(node));
        }
    }

    /// Nodes that are lost and whose disk is nowhere. A disk is known by its key: its machine may have been registered
    /// and not have heard its number yet, and comes back as the node that it is.
    fn gone(&self) -> Vec<NodeId> {
        let here: Vec<NodeKey> = self.machines.iter().map(|machine| node_key(machine.disk.key)).collect();
        let lost = self.truth.state.nodes.values().filter(|node| node.status == NodeStatus::Lost);
        lost.filter(|node| !here.contains(&node.key)).map(|node| node.id).collect()
    }

    /// Leases become longer or shorter, while those given before run on; every other time more than once within W.
    pub(crate) fn change_leases(&mut self) {
        self.change_lease();
        if self.random.chance(500) {
            for _ in 0..self.random.between(1, 4) {
                let delay = self.random.between(100 * MS, 4 * SECOND);
                self.later(delay, Process::World, What::World(AtWorld::ChangeLease));
            }
        }
    }

    pub(crate) fn change_lease(&mut self) {
        if self.truth.state.cluster.former.is_some() {
            self.counts.leases_changed_again += 1;
        }
        let ttl = [2 * SECOND, 3 * SECOND, LONGEST_TTL][self.random.index(3)];
        let kill_margin = Span::millis(self.random.between(750, 1500));
        // At least three to a lease.
        let heartbeat = Span(ttl / MS / [3, 6, 20][self.random.index(3)]);
        let changes = vec![
            Setting::Ttl(Span(ttl / MS)),
            Setting::KillMargin(kill_margin),
            Setting::Heartbeat(heartbeat),
        ];
        self.operate(Command::Settings(SettingsCommand::Change(changes)));
    }
}

#[cfg(test)]
mod tests {
    use sheaf_engine::{Form, Register, Reply, SetNodeStatus};
    use sheaf_model::{Settings, Term};

    use super::*;
    use crate::Plan;
    use crate::agent::facts;
    use crate::machine::MachineDisk;

    fn done(world: &mut World, command: Command) -> Reply {
        let it = proposal("test", 0, command);
        sheaf_engine::apply(&mut world.truth.state, Term(1), &it, &mut Vec::new())
    }

    /// The first machine is registered with this key, and lost.
    fn lost(world: &mut World, key: u64) -> NodeId {
        let register = Register { key: node_key(key), facts: facts(0, key) };
        let Reply::Registered(node) = done(world, Command::Register(register)) else {
            panic!("nobody else has its key or its name");
        };
        let status = SetNodeStatus { node, status: NodeStatus::Lost, reason: String::new(), term: None };
        done(world, Command::SetNodeStatus(status));
        node
    }

    #[test]
    fn a_machine_that_has_not_heard_its_number_yet_is_not_gone() {
        let mut world = World::new(1, Plan::of_seed(1));
        world.begin();
        done(&mut world, Command::Form(Form { cluster: "c".into(), settings: Settings::default() }));
        let former = lost(&mut world, 0);
        assert!(world.gone().is_empty(), "its disk is there");
        world.machines[0].disk = MachineDisk { key: 1000, ..MachineDisk::default() };
        let registered = lost(&mut world, 1000);
        assert_ne!(former, registered);
        assert_eq!(world.gone(), [former]);
    }
}
