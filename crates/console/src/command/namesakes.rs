//! Nodes that share a name, as a lost one and the next may: people are told their numbers, too.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::view::{AffinityRow, InstanceView, NodeExplanation};

/// A row about something on a node.
pub(crate) trait OnNode: Clone {
    /// The node's name, and its number; 0: an agent of a former release does not say it.
    fn node(&self) -> (&str, u64);

    /// The same, with another word for the node.
    fn calling(self, node: String) -> Self;
}

macro_rules! on_node {
    ($($row:ty),+) => {$(
        impl OnNode for $row {
            fn node(&self) -> (&str, u64) {
                (&self.node, self.node_id)
            }

            fn calling(self, node: String) -> Self {
                Self { node, ..self }
            }
        }
    )+};
}

on_node!(AffinityRow, InstanceView, NodeExplanation);

/// What the node of each row is called: by its name, and where another one of them has that name by its number, too.
pub(crate) fn names<R: OnNode>(rows: &[R]) -> Vec<String> {
    let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (name, number) in rows.iter().map(R::node) {
        numbers.entry(name).or_default().insert(number);
    }
    let called = |(name, number): (&str, u64)| match numbers.get(name) {
        Some(several) if several.len() > 1 && number > 0 => format!("{name} (node {number})"),
        _ => name.to_owned(),
    };
    rows.iter().map(|row| called(row.node())).collect()
}

/// What one node is called beside these rows.
pub(crate) fn called<R: OnNode>(node: (&str, u64), rows: &[R]) -> String {
    let found = rows.iter().zip(names(rows)).find(|(row, _)| row.node() == node);
    found.map_or_else(|| node.0.to_owned(), |(_, name)| name)
}

/// The rows as they are shown to people.
pub(crate) fn apart<R: OnNode>(rows: &[R]) -> Vec<R> {
    rows.iter().cloned().zip(names(rows)).map(|(row, name)| row.calling(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bucket::example;

    #[test]
    fn only_nodes_that_share_a_name_have_numbers() {
        let instance = |node: &str, node_id| InstanceView {
            node: node.to_owned(),
            node_id,
            ..example::status().instances.remove(0)
        };
        let rows = [instance("a", 3), instance("b", 4), instance("a", 9), instance("b", 4)];
        assert_eq!(names(&rows), ["a (node 3)", "b", "a (node 9)", "b"]);
        assert_eq!(apart(&rows)[2].node, "a (node 9)");
        assert_eq!(called(("a", 3), &rows), "a (node 3)");
        assert_eq!(called(("c", 5), &rows), "c");
        let former = [instance("a", 0), instance("a", 0), instance("b", 4)];
        assert_eq!(names(&former), ["a", "a", "b"], "an agent of a former release says no numbers");
    }
}
