//! What operators do on purpose: drain, move, hand over, change settings, forget. Nothing of it is a failure.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use sheaf_tests::documents::{Trace, bucket};
use sheaf_tests::wait::watch_for;
use sheaf_tests::{Agent, Cases, Cluster, Follower, Output, cli, processes, wait_for};

use crate::scene::{affinity, epoch, event_kinds, names, only_node, pids, settled_on, trace};
use crate::{down, handover, obstacle};

/// A stop, a placement and a start, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// First what changes who leads: so soon after an election no vote is taken away, which [`repair`] waits for.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("leadership is handed over without a failed call", || handover::handed_over(cluster));
    down::cases(cases, cluster);
    cases.run("settings are changed for all nodes, or refused with every defect", || settings(cluster));
    // What is wrong with it is seen after some time; others go on meanwhile.
    let mut changed = None;
    cases.run("a heartbeat is changed", || changed = Some(Beat::change(cluster)));
    cases.run("settings changed by two at once are both changed", || two_at_once(cluster));
    cases.run("a heartbeat that is changed is that of sessions that stand", || {
        changed.expect("it is changed").is_kept(cluster);
    });
    cases.run("an agent that stops for longer hands its work over first", || released(cluster));
    cases.run("a node is drained and takes work again", || drained(cluster));
    cases.run("a drain that keeps multi-node buckets moves the others alone", || kept(cluster));
    cases.run("what cannot go elsewhere stays until the deadline", || deadline(cluster));
    cases.run("a bucket is moved", || moved(cluster));
    cases.run("a node where a bucket gave up is left out, and that is said", || obstacle::gave_up(cluster));
    down::forgotten(cases, cluster);
}

fn drained(cluster: &Cluster) {
    let (one, all) = (trace(cluster, "drain.one"), trace(cluster, "drain.all"));
    cluster.apply_and_wait(&bucket("/drain/all", "steady", &all, "multi_node: true"));
    for name in ["/drain/a", "/drain/b"] {
        settled_on(cluster, name, "steady", &one, "", "n1");
    }
    let before = epoch(&cluster.status("/drain/a"));
    let plan = cluster.json(&["node", "drain", "n1", "--dry-run", "-o", "json"]);
    let rows: Vec<&Value> = plan.as_array().into_iter().flatten().collect();
    assert_eq!(rows.len(), 3, "{plan:#}");
    for row in &rows[1..] {
        assert!(
            names([2, 3]).contains(row["to"].as_str().unwrap_or_default()) || row["bucket"] == "/drain/all"
        );
    }
    assert_eq!(only_node(&cluster.status("/drain/a")), "n1", "nothing has happened");
    let told = ["/drain/a → ", "/drain/b → ", "/drain/all stopped here in ", "(3 of 3)"];
    cluster.cli(&["node", "drain", "n1", "--wait"]).ok().mentions(&told);
    for name in ["/drain/a", "/drain/b"] {
        let status = cluster.wait_state(name, "running");
        assert_ne!(only_node(&status), "n1");
        assert!(epoch(&status) > before);
        assert!(event_kinds(cluster, name).contains(&"bucket.leaving".to_owned()));
    }
    assert!(cluster.agent(1).programs("/drain/all").is_empty());
    assert_eq!(cluster.node("n1")["status"], "draining");
    let same = bucket("/drain/all", "steady", &all, "multi_node: true");
    assert_eq!(
        ["n1", "n2"].map(|node| obstacle::planned(cluster, &same, 0, node)),
        ["the node is being drained", ""]
    );
    let off = bucket("/drain/all", "steady", &all, "multi_node: true\nsuspended: true");
    assert_eq!(
        ["n1", "n2"].map(|node| obstacle::planned(cluster, &off, 10, node)),
        ["the bucket is suspended"; 2]
    );
    cluster
        .cli(&["bucket", "move", "/drain/a", "--to", "n1"])
        .exits(1)
        .mentions(&["n1: the node is being drained"]);
    cluster.cli(&["node", "drain", "n2"]).ok().mentions(&["sheaf node status n2"]);
    cluster.cli(&["node", "drain", "n3"]).exits(1).mentions(&["n3 is the last that takes work"]);
    assert_eq!(cluster.node("n3")["status"], "ready", "nothing has changed");
    for node in ["n1", "n2"] {
        cluster.cli(&["node", "undrain", node]).ok();
    }
    cluster.wait_status("/drain/all", "runs everywhere again", |status| {
        status["state"] == "running" && affinity(status) == names([1, 2, 3])
    });
    cluster.delete(&["/drain/all", "/drain/a", "/drain/b"]);
}

