//! Nodes: `sheaf.v1.NodeService`.

use sheaf_engine::status::Sight;
use sheaf_engine::{Command, DrainNode as Drain, LabelNode as Label, State, steward};
use sheaf_model::view::{AffinityRow, NodeDetail, NodeRow};
use sheaf_model::{Node, NodeId, NodeStatus};
use sheaf_wire::node::{
    Affinity, DrainNode, Drained, Going, LabelNode, Labelled, ListNodes, NodeApi, OnNode,
};
use sheaf_wire::{ApiError, Caller, Done, Page, async_trait};

use crate::Control;
use crate::filter::{page, selects};

#[async_trait]
impl NodeApi for Control {
    async fn list(&self, caller: Caller, ask: ListNodes) -> Result<Page<NodeRow>, ApiError> {
        self.caught_up(&caller).await?;
        let (voters, leader) = self.voters()?;
        let buckets = self.see_rows(|sight| sight.affinity_counts())?;
        self.see(|sight| {
            let mut nodes: Vec<&Node> = sight.state.nodes.values().collect();
            nodes.sort_by_key(|node| (node.facts.name.as_str(), node.id));
            let from = placed(&ask.page.token);
            let rows = (nodes.into_iter())
                .filter(|node| from.is_none_or(|from| (node.facts.name.as_str(), node.id) > from))
                .map(|node| {
                    let buckets = buckets.get(&node.id).copied().unwrap_or_default();
                    sight.node_row(node, voters.contains(&node.id), leader == Some(node.id), buckets)
                })
                .filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, rows, |row| format!("{}/{}", row.name, row.id))
        })
    }

    async fn get(&self, caller: Caller, ask: String) -> Result<NodeDetail, ApiError> {
        self.caught_up(&caller).await?;
        let (voters, leader) = self.voters()?;
        self.see(|sight| {
            let node = find(sight.state, &ask)?;
            Ok(sight.node_detail(node, voters.contains(&node.id), leader == Some(node.id)))
        })?
    }

    async fn affinity(&self, caller: Caller, ask: Affinity) -> Result<Page<AffinityRow>, ApiError> {
        self.caught_up(&caller).await?;
        self.see_rows(|sight| {
            let rows: Box<dyn Iterator<Item = (NodeId, AffinityRow)>> = match (&ask.bucket, &ask.node) {
                (Some(bucket), None) => Box::new(sight.affinity_of_bucket(bucket).into_iter()),
                (Some(bucket), Some(node)) => {
                    let node = find(sight.state, node)?.id;
                    let rows = sight.affinity_of_bucket(bucket).into_iter();
                    Box::new(rows.filter(move |(at, _)| *at == node))
                }
                (None, Some(node)) => {
                    let node = find(sight.state, node)?.id;
                    Box::new(sight.affinity_on(node).map(move |row| (node, row)))
                }
                (None, None) => Box::new(sight.affinity()),
            };
            let from = placed(&ask.page.token);
            let rows = rows.filter(|(node, row)| from.is_none_or(|from| (row.bucket.as_str(), *node) > from));
            let page = page(&ask.page, rows, |(node, row)| format!("{}/{}", row.bucket, node.0));
            Ok(Page { rows: page.rows.into_iter().map(|(_, row)| row).collect(), next: page.next })
        })?
    }

    async fn label(&self, caller: Caller, ask: LabelNode) -> Result<Labelled, ApiError> {
        let node = self.see_rows(|sight| find(sight.state, &ask.node).map(|node| node.id))??;
        let command = Command::LabelNode(Label { node, add: ask.add, remove: ask.remove });
        let done = self.change(&caller, ask.request, command).await?;
        let labels = self.see_rows(|sight| sight.state.nodes.get(&node).map(Node::labels))?;
        Ok(Labelled { done, labels: labels.unwrap_or_default() })
    }

    async fn drain(&self, caller: Caller, ask: DrainNode) -> Result<Drained, ApiError> {
        let drain = ask.drain;
        let (node, going, subtasks) = self.see(|sight| {
            let node = find(sight.state, &ask.node)?;
            let subtasks = sight.state.jobs.on_node(node.id);
            Ok::<_, ApiError>((node.id, going(&sight, node.id, drain)?, subtasks))
        })??;
        let command = Command::Drain(Drain { node, drain });
        let done = if ask.validate_only {
            self.rehearse(&caller, command)?
        } else {
            self.change(&caller, ask.request, command).await?
        };
        Ok(Drained { done, going, subtasks })
    }

    async fn undrain(&self, caller: Caller, ask: OnNode) -> Result<Done, ApiError> {
        let node = self.see_rows(|sight| find(sight.state, &ask.node).map(|node| node.id))??;
        self.change(&caller, ask.request, Command::Undrain(node)).await
    }

    async fn forget(&self, caller: Caller, ask: OnNode) -> Result<Done, ApiError> {
        let node = self.see_rows(|sight| find(sight.state, &ask.node).map(|node| node.id))??;
        self.change(&caller, ask.request, Command::Forget(node)).await
    }
}

