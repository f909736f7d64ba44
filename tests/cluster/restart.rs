//! Planned is not failed: agents that are restarted, one by one and all at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::processes::{self, Process};
use sheaf_tests::{Agent, Cases, Cluster, wait::watch_for, wait_for};

use crate::scene::{epoch, only_node, pids, settled_on, trace};

/// It is switched off while the agent of its node is away, and its keeper is stopped then.
const LEAVES: &str = "/away/leaves";

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A44 A28 agents restarted one by one: programs keep their pids, what is off stays off", || {
        a44(cluster);
    });
    cases.run("a stand-in that is hung does not keep the agent from coming back", || hung(cluster));
    // All at once: what is waited for takes a lease, or longer.
    let mut away = None;
    cases.run("three agents stop, and leave stand-ins", || away = Some(Away::begin(cluster)));
    let away = || away.as_ref().expect("they have stopped");
    cases.run("the machine dies while its agent is away: its work moves as ever", || away().dies());
    cases.run("an agent does not come back: its stand-in ends in time, and its work moves", || {
        away().stays_away();
    });
    cases.run("what is to leave meanwhile ends by its fence, by the stand-in where its keeper hangs", || {
        away().leaves();
    });
    cases.run("A44 an agent is away for longer than a lease: its stand-in holds it", || away().holds());
    cases.run("all agents killed, all restarted: the same state", || all_killed(cluster));
}

fn a44(cluster: &Cluster) {
    let [everywhere, one, off] = ["a44.all", "a44.one", "a28"].map(|name| trace(cluster, name));
    let documents = [
        bucket("/a44/all", "steady", &everywhere, "multi_node: true"),
        bucket("/a44/one", "steady", &one, ""),
        bucket("/a28", "steady", &off, "multi_node: true\nsuspended: true"),
    ];
    cluster.apply_and_wait(&documents.concat());
    let before = (cluster.status("/a44/all"), cluster.status("/a44/one"));
    let restarts: [fn(&Agent); 2] =
        [|agent| assert_eq!(agent.stop(), 0, "{}", agent.log_tail()), Agent::kill];
    for (round, stop) in restarts.into_iter().enumerate() {
        for agent in cluster.agents() {
            stop(agent);
            agent.start();
            cluster.wait_back(agent);
            let what = format!("round {round}, after the restart of {}", agent.name());
            let status = cluster.wait_status("/a44/all", &what, |status| status["running"] == 5);
            assert_eq!(pids(&status), pids(&before.0), "{what}");
            let status = cluster.wait_status("/a44/one", &what, |status| status["running"] == 1);
            assert_eq!((pids(&status), epoch(&status)), (pids(&before.1), epoch(&before.1)), "{what}");
        }
    }
    assert_eq!((everywhere.starts().len(), one.starts().len(), off.starts().len()), (5, 1, 0));
    assert_eq!(cluster.status("/a28")["state"], "suspended");
    cluster.delete(&["/a44/all", "/a44/one", "/a28"]);
}

/// An agent that has stopped and left a stand-in, and what ran there by then.
struct Stopped<'a> {
    agent: &'a Agent,
    bucket: &'static str,
    /// Its status.
    before: Value,
    since: Instant,
}

impl<'a> Stopped<'a> {
    fn now(cluster: &Cluster, agent: &'a Agent, bucket: &'static str) -> Self {
        let trace = trace(cluster, &bucket.replace('/', "."));
        let before = settled_on(cluster, bucket, "steady", &trace, "", &agent.name());
        assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
        let since = Instant::now();
        wait_for("it shows as restarting", SOON, || {
            let row = cluster.try_json(&["node", "status", &agent.name(), "-o", "json"])?;
            if row["status"] == "restarting" { Ok(()) } else { Err(format!("{row:#}")) }
        });
        Self { agent, bucket, before, since }
    }

    /// Waits until another node runs it.
    fn moves(&self, cluster: &Cluster, within: Duration) {
        let status = cluster.wait_status_within(self.bucket, "moves", within, |status| {
            status["running"] == 1 && epoch(status) > epoch(&self.before)
        });
        assert_ne!(only_node(&status), self.agent.name());
    }
}