fn kept(cluster: &Cluster) {
    let (one, all) = (trace(cluster, "kept.one"), trace(cluster, "kept.all"));
    cluster.apply_and_wait(&bucket("/kept/all", "steady", &all, "multi_node: true"));
    settled_on(cluster, "/kept/one", "steady", &one, "", "n1");
    let before = cluster.status("/kept/all");
    let plan = cluster.json(&["node", "drain", "n1", "--keep-multi-node", "--dry-run", "-o", "json"]);
    let rows = plan.as_array().into_iter().flatten();
    let going: Vec<&str> = rows.filter_map(|row| row["bucket"].as_str()).collect();
    assert_eq!(going, ["/kept/one"], "{plan:#}");
    // Nothing else is waited for.
    cluster.cli(&["node", "drain", "n1", "--keep-multi-node", "--wait"]).ok();
    assert_ne!(only_node(&cluster.wait_state("/kept/one", "running")), "n1");
    assert_eq!(cluster.node("n1")["status"], "draining");
    let after = cluster.status("/kept/all");
    assert_eq!((affinity(&after), pids(&after)), (names([1, 2, 3]), pids(&before)), "it was not touched");
    // Without it they go as well.
    cluster.cli(&["node", "drain", "n1", "--wait"]).ok();
    assert!(cluster.agent(1).programs("/kept/all").is_empty());
    assert_eq!(all.starts().len(), 3, "one on each node, once");
    cluster.cli(&["node", "undrain", "n1"]).ok();
    cluster.wait_status("/kept/all", "runs everywhere again", |status| {
        status["state"] == "running" && affinity(status) == names([1, 2, 3])
    });
    cluster.delete(&["/kept/all", "/kept/one"]);
}

fn deadline(cluster: &Cluster) {
    let stays = trace(cluster, "drain.stays");
    cluster.apply_and_wait(&bucket("/drain/stays", "steady", &stays, "node_list_rules: [n1]"));
    let plan = cluster.json(&["node", "drain", "n1", "--dry-run", "-o", "json"]);
    let row = plan.as_array().into_iter().flatten().find(|row| row["bucket"] == "/drain/stays");
    let row = row.unwrap_or_else(|| panic!("it is named: {plan:#}"));
    assert_eq!(
        (row["to"].as_str(), row["why"].as_str()),
        (Some(""), Some("no other node is available: it stays until another is"))
    );
    cluster
        .cli(&["node", "drain", "n1", "--wait", "--timeout", "1s"])
        .exits(4)
        .mentions(&["/drain/stays (no other node is available"]);
    assert_eq!(cluster.status("/drain/stays")["state"], "running");
    cluster.cli(&["node", "drain", "n1", "--deadline", "500ms", "--wait"]).ok();
    cluster.wait_state("/drain/stays", "unplaced");
    assert!(cluster.agent(1).programs("/drain/stays").is_empty());
    cluster.cli(&["node", "undrain", "n1"]).ok();
    cluster.wait_state("/drain/stays", "running");
    cluster.delete(&["/drain/stays"]);
}