/// What becomes of everything that runs on a node once it is drained.
fn going(sight: &Sight<'_>, node: NodeId, drain: sheaf_model::Drain) -> Result<Vec<Going>, ApiError> {
    let (state, mut all) = (sight.state, Vec::new());
    let Some(sessions) = sight.sessions else { return Err(ApiError::unavailable("this node does not lead")) };
    let mut places = steward::emptied(state, sessions, node);
    for binding in state.bindings.values().filter(|binding| binding.node == node) {
        let (to, why) = match (places.remove(&binding.bucket), &binding.leaving) {
            (_, Some(reason)) => (String::new(), format!("leaving already: {reason}")),
            (Some((to, why)), None) => (state.node_name(to), why),
            (None, None) => {
                let until = match drain.deadline {
                    Some(deadline) => format!("another is, or until the deadline in {deadline}"),
                    None => "another is".to_owned(),
                };
                (String::new(), format!("no other node is available: it stays until {until}"))
            }
        };
        all.push(Going { bucket: binding.bucket.to_string(), to, why });
    }
    if !drain.keep_multi_node {
        let here = state
            .instances
            .iter()
            .filter(|(_, nodes)| nodes.get(&node).is_some_and(|instance| instance.epoch.is_none()));
        let why = "multi-node: it stops here and goes on elsewhere";
        all.extend(here.map(|(bucket, _)| Going {
            bucket: bucket.to_string(),
            to: String::new(),
            why: why.to_owned(),
        }));
    }
    all.sort_by(|a, b| a.bucket.cmp(&b.bucket));
    Ok(all)
}

impl Control {
    /// Who votes and who leads.
    fn voters(&self) -> Result<(std::collections::BTreeSet<NodeId>, Option<NodeId>), ApiError> {
        let metrics = self.member()?.replica.metrics();
        let voters = metrics.voters().map(|member| member.peer.node);
        Ok((voters.collect(), metrics.leader))
    }
}

/// Where a page goes on, `NAME/NODE`: after what has this name and this node, in their order and not that of the text.
fn placed(token: &str) -> Option<(&str, NodeId)> {
    let (name, node) = token.rsplit_once('/')?;
    Some((name, NodeId(node.parse().ok()?)))
}

/// A node by name or number. What could be either is asked back, unless one of both has left; a number with `+` before it is read
/// as one, too, and is no name.
pub(crate) fn find<'a>(state: &'a State, text: &str) -> Result<&'a Node, ApiError> {
    let named = state.node_named(text);
    let numbered = text.parse::<u64>().ok().and_then(|id| state.nodes.get(&NodeId(id)));
    let found = match (named, numbered) {
        (Some(named), Some(numbered)) if named.id != numbered.id && numbered.id.to_string() == text => {
            match (named.status, numbered.status) {
                (_, NodeStatus::Left) => Some(named),
                (NodeStatus::Left, _) => Some(numbered),
                _ => return Err(ambiguous(named, numbered)),
            }
        }
        (named, numbered) => named.or(numbered),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = state.names().into_iter().map(sheaf_model::NodeName::as_str).collect();
        let hint = sheaf_model::nearest(text, &names).map(|name| format!("; did you mean {name}?"));
        ApiError::NotFound(format!("there is no node {text}{}", hint.unwrap_or_default()))
    })
}

fn ambiguous(named: &Node, numbered: &Node) -> ApiError {
    let (name, id, other) = (&named.facts.name, named.id, &numbered.facts.name);
    let problem = format!("{name} is the name of node {id}, and the number of node {other}");
    ApiError::invalid("node", problem, format!("+{id} for the one, +{name} for the other"))
}

fn values(row: &NodeRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "hostname" => vec![row.hostname.clone()],
        "status" => vec![row.status.clone()],
        "voter" => vec![row.voter.to_string()],
        // Whole labels, words or KEY=VALUE.
        "label" => row.labels.clone(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::tests::node;

    #[test]
    fn what_is_the_name_of_one_and_the_number_of_another_is_neither() {
        use NodeStatus::{Left, Lost, Ready};
        let mut state = State::default();
        for (id, name, status) in [
            (1, "import-01", Lost),
            (2, "import-01", Ready),
            (3, "1", Ready),
            (4, "4", Ready),
            (5, "gone", Left),
            (6, "5", Ready),
            (7, "8", Left),
            (8, "web", Ready),
            (9, "02", Ready),
        ] {
            state.put(&node(id, name, status));
        }
        let found = |text: &str| find(&state, text).map(|node| node.id.0).map_err(|error| error.to_string());
        for (text, id) in [
            ("import-01", 2),
            ("2", 2),
            ("+1", 1),
            ("3", 3),
            ("+3", 3),
            ("4", 4),
            ("5", 6),
            ("+5", 5),
            ("8", 8),
            ("+7", 7),
            ("02", 9),
            ("9", 9),
        ] {
            assert_eq!(found(text), Ok(id), "{text}");
        }
        let said = found("1").expect_err("it could be either");
        for part in
            ["1 is the name of node 3, and the number of node import-01", "+3 for the one, +1 for the other"]
        {
            assert!(said.contains(part), "{part:?} in {said}");
        }
        assert!(found("+17").expect_err("nobody has it").contains("there is no node +17"));
    }
}
