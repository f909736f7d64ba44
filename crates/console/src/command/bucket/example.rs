//! Answers as a cluster gives them, for tests.

use std::collections::BTreeMap;

use sheaf_model::view::{
    BucketRow, BucketState, BucketStatus, DecisionView, Explanation, GateView, InstanceView, NodeExplanation,
};

/// A multi-node bucket on two nodes.
pub(crate) fn status() -> BucketStatus {
    let instance = |node: &str, pid| InstanceView {
        node: node.to_owned(),
        phase: "running".to_owned(),
        epoch: None,
        pid: Some(pid),
        started_at: Some("2026-01-10T11:55:00.000Z".to_owned()),
        restarts: 0,
        message: String::new(),
        revision: 7,
        node_id: 0,
    };
    BucketStatus {
        name: "/logs/web".to_owned(),
        revision: 7,
        kind: "harvest".to_owned(),
        module: "flume@1.11.0".to_owned(),
        multi_node: true,
        suspended: false,
        node_list_rules: vec!["+import-*".to_owned(), "-import-03".to_owned()],
        node_affinity: vec!["import-01".to_owned(), "import-02".to_owned()],
        affinity_epoch: None,
        affinity_since: None,
        state: BucketState::Running,
        desired: 2,
        running: 2,
        instances: vec![instance("import-01", 4711), instance("import-02", 812)],
        owner: Some("data-eng".to_owned()),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        message: String::new(),
        rollout: None,
        quarantined_until: None,
        emergency: None,
        objects: 0,
        object_bytes: 0,
        purge: None,
    }
}

/// Two buckets in a list.
pub(crate) fn rows() -> Vec<BucketRow> {
    let single = BucketStatus {
        name: "/crawl".to_owned(),
        multi_node: false,
        state: BucketState::Unplaced,
        node_affinity: Vec::new(),
        desired: 1,
        running: 0,
        owner: None,
        labels: BTreeMap::new(),
        ..status()
    };
    let bound = BucketStatus {
        name: "/graph".to_owned(),
        multi_node: false,
        node_affinity: vec!["web-01".to_owned()],
        affinity_epoch: Some(42),
        affinity_since: Some("2026-01-10T09:00:00.000Z".to_owned()),
        desired: 1,
        running: 1,
        ..status()
    };
    vec![super::watch::row(single), super::watch::row(bound), super::watch::row(status())]
}

/// Why it runs on one of twenty nodes.
pub(crate) fn explanation() -> Explanation {
    let gate =
        |gate: &str, pass, reason: &str| GateView { gate: gate.to_owned(), pass, reason: reason.to_owned() };
    let refused = "module \"flume\" is not in this node's [modules] allow list (webcrawl)";
    let mut nodes = vec![
        NodeExplanation {
            node: "import-01".to_owned(),
            status: "ready".to_owned(),
            eligible: true,
            running: true,
            gates: vec![
                gate("local_config", Some(true), ""),
                gate("node_list_rules", Some(true), "hostname \"import-01\" matches \"+import-*\""),
                gate("can_run_on_this_node", Some(true), ""),
            ],
            obstacle: String::new(),
            node_id: 0,
        },
        NodeExplanation {
            node: "import-03".to_owned(),
            status: "ready".to_owned(),
            eligible: false,
            running: false,
            gates: vec![
                gate("local_config", Some(true), ""),
                gate("node_list_rules", Some(false), "excluded by rule \"-import-03\""),
                gate("can_run_on_this_node", Some(false), "/opt/flume/bin/flume-ng does not exist"),
            ],
            obstacle: String::new(),
            node_id: 0,
        },
    ];
    nodes.extend((1..=16).map(|n| NodeExplanation {
        node: format!("web-{n:02}"),
        status: if n == 16 { "suspect" } else { "ready" }.to_owned(),
        eligible: false,
        running: false,
        gates: vec![
            gate("local_config", Some(false), refused),
            gate(
                "node_list_rules",
                Some(false),
                &format!("hostname \"web-{n:02}\" matches no include rule of [\"+import-*\"]"),
            ),
            gate("can_run_on_this_node", None, "not asked: refused by local_config"),
        ],
        obstacle: String::new(),
        node_id: 0,
    }));
    Explanation {
        name: "/logs/web".to_owned(),
        state: BucketState::Running,
        nodes,
        decision: Some(DecisionView {
            chosen: "import-01".to_owned(),
            epoch: 42,
            at: "2026-01-10T09:00:00.000Z".to_owned(),
            why: "least_loaded: 0 single-node instances, load 0.10".to_owned(),
            runners_up: vec!["import-02: 3 single-node instances, load 1.20".to_owned()],
            chosen_id: 0,
        }),
        message: String::new(),
    }
}