fn moved(cluster: &Cluster) {
    let one = trace(cluster, "move.one");
    cluster.apply_and_wait(&bucket("/move/one", "steady", &one, "node_list_rules: [n1, n2]"));
    let before = cluster.status("/move/one");
    let from = only_node(&before);
    let to = if from == "n1" { "n2" } else { "n1" };
    let move_to = |node: &str| cluster.cli(&["bucket", "move", "/move/one", "--to", node]);
    move_to("n3").exits(1).mentions(&["cannot go to node n3", "node_list_rules"]);
    move_to("n9").exits(3).mentions(&["no node n9"]);
    cluster.cli(&["bucket", "move", "/move/none"]).exits(3).mentions(&["/move/none"]);
    assert_eq!(epoch(&cluster.status("/move/one")), epoch(&before), "nothing has changed");
    cluster.cli(&["bucket", "move", "/move/one", "--to", to, "--wait"]).ok();
    let after = cluster.wait_status_within("/move/one", "runs there", SOON, |status| {
        status["state"] == "running" && affinity(status).contains(to)
    });
    assert!(epoch(&after) > epoch(&before));
    cluster.cli(&["bucket", "move", "/move/one"]).ok();
    cluster.wait_status_within("/move/one", "runs elsewhere again", SOON, |status| {
        status["state"] == "running" && affinity(status).contains(&from)
    });
    // With nowhere to go it would only be stopped, and started where it is.
    let only = format!("node_list_rules: [{from}]");
    cluster.apply_and_wait(&bucket("/move/only", "steady", &one, &only));
    let before = cluster.status("/move/only");
    cluster
        .cli(&["bucket", "move", "/move/only"])
        .exits(1)
        .mentions(&["/move/only can go nowhere", "sheaf bucket explain /move/only"]);
    let after = cluster.status("/move/only");
    assert_eq!((pids(&after), epoch(&after)), (pids(&before), epoch(&before)), "it is not touched");
    cluster.delete(&["/move/one", "/move/only"]);
}

fn released(cluster: &Cluster) {
    let (one, all) = (trace(cluster, "release.one"), trace(cluster, "release.all"));
    let agent = cluster.leader();
    cluster.apply_and_wait(&bucket("/release/all", "steady", &all, "multi_node: true"));
    for name in ["/release/a", "/release/b"] {
        settled_on(cluster, name, "steady", &one, "", &agent.name());
    }
    let before = cluster.status("/release/all");
    let config = agent.config().display().to_string();
    let stopped = cli::run(cluster.machine(), &["agent", "stop", "--release", "--config", &config], b"").ok();
    assert!(stopped.stdout.contains("hands its single-node buckets over"), "{stopped}");
    assert_eq!(agent.exit(SOON), 0, "{}", agent.log_tail());
    assert_eq!(agent.stand_in(), None, "there is no lease left to hold");
    for name in ["/release/a", "/release/b"] {
        let status = cluster.wait_state(name, "running");
        assert_ne!(only_node(&status), agent.name());
    }
    // The node's own programs run on, and its next life finds them.
    assert_eq!(agent.programs("/release/all").len(), 1);
    cli::run(cluster.machine(), &["agent", "stop", "--config", &config], b"")
        .exits(1)
        .mentions(&["no agent runs"]);
    agent.start();
    cluster.wait_back(agent);
    let status = cluster.wait_status("/release/all", "runs everywhere", |status| status["running"] == 3);
    assert_eq!(pids(&status), pids(&before));
    cluster.delete(&["/release/all", "/release/a", "/release/b"]);
}

fn settings(cluster: &Cluster) {
    let get = |key: &str| {
        let all = cluster.json(&["cluster", "settings", "-o", "json"]);
        let found = all.as_array().into_iter().flatten().find(|setting| setting["key"] == key).cloned();
        found.unwrap_or_else(|| panic!("{key} in {all:#}"))["value"].as_str().unwrap_or_default().to_owned()
    };
    let (ttl, window) = (get("lease.ttl"), get("offer_window"));
    let set = |changes: &[&str]| cluster.cli(&[&["cluster", "settings"], changes].concat());
    refused_settings(cluster, &set);
    let tight = set(&["lease.ttl=1500ms"]).ok();
    assert!(tight.stderr.contains("an election would cost single-node work"), "{tight}");
    // Who stands for election later than others says so, too.
    for agent in cluster.agents() {
        wait_for("each member says so in its log", SOON, || {
            let said = agent.log().contains("an election would cost single-node work");
            if said { Ok(()) } else { Err(agent.log_tail()) }
        });
    }
    let plenty = set(&[&format!("lease.ttl={ttl}")]).ok();
    assert!(!plenty.stderr.contains("an election"), "{plenty}");
    set(&["offer_window=900ms"]).ok();
    assert_eq!(get("offer_window"), "900ms");
    set(&[&format!("offer_window={window}")]).ok();
}

