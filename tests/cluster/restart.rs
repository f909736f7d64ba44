//! Planned is not failed: agents that are restarted, one by one and all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Agent, Cases, Cluster, processes, wait::watch_for, wait_for};

use crate::scene::{epoch, only_node, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A44 A28 agents restarted one by one: programs keep their pids, what is off stays off", || {
        a44(cluster);
    });
    cases.run("A44 an agent is away for longer than a lease: its stand-in holds it", || away(cluster));
    cases.run("a stand-in that is hung does not keep the agent from coming back", || hung(cluster));
    cases.run("the machine dies while its agent is away: its work moves as ever", || dies(cluster));
    cases.run("an agent does not come back: its stand-in ends in time, and its work moves", || {
        stays_away(cluster);
    });
    cases.run("all agents killed, all restarted: the same state", || all_killed(cluster));
}

fn a44(cluster: &Cluster) {
    let [everywhere, one, off] = ["a44.all", "a44.one", "a28"].map(|name| trace(cluster, name));
    cluster.apply_and_wait(&bucket("/a44/all", "steady", &everywhere, "multi_node: true"));
    cluster.apply_and_wait(&bucket("/a44/one", "steady", &one, ""));
    cluster.apply_and_wait(&bucket("/a28", "steady", &off, "multi_node: true\nsuspended: true"));
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

/// A bucket on its node, whose agent then stops and leaves a stand-in; the agent that leads, if it does.
fn stopped<'a>(cluster: &'a Cluster, name: &str, leads: bool) -> (&'a Agent, Value) {
    let leader = cluster.leader().name();
    let agent =
        cluster.agents().iter().find(|agent| (agent.name() == leader) == leads).expect("one that does");
    let steady = trace(cluster, &name.replace('/', "."));
    let only = format!("node_list_rules: [{}]", agent.name());
    cluster.apply_and_wait(&bucket(name, "steady", &steady, &only));
    cluster.apply_and_wait(&bucket(name, "steady", &steady, ""));
    let before = cluster.status(name);
    assert_eq!(only_node(&before), agent.name());
    assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
    wait_for("it shows as restarting", Duration::from_secs(20), || {
        let row = cluster.try_json(&["node", "status", &agent.name(), "-o", "json"])?;
        if row["status"] == "restarting" { Ok(()) } else { Err(format!("{row:#}")) }
    });
    (agent, before)
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

fn away(cluster: &Cluster) {
    let (agent, before) = stopped(cluster, "/away/one", true);
    let lasts = lease(cluster) + Duration::from_secs(1);
    watch_for("nothing moves", lasts, || {
        let status = cluster.status("/away/one");
        let same = (pids(&status), epoch(&status)) == (pids(&before), epoch(&before));
        if same { Ok(()) } else { Err(format!("{status:#}")) }
    });
    agent.start();
    cluster.wait_back(agent);
    let status = cluster.wait_state("/away/one", "running");
    assert_eq!((pids(&status), epoch(&status)), (pids(&before), epoch(&before)), "adopted as it was");
    assert!(agent.log().contains("the stand-in has handed over"), "{}", agent.log_tail());
    assert_eq!(agent.stand_in(), None);
    cluster.delete(&["/away/one"]);
}

fn hung(cluster: &Cluster) {
    let (agent, _) = stopped(cluster, "/away/hung", false);
    let stand_in = agent.stand_in().expect("a stand-in is there");
    processes::signal(stand_in, Signal::STOP);
    agent.start();
    cluster.wait_back(agent);
    assert_eq!(agent.stand_in(), None);
    cluster.wait_status("/away/hung", "runs", |status| status["running"] == 1);
    cluster.delete(&["/away/hung"]);
}

fn dies(cluster: &Cluster) {
    let (agent, before) = stopped(cluster, "/away/dies", false);
    agent.kill_machine();
    let status = cluster.wait_status_within("/away/dies", "moves", Duration::from_secs(30), |status| {
        status["running"] == 1 && epoch(status) > epoch(&before)
    });
    assert_ne!(only_node(&status), agent.name());
    agent.start();
    cluster.wait_back(agent);
    cluster.delete(&["/away/dies"]);
}

fn stays_away(cluster: &Cluster) {
    cluster.cli(&["cluster", "settings", "lease.stand_in=5s"]).ok();
    let (agent, before) = stopped(cluster, "/away/long", false);
    let status = cluster.wait_status_within("/away/long", "moves", Duration::from_secs(40), |status| {
        status["running"] == 1 && epoch(status) > epoch(&before)
    });
    assert_ne!(only_node(&status), agent.name());
    assert_eq!(
        (agent.stand_in(), agent.programs("/away/long").len()),
        (None, 0),
        "nothing is left of it there"
    );
    agent.start();
    cluster.wait_back(agent);
    cluster.cli(&["cluster", "settings", "lease.stand_in=60s"]).ok();
    cluster.delete(&["/away/long"]);
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
    cluster.apply_and_wait(&bucket("/kept/all", "steady", &everywhere, "multi_node: true"));
    cluster.apply_and_wait(&bucket("/kept/one", "steady", &one, ""));
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
