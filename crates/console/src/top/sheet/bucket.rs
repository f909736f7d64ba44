//! Buckets: the list, and one with its instances, gates and history.

use sheaf_model::view::{BucketRow, BucketStatus, Explanation, NodeExplanation};
use sheaf_model::{BucketName, Gate, Timestamp};
use sheaf_wire::bucket::ReleaseRow;

use super::super::ask::Rows;
use super::super::screen::Place;
use super::{Body, Grid, Sheet, Target, ago};
use crate::command::bucket::{facts, word};
use crate::command::namesakes::{self, OnNode};
use crate::table::Listed;

/// Those there are.
pub(super) fn list(part: &Rows<BucketRow>, now: Timestamp) -> Sheet {
    let grid = Grid::part(part, now, |row| (target(&row.name), Vec::new()));
    let empty = "no buckets yet; register one: sheaf apply -f FILE".to_owned();
    Sheet { body: Body::Table(grid), empty, ..Sheet::default() }
}

/// Where the name of a bucket leads to.
pub(super) fn target(name: &str) -> Option<Target> {
    BucketName::new(name).ok().map(|name| Target::Place(Place::Bucket(name)))
}

/// What it is, and what runs of it.
pub(super) fn instances(status: &BucketStatus, now: Timestamp) -> Sheet {
    let mut head = super::facts(&facts(status, now));
    head.extend(status.emergency.as_ref().map(|why| format!("its module says: {why}")));
    head.extend(status.rollout.as_ref().and_then(|rollout| rollout.stopped.clone()));
    head.push(String::new());
    let grid = on_nodes(&status.instances, now, |instance| vec![instance.message.clone()]);
    let empty = "nothing of it runs; the page gates says why not".to_owned();
    Sheet { head, body: Body::Table(grid), empty, ..Sheet::default() }
}

/// Every node, all three gates, and below them the reasons of the chosen one.
pub(super) fn gates(explanation: &Explanation, now: Timestamp) -> Sheet {
    let mut head = Vec::new();
    if let Some(decision) = &explanation.decision {
        let since = ago(now, Some(&decision.at));
        let chosen = namesakes::called((&decision.chosen, decision.chosen_id), &explanation.nodes);
        head.push(format!("chosen: {chosen}, {since}, under epoch {}: {}", decision.epoch, decision.why));
        head.extend(decision.runners_up.iter().take(3).map(|other| format!("not chosen: {other}")));
        head.push(String::new());
    }
    let body = Body::Table(nodes(&explanation.nodes, now));
    Sheet { head, body, empty: "no node has answered".to_owned(), ..Sheet::default() }
}

/// Nodes by gates.
pub(super) fn nodes(nodes: &[NodeExplanation], now: Timestamp) -> Grid {
    on_nodes(nodes, now, reasons)
}

/// Rows about something on nodes, each of which leads to its own, whatever other one has its name.
fn on_nodes<R: OnNode + Listed>(rows: &[R], now: Timestamp, say: impl Fn(&R) -> Vec<String>) -> Grid {
    let mut grid = Grid::of(&namesakes::apart(rows), false, now, |row| (None, say(row)));
    for (shown, row) in grid.rows.iter_mut().zip(rows) {
        let (name, number) = row.node();
        shown.target = Some(Target::Place(Place::node(name, number)));
        if number > 0 {
            shown.key = number.to_string();
        }
    }
    grid
}

fn reasons(node: &NodeExplanation) -> Vec<String> {
    let said = Gate::ALL.into_iter().filter_map(|gate| {
        let view = node.gates.iter().find(|view| view.gate == gate.as_str())?;
        let reason = if view.reason.is_empty() { "-" } else { &view.reason };
        Some(format!("{:<20}  {:<7}  {reason}", view.gate, word(view.pass)))
    });
    let obstacle = (!node.obstacle.is_empty()).then(|| format!("whatever they say: {}", node.obstacle));
    said.chain(obstacle).collect()
}

/// Its revisions, newest first, and what each changed.
pub(super) fn history(releases: &[ReleaseRow], now: Timestamp) -> Sheet {
    let grid = Grid::of(releases, false, now, |release| {
        let changed = match release.changed.as_slice() {
            [] => "what it changed is not known".to_owned(),
            changed => format!("changed {}", changed.join(", ")),
        };
        (None, vec![format!("{} by {}", release.at, release.actor), changed])
    });
    Sheet { body: Body::Table(grid), empty: "no revision is known".to_owned(), ..Sheet::default() }
}
