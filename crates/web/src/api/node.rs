//! Nodes, and the affinity matrix.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use sheaf_model::{Drain, Span};
use sheaf_wire::node::{Affinity, DrainNode, LabelNode, ListNodes, OnNode};

use super::done;
use crate::answer::{self, Answer, Failed};
use crate::ask::{Ask, Change, read};
use crate::matrix::{self, Window};
use crate::serve::Shared;

/// Most buckets and nodes of one answer; and how many if nobody says.
const MATRIX_MAX: u32 = 200;
const MATRIX: u32 = 50;

/// `node list`
pub(super) async fn list(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_nodes(ListNodes { page, filter }).await?))
}

/// `node status NAME`; `brief` leaves out what it runs, of which `node/affinity` has pages.
pub(super) async fn status(ask: Ask) -> Answer {
    let ask = ask.only(&["name", "brief"])?;
    let mut detail = ask.client.node(ask.needed("name")?).await?;
    if ask.flag("brief")? {
        detail.affinity.clear();
    }
    Ok(answer::view(&detail))
}

/// `node affinity [NODE]`
pub(super) async fn affinity(ask: Ask) -> Answer {
    let ask = ask.only(&["node", "limit", "after"])?;
    let of = Affinity { node: ask.text("node").map(str::to_owned), bucket: None, page: ask.page()? };
    Ok(answer::page(&ask.client.affinity(of).await?))
}

/// Nodes across, buckets down: what each is to the other, and why.
pub(super) async fn matrix(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "nodes_limit", "nodes_after", "filter"])?;
    let part = |limit: &str, after: &str| -> Result<(u32, String), Failed> {
        let size = ask.read(limit)?.unwrap_or(MATRIX);
        if !(1..=MATRIX_MAX).contains(&size) {
            return Err(Failed::invalid(limit, size.to_string(), format!("from 1 to {MATRIX_MAX}")));
        }
        Ok((size, ask.text(after).unwrap_or_default().to_owned()))
    };
    let window = Window { buckets: part("limit", "after")?, nodes: part("nodes_limit", "nodes_after")? };
    let (filter, question) = (ask.filter()?, ask.question("node/matrix"));
    let made = shared.fresh.look(question, matrix::make(ask.client, window, filter)).await?;
    Ok(answer::made(made))
}

/// A node to be emptied.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainAsked {
    node: String,
    #[serde(default)]
    keep_multi_node: bool,
    /// A duration, like `5m`.
    deadline: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// `node drain`; with `dry_run` only what would move where.
pub(super) async fn drain(change: Change<DrainAsked>) -> Answer {
    let Change { client, ask, request } = change;
    let deadline = ask.deadline.as_deref().map(|text| read::<Span>("deadline", text)).transpose()?;
    let drain = Drain { deadline, keep_multi_node: ask.keep_multi_node };
    let request = request.filter(|_| !ask.dry_run);
    let drained =
        client.drain_node(DrainNode { node: ask.node.clone(), drain, validate_only: ask.dry_run, request });
    let drained = drained.await?;
    Ok(answer::value(&json!({
        "node": ask.node,
        "dry_run": ask.dry_run,
        "revision": drained.done.revision.0,
        "warnings": drained.done.warnings,
        "going": drained.going,
        "subtasks": drained.subtasks,
    })))
}

/// A node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    node: String,
}

/// `node undrain`
pub(super) async fn undrain(change: Change<Named>) -> Answer {
    let Change { client, ask, request } = change;
    let undrained = client.undrain_node(OnNode { node: ask.node.clone(), request }).await?;
    done("Node", &ask.node, "undrained", &undrained)
}

/// `node forget`
pub(super) async fn forget(change: Change<Named>) -> Answer {
    let Change { client, ask, request } = change;
    let forgotten = client.forget_node(OnNode { node: ask.node.clone(), request }).await?;
    done("Node", &ask.node, "forgotten", &forgotten)
}

/// Labels to give and to take away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Labels {
    node: String,
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

/// `node label`
pub(super) async fn label(change: Change<Labels>) -> Answer {
    let Change { client, ask: Labels { node, add, remove }, request } = change;
    let labelled = client.label_node(LabelNode { node: node.clone(), add, remove, request }).await?;
    let revision = labelled.done.revision.0;
    Ok(answer::value(&json!({ "node": node, "labels": labelled.labels, "revision": revision })))
}
