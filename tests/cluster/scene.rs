//! What many cases share: the modules they use, and what they read out of answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sheaf_tests::Cluster;
use sheaf_tests::documents::{Trace, bucket, module, program};

/// Modules whose programs leave a trace and stay, unless their name says otherwise.
pub(crate) fn modules() -> String {
    [
        module("steady", ""),
        module("denied", ""),
        module("refusing", "can_run_on_this_node: [{file: /no/such/program}]"),
        module("picky", "can_run_on_this_node: [{label: three}]"),
        module("single", "supports_multi_node: false"),
        program(
            "talker",
            r#"echo "hello from $SHEAF_NODE"; echo "$SHEAF_NODE complains" >&2; exec sleep 100000"#,
            "",
        ),
    ]
    .concat()
}

/// Registers a bucket that runs on this node now and may run on any; its status.
pub(crate) fn settled_on(
    cluster: &Cluster,
    name: &str,
    module: &str,
    trace: &Trace,
    more: &str,
    node: &str,
) -> Value {
    let only = format!("{more}\nnode_list_rules: [{node}]");
    cluster.apply_and_wait(&bucket(name, module, trace, &only));
    let bound = epoch(&cluster.status(name));
    // Nothing is started for that: there is nothing to wait for.
    cluster.apply(&bucket(name, module, trace, more));
    let status = cluster.wait_state(name, "running");
    assert_eq!((only_node(&status).as_str(), epoch(&status)), (node, bound), "it stays where it is");
    status
}

/// A trace of its own for a case.
pub(crate) fn trace(cluster: &Cluster, name: &str) -> Trace {
    Trace::new(cluster.machine().path(&format!("trace.{name}")))
}

/// `["n1", "n2"]` and so on.
pub(crate) fn names(numbers: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
    numbers.into_iter().map(|number| format!("n{number}")).collect()
}

/// Hostnames that a status says the bucket is bound to, or runs on.
pub(crate) fn affinity(status: &Value) -> BTreeSet<String> {
    texts(&status["node_affinity"])
}

/// The texts of a list.
pub(crate) fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The one node that a status says the bucket is bound to.
pub(crate) fn only_node(status: &Value) -> String {
    let affinity = affinity(status);
    assert_eq!(affinity.len(), 1, "one node: {status:#}");
    affinity.into_iter().next().expect("there is one")
}

/// The epoch of a binding.
pub(crate) fn epoch(status: &Value) -> u64 {
    status["affinity_epoch"].as_u64().unwrap_or_else(|| panic!("an epoch in {status:#}"))
}

/// The revision of a status or a row.
pub(crate) fn revision(status: &Value) -> u64 {
    status["revision"].as_u64().unwrap_or_else(|| panic!("a revision in {status:#}"))
}

/// Process ids of running instances by node.
pub(crate) fn pids(status: &Value) -> BTreeMap<String, u64> {
    let instances = status["instances"].as_array().into_iter().flatten();
    let running = instances.filter(|instance| instance["phase"] == "running");
    running.filter_map(|one| Some((one["node"].as_str()?.to_owned(), one["pid"].as_u64()?))).collect()
}

/// The three gates of a node in an explanation: whether it passes, and the reason.
pub(crate) fn gates(explanation: &Value, node: &str) -> [(Option<bool>, String); 3] {
    let nodes = explanation["nodes"].as_array().into_iter().flatten();
    let mut found = nodes.filter(|row| row["node"] == node);
    let row = found.next().unwrap_or_else(|| panic!("{node} in {explanation:#}"));
    let names = ["local_config", "node_list_rules", "can_run_on_this_node"];
    names.map(|name| {
        let gate = row["gates"].as_array().into_iter().flatten().find(|gate| gate["gate"] == name);
        let gate = gate.unwrap_or_else(|| panic!("gate {name} of {node} in {explanation:#}"));
        (gate["pass"].as_bool(), gate["reason"].as_str().unwrap_or_default().to_owned())
    })
}

/// What `bucket explain` says.
pub(crate) fn explain(cluster: &Cluster, bucket: &str) -> Value {
    cluster.json(&["bucket", "explain", bucket, "-o", "json"])
}

/// Kinds of the events about a subject, oldest first.
pub(crate) fn event_kinds(cluster: &Cluster, subject: &str) -> Vec<String> {
    let filter = format!("subject={subject}");
    let events = cluster.cli(&["events", "--all", "--where", &filter, "-o", "json"]).ok().json_lines();
    events.iter().filter_map(|event| event["kind"].as_str()).map(str::to_owned).collect()
}
