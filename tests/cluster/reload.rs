//! What gates read changes while something runs: on SIGHUP a node's config file is read anew, and what checks look at is looked at
//! again and again. And signals that come while an agent still starts.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::scene::{affinity, epoch, explain, gates, names, only_node, pids, trace};

/// What an agent logs as soon as it is sure that it can start.
const STARTS: &str = "agent starts";

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("SIGHUP changes what a node allows", || allow(cluster));
    cases.run("SIGHUP changes a node's labels", || labels(cluster));
    cases.run("SIGHUP with a bad file changes nothing", || bad(cluster));
    cases.run("a bucket comes to a node where its check holds from now on, and leaves one where not", || {
        checked(cluster);
    });
    cases.run("SIGHUP and SIGTERM while an agent starts", || early(cluster));
    cases.run("an agent that is to hand its work over while it starts does so", || early_release(cluster));
}

fn allow(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/reload/a", "steady", &trace(cluster, "reload-a"), "multi_node: true"));
    let before = pids(&cluster.status("/reload/a"));
    let agent = cluster.agent(4);
    agent.change(|plan| plan.allow = vec!["other*".to_owned()]);
    agent.signal(Signal::HUP);
    let five = names([1, 2, 3, 5, 6]);
    cluster.wait_status("/reload/a", "left n4", |status| affinity(status) == five && status["desired"] == 5);
    let [local, rules, can_run] = gates(&explain(cluster, "/reload/a"), "n4");
    let reason = "module \"steady\" is not in this node's [modules] allow list (other*)";
    assert_eq!(local, (Some(false), reason.to_owned()));
    assert_eq!((rules.0, can_run.0), (Some(true), Some(true)));
    wait_for("nothing of it is alive on n4", SOON, || match agent.programs("/reload/a").as_slice() {
        [] => Ok(()),
        left => Err(format!("{left:?}")),
    });
    let row = cluster.json(&["node", "status", "n4", "-o", "json"]);
    assert_eq!(row["facts"]["allow"], serde_json::json!(["other*"]));
    agent.change(|plan| plan.allow.clear());
    agent.signal(Signal::HUP);
    let status = cluster.wait_status("/reload/a", "runs on n4 again", |status| status["running"] == 6);
    let others = five.iter().all(|name| pids(&status)[name] == before[name]);
    assert!(others, "the others were left alone: {before:?}, {status:#}");
    cluster.delete(&["/reload/a"]);
}

fn labels(cluster: &Cluster) {
    let rules = "multi_node: true\nnode_list_rules: ['$zone=*']";
    cluster.apply(&bucket("/reload/b", "steady", &trace(cluster, "reload-b"), rules));
    cluster.wait_state("/reload/b", "unplaced");
    for number in [1, 6] {
        let agent = cluster.agent(number);
        agent.change(|plan| plan.labels.push("zone=a".to_owned()));
        agent.signal(Signal::HUP);
    }
    cluster.wait_status("/reload/b", "runs where the label is", |status| {
        affinity(status) == names([1, 6]) && status["running"] == 2
    });
    let row = cluster.json(&["node", "status", "n1", "-o", "json"]);
    assert_eq!(row["labels"], serde_json::json!(["three", "zone=a"]), "{row:#}");
    for number in [1, 6] {
        let agent = cluster.agent(number);
        agent.change(|plan| plan.labels.retain(|label| label != "zone=a"));
        agent.signal(Signal::HUP);
    }
    cluster.wait_state("/reload/b", "unplaced");
    cluster.delete(&["/reload/b"]);
}

fn bad(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/reload/c", "steady", &trace(cluster, "reload-c"), "multi_node: true"));
    let agent = cluster.agent(3);
    let before = (agent.pid(), pids(&cluster.status("/reload/c")));
    let good = std::fs::read_to_string(agent.config()).expect("the config file is there");
    agent.write_config(&good.replace("deny = [\"denied\"]", "deny = [\"steady\"]\nalow = []"));
    agent.signal(Signal::HUP);
    wait_for("the agent says what is wrong", SOON, || {
        let log = agent.log();
        let said = log.contains("modules.alow") && log.contains("did you mean modules.allow?");
        if said { Ok(()) } else { Err(agent.log_tail()) }
    });
    let row = cluster.json(&["node", "status", "n3", "-o", "json"]);
    assert_eq!(row["facts"]["deny"], serde_json::json!(["denied"]), "the old values stay");
    assert_eq!((agent.pid(), pids(&cluster.status("/reload/c"))), before);
    agent.write_config(&good);
    cluster.delete(&["/reload/c"]);
}