/// What cannot be is said, with what can, and nothing is changed.
fn refused_settings(cluster: &Cluster, set: &dyn Fn(&[&str]) -> Output) {
    let all = || cluster.json(&["cluster", "settings", "-o", "json"]);
    let before = all();
    let margin = "does not cover clock drift and a kill of 250ms";
    let cases: [(&[&str], &[&str]); 6] = [
        // A ttl above, and a kill margin below, what the other allows.
        (
            &["lease.ttl=50s", "lease.kill_margin=1s"],
            &["lease.kill_margin: kill margin 1s", margin, "with ttl 50s"],
        ),
        (
            &["lease.ttl=3s", "lease.kill_margin=300ms"],
            &["lease.kill_margin: kill margin 300ms", margin, "at least 316ms with ttl 3s"],
        ),
        (
            &["lease.heartbeat=500ms", "lease.ttl=1s"],
            &["lease.ttl: ttl 1s is shorter than three heartbeats of 500ms", "at least 1s 500ms"],
        ),
        (&["voters=2"], &["voters: 2 voters cannot be", "auto, 1, 3, 5 or 7"]),
        (&["lease.tll=1s"], &["did you mean lease.ttl?"]),
        // All of it at once, and beside it what would be right.
        (
            &["offer_window=2s", "lease.ttl=1s", "lease.kill_margin=1ms", "voters=2"],
            &["lease.ttl", "lease.kill_margin", "voters"],
        ),
    ];
    for (changes, said) in cases {
        set(changes).exits(1).mentions(said);
        assert_eq!(all(), before, "nothing has changed: {changes:?}");
    }
}

/// Leases become shorter than heartbeats were.
struct Beat {
    trace: Trace,
    before: Value,
    since: Instant,
}

impl Beat {
    fn change(cluster: &Cluster) -> Self {
        let trace = trace(cluster, "beat");
        cluster.apply_and_wait(&bucket("/beat", "steady", &trace, ""));
        let set = |lease: [&str; 3]| cluster.cli(&[&["cluster", "settings"], &lease[..]].concat()).ok();
        set(["lease.heartbeat=4s", "lease.ttl=12s", "lease.kill_margin=1s"]);
        // Sessions with another leader begin with that.
        cluster.cli(&["cluster", "transfer"]).ok();
        let before = cluster.wait_state("/beat", "running");
        set(["lease.heartbeat=500ms", "lease.ttl=3s", "lease.kill_margin=1s"]);
        Self { trace, before, since: Instant::now() }
    }

    /// Two of the former heartbeats later; between any two of those a node is missed.
    fn is_kept(&self, cluster: &Cluster) {
        let rest = Duration::from_secs(8).saturating_sub(self.since.elapsed()).max(Duration::from_secs(1));
        let before = &self.before;
        watch_for("nobody is missed, and nothing is interrupted", rest, || {
            let rows = cluster.try_json(&["node", "list", "-o", "json"])?;
            let ready = rows.as_array().into_iter().flatten().all(|row| row["status"] == "ready");
            let status = cluster.try_json(&["bucket", "status", "/beat", "-o", "json"])?;
            let is_same = pids(&status) == pids(before) && epoch(&status) == epoch(before);
            if ready && is_same { Ok(()) } else { Err(format!("{rows:#} {status:#}")) }
        });
        assert_eq!(self.trace.starts().len(), 1);
        cluster.delete(&["/beat"]);
    }
}

