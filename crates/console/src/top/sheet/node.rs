//! Nodes: the list, and one with what runs there and its facts.

use sheaf_model::Timestamp;
use sheaf_model::view::{NodeDetail, NodeRow};

use super::super::ask::Rows;
use super::super::screen::Place;
use super::{Body, Grid, Sheet, Target, bucket};
use crate::command::node::said;

/// Those there are.
pub(super) fn list(part: &Rows<NodeRow>, now: Timestamp) -> Sheet {
    let mut grid =
        Grid::part(part, now, |row| (Some(Target::Place(Place::node(&row.name, row.id))), Vec::new()));
    // A name may be that of a lost node, too.
    for (row, node) in grid.rows.iter_mut().zip(&part.rows) {
        row.key = node.id.to_string();
    }
    Sheet { body: Body::Table(grid), empty: "no nodes".to_owned(), ..Sheet::default() }
}

/// What runs here, since when and why.
pub(super) fn runs(detail: &NodeDetail, now: Timestamp) -> Sheet {
    let grid =
        Grid::of(&detail.affinity, false, now, |row| (bucket::target(&row.bucket), vec![row.why.clone()]));
    let empty = "nothing runs here; the page gates of a bucket says why not".to_owned();
    Sheet { body: Body::Table(grid), empty, ..Sheet::default() }
}

/// What the node says of itself.
pub(super) fn facts(detail: &NodeDetail) -> Sheet {
    let lines = super::facts(&said(&detail.row, &detail.facts));
    Sheet { body: Body::Text(lines), ..Sheet::default() }
}
