//! What keeps a bucket from a node whatever its gates say, in `explain` and in a plan.

use sheaf_tests::Cluster;
use sheaf_tests::documents::{bucket, program};

use crate::scene::{affinity, epoch, names, pids, trace};

/// What a plan of this document says to keep its bucket from a node, whatever the gates say.
pub(crate) fn planned(cluster: &Cluster, document: &str, exits: i32, node: &str) -> String {
    let args = ["bucket", "plan", "-f", "-", "-o", "json"];
    let plan = cluster.cli_with(&args, document.as_bytes()).exits(exits).json();
    obstacle(&plan[0]["nodes"], node)
}

fn explained(cluster: &Cluster, bucket: &str, node: &str) -> String {
    obstacle(&cluster.json(&["bucket", "explain", bucket, "-o", "json"])["nodes"], node)
}

fn obstacle(nodes: &serde_json::Value, node: &str) -> String {
    let found = nodes.as_array().into_iter().flatten().find(|one| one["node"] == node);
    let obstacle = found.and_then(|one| one["obstacle"].as_str());
    obstacle.unwrap_or_else(|| panic!("{node} in {nodes:#}")).to_owned()
}

pub(crate) fn gave_up(cluster: &Cluster) {
    let name = "/gave/up";
    let module = program(
        "fragile",
        r#"[ "$SHEAF_NODE" = n1 ] && exit 3; exec sleep 100000"#,
        "restart: {policy: on_failure, backoff: 100ms..100ms, give_up_after: 1 in 1m}",
    );
    let both = bucket(name, "fragile", &trace(cluster, "gave.up"), "node_list_rules: [n1, n2]");
    cluster.apply(&[module, both.clone()].concat());
    let runs_on_n2 = |what: &str| {
        cluster
            .wait_status(name, what, |status| status["state"] == "running" && affinity(status) == names([2]))
    };
    runs_on_n2("runs where it can");
    if explained(cluster, name, "n1").is_empty() {
        // It was placed there at first.
        cluster.cli(&["bucket", "move", name, "--to", "n1"]).ok();
        cluster.wait_status(name, "gave up on n1", |_| !explained(cluster, name, "n1").is_empty());
    }
    let before = runs_on_n2("runs where it can, again");
    let resume = format!("sheaf bucket resume {name}");
    for says in [explained(cluster, name, "n1"), planned(cluster, &both, 0, "n1")] {
        assert!(says.contains("its instance there gave up") && says.contains(&resume), "{says}");
    }
    let changed = both.replace("node_list_rules", "owner: me\nnode_list_rules");
    assert_eq!(planned(cluster, &changed, 10, "n1"), "", "a change lets it try again");
    cluster.cli(&["bucket", "move", name, "--to", "n1"]).exits(1).mentions(&[
        "cannot go to node n1",
        "gave up",
        &resume,
    ]);
    cluster.cli(&["bucket", "move", name]).exits(1).mentions(&["can go nowhere"]);
    cluster.cli(&["bucket", "resume", name]).ok();
    assert_eq!(explained(cluster, name, "n1"), "");
    let after = cluster.status(name);
    assert_eq!((pids(&after), epoch(&after)), (pids(&before), epoch(&before)), "it is not touched");
    cluster.delete(&[name]);
}
