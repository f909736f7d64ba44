//! An agent's shell: one loop around the engine's [`NodeState`].
//!
//! ```text
//!  link (watch, session) ─┐                                ┌─► executor ─► keepers
//!  executor, checks ──────┼─► Input ─► node::step ─► Action ┼─► checks ─► what is true of the machine
//!  time ──────────────────┘                                └─► link ─► the leader
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engine::gates::{CheckAnswer, Here, Part};
use sheaf_engine::node::question::Question;
use sheaf_engine::node::{self, Action, Done, Found, Identity, Input, NodeState, Start};
use sheaf_engine::{Command, Register};
use sheaf_model::session::{Acknowledged, ToLeader};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    BucketName, BucketSpec, Bytes, CheckKind, Epoch, Facts, Incarnation, NodeId, NodeKey, NodeListRules,
    NodeName, Phase, Span,
};

use crate::clock::{MS, SECOND, Time};
use crate::event::{Ask, AtAgent, Process, What};
use crate::executor::Held;
use crate::link::{Session, Watch};
use crate::plan::Planted;
use crate::stand_in::StandIn;
use crate::voter::proposal;
use crate::work::{Brought, Work};
use crate::world::{Gate, World};

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) gate: Gate,
    pub(crate) incarnation: u64,
    /// A leader has welcomed this life.
    pub(crate) welcomed: bool,
    /// None until it has looked at its disk.
    pub(crate) node: Option<NodeState>,
    /// Its machine as it was when its config was last read.
    pub(crate) here: Option<Here>,
    wakes_at: Option<Time>,
    pub(crate) held: BTreeMap<BucketName, Held>,
    /// Keepers that were spawned and have not said anything, and what for.
    pub(crate) starting: BTreeMap<BucketName, (u64, Box<Start>)>,
    /// Plans that are being written for further ones.
    pub(crate) plans: usize,
    /// It begins nothing any more and ends when what it has begun is there.
    pub(crate) closing: bool,
    /// It was told to leave, and ends when it has.
    pub(crate) leaves: bool,
    pub(crate) session: Session,
    /// What is here only stands in for an agent.
    pub(crate) stand_in: Option<StandIn>,
    pub(crate) watch: Watch,
    pub(crate) tries: u64,
    pub(crate) suspect: Option<usize>,
    /// It is to be paused right after its next heartbeat.
    pub(crate) pause_at_heartbeat: bool,
    /// What the watch shows as bound here (for a planted bug only).
    shown: BTreeMap<BucketName, Epoch>,
    /// With which rules each bucket came last (for a planted bug only).
    rules: BTreeMap<BucketName, NodeListRules>,
    /// What the machine said last when asked, by module.
    pub(crate) conclusive: BTreeMap<String, bool>,
    pub(crate) work: Work,
}

impl Agent {
    pub(crate) fn new(gate: Gate, incarnation: u64) -> Self {
        Self {
            gate,
            incarnation,
            welcomed: false,
            node: None,
            here: None,
            wakes_at: None,
            held: BTreeMap::new(),
            starting: BTreeMap::new(),
            plans: 0,
            closing: false,
            leaves: false,
            session: Session::None,
            stand_in: None,
            watch: Watch::default(),
            tries: 0,
            suspect: None,
            pause_at_heartbeat: false,
            shown: BTreeMap::new(),
            rules: BTreeMap::new(),
            conclusive: BTreeMap::new(),
            work: Work::default(),
        }
    }
}

/// What a machine says of itself. Half of them are in zone a, half in zone b.
pub(crate) fn facts(m: usize, key: u64) -> Facts {
    let name = if key < 1000 { format!("n{m}") } else { format!("n{m}-{key}") };
    Facts {
        name: NodeName::new(&name).expect("letters, digits and a dash"),
        hostname: format!("n{m}.example.com"),
        address: format!("n{m}:7420"),
        labels: vec![if m.is_multiple_of(2) { "zone=a" } else { "zone=b" }.to_owned()],
        allow: vec![],
        deny: vec![],
        version: "1".to_owned(),
        cpu: 2,
        memory_total: Bytes(1 << 30),
        notes: vec![],
    }
}

pub(crate) fn node_key(key: u64) -> NodeKey {
    NodeKey(format!("k{key}"))
}