fn checked(cluster: &Cluster) {
    let place = cluster.machine().place().display().to_string();
    let file = |number: usize| format!("{place}/needed.n{number}");
    let needs = format!("can_run_on_this_node: [{{file: '{place}/needed.${{node.name}}'}}]");
    let trace = trace(cluster, "needy");
    let (all, one) = ("/needy/all", "/needy/one");
    let documents = [
        module("needy", &needs),
        bucket(all, "needy", &trace, "multi_node: true"),
        bucket(one, "needy", &trace, ""),
    ];
    cluster.apply(&documents.concat());
    [all, one].iter().for_each(|name| drop(cluster.wait_state(name, "unplaced")));
    // Each node has answered, and would be asked again within half a minute.
    cluster.cli(&["cluster", "settings", "gate_interval=1s"]).ok();
    let run_on = |name: &str, numbers: &[usize]| {
        let nodes = names(numbers.iter().copied());
        cluster.wait_status(name, &format!("runs on {nodes:?}"), |status| {
            status["state"] == "running" && status["running"] == nodes.len() && affinity(status) == nodes
        })
    };
    fs::write(file(2), "").expect("a file can be written in the test's own directory");
    let before = run_on(one, &[2]);
    let pid = pids(&run_on(all, &[2]))["n2"];
    fs::write(file(5), "").expect("a file can be written in the test's own directory");
    assert_eq!(pids(&run_on(all, &[2, 5]))["n2"], pid, "it goes on there");
    assert_eq!(epoch(&run_on(one, &[2])), epoch(&before), "what is bound stays");
    fs::remove_file(file(2)).expect("it was written");
    run_on(all, &[5]);
    assert!(epoch(&run_on(one, &[5])) > epoch(&before));
    for name in [all, one] {
        let [.., can_run] = gates(&explain(cluster, name), "n2");
        assert_eq!(can_run, (Some(false), format!("{} does not exist", file(2))));
        wait_for("nothing of it is alive on n2", SOON, || match cluster.agent(2).programs(name).as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }
    cluster.cli(&["cluster", "settings", "gate_interval=30s"]).ok();
    cluster.delete(&[all, one]);
}

/// Starts an agent that holds a replica, and returns while it is busy with that: for a second it waits for the answer of one
/// of its list that takes connections and says nothing, which is given back.
fn start_slowly(agent: &Agent) -> TcpListener {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("it has one").to_string();
    let before = agent.log().matches(STARTS).count();
    agent.change(|plan| plan.join.push(address));
    agent.start();
    wait_for("it starts", SOON, || {
        if agent.log().matches(STARTS).count() > before { Ok(()) } else { Err(agent.log_tail()) }
    });
    agent.change(|plan| drop(plan.join.pop()));
    silent
}

fn early(cluster: &Cluster) {
    let alone = Cluster::plan(cluster.machine(), "early-", 1, |_, _| {});
    alone.start_all();
    alone.wait_ready();
    let agent = alone.agent(1);
    agent.kill();
    let silent = start_slowly(agent);
    let pid = agent.pid();
    wait_for("it reads its file again", SOON, || {
        assert!(agent.is_running(), "the signal has ended it:\n{}", agent.log_tail());
        agent.signal(Signal::HUP);
        let done = agent.log().contains("configuration read again");
        if done { Ok(()) } else { Err(agent.log_tail()) }
    });
    alone.wait_ready();
    assert_eq!(agent.pid(), pid);
    agent.kill();
    drop(silent);
    let _silent = start_slowly(agent);
    assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
}

fn early_release(cluster: &Cluster) {
    let (agent, trace) = (cluster.following_voter(), trace(cluster, "early"));
    let name = agent.name();
    cluster.apply_and_wait(&bucket("/early", "steady", &trace, &format!("node_list_rules: [{name}]")));
    cluster.apply_and_wait(&bucket("/early", "steady", &trace, ""));
    assert_eq!(only_node(&cluster.status("/early")), name, "it stays where it is");
    assert_eq!(agent.stop(), 0, "{}", agent.log_tail());
    let _silent = start_slowly(agent);
    agent.signal(Signal::USR1);
    assert_eq!(agent.exit(Duration::from_secs(60)), 0, "{}", agent.log_tail());
    assert_eq!(agent.stand_in(), None, "there is no lease left to hold");
    assert_ne!(only_node(&cluster.wait_state("/early", "running")), name);
    cluster.delete(&["/early"]);
    agent.start();
    cluster.wait_back(agent);
}
