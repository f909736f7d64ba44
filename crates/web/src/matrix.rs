//! The affinity matrix: nodes across, buckets down, in each cell what the one is to the other and why.

use std::collections::HashMap;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde_json::{Value, json};
use sheaf_model::BucketName;
use sheaf_model::view::{BucketRow, BucketStatus, Explanation, NodeExplanation, NodeRow};
use sheaf_wire::bucket::ListBuckets;
use sheaf_wire::node::ListNodes;
use sheaf_wire::{ApiError, Client, Filter, PageOf};

/// Buckets asked about at a time.
const AT_ONCE: usize = 8;

/// Which part of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Buckets down.
    pub(crate) buckets: (u32, String),
    /// Nodes across.
    pub(crate) nodes: (u32, String),
}

/// What a node is to a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Cell {
    /// The phase of an instance; else `available`, `refused` or `unknown`.
    pub(crate) mark: String,
    pub(crate) epoch: Option<u64>,
    pub(crate) why: String,
}

/// The part asked for.
pub(crate) async fn make(client: Client, window: Window, filter: Filter) -> Result<Value, ApiError> {
    let client = &client;
    let page = |(size, token): &(u32, String)| PageOf { size: *size, token: token.clone() };
    let nodes = client.list_nodes(ListNodes { page: page(&window.nodes), filter: Filter::default() });
    let buckets = client.list_buckets(ListBuckets { page: page(&window.buckets), filter });
    let (nodes, buckets) = futures::try_join!(nodes, buckets)?;
    let columns = &nodes.rows;
    let rows = stream::iter(buckets.rows).map(|row| async move { line(client, row, columns).await });
    let rows: Vec<Option<Value>> = rows.buffered(AT_ONCE).try_collect().await?;
    let rows: Vec<Value> = rows.into_iter().flatten().collect();
    let heads = nodes.rows.iter().map(|node| {
        json!({ "name": node.name, "id": node.id, "status": node.status, "leader": node.leader, "voter": node.voter })
    });
    Ok(json!({
        "nodes": heads.collect::<Vec<_>>(),
        "buckets": rows,
        "next": buckets.next,
        "nodes_next": nodes.next,
    }))
}