/// Each writes what it changes, and nothing of what it was shown before.
fn two_at_once(cluster: &Cluster) {
    let all = || cluster.json(&["cluster", "settings", "-o", "json"]);
    let value = |all: &Value, key: &str| {
        let found = all.as_array().into_iter().flatten().find(|setting| setting["key"] == key).cloned();
        found.unwrap_or_else(|| panic!("{key} in {all:#}"))["value"].as_str().unwrap_or_default().to_owned()
    };
    let before = all();
    let keys = ["offer_window", "gate_interval"];
    for turn in 1..=5 {
        let wanted = [format!("{}s", 1 + turn), format!("{}s", 30 + turn)];
        let changing: Vec<Follower> = keys
            .iter()
            .zip(&wanted)
            .zip([1, 2])
            .map(|((key, value), agent)| {
                cluster.agent(agent).begin(&["cluster", "settings", &format!("{key}={value}")], b"")
            })
            .collect();
        for change in changing {
            change.finish(SOON).ok();
        }
        let now = all();
        assert_eq!(keys.map(|key| value(&now, key)), wanted);
    }
    for key in keys {
        cluster.cli(&["cluster", "settings", &format!("{key}={}", value(&before, key))]).ok();
    }
    for (change, key) in [
        ("gate_interval=0s", "gate_interval"),
        ("lease.heartbeat=1ms", "lease.heartbeat"),
        ("offer_window=2m", "offer_window"),
    ] {
        cluster.cli(&["cluster", "settings", change]).exits(1).mentions(&[key, " to "]);
    }
}

/// Voters that do not come back are replaced; the third one was forgotten before this.
pub(crate) fn repair(cases: &mut Cases, cluster: &mut Cluster) {
    let fourth = cluster.add(|_| {}).name();
    let fifth = cluster.add(|_| {}).name();
    cases.run("a voter that was forgotten is replaced, and removed", || {
        let known = members(cluster).unwrap_or_else(|error| panic!("{error}"));
        cluster.named(&fourth).start();
        let now = wait_members(cluster, "the new node votes", |found| {
            let votes = |name: &String| found.iter().any(|(member, voter)| member == name && *voter);
            votes(&fourth) && found.iter().filter(|(_, voter)| *voter).count() == 3 && found.len() == 3
        });
        let is_gone = |name: &String| now.iter().all(|(member, _)| member != name);
        let gone: Vec<String> = known.into_iter().map(|(name, _)| name).filter(is_gone).collect();
        assert_eq!(gone, [has_left(cluster)], "{now:?}");
    });
    cases.run("a voter that is lost for longer than is waited for is replaced, and welcome again", || {
        cluster.named(&fifth).start();
        cluster.wait_node(&fifth, "ready");
        cluster.cli(&["cluster", "settings", "repair.after=1s"]).ok();
        let lost = cluster.following_voter();
        lost.kill_machine();
        wait_members(cluster, "the fifth votes in its place", |found| {
            found.contains(&(fifth.clone(), true)) && found.contains(&(lost.name(), false))
        });
        let status = cluster.json(&["cluster", "status", "-o", "json"]);
        assert_eq!(status["fault_tolerance"], 1, "{status:#}");
        lost.start();
        cluster.wait_node(&lost.name(), "ready");
        // Without a vote, and with everything.
        cluster.apply_and_wait(&bucket("/repair/a", "steady", &trace(cluster, "repair"), ""));
        let list = |agent: &Agent| agent.cli(&["bucket", "list", "-o", "yaml"]).ok().stdout;
        assert_eq!(list(lost), list(cluster.leader()));
        cluster.delete(&["/repair/a"]);
    });
    cases.run(
        "a forgotten voter that comes back runs nothing, says why, and joins anew with an empty disk",
        || {
            came_back(cluster);
        },
    );
}

/// The node that was forgotten.
fn has_left(cluster: &Cluster) -> String {
    let rows = cluster.json(&["node", "list", "-o", "json"]);
    let left = rows.as_array().into_iter().flatten().find(|row| row["status"] == "left");
    let name = left.and_then(|row| row["name"].as_str());
    name.unwrap_or_else(|| panic!("one has left: {rows:#}")).to_owned()
}

