//! The dashboard, asked as its pages ask: how soon the first page of each is there and how much is sent for it, in a large
//! cluster; and what a hundred that are open cost those who change things.

mod crowd;
mod http;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sheaf_tests::{Cluster, Machine, wait_for};
use tokio::time::sleep;

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::history;
use crate::jobs::{over, submit};
use crate::scene;
use http::Line;

const NODES: usize = 20;
/// Of the buckets, those of which something runs: on one node each.
const RUNNING: usize = 180;
/// And on every node.
const EVERYWHERE: usize = 5;
/// Webhooks that nobody takes: each has something to tell of.
const SINKS: usize = 50;
/// A cluster of twenty settles on two cores.
const SETTLES: Duration = Duration::from_secs(300);
/// Answers that a node gives to all who ask within a second are asked for after it.
const STALE: Duration = Duration::from_millis(1100);
/// Most bytes of a page, with everything that the browser loads before it.
const BYTES: usize = 1_000_000;
const WITHIN: Duration = Duration::from_millis(200);

/// What one page asks when it is opened.
struct Page {
    name: &'static str,
    /// Each round at once, when all of the one before is answered.
    rounds: Vec<Vec<String>>,
    /// One of them is made once a second for all who ask.
    shared: bool,
}

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let cluster = scene::cluster(machine, "d-", NODES);
    if let Some(subtasks) = fill(ask, machine, &cluster, figures) {
        first_pages(ask, &cluster, subtasks, figures);
    }
    scene::end(cluster);
    crowd::run(ask, machine, figures);
}

/// Buckets and jobs; how many subtasks. None: what they need is not there.
fn fill(ask: &Ask, machine: &Arc<Machine>, cluster: &Cluster, figures: &Figures) -> Option<usize> {
    let Some(module) = history::worker_module(machine) else {
        figures.note(history::NO_WORKER);
        return None;
    };
    cluster.apply(&module);
    let buckets = ask.buckets(1000);
    let running = RUNNING.min(buckets / 2);
    let everywhere = EVERYWHERE.min(buckets / 4);
    scene::fill(cluster, buckets - running - everywhere);
    let mut documents = String::new();
    for number in 0..running + everywhere {
        let multi_node = number < everywhere;
        let _ = writeln!(
            documents,
            "kind: Bucket\nname: /run/{number:04}\nmodule: bench\nmulti_node: {multi_node}\n---"
        );
    }
    cluster.apply(&documents);
    wait_for("all of it runs", SETTLES, || {
        let status = cluster.try_json(&["cluster", "status", "-o", "json"])?;
        let counts = &status["buckets"];
        if counts["running"] == running + everywhere { Ok(()) } else { Err(counts.to_string()) }
    });
    register_sinks(cluster);
    let subtasks = ask.subtasks(1_000_000);
    let begun = Instant::now();
    submit(cluster, "history", "idle", &format!("subtasks: {{array: 0-{}}}", subtasks - 1));
    let status = over(cluster, "history");
    assert_eq!(status["counts"]["finished"], subtasks, "{status:#}");
    let failed = history::failures(machine, cluster, (subtasks / 200).clamp(30, 5_000));
    figures.note(&format!(
        "{NODES} nodes, {buckets} buckets ({running} run on one node, {everywhere} on all), {SINKS} sinks, {subtasks} subtasks \
         finished and {failed} failed within {}",
        brief(begun.elapsed())
    ));
    Some(subtasks)
}

fn register_sinks(cluster: &Cluster) {
    let mut documents = String::new();
    for number in 0..SINKS {
        let _ = writeln!(
            documents,
            "kind: Sink\nname: sink-{number:02}\nwebhook: {{url: 'http://127.0.0.1:1/'}}\nfilter: {{kinds: ['job.*']}}\n---"
        );
    }
    cluster.cli_with(&["sink", "apply", "-f", "-"], documents.as_bytes()).ok();
}

