//! Several agents that form a cluster, and short ways to ask it.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sheaf_model::NodeId;

use crate::agent::LEAVES_WITHIN;
use crate::need::say;
use crate::wait::wait_for;
use crate::{Agent, Machine, NodePlan, Output, machine, ports, processes};

/// How long agents may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a bucket may take to get where it should.
pub const SOON: Duration = Duration::from_secs(20);

/// Agents on loopback, `n1`, `n2` and so on, killed when this ends.
#[derive(Debug)]
pub struct Cluster {
    // Dropped before the machine, which then looks for what is left.
    agents: Vec<Agent>,
    machine: Arc<Machine>,
    name: String,
    planned: Instant,
    /// Said once: how long it took until all were ready.
    said: Once,
}

impl Cluster {
    /// Starts `count` agents and waits until all are ready. The first three, if there are so many, are the ones listed
    /// in `join` and become voters.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, |_, _| {})
    }

    /// The same; `change` gets each node's number, from 1, and its config.
    pub fn start_with(count: usize, change: impl FnMut(usize, &mut NodePlan)) -> Self {
        let cluster = Self::plan(&Arc::new(Machine::take()), "", count, change);
        cluster.start_all();
        cluster.wait_ready();
        cluster
    }

    /// Prepares agents, and starts none. `prefix` comes before their names.
    pub fn plan(
        machine: &Arc<Machine>,
        prefix: &str,
        count: usize,
        mut change: impl FnMut(usize, &mut NodePlan),
    ) -> Self {
        let ports = ports::free(2 * count);
        let address = |index: usize| format!("127.0.0.1:{}", ports[2 * index]);
        let join: Vec<String> =
            if count == 1 { Vec::new() } else { (0..count.min(3)).map(address).collect() };
        let mut cluster = Self {
            agents: Vec::new(),
            machine: Arc::clone(machine),
            name: prefix.to_owned(),
            planned: Instant::now(),
            said: Once::new(),
        };
        for index in 0..count {
            let name = format!("{prefix}n{}", index + 1);
            let http = format!("127.0.0.1:{}", ports[2 * index + 1]);
            let dir = machine.path(&name);
            let mut plan = NodePlan::new(&name, address(index), http, join.clone(), count, dir);
            change(index + 1, &mut plan);
            let id = plan.name.clone();
            cluster.agents.push(Agent::new(machine, &id, plan));
        }
        cluster
    }

    /// Adds one more node that joins the others; it is not started.
    pub fn add(&mut self, change: impl FnOnce(&mut NodePlan)) -> &Agent {
        let ports = ports::free(2);
        let name = format!("{}n{}", self.name, self.agents.len() + 1);
        let [address, http] = [0, 1].map(|index| format!("127.0.0.1:{}", ports[index]));
        let join: Vec<String> = self.agents.iter().take(3).map(Agent::address).collect();
        let dir = self.machine.path(&name);
        let mut plan = NodePlan::new(&name, address, http, join, self.agents.len(), dir);
        change(&mut plan);
        self.agents.push(Agent::new(&self.machine, &name, plan));
        self.agents.last().expect("one was just added")
    }

    /// Starts every agent that does not run.
    pub fn start_all(&self) {
        self.agents.iter().filter(|agent| !agent.is_running()).for_each(Agent::start);
    }

    /// Asks all agents to leave, at once, and waits until they have. Who leaves after others waits in vain for one that leads.
    ///
    /// # Panics
    /// If one does not leave, or fails on its way.
    pub fn stop_all(&self) {
        self.agents.iter().for_each(|agent| agent.signal(Signal::TERM));
        for agent in &self.agents {
            assert_eq!(agent.exit(LEAVES_WITHIN), 0, "{}", agent.log_tail());
        }
    }

    /// Waits until every agent is ready, and there are as many voters as there should be.
    pub fn wait_ready(&self) {
        self.wait_ready_nodes(self.agents.len());
    }

    /// Waits until so many nodes are ready, and there are as many voters as there should be.
    ///
    /// # Panics
    /// If it takes too long, or an agent ends meanwhile.
    pub fn wait_ready_nodes(&self, count: usize) {
        let voters = match self.agents.len() {
            0..=2 => 1,
            3..=9 => 3,
            _ => 5,
        };
        wait_for(&format!("{count} nodes are ready, {voters} voters"), READY_WITHIN, || {
            self.assert_alive();
            let status = self.try_json(&["cluster", "status", "-o", "json"])?;
            let rows = self.try_json(&["node", "list", "-o", "json"])?;
            let ready = rows.as_array().into_iter().flatten().filter(|row| row["status"] == "ready").count();
            let found = members(&status).filter(|member| member["voter"] == true).count();
            if status["leader"].is_string() && ready == count && found == voters {
                Ok(())
            } else {
                Err(format!(
                    "leader {}, {ready} ready, {found} voters; {}",
                    status["leader"], status["message"]
                ))
            }
        });
        self.said.call_once(|| {
            let seconds = self.planned.elapsed().as_secs_f64();
            say(&format!("{}: {count} nodes, ready after {seconds:.1} s", machine::test()));
        });
    }

    /// No agent has ended that was not asked to.
    ///
    /// # Panics
    /// With the end of the log of one that has.
    pub fn assert_alive(&self) {
        if let Some(agent) = self.agents.iter().find(|agent| agent.has_ended()) {
            panic!("the agent of {} has ended by itself:\n{}", agent.name(), agent.log_tail());
        }
    }

    /// Waits until a node that was started again answers for itself, and the cluster counts it as ready.
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_back(&self, agent: &Agent) {
        wait_for(&format!("{} is back", agent.name()), READY_WITHIN, || {
            self.assert_alive();
            let node = agent.try_json(&["node", "status", &agent.name(), "-o", "json"])?;
            if node["status"] == "ready" { Ok(()) } else { Err(format!("{node:#}")) }
        });
        self.wait_ready();
    }

    /// The machine it runs on.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// All agents, in the order of their numbers.
    pub fn agents(&self) -> &[Agent] {
        &self.agents
    }

    /// The agent of a number, from 1.
    pub fn agent(&self, number: usize) -> &Agent {
        &self.agents[number - 1]
    }

    /// The agent of a node's name.
    ///
    /// # Panics
    /// If there is none.
    pub fn named(&self, name: &str) -> &Agent {
        let found = self.agents.iter().find(|agent| agent.name() == name);
        found.unwrap_or_else(|| panic!("no agent is named {name}"))
    }

    /// The agent whose node leads.
    ///
    /// # Panics
    /// If none does for long.
    pub fn leader(&self) -> &Agent {
        let name = wait_for("there is a leader", SOON, || {
            let status = self.try_json(&["cluster", "status", "-o", "json"])?;
            let name = status["leader"].as_str().ok_or_else(|| status.to_string())?.to_owned();
            // A follower may not have noticed yet that the former leader is gone.
            if self.named(&name).is_running() { Ok(name) } else { Err(format!("{name}, which is down")) }
        });
        self.named(&name)
    }

    /// The last agent whose node does not lead.
    ///
    /// # Panics
    /// If there is but one.
    pub fn follower(&self) -> &Agent {
        let leader = self.leader().name();
        self.agents.iter().rfind(|agent| agent.name() != leader).expect("not all of them lead")
    }

    /// An agent that votes and does not lead.
    ///
    /// # Panics
    /// If one votes alone.
    pub fn following_voter(&self) -> &Agent {
        let leader = self.leader().name();
        self.voters().into_iter().find(|agent| agent.name() != leader).expect("not all of them lead")
    }

    /// The agents that vote.
    pub fn voters(&self) -> Vec<&Agent> {
        let status = self.json(&["cluster", "status", "-o", "json"]);
        let voters = members(&status).filter(|member| member["voter"] == true);
        voters.filter_map(|member| member["name"].as_str()).map(|name| self.named(name)).collect()
    }

    /// The agents that hold no replica.
    pub fn watchers(&self) -> Vec<&Agent> {
        let status = self.json(&["cluster", "status", "-o", "json"]);
        let held: Vec<&str> = members(&status).filter_map(|member| member["name"].as_str()).collect();
        self.agents.iter().filter(|agent| !held.contains(&agent.name().as_str())).collect()
    }

    /// Runs a command that asks the first agent that runs.
    pub fn cli(&self, args: &[&str]) -> Output {
        self.cli_with(args, b"")
    }

    /// The same with an input.
    ///
    /// # Panics
    /// If no agent runs.
    pub fn cli_with(&self, args: &[&str], input: &[u8]) -> Output {
        self.asked().cli_with(args, input)
    }

    /// The first agent that runs.
    fn asked(&self) -> &Agent {
        let running = self.agents.iter().find(|agent| agent.is_running());
        running.expect("an agent runs that can be asked")
    }

    /// The JSON that a command prints.
    ///
    /// # Panics
    /// As [`Agent::json`].
    pub fn json(&self, args: &[&str]) -> Value {
        self.asked().json(args)
    }

    /// The same, for a wait.
    ///
    /// # Errors
    /// As [`Agent::try_json`].
    pub fn try_json(&self, args: &[&str]) -> Result<Value, String> {
        self.asked().try_json(args)
    }

    /// The status of a node.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn node(&self, name: &str) -> Value {
        self.json(&["node", "status", name, "-o", "json"])
    }

    /// A node's number.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn node_id(&self, name: &str) -> NodeId {
        let node = self.node(name);
        NodeId(node["id"].as_u64().unwrap_or_else(|| panic!("a number in {node:#}")))
    }

    /// Waits until a node's status is this.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait_node(&self, name: &str, status: &str) {
        wait_for(&format!("{name} is {status}"), SOON, || {
            let node = self.try_json(&["node", "status", name, "-o", "json"])?;
            if node["status"] == status { Ok(()) } else { Err(format!("{node:#}")) }
        });
    }

    /// Registers documents.
    ///
    /// # Panics
    /// If they are refused.
    pub fn apply(&self, documents: &str) -> Output {
        self.cli_with(&["apply", "-f", "-"], documents.as_bytes()).ok()
    }

    /// Registers documents, and waits until they are as asked.
    ///
    /// # Panics
    /// If they are refused, or do not come true.
    pub fn apply_and_wait(&self, documents: &str) -> Output {
        self.cli_with(&["apply", "-f", "-", "--wait"], documents.as_bytes()).ok()
    }

    /// The status of a bucket.
    ///
    /// # Panics
    /// If it does not exist.
    pub fn status(&self, bucket: &str) -> Value {
        self.json(&["bucket", "status", bucket, "-o", "json"])
    }

    /// Waits until a bucket's status is as wanted, and gives it.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait_status(&self, bucket: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.wait_status_within(bucket, what, SOON, is_so)
    }

    /// The same with a time.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait_status_within(
        &self,
        bucket: &str,
        what: &str,
        within: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        wait_for(&format!("{bucket}: {what}"), within, || {
            let status = self.try_json(&["bucket", "status", bucket, "-o", "json"])?;
            if is_so(&status) { Ok(status) } else { Err(format!("{status:#}")) }
        })
    }

    /// Waits until a bucket is in this state, and gives its status.
    ///
    /// # Panics
    /// If it does not get there.
    pub fn wait_state(&self, bucket: &str, state: &str) -> Value {
        self.wait_status(bucket, state, |status| status["state"] == state)
    }

    /// Deletes buckets, and waits until nothing of them is alive.
    ///
    /// # Panics
    /// If it is refused, or something stays.
    pub fn delete(&self, buckets: &[&str]) {
        self.cli(&[&["bucket", "delete", "--yes"], buckets].concat()).ok();
        let names: Vec<String> = self.agents.iter().map(Agent::name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        // One look for all of them: to look at every process of the machine takes a while.
        wait_for(&format!("nothing of {} is alive", buckets.join(", ")), SOON, || {
            let programs = processes::of_instances(self.machine.place(), buckets, &names);
            if programs.is_empty() { Ok(()) } else { Err(format!("{programs:?}")) }
        });
    }
}

/// The members in a cluster's status.
fn members(status: &Value) -> impl Iterator<Item = &Value> {
    status["members"].as_array().into_iter().flatten()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for agent in &self.agents {
                say(&format!("--- log of {}\n{}", agent.name(), agent.log_tail()));
            }
        }
    }
}