/// One bucket's row; none if it was deleted meanwhile.
async fn line(client: &Client, row: BucketRow, nodes: &[NodeRow]) -> Result<Option<Value>, ApiError> {
    let Ok(name) = BucketName::new(&row.name) else { return Ok(None) };
    let both = futures::try_join!(client.explain_bucket(&name), client.bucket(&name));
    let (explanation, got) = match both {
        Ok(both) => both,
        Err(ApiError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let cells = cells(nodes, &explanation, &got.status);
    Ok(Some(json!({
        "name": row.name,
        "state": row.state,
        "multi_node": row.multi_node,
        "module": row.module,
        "running": row.running,
        "desired": row.desired,
        "cells": cells,
    })))
}

/// A cell for each node, in their order.
fn cells(nodes: &[NodeRow], explanation: &Explanation, status: &BucketStatus) -> Vec<Cell> {
    let explained: HashMap<(u64, &str), &NodeExplanation> =
        explanation.nodes.iter().map(|node| (key(node.node_id, &node.node), node)).collect();
    let cell = |node: &NodeRow| {
        let keys = [key(node.id, &node.name), key(0, &node.name)];
        let explained = keys.iter().find_map(|key| explained.get(key)).copied();
        let decided = explanation.decision.as_ref();
        let decided = decided.filter(|made| keys.contains(&key(made.chosen_id, &made.chosen)));
        let Some(instance) = status.instances.iter().find(|one| keys.contains(&key(one.node_id, &one.node)))
        else {
            return absent(explained);
        };
        let why = match (instance.message.as_str(), decided) {
            ("", Some(decision)) => decision.why.clone(),
            ("", None) if status.multi_node => "runs on every available node".to_owned(),
            (message, _) => message.to_owned(),
        };
        Cell { mark: instance.phase.clone(), epoch: instance.epoch, why }
    };
    nodes.iter().map(cell).collect()
}

/// What a node is known by: its number, as a lost node and the next may share a name. An agent of a former release says no
/// numbers, but 0.
const fn key(number: u64, name: &str) -> (u64, &str) {
    if number == 0 { (0, name) } else { (number, "") }
}

/// A cell without an instance: whether there could be one.
fn absent(explained: Option<&NodeExplanation>) -> Cell {
    let cell = |mark: &str, why: String| Cell { mark: mark.to_owned(), epoch: None, why };
    let Some(explained) = explained else { return cell("unknown", "nothing is known of it yet".to_owned()) };
    if !explained.obstacle.is_empty() {
        return cell("refused", explained.obstacle.clone());
    }
    if explained.eligible {
        return cell("available", "all gates let it through; it runs elsewhere, or is not to run".to_owned());
    }
    let refused = explained.gates.iter().find(|gate| gate.pass == Some(false));
    if let Some(gate) = refused {
        return cell("refused", format!("{}: {}", gate.gate, gate.reason));
    }
    let unasked = explained.gates.iter().find(|gate| gate.pass.is_none());
    let why = unasked.map_or_else(
        || format!("the node is {}", explained.status),
        |gate| format!("{}: {}", gate.gate, gate.reason),
    );
    cell("unknown", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(eligible: bool, gates: &[(Option<bool>, &str)]) -> NodeExplanation {
        let names = ["local_config", "node_list_rules", "can_run_on_this_node"];
        let gates: Vec<Value> = names
            .iter()
            .zip(gates)
            .map(|(gate, (pass, reason))| json!({ "gate": gate, "pass": pass, "reason": reason }))
            .collect();
        let value = json!({
            "node": "n", "status": "ready", "eligible": eligible, "running": false, "gates": gates, "obstacle": "",
            "node_id": 9
        });
        serde_json::from_value(value).expect("an explanation")
    }

    #[test]
    fn a_cell_names_the_first_gate_that_refuses() {
        let refusing = explained(false, &[(Some(true), "a"), (Some(false), "no label"), (None, "not asked")]);
        let cell = absent(Some(&refusing));
        assert_eq!((cell.mark.as_str(), cell.why.as_str()), ("refused", "node_list_rules: no label"));
        let silent = explained(false, &[(Some(true), "a"), (None, "no answer yet"), (None, "")]);
        assert_eq!(absent(Some(&silent)).why, "node_list_rules: no answer yet");
        assert_eq!(absent(Some(&explained(true, &[]))).mark, "available");
        assert_eq!(absent(None).mark, "unknown");
        let gave_up = NodeExplanation { obstacle: "it gave up there".to_owned(), ..explained(true, &[]) };
        let cell = absent(Some(&gave_up));
        assert_eq!((cell.mark.as_str(), cell.why.as_str()), ("refused", "it gave up there"));
    }

    fn row(id: u64, status: &str) -> NodeRow {
        let value = json!({
            "name": "n", "id": id, "hostname": "h", "address": "a:1", "status": status, "voter": false, "leader": false,
            "labels": [], "allowed_modules": [], "version": "0", "cpu": 1, "memory_used": 0, "memory_total": 0,
            "load": 0.0, "buckets": 0, "since": ""
        });
        serde_json::from_value(value).expect("a node")
    }

    #[test]
    fn nodes_that_share_a_name_have_cells_of_their_own() {
        let status = |numbers: &[u64]| -> BucketStatus {
            let one = |number: &u64| {
                json!({
                    "node": "n", "phase": "running", "epoch": 3, "pid": 1, "started_at": null, "restarts": 0,
                    "message": "as last heard: running", "revision": 1, "node_id": number
                })
            };
            let value = json!({
                "name": "/a", "revision": 1, "type": "analytic", "module": "m@1", "multi_node": true, "suspended": false,
                "node_list_rules": [], "node_affinity": [], "affinity_epoch": null, "affinity_since": null,
                "state": "running", "desired": 1, "running": 1, "instances": numbers.iter().map(one).collect::<Vec<_>>(),
                "owner": null, "labels": {}, "message": "", "quarantined_until": null, "emergency": null, "objects": 0,
                "object_bytes": 0
            });
            serde_json::from_value(value).expect("a status")
        };
        let of = |nodes| -> Explanation {
            let value =
                json!({ "name": "/a", "state": "running", "nodes": [], "decision": null, "message": "" });
            Explanation { nodes, ..serde_json::from_value(value).expect("an explanation") }
        };
        let lost = NodeExplanation { node_id: 4, status: "lost".to_owned(), ..explained(false, &[]) };
        let next = explained(true, &[]);
        let marks = |explanation: &Explanation, status: &BucketStatus| {
            let cells = cells(&[row(4, "lost"), row(9, "ready")], explanation, status);
            cells.into_iter().map(|cell| cell.mark).collect::<Vec<_>>()
        };
        let both = of(vec![lost, next]);
        assert_eq!(marks(&both, &status(&[4])), ["running", "available"]);
        assert_eq!(marks(&both, &status(&[9])), ["unknown", "running"]);
        // Of a former release, which says no numbers, the name must do.
        let unnumbered = of(vec![NodeExplanation { node_id: 0, ..explained(true, &[]) }]);
        assert_eq!(marks(&unnumbered, &status(&[0])), ["running", "running"]);
        assert_eq!(marks(&unnumbered, &status(&[])), ["available", "available"]);
    }
}