fn pages(cluster: &Cluster, subtasks: usize) -> Vec<Page> {
    let node = cluster.agent(1).name();
    let round = |calls: &[&str]| calls.iter().map(|call| format!("/api/v1/{call}")).collect();
    let page = |name, calls: &[&str]| Page { name, rounds: vec![round(calls)], shared: false };
    let then =
        |page: Page, calls: &[&str]| Page { rounds: [page.rounds, vec![round(calls)]].concat(), ..page };
    let shared = |name, calls: &[&str]| Page { shared: true, ..page(name, calls) };
    let of_node =
        [format!("node/status?name={node}&brief=true"), format!("node/affinity?node={node}&limit=50")];
    let of_node = of_node.each_ref().map(String::as_str);
    // What it is called, the first round tells.
    let by_name =
        [format!("node/list?filter=name%3D{node}&limit=2"), format!("event/list?node={node}&limit=20")];
    let by_name = by_name.each_ref().map(String::as_str);
    let bucket = "name=%2Frun%2F0000";
    let of_bucket = [
        format!("bucket/status?{bucket}"),
        format!("bucket/explain?{bucket}"),
        "event/list?subject=%2Frun%2F0000&limit=20".to_owned(),
        format!("bucket/history?{bucket}&limit=10"),
    ];
    let of_bucket: Vec<&str> = of_bucket.iter().map(String::as_str).collect();
    let of_job = [
        "job/status?name=history",
        "job/explain?name=history",
        "job/subtasks?name=history&limit=50",
        "event/list?subject=history&limit=10",
    ];
    let of_failed = [
        "job/status?name=unlucky",
        "job/explain?name=unlucky",
        "job/subtasks?name=unlucky&state=failed&limit=50",
        "event/list?subject=unlucky&limit=10",
    ];
    let subtask = 4711.min(subtasks - 1);
    let of_subtask = ["explain", "attempts"].map(|verb| format!("job/{verb}?name=history&subtask={subtask}"));
    let of_subtask: Vec<&str> = of_subtask.iter().map(String::as_str).collect();
    vec![
        shared("overview", &["overview"]),
        shared("affinity", &["node/matrix"]),
        page("nodes", &["node/list?limit=50"]),
        then(page("node", &of_node), &by_name),
        page("buckets", &["bucket/list?limit=50"]),
        then(page("bucket", &of_bucket), &["module/status?name=bench%401"]),
        page("jobs", &["job/list?limit=50"]),
        page("job", &of_job),
        page("job, its failures", &of_failed),
        page("subtask", &of_subtask),
        page("events", &["event/list?limit=50"]),
        page("sinks", &["sink/list?limit=50"]),
        page("sink", &["sink/status?name=sink-00", "event/list?subject=sink-00&kind=sink&limit=20"]),
        page("search", &["query/tables"]),
    ]
}

fn first_pages(ask: &Ask, cluster: &Cluster, subtasks: usize, figures: &Figures) {
    let trials = ask.trials(100);
    let address = cluster.agent(1).plan().http;
    let runtime = scene::runtime();
    let assets = runtime.block_on(assets(&address)).expect("every file of the dashboard is served");
    figures.aside("the dashboard itself, all of its files", &format!("{} kB", assets / 1000));
    let mut most = (0_usize, "");
    for page in pages(cluster, subtasks) {
        let looked = runtime.block_on(looks(&address, &page, trials));
        let (times, bytes) = looked.unwrap_or_else(|error| panic!("{}: {error}", page.name));
        if bytes > most.0 {
            most = (bytes, page.name);
        }
        let goal = Goal::within("p99 200 ms", times.percentile(99), WITHIN);
        let figure = format!("{times}; {} kB", bytes / 1000);
        figures.figure(&format!("first page of {}, {subtasks} subtasks", page.name), &figure, &goal);
    }
    let all = assets + most.0;
    let goal = Goal { text: "1 MB at most", reached: Some(all <= BYTES) };
    let figure = format!("{} kB, of that {} kB of {}", all / 1000, most.0 / 1000, most.1);
    figures.figure("sent for the largest page, with all files of the dashboard", &figure, &goal);
    // Drawn after the rest of its page.
    let calls = vec!["/api/v1/job/progress?name=history".to_owned()];
    let plot = Page { name: "plot", rounds: vec![calls], shared: false };
    let plotted = runtime.block_on(looks(&address, &plot, trials.min(20)));
    let (times, _) = plotted.expect("the plot's points");
    figures.aside("points of a job's plot, which its page does not wait for", &times.to_string());
}

/// Bytes of the page and of all that it loads.
async fn assets(address: &str) -> std::io::Result<usize> {
    let mut line = Line::to(address);
    let (mut all, mut found) = (0, BTreeSet::new());
    let mut left = vec!["/".to_owned()];
    while let Some(path) = left.pop() {
        if !found.insert(path.clone()) {
            continue;
        }
        let got = line.get(&path).await?;
        all += got.bytes;
        let text = String::from_utf8_lossy(&got.body);
        let named = text.split("\"/assets/").chain(text.split(" from \"./")).skip(1);
        let names = named.filter_map(|rest| rest.split('"').next()).filter(|name| is_file(name));
        left.extend(names.map(|name| format!("/assets/{name}")));
    }
    Ok(all)
}

fn is_file(name: &str) -> bool {
    [".js", ".css", ".svg"].iter().any(|ending| name.ends_with(ending)) && !name.contains([' ', '\n'])
}

/// How long it took until all was there, each time, and how many bytes the most were.
async fn looks(address: &str, page: &Page, trials: usize) -> std::io::Result<(Times, usize)> {
    let widest = page.rounds.iter().map(Vec::len).max().unwrap_or_default();
    let mut lines: Vec<Line> = (0..widest).map(|_| Line::to(address)).collect();
    let (mut times, mut most) = (Vec::new(), 0_usize);
    // The first look opens the connections.
    for trial in 0..=trials {
        if page.shared {
            sleep(STALE).await;
        }
        let begun = Instant::now();
        let mut got = Vec::new();
        for round in &page.rounds {
            got.extend(http::get_all(&mut lines, round).await?);
        }
        if trial > 0 {
            times.push(begun.elapsed());
        }
        most = most.max(got.iter().map(|got| got.bytes).sum());
        for got in &got {
            let is_json = serde_json::from_slice::<Value>(&got.body).is_ok();
            assert!(is_json, "no JSON: {}", String::from_utf8_lossy(&got.body));
        }
    }
    Ok((times.into_iter().collect(), most))
}