impl World {
    /// A new life of an agent begins.
    pub(crate) fn start_agent(&mut self, m: usize) {
        if self.agents[m].gate.up || !self.machines[m].gate.up {
            return;
        }
        let incarnation = self.agents[m].incarnation + 1;
        let gate = Gate { up: true, ..std::mem::take(&mut self.agents[m].gate) };
        self.agents[m] = Agent::new(gate, incarnation);
        let delay = self.random.between(5 * MS, 80 * MS);
        self.later(delay, Process::Agent(m), What::Agent(AtAgent::Found));
    }

    /// An agent's process ends. Its keepers stay, and so does what it wrote.
    pub(crate) fn crash_agent(&mut self, m: usize) {
        self.hang_up_all(Process::Agent(m));
        self.agents[m].gate.crash();
        let locks = &mut self.machines[m].locks;
        locks.retain(|_, holder| *holder != crate::machine::Holder::Agent);
    }

    pub(crate) fn incarnation(&self, m: usize) -> Incarnation {
        Incarnation(format!("m{m}i{}", self.agents[m].incarnation))
    }

    pub(crate) fn on_agent(&mut self, m: usize, it: AtAgent) {
        match it {
            AtAgent::Found => self.find(m),
            AtAgent::Join => self.join(m),
            AtAgent::Joined(key, id) => self.joined(m, key, id),
            AtAgent::Wake => self.wake(m),
            AtAgent::Echo(conn, words) => self.toss(Process::Agent(m), conn, *words),
            AtAgent::Search => self.search(m),
            AtAgent::SearchLate(number) => self.search_late(m, number),
            AtAgent::AskSuspect(number, v) => self.ask_suspect(m, number, v),
            AtAgent::Beat(conn, pace) => self.agent_beat(m, conn, pace),
            AtAgent::OpenWatch => self.open_watch(m),
            AtAgent::WatchLate(conn) => self.watch_late(m, conn),
            AtAgent::Answered(key, part, answers) => self.checked(m, &key, part, &answers),
            AtAgent::Config => self.config_changed(m),
            AtAgent::StoodLongEnough => self.stood_long_enough(m),
            AtAgent::Left { late } => self.left(m, late),
            AtAgent::Close(departure, give_up) => self.close(m, departure, give_up),
            AtAgent::AttemptEnds(attempt) => self.bring(m, Brought::Over(attempt)),
            AtAgent::Brought(it) => self.bring(m, it),
            AtAgent::TakeWork => self.take_work(m),
            AtAgent::EndsLate(seq) => self.ends_late(m, seq),
            it => self.on_executor(m, it),
        }
    }

    /// What an earlier life has left is looked at; then everything begins.
    fn find(&mut self, m: usize) {
        let Some(id) = self.machines[m].disk.node else { return self.join(m) };
        if self.agents[m].node.is_some() {
            return;
        }
        let identity = Identity { node: id, boot: self.machines[m].boot_id(m) };
        let here = self.read_config(m);
        self.agents[m].node = Some(NodeState::new(identity, here));
        let found = self.find_instances(m);
        self.input(m, Input::Found(found));
        self.search(m);
        if self.agents[m].stand_in.is_none() {
            self.open_watch(m);
        }
    }

    /// What a machine says of itself, as gates see it.
    fn read_config(&mut self, m: usize) -> Here {
        let machine = &self.machines[m];
        let facts = facts(m, machine.disk.key);
        let here = Here {
            name: facts.name.to_string(),
            hostname: facts.hostname,
            labels: facts.labels,
            allow: vec![],
            deny: machine.denied.iter().map(|denied| (*denied).to_owned()).collect(),
        };
        self.agents[m].here = Some(here.clone());
        here
    }

    fn config_changed(&mut self, m: usize) {
        if self.agents[m].stand_in.is_none() {
            let here = self.read_config(m);
            self.input(m, Input::Config(here));
        }
    }

    fn find_instances(&mut self, m: usize) -> Vec<Found> {
        let disk = &self.machines[m].disk;
        let mut names: Vec<BucketName> = disk.plans.keys().chain(disk.statuses.keys()).cloned().collect();
        names.sort();
        names.dedup();
        let mut found = Vec::new();
        for bucket in names {
            let fence = self.machines[m].fence(&bucket);
            let seen = self.find_instance(m, &bucket);
            found.push(Found { bucket, seen: Some(seen), fence });
        }
        let only = self.machines[m].disk.fences.iter();
        let only = only.filter(|(bucket, _)| found.iter().all(|it| it.bucket != **bucket));
        let only: Vec<Found> =
            only.map(|(bucket, fence)| Found { bucket: bucket.clone(), seen: None, fence: *fence }).collect();
        found.into_iter().chain(only).collect()
    }

