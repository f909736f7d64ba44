//! A hundred dashboards that are open on the leader's node while a thousand changes a second are made, and ten readers of
//! all that happens who do not read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sheaf_model::{Json, PutBucket};
use sheaf_tests::crowd::Crowd;
use sheaf_tests::{Agent, Cluster, Machine};
use sheaf_wire::Client;
use sheaf_wire::bucket::ApplyBucket;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::http::{self, Line};
use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::jobs::resident;
use crate::scene;

const MEMBERS: usize = 3;
/// Sessions of agents whose heartbeats are timed.
const AGENTS: usize = 20;
const BUCKETS: usize = 1000;
const DASHBOARDS: usize = 100;
const STUCK: usize = 10;
/// Changes per second, by so many writers.
const RATE: usize = 1000;
const WRITERS: usize = 50;
/// As pages look: not more often, and at least so often.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(5);
/// A heartbeat that is acknowledged later is missed.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// What a hundred dashboards may cost the leader's memory, in MiB.
const MEMORY: f64 = 64.0;
/// Of the rate, what must be kept.
const KEPT: f64 = 0.95;

/// What changes took, and heartbeats meanwhile.
struct Seen {
    rate: f64,
    changes: Times,
    failed: usize,
    heartbeats: Times,
    /// By how much the leader's memory grew, in MiB.
    grew: f64,
}

pub(super) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let span = Duration::from_secs(ask.seconds(20));
    let cluster = scene::cluster(machine, "e-", MEMBERS);
    scene::fill(&cluster, BUCKETS);
    let crowd = Crowd::gather(&cluster, AGENTS);
    let runtime = scene::runtime();
    let term = |cluster: &Cluster| cluster.json(&["cluster", "status", "-o", "json"])["term"].clone();
    let before = term(&cluster);
    // What comes first warms up, and does not count.
    changes(&runtime, &cluster, &crowd, span / 4);
    let alone = changes(&runtime, &cluster, &crowd, span);
    told(figures, "no dashboard open", &alone);
    let open = Open::all(&runtime, cluster.leader());
    let watched = changes(&runtime, &cluster, &crowd, span);
    let name = format!("{DASHBOARDS} dashboards open, {STUCK} readers that do not read");
    told(figures, &name, &watched);
    let looked = open.close(figures);
    let goal = Goal { text: "95 % of 1,000 per s", reached: Some(watched.rate >= KEPT * RATE as f64) };
    let figure = format!("{:.0} per s, without them {:.0}", watched.rate, alone.rate);
    figures.figure(&format!("{name}: changes"), &figure, &goal);
    let (late, calm) = (watched.heartbeats.percentile(99), alone.heartbeats.percentile(99));
    let goal = Goal::within("p99 within a heartbeat, 500 ms", late, HEARTBEAT);
    let figure = format!("p99 {}, without them {}", brief(late), brief(calm));
    figures.figure(&format!("{name}: heartbeat until acknowledged"), &figure, &goal);
    let goal = Goal { text: "64 MiB", reached: Some(watched.grew - alone.grew <= MEMORY) };
    let figure = format!(
        "{:.1} MiB while they were open, {:.1} MiB in the same time without them",
        watched.grew, alone.grew
    );
    figures.figure(&format!("{name}: the leader's memory grew by"), &figure, &goal);
    let goal = Goal { text: "none", reached: Some(term(&cluster) == before) };
    let elections = if goal.reached == Some(true) { "none" } else { "one or more" };
    figures.figure(&format!("{name}: elections"), elections, &goal);
    figures.aside(&format!("{name}: a page until it was drawn anew"), &looked.to_string());
    drop(crowd);
    scene::end(cluster);
}

fn told(figures: &Figures, name: &str, seen: &Seen) {
    let Seen { rate, changes, failed, heartbeats, .. } = seen;
    let failed = if *failed > 0 { format!("; {failed} FAILED") } else { String::new() };
    figures
        .note(&format!("{name}: {rate:.0} changes per s, each {changes}{failed}; heartbeats {heartbeats}"));
}

/// Has changes made at the rate, for so long.
fn changes(runtime: &Runtime, cluster: &Cluster, crowd: &Crowd, span: Duration) -> Seen {
    let leader = cluster.leader().address();
    let before = resident(cluster);
    crowd.take_answers();
    let (times, failed) = runtime.block_on(async {
        let mut writing = JoinSet::new();
        let end = Instant::now() + span;
        for writer in 0..WRITERS {
            writing.spawn(write(scene::client(&leader), writer, end));
        }
        let (mut times, mut failed) = (Vec::new(), 0);
        for (own, wrong) in writing.join_all().await {
            times.extend(own);
            failed += wrong;
        }
        (times, failed)
    });
    Seen {
        // Far fewer than an f64 can count.
        rate: times.len() as f64 / span.as_secs_f64(),
        changes: times.into_iter().collect(),
        failed,
        heartbeats: crowd.take_answers().into_iter().collect(),
        grew: resident(cluster) - before,
    }
}