/// The lease and its kill margin.
fn lease(cluster: &Cluster) -> Duration {
    let all = cluster.json(&["cluster", "settings", "-o", "json"]);
    let get = |key: &str| {
        let mut settings = all.as_array().into_iter().flatten();
        let text = settings.find(|setting| setting["key"] == key).and_then(|found| found["value"].as_str());
        let span = text.and_then(|text| text.parse::<sheaf_model::Span>().ok());
        span.unwrap_or_else(|| panic!("{key} in {all:#}"))
    };
    get("lease.ttl").duration() + get("lease.kill_margin").duration()
}

fn hung(cluster: &Cluster) {
    let leader = cluster.leader().name();
    let agent = cluster.agents().iter().find(|agent| agent.name() != leader).expect("not all of them lead");
    Stopped::now(cluster, agent, "/away/hung");
    let stand_in = agent.stand_in().expect("a stand-in is there");
    processes::signal(stand_in, Signal::STOP);
    agent.start();
    cluster.wait_back(agent);
    assert_eq!(agent.stand_in(), None);
    cluster.wait_status("/away/hung", "runs", |status| status["running"] == 1);
    cluster.delete(&["/away/hung"]);
}

/// Agents that are away at the same time.
struct Away<'a> {
    cluster: &'a Cluster,
    /// It led.
    leader: Stopped<'a>,
    /// Its machine is dead by now.
    dead: Stopped<'a>,
    /// Its stand-in has little time.
    long: Stopped<'a>,
}

impl<'a> Away<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        // Whoever votes beside the leader stays.
        let [first, second]: [&Agent; 2] = cluster.watchers().try_into().expect("two of five do not vote");
        let chief = cluster.leader();
        // Its epoch is fenced five seconds after its grace, which is short.
        cluster.apply(&module("hasty", "stop: {grace: 1s}"));
        settled_on(cluster, LEAVES, "hasty", &trace(cluster, "away.leaves"), "", &chief.name());
        let said = chief.log().len();
        let leader = Stopped::now(cluster, chief, "/away/one");
        // Nobody is to have to notice that it does not lead any more; on a slow machine an heir may take longer than it waits.
        let log = chief.log().split_off(said);
        let ends = ["another node leads now", "nobody has taken leadership"];
        assert!(ends.iter().any(|end| log.contains(end)), "{log}");
        let dead = Stopped::now(cluster, first, "/away/dies");
        cluster.cli(&["cluster", "settings", "lease.stand_in=5s"]).ok();
        let long = Stopped::now(cluster, second, "/away/long");
        cluster.cli(&["cluster", "settings", "lease.stand_in=60s"]).ok();
        first.kill_machine();
        let keeps = |process: &Process| process.is_keeper() && process.command.ends_with(LEAVES);
        let keeper = chief.processes().into_iter().find(keeps).expect("it runs there");
        processes::signal(keeper.pid, Signal::STOP);
        cluster.cli(&["bucket", "suspend", LEAVES]).ok();
        Self { cluster, leader, dead, long }
    }

    fn dies(&self) {
        self.dead.moves(self.cluster, Duration::from_secs(30));
    }

    fn stays_away(&self) {
        let (cluster, Stopped { agent, bucket, .. }) = (self.cluster, &self.long);
        self.long.moves(cluster, Duration::from_secs(40));
        assert_eq!(
            (agent.stand_in(), agent.programs(bucket).len()),
            (None, 0),
            "nothing is left of it there"
        );
    }

    /// The stand-in gives nothing up, and ends what outlives its lease.
    fn leaves(&self) {
        let (cluster, agent) = (self.cluster, self.leader.agent);
        wait_for("it is ended, though its keeper ends nothing", SOON, || {
            let left = agent.programs(LEAVES);
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
        assert!(agent.stand_in().is_some() && !agent.is_running(), "nobody else could");
        cluster.wait_state(LEAVES, "suspended");
        let filter = format!("subject={LEAVES},kind=bucket.freed");
        let freed = cluster.cli(&["events", "--all", "--where", &filter, "-o", "json"]).ok().json_lines();
        let why = freed.last().and_then(|event| event["message"].as_str()).unwrap_or_default();
        assert!(why.starts_with("fenced: not acknowledged to node "), "{freed:?}");
    }

    fn holds(&self) {
        let (cluster, Stopped { agent, bucket, before, since }) = (self.cluster, &self.leader);
        let lasts = lease(cluster) + Duration::from_secs(1);
        // An epoch never comes again: what has moved before is seen now.
        watch_for("nothing moves", lasts.saturating_sub(since.elapsed()), || {
            let status = cluster.status(bucket);
            let same = (pids(&status), epoch(&status)) == (pids(before), epoch(before));
            if same { Ok(()) } else { Err(format!("{status:#}")) }
        });
        let all = [&self.leader, &self.dead, &self.long];
        all.iter().for_each(|stopped| stopped.agent.start());
        all.iter().for_each(|stopped| cluster.wait_back(stopped.agent));
        let status = cluster.wait_state(bucket, "running");
        assert_eq!((pids(&status), epoch(&status)), (pids(before), epoch(before)), "adopted as it was");
        assert!(agent.log().contains("the stand-in has handed over"), "{}", agent.log_tail());
        assert_eq!(agent.stand_in(), None);
        cluster.delete(&[&all.map(|stopped| stopped.bucket)[..], &[LEAVES]].concat());
    }
}

/// What must be the same before and after, asked of one node.
fn state(agent: &Agent) -> BTreeMap<&'static str, String> {
    let ask = |args: &[&str]| agent.cli(args).ok().stdout;
    BTreeMap::from([
        ("buckets", ask(&["bucket", "list", "--all", "-o", "yaml"])),
        ("modules", ask(&["module", "list", "--all", "-o", "yaml"])),
        ("history", ask(&["bucket", "history", "/kept/05", "-o", "yaml"])),
        ("nodes", names_and_ids(&agent.cli(&["node", "list", "-o", "json"]).ok().json())),
    ])
}

