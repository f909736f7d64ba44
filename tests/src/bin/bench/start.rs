//! Cold start, with many buckets on its disk: from starting the process until the node answers, and until it is ready:
//! a bucket registered since has the answer of this node's gates. (What a list of nodes says may be of its former life.)

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_model::{NodeListRules, PutBucket};
use sheaf_tests::{Agent, Cluster, Machine};
use sheaf_wire::bucket::ApplyBucket;
use sheaf_wire::{Client, Options};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

/// A start that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(60);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What a start took.
struct Started {
    /// Until the first page of the list was answered.
    answers: Duration,
    /// And until its gates have answered for a bucket registered since: it takes part in everything.
    ready: Duration,
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let (buckets, trials) = (ask.buckets(10_000), ask.trials(5));
    for (prefix, nodes, name) in [("a-", 1, "a cluster of one"), ("c-", 3, "a member of three")] {
        let cluster = scene::cluster(machine, prefix, nodes);
        let took = scene::fill(&cluster, buckets);
        figures.note(&format!("{name}: {buckets} buckets registered in {}", brief(took)));
        let leader = cluster.leader().name();
        let agents = cluster.agents().iter();
        let follower = agents.clone().find(|agent| agent.name() != leader);
        let agent = follower.unwrap_or_else(|| cluster.agent(1));
        measure(figures, name, &cluster, agent, buckets, trials);
        scene::end(cluster);
    }
}

fn measure(figures: &Figures, name: &str, cluster: &Cluster, agent: &Agent, buckets: usize, trials: usize) {
    let (mut answers, mut ready) = (Vec::new(), Vec::new());
    let mut cold = true;
    for trial in 0..trials {
        agent.stop();
        cold &= drop_caches();
        let started = start(agent, buckets.min(1000), &probe(trial));
        answers.push(started.answers);
        ready.push(started.ready);
        cluster.wait_ready();
    }
    let cache = if cold { "nothing cached" } else { "files CACHED: only root can drop them" };
    let (answers, ready): (Times, Times) = (answers.into_iter().collect(), ready.into_iter().collect());
    figures.aside(&format!("{name}, {buckets} buckets: the list answers ({cache})"), &answers.to_string());
    let goal = Goal::within("2 s (p50)", ready.median(), Duration::from_secs(2));
    figures.figure(&format!("{name}, {buckets} buckets: ready ({cache})"), &ready.to_string(), &goal);
}

/// Forgets every file that the machine holds in memory; whether that was allowed.
fn drop_caches() -> bool {
    scene::settle_disk();
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// # Panics
/// If it does not get ready.
fn start(agent: &Agent, rows: usize, probe: &PutBucket) -> Started {
    let runtime = scene::runtime();
    let begun = Instant::now();
    agent.start();
    runtime.block_on(async {
        let name = agent.name();
        // A call that the node cannot answer yet must not keep us from asking again.
        let options = Options { deadline: Duration::from_millis(500), ..Options::default() };
        let client = Client::lazy(&agent.address(), options).expect("an agent's address is one");
        let mut progress = Progress { begun, answers: None, applied: false };
        loop {
            let seen = match progress.look(&client, &name, rows, probe).await {
                Ok(started) => return started,
                Err(seen) => seen,
            };
            assert!(begun.elapsed() < LONGEST, "{name} is not ready within {LONGEST:?}: {seen}");
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// How far a node has come since it was started.
struct Progress {
    begun: Instant,
    answers: Option<Duration>,
    /// The bucket that its gates are asked about was registered.
    applied: bool,
}

impl Progress {
    /// Asks the node itself whether it has come all the way; else what is missing.
    async fn look(
        &mut self,
        client: &Client,
        node: &str,
        rows: usize,
        probe: &PutBucket,
    ) -> Result<Started, String> {
        if self.answers.is_none() {
            let (_, found) = scene::first_page(client).await?;
            if found < rows {
                return Err(format!("{found} of {rows} rows"));
            }
            self.answers = Some(self.begun.elapsed());
        }
        if !self.applied {
            let ask = ApplyBucket { put: probe.clone(), request: None, validate_only: false };
            client.apply_bucket(ask).await.map_err(|error| error.to_string())?;
            self.applied = true;
        }
        let explained = client.explain_bucket(&probe.spec.name).await.map_err(|error| error.to_string())?;
        let own = explained.nodes.iter().find(|it| it.node == node);
        let gates = own.map(|it| it.gates.as_slice()).unwrap_or_default();
        match (self.answers, gates.iter().all(|gate| gate.pass.is_some()) && !gates.is_empty()) {
            (Some(answers), true) => Ok(Started { answers, ready: self.begun.elapsed() }),
            (_, _) => Err(format!("its gates: {gates:?}")),
        }
    }
}

/// A bucket that no node is allowed to run. It is new, so an answer to it cannot be left from a former life.
fn probe(trial: usize) -> PutBucket {
    let mut put = scene::running(&format!("/probe/{trial:03}"), false);
    put.spec.node_list_rules = NodeListRules::parse(&["+nowhere"]).expect("a rule that is a plain name");
    put
}
