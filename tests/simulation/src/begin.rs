//! The beginning: a cluster that is formed and whose nodes are registered, on machines with clocks that run wrong.

use std::sync::Arc;

use sheaf_engine::{Apply, Command, Form, Register};
use sheaf_model::{
    Check, CheckKind, Exec, ModuleName, ModuleSpec, ModuleVersion, NodeId, Part, Restart, RestartWhen,
    Runtime, Settings, Signal, Span, Stop, Template, Term,
};

use crate::agent::{Agent, facts, node_key};
use crate::client::Client;
use crate::clock::{Clock, MS, SECOND};
use crate::event::{AtClient, AtWorld, Process, What};
use crate::faults::Undo;
use crate::machine::Machine;
use crate::raft::Entry;
use crate::voter::{Voter, proposal};
use crate::world::{Gate, World};

impl World {
    pub(crate) fn begin(&mut self) {
        for m in 0..self.plan.nodes {
            let ppm = self.drift();
            let shown = self.random.between(8_000 * SECOND, 90_000 * SECOND);
            let node = NodeId(m as u64 + 1);
            self.machines.push(Machine::new(Clock::new(0, shown, ppm), m as u64, node));
            self.agents.push(Agent::new(Gate::default(), 0));
        }
        let log = first_entries(self.plan.nodes);
        for v in 0..self.plan.voters {
            self.voters.push(Voter::new(log.clone()));
            self.set_election(v);
        }
        for m in 0..self.plan.nodes {
            self.start_agent(m);
        }
        for c in 0..self.plan.buckets {
            let every = self.plan.multi_every;
            self.clients.push(Client::new(c, c % every == every - 1));
            let delay = self.random.between(SECOND, 3 * SECOND);
            self.later(delay, Process::Client(c), What::Client(AtClient::Next));
        }
        for o in 0..self.plan.jobs {
            let owner = self.new_owner(o);
            self.owners.push(owner);
            let delay = self.random.between(SECOND, 8 * SECOND);
            self.later(delay, Process::Client(self.plan.buckets + o), What::Client(AtClient::Next));
        }
        if self.plan.fault_every > 0 {
            self.later(3 * SECOND, Process::World, What::World(AtWorld::Fault));
        }
        let every = self.plan.cut_leader_every;
        for turn in 1..=self.plan.chaos.checked_div(every).unwrap_or(0) {
            self.undo_in(turn * every, Undo::CutLeader);
        }
        let every = self.plan.hunt_every;
        for turn in 1..=self.plan.chaos.checked_div(every).unwrap_or(0) {
            self.undo_in(turn * every, Undo::Hunt);
        }
        if self.plan.lost_at_once > 0 {
            self.later(self.plan.chaos, Process::World, What::World(AtWorld::Lose));
        }
        self.later(self.plan.chaos, Process::World, What::World(AtWorld::Heal));
        self.look_whether_allowed();
    }
}

fn first_entries(nodes: usize) -> Vec<Entry> {
    let settings = Settings { gate_interval: Span::seconds(5), ..Settings::default() };
    let mut commands = vec![Command::Form(Form { cluster: "c".into(), settings })];
    commands.extend(
        (0..nodes)
            .map(|m| Command::Register(Register { key: node_key(m as u64), facts: facts(m, m as u64) })),
    );
    let modules = vec![module("plain", false), module("gated", true)];
    commands.push(Command::Apply(Apply { modules, buckets: vec![] }));
    let entry = |command| Entry { term: Term(1), proposal: Some(Arc::new(proposal("begin", 0, command))) };
    commands.into_iter().map(entry).collect()
}

fn module(name: &str, gated: bool) -> ModuleSpec {
    let text = |text: &str| Template(vec![Part::Text(text.to_owned())]);
    let name = ModuleName::new(name).expect("a name of letters");
    let version = ModuleVersion::new("1").expect("a version of one digit");
    let check = Check { kind: CheckKind::File(text("/gate")), timeout: None };
    ModuleSpec {
        exec: Some(Exec { command: text("/bin/run"), args: vec![], env: Default::default() }),
        can_run_on_this_node: if gated { vec![check] } else { vec![] },
        stop: Stop { signal: Signal::Term, grace: Span::seconds(2) },
        restart: Restart {
            policy: RestartWhen::OnFailure,
            backoff_min: Span(200 * MS / 1000),
            backoff_max: Span::seconds(1),
            give_up_count: 20,
            give_up_window: Span::seconds(60),
        },
        ..ModuleSpec::new(name, version, Runtime::Exec)
    }
}