fn names_and_ids(rows: &Value) -> String {
    let rows = rows.as_array().into_iter().flatten();
    rows.map(|row| format!("{} {} {}\n", row["name"], row["id"], row["labels"])).collect()
}

fn all_killed(cluster: &Cluster) {
    let [everywhere, one, off] = ["kept.all", "kept.one", "kept.off"].map(|name| trace(cluster, name));
    let documents = [
        bucket("/kept/all", "steady", &everywhere, "multi_node: true"),
        bucket("/kept/one", "steady", &one, ""),
    ];
    cluster.apply_and_wait(&documents.concat());
    for owner in ["first", "second"] {
        let more = format!("suspended: true\nowner: {owner}");
        let documents = (0..30).map(|n| bucket(&format!("/kept/{n:02}"), "steady", &off, &more));
        cluster.apply(&documents.collect::<String>());
    }
    cluster.cli(&["node", "label", "n4", "kept=1"]).ok();
    let (before, bound) = (state(cluster.agent(1)), cluster.status("/kept/one"));
    let events = cluster.cli(&["events", "--all", "-o", "json"]).ok().stdout;
    let programs = pids(&cluster.status("/kept/all"));
    cluster.agents().iter().for_each(Agent::kill);
    cluster.start_all();
    cluster.wait_ready();
    for agent in cluster.agents() {
        assert_eq!(state(agent), before, "{}", agent.name());
    }
    let later = cluster.cli(&["events", "--all", "-o", "json"]).ok().stdout;
    assert!(later.starts_with(&events), "history goes on where it was");
    let status = cluster.wait_status("/kept/all", "runs everywhere", |status| status["running"] == 5);
    assert_eq!(pids(&status), programs, "what needs no lease was not touched");
    let status = cluster.wait_status_within("/kept/one", "runs", Duration::from_secs(30), |status| {
        status["state"] == "running"
    });
    let same = epoch(&status) == epoch(&bound) && only_node(&status) == only_node(&bound);
    assert!(same || epoch(&status) > epoch(&bound), "{bound:#} then {status:#}");
    assert_eq!(off.starts(), [], "what is off stays off");
    cluster.cli(&["node", "label", "n4", "kept=1-"]).ok();
    let rest: Vec<String> = (0..30).map(|n| format!("/kept/{n:02}")).collect();
    cluster
        .cli(
            &[&["bucket", "delete", "--yes"], &rest.iter().map(String::as_str).collect::<Vec<_>>()[..]]
                .concat(),
        )
        .ok();
    cluster.delete(&["/kept/all", "/kept/one"]);
    wait_for("nothing is left", Duration::from_secs(5), || {
        match cluster.try_json(&["bucket", "list", "-o", "json"])? {
            Value::Array(rows) if rows.is_empty() => Ok(()),
            rows => Err(rows.to_string()),
        }
    });
}
