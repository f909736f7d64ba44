//! Seven agents under everything that goes wrong, and what must be true of it afterwards.
//!
//! ```text
//!  faults (seeded) ──► agents, keepers, machines, network, disk ──► programs write down when they live
//!  a job ──► its subtasks write down which attempt began, and which came to its end
//!  callers (seeded) ─► registers: put, compare and set, read; working buckets: suspend, move, drain … ─► what was answered
//!                 then all is mended ──► verdict: everything runs, nothing overlapped, nothing acknowledged is lost,
//!                                        the answers fit into one order, and every subtask has one success
//! ```
//!
//! Read this file, then `faults`, `callers`, `work`, `verdict`. The same seed gives the same choices; when what happens meanwhile
//! is up to the machine.

mod callers;
mod faults;
mod verdict;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_simulation::random::Random;

use crate::disk::SmallDisk;
use crate::documents::{Trace, bucket};
use crate::net::Net;
use crate::processes::{self, Process};
use crate::{Cluster, Machine, beats, wait};

pub use faults::Counts;
use verdict::History;
pub use work::Work;

const NODES: usize = 7;
const SINGLES: usize = 20;
const MULTIS: usize = 5;
/// Buckets that only stand for their content; nothing of them runs.
const REGISTERS: usize = 8;
/// The multi-node bucket whose objects are registers, too; operators leave it alone.
const KEEPS_OBJECTS: &str = "/multi/0";
/// The node on a small disk, one of those that vote.
const ON_SMALL_DISK: usize = 3;
/// Size of the small disk in MiB.
const SMALL: u32 = 160;
/// After the last fault, until everything runs again: leases, elections, backoff, a busy machine.
const HEALS_WITHIN: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides what is done.
    pub seed: u64,
    /// How long things go wrong.
    pub chaos: Duration,
    /// A program that calls [`beats::run`] when it is started as `beat beat FILE`.
    pub beat: PathBuf,
    /// Of the job, at least one.
    pub subtasks: u32,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How often each fault.
    pub faults: Counts,
    /// There was a small disk to be filled.
    pub has_disk: bool,
    /// Calls of registers that were answered, and that were not.
    pub calls: (usize, usize),
    /// Reads among the answered ones.
    pub reads: usize,
    /// Changes of working buckets and nodes that were acknowledged.
    pub acts: usize,
    /// Programs that lived.
    pub programs: usize,
    /// Bindings of single-node buckets.
    pub bindings: usize,
    /// What came of the job.
    pub work: Work,
    /// From the last mending until everything ran.
    pub healed: Duration,
}

/// The cluster, its network, its disk, and the buckets that run on it.
#[derive(Debug)]
struct World {
    // Dropped first: agents, then what they run on.
    cluster: Cluster,
    net: Net,
    disk: Option<SmallDisk>,
}

/// Goes through it once.
///
/// # Panics
/// With everything that was not as it must be.
pub fn run(machine: &Arc<Machine>, plan: &Plan) -> Report {
    let mut random = Random::new(plan.seed);
    let world = World::start(machine);
    let beat = machine.program(&plan.beat, "beat");
    world.cluster.apply(&beats::module(&beat));
    world.cluster.apply_and_wait(&world.documents());
    work::begin(&world, plan.subtasks);
    let begun = Instant::now();
    let calling = callers::Calling::begin(&world, random.any());
    let mut nemesis = faults::Nemesis::new(&world, Random::new(random.any()));
    while begun.elapsed() < plan.chaos {
        nemesis.step();
        wait::pause();
    }
    let faults = nemesis.end();
    let answers = calling.end();
    let healed = world.heal();
    let work = match work::end(&world, plan.subtasks) {
        Ok(work) => work,
        Err(wrong) => panic!("seed {}, after {faults}:\n{wrong}", plan.seed),
    };
    world.upgrade();
    let history = History::of(&world);
    if let Err(wrong) = verdict::check(&world, &history, &answers) {
        panic!("seed {}, after {faults}:\n{wrong}", plan.seed);
    }
    let traces = World::working().map(|name| world.trace(&name)).map(|trace| beats::programs(&trace));
    let report = Report {
        faults,
        has_disk: world.disk.is_some(),
        calls: answers.count(),
        reads: answers.reads(),
        acts: answers.acts(),
        programs: traces.map(|programs| programs.len()).sum(),
        bindings: answers.bindings(&history),
        work,
        healed,
    };
    world.end();
    report
}

impl World {
    /// Starts the agents, one of them on a small disk where that is possible.
    fn start(machine: &Arc<Machine>) -> Self {
        let disk = SmallDisk::mount(machine, "small", SMALL);
        let mut net = Net::new(NODES);
        let cluster = Cluster::plan(machine, "", NODES, |number, plan| {
            net.put_between(number, plan);
            if let Some(disk) = disk.as_ref().filter(|_| number == ON_SMALL_DISK) {
                plan.dir = disk.path().join(&plan.name);
            }
        });
        let addresses: Vec<String> = cluster.agents().iter().map(crate::Agent::address).collect();
        net.run(&addresses);
        cluster.start_all();
        cluster.wait_ready();
        Self { cluster, net, disk }
    }

    fn singles() -> impl Iterator<Item = String> {
        (0..SINGLES).map(|number| format!("/single/{number:02}"))
    }

    fn multis() -> impl Iterator<Item = String> {
        (0..MULTIS).map(|number| format!("/multi/{number}"))
    }

    fn registers() -> impl Iterator<Item = String> {
        (0..REGISTERS).map(|number| format!("/register/{number}"))
    }

    fn working() -> impl Iterator<Item = String> {
        Self::singles().chain(Self::multis())
    }