/// It was away when it was forgotten: its replica tells of a cluster in which it runs something.
fn came_back(cluster: &Cluster) {
    let node = &has_left(cluster);
    let gone = cluster.named(node);
    let all = trace(cluster, "forget.all");
    cluster.apply_and_wait(&bucket("/forget/all", "steady", &all, ""));
    let (started, said) = (all.on(node), gone.log().len());
    assert!(!started.is_empty(), "it ran there before");
    gone.start();
    wait_for("it says that it has left, and ends what it would run", SOON, || {
        let log = gone.log().split_off(said);
        let says =
            ["has left cluster", "empty its data directory", "everything of it that runs here is ended"];
        if says.iter().all(|part| log.contains(part)) { Ok(()) } else { Err(gone.log_tail()) }
    });
    assert_eq!(all.on(node), started, "it has started nothing");
    assert!(gone.programs("/forget/all").is_empty());
    // What did not run when it heard of it is told, too.
    wait_for("it parts with what it has", SOON, || {
        let kept = ["forget+all", "forget+told"].map(|name| gone.dir().join("instances").join(name));
        if kept.iter().any(|dir| dir.exists()) { Err(gone.log_tail()) } else { Ok(()) }
    });
    let parted = || {
        let said = std::fs::read_to_string(trace(cluster, "forget.told").path()).unwrap_or_default();
        said.matches(&format!("{node} parts\n")).count()
    };
    assert_eq!(parted(), 1, "{}", gone.log_tail());
    gone.cli(&["bucket", "list"]).exits(1).mentions(&["has left cluster"]);
    gone.cli(&["cluster", "status"]).mentions(&["has left cluster"]);
    assert_eq!(gone.stop(), 0, "{}", gone.log_tail());
    knows_it_alone(cluster, gone);
    assert_eq!((all.on(node), parted()), (started, 1), "it has started nothing, and has nothing to tell");
    assert_eq!(gone.stop(), 0, "{}", gone.log_tail());
    std::fs::remove_dir_all(gone.dir()).expect("nothing is left that uses it");
    gone.start();
    cluster.wait_node(node, "ready");
    gone.cli(&["bucket", "status", "/forget/all"]).ok();
    cluster.delete(&["/forget/all"]);
}

/// What it was told once it knows, also where nobody is there to tell it again.
fn knows_it_alone(cluster: &Cluster, gone: &Agent) {
    let others = cluster.agents().iter().filter(|agent| agent.name() != gone.name() && agent.is_running());
    let others: Vec<u32> = others.map(Agent::pid).collect();
    let said = gone.log().len();
    others.iter().for_each(|pid| processes::signal(*pid, Signal::STOP));
    gone.start();
    wait_for("it says that it has left, with nobody there", SOON, || {
        let log = gone.log().split_off(said);
        let says = ["has left cluster", "everything of it that runs here is ended"];
        if says.iter().all(|part| log.contains(part)) { Ok(()) } else { Err(gone.log_tail()) }
    });
    gone.cli(&["cluster", "status"]).mentions(&["has left cluster"]);
    others.iter().for_each(|pid| processes::signal(*pid, Signal::CONT));
    assert!(gone.programs("/forget/all").is_empty());
}

/// Who is a member, and who of them votes.
fn members(cluster: &Cluster) -> Result<Vec<(String, bool)>, String> {
    let rows = cluster.try_json(&["cluster", "members", "-o", "json"])?;
    let row = |row: &Value| {
        (row["name"].as_str().unwrap_or_default().to_owned(), row["voter"] == Value::Bool(true))
    };
    Ok(rows.as_array().into_iter().flatten().map(row).collect())
}

/// No vote is taken away within 30 s of an election.
pub(crate) fn wait_members(
    cluster: &Cluster,
    what: &str,
    is_so: impl Fn(&[(String, bool)]) -> bool,
) -> Vec<(String, bool)> {
    wait_for(what, Duration::from_secs(90), || {
        let found = members(cluster)?;
        if is_so(&found) { Ok(found) } else { Err(format!("{found:?}")) }
    })
}