    /// Asks for a number: the machine's disk is new.
    fn join(&mut self, m: usize) {
        if self.machines[m].disk.node.is_some() {
            return;
        }
        let key = self.machines[m].disk.key;
        let register = Register { key: node_key(key), facts: facts(m, key) };
        let it = Arc::new(proposal("node", self.now, Command::Register(register)));
        for v in 0..self.voters.len() {
            let ask = Ask { from: Process::Agent(m), number: key, proposal: it.clone() };
            self.datagram(Process::Agent(m), Process::Voter(v), What::Asked(ask));
        }
        self.later(SECOND, Process::Agent(m), What::Agent(AtAgent::Join));
    }

    /// It has its number, unless that is the one of a disk that was lost while it was asked for.
    fn joined(&mut self, m: usize, key: u64, id: NodeId) {
        let disk = &mut self.machines[m].disk;
        if disk.key == key && disk.node.is_none() {
            disk.node = Some(id);
            self.find(m);
        }
    }

    fn wake(&mut self, m: usize) {
        self.agents[m].wakes_at = None;
        self.input(m, Input::Tick);
    }

    /// One input, and all that follows from it at once.
    pub(crate) fn input(&mut self, m: usize, input: Input) {
        let mut next = vec![input];
        while let Some(input) = next.pop() {
            let input = self.tamper(m, input);
            let now = self.clock(Process::Agent(m));
            let Some(node) = &mut self.agents[m].node else { return };
            for action in node::step(node, input, now) {
                next.extend(self.perform(m, action));
            }
        }
        self.look_whether_left(m);
        let Some(due) = self.agents[m].node.as_ref().and_then(NodeState::next_wake) else { return };
        let at = self.machines[m].clock.when(due, self.now).max(self.now + 1);
        if self.agents[m].wakes_at.is_none_or(|earlier| at < earlier) {
            self.agents[m].wakes_at = Some(at);
            self.later(at - self.now, Process::Agent(m), What::Agent(AtAgent::Wake));
        }
    }

    fn perform(&mut self, m: usize, action: Action) -> Option<Input> {
        if self.agents[m].stand_in.is_some() {
            self.stand_in_performs(m, action);
            return None;
        }
        match action {
            Action::Ask(question) => self.ask_machine(m, question),
            Action::HeartbeatNow => self.heartbeat(m),
            Action::Say(message) => self.say_to_leader(m, message),
            Action::Note(bucket, line) => self.line(|| format!("agent {m} {bucket}: {line}")),
            action => return self.execute(m, action),
        }
        None
    }

    pub(crate) fn say_to_leader(&mut self, m: usize, mut message: ToLeader) {
        let Session::Open(open) = &self.agents[m].session else { return };
        let conn = open.conn;
        if let ToLeader::Phases { instances, .. } = &mut message
            && self.plan.has(Planted::EndUntold)
        {
            instances.retain(|it| !matches!(it.phase, Phase::Stopping | Phase::Stopped));
        }
        // What is said again until it has its effect may be doubled and overtaken.
        let tossed = matches!(message, ToLeader::GaveUp { .. } | ToLeader::NothingLeft { .. });
        let words = crate::event::Words::ToLeader(message);
        if tossed {
            self.toss(Process::Agent(m), conn, words.clone());
            if self.random.chance(400) {
                let delay = self.random.between(100 * MS, 4 * SECOND);
                self.later(delay, Process::Agent(m), What::Agent(AtAgent::Echo(conn, Box::new(words))));
            }
        } else {
            self.say(Process::Agent(m), conn, words);
        }
    }

    /// Gate 3, answered by what is true of the machine.
    fn ask_machine(&mut self, m: usize, question: Question) {
        let unclear = !self.healed && self.random.chance(30);
        let has_file = self.machines[m].has_file;
        let answer = |kind: &CheckKind| match kind {
            CheckKind::File(_) if unclear => CheckAnswer::Unclear("not found out".to_owned()),
            CheckKind::File(_) if !has_file => CheckAnswer::Fails("/gate does not exist".to_owned()),
            _ => CheckAnswer::Holds,
        };
        let answers: Vec<CheckAnswer> = question.checks.iter().map(|check| answer(&check.kind)).collect();
        let delay =
            if self.random.chance(50) { self.random.below(2 * SECOND) } else { self.random.below(20 * MS) };
        let what = What::Agent(AtAgent::Answered(question.key, question.part, answers));
        self.later(delay, Process::Agent(m), what);
    }