    /// Where the programs of a bucket write.
    fn trace(&self, bucket: &str) -> Trace {
        Trace::new(self.cluster.machine().path(&format!("trace{}", bucket.replace('/', "."))))
    }

    /// Nodes that a single-node bucket may run on: every fourth one has three only.
    fn allowed(number: usize) -> Option<[usize; 3]> {
        (number % 4 == 3).then(|| [0, 2, 4].map(|step| (number + step) % NODES + 1))
    }

    /// What runs, as it shall be again in the end.
    fn documents(&self) -> String {
        let single = |(number, name): (usize, String)| {
            let rules = Self::allowed(number)
                .map(|nodes| format!("node_list_rules: {:?}\n", nodes.map(|node| format!("n{node}"))));
            let more = format!("{}suspended: false", rules.unwrap_or_default());
            bucket(&name, "beating", &self.trace(&name), &more)
        };
        let multi =
            |name: String| bucket(&name, "beating", &self.trace(&name), "multi_node: true\nsuspended: false");
        Self::singles().enumerate().map(single).chain(Self::multis().map(multi)).collect()
    }

    /// Waits until all nodes are ready and every bucket runs as it should; how long that took.
    fn heal(&self) -> Duration {
        let begun = Instant::now();
        self.cluster.start_all();
        self.cluster.leader();
        for agent in self.cluster.agents() {
            self.cluster.cli(&["node", "undrain", &agent.name()]).ok();
        }
        self.cluster.wait_ready();
        self.cluster.apply(&self.documents());
        wait::wait_for("every bucket runs", HEALS_WITHIN, || {
            self.cluster.assert_alive();
            let rows = self.cluster.try_json(&["bucket", "list", "-o", "json"])?;
            let rows = rows.as_array().cloned().unwrap_or_default();
            let works = |row: &&serde_json::Value| row["suspended"] == false;
            let runs = |row: &&serde_json::Value| {
                let wanted = if row["multi_node"] == true { NODES } else { 1 };
                row["state"] == "running" && row["running"] == wanted
            };
            let working: Vec<_> = rows.iter().filter(works).collect();
            let not: Vec<String> = working
                .iter()
                .filter(|row| !runs(row))
                .map(|row| format!("{} is {}, {} run", row["name"], row["state"], row["running"]))
                .collect();
            if working.len() == SINGLES + MULTIS && not.is_empty() {
                Ok(())
            } else {
                Err(format!("{} buckets; {}", working.len(), not.join("; ")))
            }
        });
        begun.elapsed()
    }

    /// Replaces the binary and restarts one agent after the other: nothing that runs may notice.
    fn upgrade(&self) {
        let before = self.instances();
        self.replace_binary();
        for agent in self.cluster.agents() {
            assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
            agent.start();
            self.cluster.wait_back(agent);
        }
        // An agent that is back says what it found a moment later.
        wait::wait_for("everything runs as before the upgrade", HEALS_WITHIN, || {
            let after = self.instances();
            if after == before { Ok(()) } else { Err(format!("{after:?}, before {before:?}")) }
        });
    }

    /// An agent that starts from now on has another file than those that run.
    fn replace_binary(&self) {
        let machine = self.cluster.machine();
        let new = machine.path("sheaf.new");
        std::fs::copy(machine.binary(), &new).expect("a program can be copied in the test's own directory");
        std::fs::rename(&new, machine.binary()).expect("a file can be replaced there");
    }

    /// Every instance: bucket, node, process, epoch.
    fn instances(&self) -> BTreeSet<String> {
        let of = |name: String| {
            let status = self.cluster.status(&name);
            let rows = status["instances"].as_array().cloned().unwrap_or_default();
            let line =
                |row: &serde_json::Value| format!("{name} {} {} {}", row["node"], row["pid"], row["epoch"]);
            rows.iter().map(line).collect::<Vec<_>>()
        };
        Self::working().flat_map(of).collect()
    }

    /// Deletes everything and sees it end, then stops the agents; none may fail on its way out, or leave anything behind but
    /// its stand-in.
    fn end(self) {
        let names: Vec<String> = Self::working().chain(Self::registers()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.cluster.delete(&names);
        let agents: Vec<u32> = self.cluster.agents().iter().map(crate::Agent::pid).collect();
        // What runs attempts stays as long as its agent.
        self.wait_for_no_others("of what was deleted no process is left", |process| {
            agents.contains(&process.pid) || process.is("runner")
        });
        self.cluster.stop_all();
        self.wait_for_no_others("agents leave only stand-ins", |process| process.is("stand-in"));
        // What another round must not find.
        for agent in self.cluster.agents() {
            agent.kill_machine();
            std::fs::remove_dir_all(agent.dir()).expect("nothing is left that uses it");
        }
        for name in Self::working() {
            std::fs::remove_file(self.trace(&name).path()).expect("every bucket has run");
        }
    }

    /// Waits until all that was ever started here, by whichever node, has ended, beside what may stay.
    fn wait_for_no_others(&self, what: &str, may_stay: impl Fn(&Process) -> bool) {
        wait::wait_for(what, HEALS_WITHIN, || {
            let all = processes::of(self.cluster.machine().place());
            let left: Vec<String> =
                all.iter().filter(|process| !may_stay(process)).map(ToString::to_string).collect();
            if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
        });
    }
}

/// The nodes' numbers, by their names.
fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix('n')?.parse().ok()
}

/// Counted things as a line.
fn line_of(counts: &BTreeMap<&'static str, usize>) -> String {
    counts.iter().map(|(what, count)| format!("{count} × {what}")).collect::<Vec<_>>().join(", ")
}