/// Changes of all writers so far: no two of them are the same.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// One writer's part: its buckets by turns, each with another config than before.
async fn write(client: Client, writer: usize, end: Instant) -> (Vec<Duration>, usize) {
    let mut turns = interval(Duration::from_secs(1) * WRITERS as u32 / RATE as u32);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut times, mut failed) = (Vec::new(), 0);
    let own = BUCKETS / WRITERS;
    for number in 0_usize.. {
        turns.tick().await;
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        let mut put: PutBucket = scene::suspended(&format!("/filled/{:07}", writer * own + number % own));
        put.spec.config = Json::new(&json!({ "number": MADE.fetch_add(1, Ordering::Relaxed) }));
        match client.apply_bucket(ApplyBucket { put, request: None, validate_only: false }).await {
            Ok(_) => times.push(begun.elapsed()),
            Err(_) => failed += 1,
        }
    }
    (times, failed)
}

/// Dashboards that are open.
struct Open<'a> {
    runtime: &'a Runtime,
    tasks: JoinSet<()>,
    looked: Arc<Looked>,
}

#[derive(Default)]
struct Looked {
    times: Mutex<Vec<Duration>>,
    hints: AtomicUsize,
    failed: AtomicUsize,
    why: Mutex<Option<String>>,
}

impl<'a> Open<'a> {
    /// What people look at all day, in equal parts.
    fn all(runtime: &'a Runtime, agent: &Agent) -> Self {
        const PAGES: [&[&str]; 5] = [
            &["/api/v1/overview"],
            &["/api/v1/node/matrix"],
            &["/api/v1/bucket/list?limit=50"],
            &["/api/v1/event/list?limit=50"],
            &[
                "/api/v1/bucket/status?name=%2Ffilled%2F0000000",
                "/api/v1/bucket/explain?name=%2Ffilled%2F0000000",
                "/api/v1/event/list?subject=%2Ffilled%2F0000000&limit=20",
                "/api/v1/bucket/history?name=%2Ffilled%2F0000000&limit=10",
            ],
        ];
        let (address, looked) = (agent.plan().http, Arc::new(Looked::default()));
        let mut tasks = JoinSet::new();
        for number in 0..DASHBOARDS {
            let page = PAGES[number % PAGES.len()];
            tasks.spawn_on(dashboard(address.clone(), page, looked.clone()), runtime.handle());
        }
        for _ in 0..STUCK {
            tasks.spawn_on(stuck(address.clone()), runtime.handle());
        }
        Self { runtime, tasks, looked }
    }

    /// Closes them; how long each look took.
    fn close(mut self, figures: &Figures) -> Times {
        self.runtime.block_on(self.tasks.shutdown());
        let times = std::mem::take(&mut *self.looked.times.lock().unwrap_or_else(PoisonError::into_inner));
        let times: Times = times.into_iter().collect();
        let (hints, failed) =
            (self.looked.hints.load(Ordering::Relaxed), self.looked.failed.load(Ordering::Relaxed));
        let why = self.looked.why.lock().unwrap_or_else(PoisonError::into_inner).take();
        let why = why.map_or_else(String::new, |why| format!(", e.g. {why}"));
        figures.note(&format!(
            "the dashboards looked {} times, were told {hints} times; {failed} looks failed{why}",
            times.count()
        ));
        times
    }
}

/// One page as it is open in a browser: told that something changed, it looks at everything anew.
async fn dashboard(address: String, page: &'static [&'static str], looked: Arc<Looked>) {
    let mut hints = Line::to(&address);
    let mut lines: Vec<Line> = page.iter().map(|_| Line::to(&address)).collect();
    loop {
        if let Err(error) = hints.follow("/api/v1/changes").await {
            failed(&looked, &error);
            sleep(LATEST).await;
            continue;
        }
        loop {
            let begun = Instant::now();
            match http::get_all(&mut lines, page).await {
                Ok(got) => {
                    let is_json = |body: &[u8]| serde_json::from_slice::<Value>(body).is_ok();
                    assert!(got.iter().all(|got| is_json(&got.body)), "no JSON");
                    looked.times.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
                }
                Err(error) => failed(&looked, &error),
            }
            sleep((begun + SOONEST).saturating_duration_since(Instant::now())).await;
            match timeout(LATEST - SOONEST, told_of_a_change(&mut hints)).await {
                Ok(Ok(())) => {
                    looked.hints.fetch_add(1, Ordering::Relaxed);
                }
                // Nothing happened: it looks all the same.
                Err(_) => {}
                Ok(Err(_)) => break,
            }
        }
    }
}

/// Until the stream says so.
async fn told_of_a_change(hints: &mut Line) -> std::io::Result<()> {
    loop {
        if hints.chunk().await?.contains("event: change") {
            return Ok(());
        }
    }
}

fn failed(looked: &Looked, error: &std::io::Error) {
    looked.failed.fetch_add(1, Ordering::Relaxed);
    *looked.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
}

/// Asks for everything that happens, and takes none of it.
async fn stuck(address: String) {
    let mut line = Line::to(&address);
    loop {
        // Refused or cut off: it asks again.
        let _ = line.follow("/api/v1/events").await;
        sleep(LATEST).await;
    }
}
