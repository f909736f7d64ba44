//! A cluster of another version becomes one of this version, one agent after the other, and goes back again: how long nothing
//! can be changed meanwhile, and that nothing that runs notices.
//!
//! Each agent has a file of its own, which is replaced while it runs, as a package does it; then the agent is restarted. Those
//! that do not vote come first, the leader last. What asks them is of this version all the time.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_tests::{Agent, Cluster, Machine, jobs, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;
use crate::writes::Writes;

const NODES: usize = 5;
/// An agent that takes longer to come back has failed.
const LONGEST: Duration = Duration::from_secs(60);
/// Of each job; there is one for each restart.
const SUBTASKS: usize = 40;
const SINGLE: &str = "/upgrade/one";
const MULTI: &str = "/upgrade/all";

/// What agents are started from.
struct Build {
    file: PathBuf,
    version: String,
}

impl Build {
    /// # Panics
    /// If it is not Sheaf.
    fn of(file: &Path) -> Self {
        let whole = file.canonicalize();
        let file = whole.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let said = Command::new(&file).args(["version", "-o", "name"]).output();
        let said = said.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(said.status.success(), "{} does not say its version: {said:?}", file.display());
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Self { file, version }
    }

    /// Puts it where a node's agent is started from; one that runs goes on with what it has.
    fn put(&self, file: &Path) {
        let new = file.with_extension("new");
        fs::copy(&self.file, &new).expect("a program can be copied into the benchmark's own directory");
        fs::rename(&new, file).expect("a file can be replaced there");
    }
}

/// What it took until all agents were of another build.
#[derive(Default)]
struct Taken {
    /// For each agent: how long no change was acknowledged, and how long it was away.
    silent: Vec<Duration>,
    away: Vec<Duration>,
    /// Programs that lived before and not afterwards.
    interrupted: usize,
    /// Subtasks that did not finish, and attempts beyond each one's first.
    lost: usize,
    again: usize,
    elections: u64,
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let Some(from) = ask.former() else {
        figures.note("NOT MEASURED: --from BIN is the version that is left");
        return;
    };
    let (from, to) = (Build::of(from), Build::of(machine.binary()));
    figures.note(&format!("from {} ({}) to {}", from.version, from.file.display(), to.version));
    let cluster = scene::planned(machine, "u-", NODES, |plan| {
        let file = machine.path(&format!("{}.sheaf", plan.name));
        from.put(&file);
        plan.binary = Some(file);
    });
    cluster.apply(&module(machine));
    let bucket = |name: &str, more: &str| format!("kind: Bucket\nname: {name}\nmodule: bench\n{more}\n---\n");
    cluster.apply_and_wait(&(bucket(SINGLE, "") + &bucket(MULTI, "multi_node: true")));
    let programs = programs(&cluster).len();
    assert_eq!(programs, NODES + 1, "one on each node, and one");
    let taken = all_to(&cluster, &to, "there").unwrap_or_else(|why| panic!("{why}"));
    told(figures, "upgrade", &taken);
    match all_to(&cluster, &from, "back") {
        Ok(taken) => told(figures, "back again", &taken),
        // A disk that this version has written may be beyond the former one.
        Err(why) => figures.note(&format!("back again: NOT POSSIBLE: {why}")),
    }
    scene::end(cluster);
}

fn told(figures: &Figures, way: &str, taken: &Taken) {
    let (silent, away): (Times, Times) =
        (taken.silent.iter().copied().collect(), taken.away.iter().copied().collect());
    let longest = silent.percentile(100);
    let goal = Goal::within("1 s", longest, Duration::from_secs(1));
    figures.figure(&format!("{way}: longest time without an acknowledged change"), &brief(longest), &goal);
    let none = |count: usize| Goal { text: "0", reached: Some(count == 0) };
    let Taken { interrupted, lost, again, elections, .. } = taken;
    let name = format!("{way}: of {} programs interrupted", NODES + 1);
    figures.figure(&name, &interrupted.to_string(), &none(*interrupted));
    let name = format!("{way}: of {} subtasks lost, or begun again", NODES * SUBTASKS);
    figures.figure(&name, &format!("{lost}, {again}"), &none(lost + again));
    let goal = Goal { text: "1: the leader hands over", reached: Some(*elections <= 1) };
    figures.figure(&format!("{way}: elections"), &elections.to_string(), &goal);
    figures.aside(&format!("{way}: from SIGTERM until the node is ready"), &away.to_string());
}

/// Gives every agent that build.
///
/// # Errors
/// One does not start with it.
fn all_to(cluster: &Cluster, build: &Build, way: &str) -> Result<Taken, String> {
    let (mut taken, begun) = (Taken::default(), term(cluster));
    let mut left: Vec<&Agent> = cluster.agents().iter().collect();
    while let Some(agent) = next(cluster, &mut left) {
        step(cluster, agent, build, &format!("{way}-{}", agent.name()), &mut taken)?;
    }
    taken.elections = term(cluster).saturating_sub(begun);
    Ok(taken)
}

