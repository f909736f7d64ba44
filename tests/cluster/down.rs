//! What operators do while a node is down, and about it.

use sheaf_tests::documents::{Start, Trace, bucket, program};
use sheaf_tests::{Agent, Cases, Cluster};

use crate::scene::{affinity, epoch, only_node, settled_on, trace};

/// What waits for its node.
const WAITS: &str = "on_node_lost: wait";

/// Its node dies once for all of them, since it takes a lease until it is lost.
pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    let mut down = None;
    cases.run("A9 A10 the machine of a node dies that runs something", || down = Some(Down::begin(cluster)));
    let down = || down.as_ref().expect("a node is down");
    cases.run("A9 a bucket is suspended while its node is down", || down().suspended());
    cases.run("A10 a bucket waits for its node", || down().waits());
    cases.run("leadership is not handed to a voter that is not there", || down().is_not_to_lead());
    cases.run("A9 A10 the node is back, and runs what it should", || down().is_back());
}

/// One that is there at first, and does not come back.
pub(crate) fn forgotten(cases: &mut Cases, cluster: &Cluster) {
    cases.run(
        "A10 only a node that is lost is forgotten; what waits for it moves if an operator says so",
        || {
            forget(cluster);
        },
    );
}

struct Down<'a> {
    cluster: &'a Cluster,
    victim: &'a Agent,
    /// Its name.
    node: String,
    /// Of `/a9`.
    trace: Trace,
    starts: Vec<Start>,
    /// Of the bindings of `/a9` and `/a10`.
    epochs: [u64; 2],
}

impl<'a> Down<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        let victim = cluster.follower();
        let (node, [trace, waits]) = (victim.name(), ["a9", "a10"].map(|name| trace(cluster, name)));
        let settled = [
            settled_on(cluster, "/a9", "steady", &trace, "", &node),
            settled_on(cluster, "/a10", "steady", &waits, WAITS, &node),
        ];
        let starts = trace.starts();
        assert_eq!(starts.len(), 1, "{starts:?}");
        victim.kill_machine();
        Self { cluster, victim, node, trace, starts, epochs: settled.each_ref().map(epoch) }
    }

    /// It may still run there: nobody can know, until its lease is over.
    fn suspended(&self) {
        let (cluster, node) = (self.cluster, &self.node);
        cluster.cli(&["bucket", "suspend", "/a9"]).ok();
        let stopping = cluster.status("/a9");
        assert_eq!((only_node(&stopping), stopping["state"].as_str()), (node.clone(), Some("stopping")));
        let off = cluster.wait_state("/a9", "suspended");
        assert!(affinity(&off).is_empty(), "{off:#}");
        cluster.wait_node(node, "lost");
        cluster.cli(&["bucket", "move", "/a9", "--to", node]).exits(1);
    }

    fn waits(&self) {
        let (cluster, node) = (self.cluster, &self.node);
        cluster.wait_node(node, "lost");
        let meanwhile = cluster.wait_state("/a10", "waiting_for_node");
        assert_eq!(
            (only_node(&meanwhile), epoch(&meanwhile)),
            (node.clone(), self.epochs[1]),
            "it is not moved"
        );
        assert_eq!(meanwhile["message"], format!("node {node} is lost; on_node_lost: wait"), "{meanwhile:#}");
        let other = trace(cluster, "a10.other");
        cluster.apply_and_wait(&bucket("/other", "steady", &other, ""));
        let there = cluster.status("/other");
        let moved = cluster.cli(&["bucket", "move", "/other", "--to", node]).exits(1);
        moved.mentions(&[&format!("cannot go to node {node}"), "is lost"]);
        assert_eq!(epoch(&cluster.status("/other")), epoch(&there), "it is not touched");
        cluster.delete(&["/other"]);
    }

    /// It would take no leadership, and until another one is elected no change would be taken.
    fn is_not_to_lead(&self) {
        let (cluster, name) = (self.cluster, &self.node);
        let leader = cluster.leader().name();
        cluster.wait_node(name, "lost");
        let refused = cluster.cli(&["cluster", "transfer", "--to", name]).exits(1);
        refused.mentions(&[name, "is lost", "leadership stays where it is"]);
        assert_eq!(cluster.leader().name(), leader);
        // By itself another one is chosen, which is there.
        cluster.cli(&["cluster", "transfer"]).ok();
        let heir = cluster.leader().name();
        assert!(heir != leader && heir != *name, "{heir}");
    }

    fn is_back(&self) {
        let Self { cluster, victim, node, trace, starts, epochs: [suspended, waiting] } = self;
        victim.start();
        cluster.wait_back(victim);
        let back = cluster.wait_state("/a10", "running");
        assert_eq!((only_node(&back), epoch(&back)), (node.clone(), *waiting), "the same binding");
        assert_eq!(trace.starts(), *starts, "what is suspended was not started again");
        cluster.cli(&["bucket", "resume", "/a9"]).ok();
        let again = cluster.wait_state("/a9", "running");
        assert!(epoch(&again) > *suspended);
        cluster.delete(&["/a9", "/a10"]);
    }
}

fn forget(cluster: &Cluster) {
    let victim = cluster.follower();
    let node = victim.name();
    let forget = || cluster.cli(&["node", "forget", "--yes", &node]);
    forget().exits(1).mentions(&[&format!("node {node} is ready"), "stop its agent first"]);
    assert_eq!(cluster.node(&node)["status"], "ready", "nothing has changed");
    let all = trace(cluster, "forget.all");
    let words =
        "life_cycle: {on_decommission: {command: [/bin/sh, -c, 'echo $SHEAF_NODE parts >> \"$TRACE\"']}}";
    let parting = program("parting", "exec sleep 100000", words);
    let told = bucket("/forget/told", "parting", &trace(cluster, "forget.told"), "multi_node: true");
    cluster
        .apply_and_wait(&[parting, told, bucket("/forget/all", "steady", &all, "multi_node: true")].concat());
    let before = settled_on(cluster, "/a10", "steady", &trace(cluster, "a10"), WAITS, &node);
    victim.kill_machine();
    cluster.wait_state("/a10", "waiting_for_node");
    cluster.cli(&["bucket", "move", "/a10", "--wait"]).ok();
    let moved = cluster.status("/a10");
    assert!(
        only_node(&moved) != node && epoch(&moved) > epoch(&before),
        "an operator need not wait: {moved:#}"
    );
    cluster.wait_node(&node, "lost");
    // Its name may run a single-node bucket of that name only once somebody vouches for it.
    cluster.cli(&["bucket", "delete", "--yes", "/forget/all", "/forget/told"]).ok();
    forget().ok();
    assert_eq!(cluster.node(&node)["status"], "left");
    cluster.apply_and_wait(&bucket("/forget/all", "steady", &all, ""));
    cluster.delete(&["/forget/all", "/a10"]);
}
