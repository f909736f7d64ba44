//! Planned is not failed: agents that are restarted, one by one and all at once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use sheaf_tests::documents::bucket;
use sheaf_tests::{Agent, Cases, Cluster, wait_for};

use crate::scene::{epoch, only_node, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A44 A28 agents restarted one by one: programs keep their pids, what is off stays off", || {
        a44(cluster);
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