/// One that does not vote, else one that does not lead.
fn next<'a>(cluster: &Cluster, left: &mut Vec<&'a Agent>) -> Option<&'a Agent> {
    let leader = cluster.leader().name();
    let voters: Vec<String> = cluster.voters().into_iter().map(Agent::name).collect();
    left.sort_by_key(|agent| (agent.name() != leader, !voters.contains(&agent.name())));
    left.pop()
}

fn term(cluster: &Cluster) -> u64 {
    let status = cluster.json(&["cluster", "status", "-o", "json"]);
    status["term"].as_u64().unwrap_or_else(|| panic!("a term in {status:#}"))
}

/// One agent gets that build, with a job and changes under way.
fn step(
    cluster: &Cluster,
    agent: &Agent,
    build: &Build,
    name: &str,
    taken: &mut Taken,
) -> Result<(), String> {
    let machine = cluster.machine();
    let before = programs(cluster);
    jobs::submit(cluster, &jobs::job(name, "counted", &format!("subtasks: {{array: 0-{}}}", SUBTASKS - 1)));
    wait_for("some of the job runs there, or all of it somewhere", LONGEST, || {
        let nodes = begun(machine, name);
        let here = nodes.contains(&agent.name());
        if here || nodes.len() >= SUBTASKS { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    let other = cluster.agents().iter().find(|other| other.name() != agent.name());
    let (writes, since) = (Writes::begin(other.expect("there are five"), name), Instant::now());
    let file = agent.plan().binary.expect("each has a file of its own");
    build.put(&file);
    let asked = Instant::now();
    assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
    agent.start();
    let ready = back(agent, &build.version);
    taken.away.push(asked.elapsed());
    // Asked for in any case: it ends the writer.
    taken.silent.push(writes.longest_silence(since));
    ready?;
    let inode = |path: &Path| fs::metadata(path).map(|found| found.ino()).ok();
    let runs = Path::new("/proc").join(agent.pid().to_string()).join("exe");
    assert_eq!(inode(&runs), inode(&file), "{} does not run what was put there", agent.name());
    cluster.wait_back(agent);
    taken.interrupted += before.difference(&programs(cluster)).count();
    let status = jobs::over(cluster, name);
    let finished = status["counts"]["finished"].as_u64().and_then(|count| usize::try_from(count).ok());
    taken.lost += SUBTASKS.saturating_sub(finished.unwrap_or(0));
    taken.again += begun(machine, name).len().saturating_sub(SUBTASKS);
    Ok(())
}

/// Waits until it is ready, and says its version.
///
/// # Errors
/// It has ended by itself, with the end of its log.
fn back(agent: &Agent, version: &str) -> Result<(), String> {
    let name = agent.name();
    wait_for(&format!("{name} is back with {version}"), LONGEST, || {
        if agent.has_ended() {
            return Ok(Err(format!(
                "the agent of {name} does not start with {version}: {}",
                last_line(agent)
            )));
        }
        let output = agent.cli(&["node", "status", &name, "-o", "json"]);
        if output.code != 0 {
            return Err(output.to_string());
        }
        let status = output.try_json()?;
        let is_back = status["status"] == "ready" && status["version"] == version;
        if is_back { Ok(Ok(())) } else { Err(format!("{status:#}")) }
    })
}

fn last_line(agent: &Agent) -> String {
    agent.log_tail().lines().last().unwrap_or_default().to_owned()
}

/// Programs of both buckets that live, whatever the cluster says of them.
fn programs(cluster: &Cluster) -> BTreeSet<u32> {
    let of = |agent: &Agent| [SINGLE, MULTI].map(|bucket| agent.programs(bucket)).concat();
    cluster.agents().iter().flat_map(of).map(|program| program.pid).collect()
}

fn trace(machine: &Machine) -> PathBuf {
    machine.path("trace.counted")
}

/// Each attempt leaves a line `JOB NODE` when it begins.
fn module(machine: &Machine) -> String {
    let trace = trace(machine);
    format!(
        "kind: Module\nname: counted\nversion: '1'\nruntime: exec\nexec:\n  command: /bin/sh\n  \
         args: [-c, 'echo \"$SHEAF_JOB $SHEAF_NODE\" >> {} && exec sleep 2']\n---\n",
        trace.display()
    )
}

/// Where attempts of that job began, each once.
fn begun(machine: &Machine, job: &str) -> Vec<String> {
    let text = fs::read_to_string(trace(machine)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix(job)?.strip_prefix(' '));
    lines.map(str::to_owned).collect()
}