    fn checked(&mut self, m: usize, key: &node::question::Key, part: Part, answers: &[CheckAnswer]) {
        let plain_no = answers.iter().any(|answer| matches!(answer, CheckAnswer::Fails(_)));
        let all = answers.iter().all(|answer| *answer == CheckAnswer::Holds);
        if plain_no || all {
            self.agents[m].conclusive.insert(key.module.to_string(), all);
        }
        self.input(m, Input::Answered(key.clone(), part, answers.to_vec()));
    }

    /// Planted bugs of the node's side: what comes in is not what was sent.
    fn tamper(&mut self, m: usize, input: Input) -> Input {
        let now = self.clock(Process::Agent(m));
        match input {
            Input::Watch(items) => {
                if self.plan.has(Planted::NodeWideLease) {
                    items.iter().for_each(|item| self.agents[m].shows(item));
                }
                let is_old = self.plan.has(Planted::OldRules);
                let of_before = |item| if is_old { self.agents[m].with_old_rules(item) } else { item };
                Input::Watch(items.into_iter().map(of_before).collect())
            }
            Input::Acknowledged(ack) if self.plan.has(Planted::LeaseFromReceipt) => {
                Input::Acknowledged(Acknowledged { sent_at: now, ..ack })
            }
            Input::Acknowledged(ack) if self.plan.has(Planted::NodeWideLease) => {
                let mut epochs: BTreeMap<BucketName, Epoch> = ack.epochs.iter().cloned().collect();
                epochs.extend(self.agents[m].shown.clone());
                Input::Acknowledged(Acknowledged { epochs: epochs.into_iter().collect(), ..ack })
            }
            Input::Acknowledged(mut ack) if self.plan.has(Planted::EpochNotChecked) => {
                for (bucket, epoch) in &mut ack.epochs {
                    let runs = self.agents[m].held.get(bucket).and_then(Held::epoch);
                    *epoch = runs.unwrap_or(*epoch);
                }
                Input::Acknowledged(ack)
            }
            input => input,
        }
    }
}

impl Agent {
    fn shows(&mut self, item: &WatchItem) {
        match item {
            WatchItem::Reset => self.shown.clear(),
            WatchItem::Binding(it) if !it.leaving => {
                self.shown.insert(it.bucket.clone(), it.epoch);
            }
            WatchItem::BindingGone(bucket) | WatchItem::BoundElsewhere(bucket, _) => {
                self.shown.remove(bucket);
            }
            _ => {}
        }
    }

    /// Planted: a bucket comes with the rules that it came with before.
    fn with_old_rules(&mut self, item: WatchItem) -> WatchItem {
        let WatchItem::Bucket(mut watched) = item else { return item };
        let (name, rules) = (watched.spec.name.clone(), watched.spec.node_list_rules.clone());
        if let Some(former) = self.rules.insert(name, rules) {
            watched.spec = Arc::new(BucketSpec { node_list_rules: former, ..(*watched.spec).clone() });
        }
        WatchItem::Bucket(watched)
    }

    /// The newest state it has seen whole.
    pub(crate) fn seen(&self) -> sheaf_model::Revision {
        self.node.as_ref().map(NodeState::seen).unwrap_or_default()
    }
}

/// Ends of actions that the executor reports in a moment.
pub(crate) fn failed(reason: &str) -> Done {
    Done::Failed { reason: reason.to_owned(), again: true }
}

/// How long a session waits for an acknowledgement: two heartbeats.
pub(crate) fn patience(heartbeat: Span) -> Span {
    Span(2 * heartbeat.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;
    use crate::machine::MachineDisk;

    #[test]
    fn the_number_of_a_disk_that_was_lost_is_not_the_next_ones() {
        let mut world = World::new(1, Plan::of_seed(1));
        world.begin();
        world.machines[0].disk = MachineDisk { key: 1000, ..MachineDisk::default() };
        world.on_agent(0, AtAgent::Joined(0, NodeId(8)));
        assert_eq!(world.machines[0].disk.node, None);
        world.on_agent(0, AtAgent::Joined(1000, NodeId(9)));
        assert_eq!(world.machines[0].disk.node, Some(NodeId(9)));
    }
}
