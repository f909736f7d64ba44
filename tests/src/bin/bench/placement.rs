//! From asking for a bucket until it runs, as who watches through the API sees it: on all of 20 nodes, on one of 5.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt as _;
use sheaf_model::PutBucket;
use sheaf_model::view::{BucketState, BucketStatus, InstanceView};
use sheaf_tests::{Cluster, Machine, processes};
use sheaf_wire::bucket::{ApplyBucket, BucketChange, BucketStep, OnBucket, WatchBuckets};
use sheaf_wire::{Answers, Client};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

/// Trials that do not count: connections are made, files are read for the first time.
const WARM: usize = 3;
/// A trial that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(30);
/// Between trials, when nothing of the last one is left.
const REST: Duration = Duration::from_millis(500);
/// Between looks for what is left.
const PAUSE: Duration = Duration::from_millis(50);

/// What a trial took, from the call on.
#[derive(Clone, Copy, Debug)]
struct Trial {
    acknowledged: Duration,
    /// By the clocks of the nodes, which are all one here.
    last_started: Duration,
    seen_running: Duration,
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let trials = ask.trials(50);
    let (times, failed) = measure(machine, figures, "m-", 20, true, trials);
    let seen = told(figures, "20 agents, multi-node", &times, failed);
    let (p50, p99) = (seen.median(), seen.percentile(99));
    let complete = failed == 0 && seen.count() > 0;
    let reached = complete && p50 <= Duration::from_millis(200) && p99 <= Duration::from_secs(1);
    let goal = Goal { text: "p50 200 ms, p99 1 s", reached: Some(reached) };
    figures.figure("20 agents, multi-node: running on the last one", &said(&seen, failed), &goal);

    let (times, failed) = measure(machine, figures, "s-", 5, false, trials);
    let seen = told(figures, "5 agents, single-node", &times, failed);
    let reached = failed == 0 && seen.count() > 0 && seen.median() <= Duration::from_millis(150);
    let goal = Goal { text: "p50 150 ms", reached: Some(reached) };
    figures.figure("5 agents, single-node: running", &said(&seen, failed), &goal);
}

fn said(times: &Times, failed: usize) -> String {
    let failed = if failed > 0 { format!("; {failed} FAILED") } else { String::new() };
    format!("{times}{failed}")
}

/// Prints the parts, and gives the whole.
fn told(figures: &Figures, name: &str, trials: &[Trial], failed: usize) -> Times {
    let of = |part: fn(&Trial) -> Duration| trials.iter().map(part).collect::<Times>();
    figures.aside(&format!("{name}: acknowledged"), &of(|it| it.acknowledged).to_string());
    figures.aside(&format!("{name}: last program started"), &of(|it| it.last_started).to_string());
    if failed > 0 {
        figures.note(&format!("{name}: {failed} trials did not run within {}", brief(LONGEST)));
    }
    of(|it| it.seen_running)
}

/// The trials that got there, and how many did not.
fn measure(
    machine: &Arc<Machine>,
    figures: &Figures,
    prefix: &str,
    nodes: u32,
    multi_node: bool,
    trials: usize,
) -> (Vec<Trial>, usize) {
    let count = usize::try_from(nodes).expect("a number of agents is small");
    let cluster = scene::cluster(machine, prefix, count);
    let wanted = if multi_node { nodes } else { 1 };
    let (mut done, mut failed) = (Vec::new(), 0);
    scene::runtime().block_on(async {
        let client = scene::client(&cluster.agent(1).address());
        let mut watch = Watch::open(&client).await;
        for number in 0..WARM + trials {
            let put = scene::running(&format!("/bench/{number:04}"), multi_node);
            match trial(&client, &mut watch, &put, wanted).await {
                Ok(trial) if number >= WARM => done.push(trial),
                Ok(_) => {}
                Err(why) => {
                    failed += 1;
                    figures.note(&format!("trial {number}: {why}"));
                }
            }
            clean(&client, &cluster, &put).await;
        }
    });
    scene::end(cluster);
    (done, failed)
}

async fn trial(client: &Client, watch: &mut Watch, put: &PutBucket, wanted: u32) -> Result<Trial, String> {
    let name = put.spec.name.as_str().to_owned();
    let wall = SystemTime::now();
    let begun = Instant::now();
    let ask = ApplyBucket { put: put.clone(), request: None, validate_only: false };
    client.apply_bucket(ask).await.map_err(|error| format!("{name}: {error}"))?;
    let acknowledged = begun.elapsed();
    let running = watch.until(begun + LONGEST, |status| {
        status.name == name && status.state == BucketState::Running && status.running == wanted
    });
    let status =
        running.await.map_err(|seen| format!("{name} runs on {wanted}: not within {LONGEST:?}; {seen}"))?;
    let seen_running = begun.elapsed();
    let starts = status.instances.iter().filter_map(started);
    let last = starts.max().ok_or_else(|| format!("{name}: no instance says when it started"))?;
    // Their times are whole milliseconds, rounded down.
    let last_started = last.duration_since(wall).unwrap_or_default();
    Ok(Trial { acknowledged, last_started, seen_running })
}

fn started(instance: &InstanceView) -> Option<SystemTime> {
    humantime::parse_rfc3339(instance.started_at.as_deref()?).ok()
}

/// Deletes a bucket and waits until nothing of it is left.
async fn clean(client: &Client, cluster: &Cluster, put: &PutBucket) {
    let ask = OnBucket { bucket: put.spec.name.clone(), base: None, request: None };
    if let Err(error) = client.delete_bucket(ask).await {
        panic!("deleting {}: {error}", put.spec.name);
    }
    let begun = Instant::now();
    while is_something_left(cluster) {
        assert!(begun.elapsed() < LONGEST, "{}: its programs do not end", put.spec.name);
        tokio::time::sleep(PAUSE).await;
    }
    tokio::time::sleep(REST).await;
}

/// Whether a keeper or a program is alive.
fn is_something_left(cluster: &Cluster) -> bool {
    let agents: Vec<u32> = cluster.agents().iter().map(sheaf_tests::Agent::pid).collect();
    processes::of(cluster.machine().place()).iter().any(|process| !agents.contains(&process.pid))
}

/// Everything that becomes of buckets, from now on.
struct Watch {
    client: Client,
    steps: Answers<BucketStep>,
}

impl Watch {
    async fn open(client: &Client) -> Self {
        let steps = client.watch_buckets(WatchBuckets::default()).await;
        let steps = steps.unwrap_or_else(|error| panic!("watching buckets: {error}"));
        Self { client: client.clone(), steps }
    }

    /// Waits for a status, and gives it; else what was seen last.
    async fn until(
        &mut self,
        end: Instant,
        is_it: impl Fn(&BucketStatus) -> bool,
    ) -> Result<BucketStatus, String> {
        let mut seen = "nothing was seen".to_owned();
        loop {
            let step = match tokio::time::timeout_at(end.into(), self.steps.next()).await {
                Err(_) => return Err(seen),
                Ok(Some(Ok(step))) => step,
                // The leader changed, or this was too slow: everything is said again.
                Ok(Some(Err(_)) | None) => {
                    *self = Self::open(&self.client).await;
                    continue;
                }
            };
            if let BucketChange::Bucket(status) = step.change {
                if is_it(&status) {
                    return Ok(*status);
                }
                let BucketStatus { name, state, running, desired, message, .. } = *status;
                seen = format!("{name}: {}, {running} of {desired}, {message}", state.as_str());
            }
        }
    }
}
