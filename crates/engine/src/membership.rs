//! Who votes: the next change that the cluster needs, one at a time.
//!
//! Nobody's vote is taken away while nobody can take it over, unless there are more votes than the settings want: a voter
//! that is lost still counts once it is back. Votes are given, taken, and taken over, only when it is calm: who is missing
//! just after an election may be on its way, and each change needs a majority of the former voters and of the next ones.
//! A cluster that forms does not wait: see [`Membership::is_first`].

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{Node, NodeId, NodeStatus};

use crate::state::State;

/// What is to be done about the members of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// These become voters once they have caught up, in the same step in which those cease to be. With the heir first there would be
    /// four voters of which one is dead, and should another die before that one is removed, the two that are left decide nothing;
    /// with the dead one first there would be two, of which none may die. The step itself takes a majority of the old ones and one
    /// of the new ones, and nothing lies between. Who ceases stays a member without a vote: it is welcome when it comes back.
    Voters {
        /// Nodes that are ready and do not vote yet.
        add: Vec<NodeId>,
        /// Voters; never the leader.
        remove: Vec<NodeId>,
    },
    /// A member without a vote that will not come back.
    Remove(NodeId),
}

/// What the leader sees of the membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Members without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Itself.
    pub leader: NodeId,
    /// Nodes that it has seen lost for longer than is waited for.
    pub gone: BTreeSet<NodeId>,
    /// Nodes that could not catch up lately.
    pub unfit: BTreeSet<NodeId>,
    /// Nodes without a vote whose disk has no room for changes, or that have not said yet how much is free there.
    pub full: BTreeSet<NodeId>,
    /// The last election was long enough ago to change who votes.
    pub is_calm: bool,
    /// Nobody has led before this leader: nobody was lost before its election, so votes are given at once, since a cluster that
    /// forms is to tolerate failures as soon as it can.
    pub is_first: bool,
}

impl Membership {
    /// So it is with one voter, whoever led before: no other one can be missing, and its loss would be that of everything.
    fn forms(&self) -> bool {
        self.is_first || self.voters.len() == 1
    }

    /// Whether it gets no vote: a voter that writes nothing down is as good as none. Who has one keeps it.
    fn excludes(&self, node: NodeId) -> bool {
        !self.voters.contains(&node) && (self.unfit.contains(&node) || self.full.contains(&node))
    }
}

/// The next change; none: all is as it should be, or nothing can be done about it.
pub fn next_change(state: &State, members: &Membership) -> Option<MembershipChange> {
    let left = |node: &NodeId| state.nodes.get(node).is_none_or(|node| node.status == NodeStatus::Left);
    let barred = |node: &NodeId| state.nodes.get(node).is_some_and(|node| !node.may_vote);
    if !members.is_calm && !members.forms() {
        return None;
    }
    let mut candidates = Candidates::new(state, members);
    let ready = state.nodes.values().filter(|node| may_vote(node));
    let able = ready.clone().filter(|node| !members.excludes(node.id)).count();
    let possible = state.cluster.settings.voters.among_able(ready.count(), able);
    if members.voters.len() < possible {
        let missing = possible - members.voters.len();
        let add: Vec<NodeId> = (0..missing).map_while(|_| candidates.take(None)).collect();
        return (!add.is_empty()).then(|| MembershipChange::Voters { add, remove: Vec::new() });
    }
    if !members.is_calm {
        return None;
    }
    let dispensable = members.voters.iter().filter(|node| **node != members.leader);
    let is_dead = |node: &NodeId| left(node) || barred(node) || members.gone.contains(node);
    let alive = |node: &NodeId| state.is_alive(*node);
    let mut remove: Vec<NodeId> = dispensable.clone().rev().copied().collect();
    remove.sort_by_key(|node| (!is_dead(node), alive(node))); // stable: of each kind who joined last goes first
    remove.truncate(members.voters.len().saturating_sub(shrunk(state)));
    let rest = members.voters.iter().filter(|node| !remove.contains(node));
    let (up, all) = (rest.clone().filter(|node| alive(node)).count(), rest.count());
    // A majority of those that stay must be there, or nothing could be agreed on any more.
    if !remove.is_empty() && 2 * up > all {
        return Some(MembershipChange::Voters { add: Vec::new(), remove });
    }
    for dead in dispensable.clone().copied().filter(is_dead) {
        if let Some(heir) = candidates.take(Some(dead)) {
            return Some(MembershipChange::Voters { add: vec![heir], remove: vec![dead] });
        }
    }
    // Where nothing is missing, votes may stand better.
    if members.voters.iter().all(alive)
        && let Some((heir, crowded)) = candidates.evener(dispensable)
    {
        return Some(MembershipChange::Voters { add: vec![heir], remove: vec![crowded] });
    }
    members.learners.iter().find(|node| left(node)).copied().map(MembershipChange::Remove)
}

/// It is ready, and may.
fn may_vote(node: &Node) -> bool {
    node.may_vote && node.status == NodeStatus::Ready
}

/// How many voters are too few to take one away: what the settings want of all nodes that belong to the cluster, be they
/// there or not, so that votes do not come and go with nodes.
fn shrunk(state: &State) -> usize {
    let may_vote = |node: &&Node| node.may_vote && node.status != NodeStatus::Left;
    let registered = state.nodes.values().filter(may_vote).count();
    state.cluster.settings.voters.target(registered)
}

/// Ready nodes without a vote.
struct Candidates<'a> {
    nodes: BTreeMap<NodeId, &'a Node>,
    /// How many voters each value of the label has over which they are spread.
    zones: BTreeMap<Option<&'a str>, usize>,
    label: Option<&'a str>,
    state: &'a State,
}

impl<'a> Candidates<'a> {
    fn new(state: &'a State, members: &Membership) -> Self {
        let label = state.cluster.repair.spread.as_deref();
        let ready = state.nodes.values().filter(|node| may_vote(node));
        let nodes = ready.filter(|node| !members.voters.contains(&node.id) && !members.excludes(node.id));
        let nodes = nodes.map(|node| (node.id, node)).collect();
        let mut all = Self { nodes, zones: BTreeMap::new(), label, state };
        for voter in &members.voters {
            *all.zones.entry(all.zone(*voter)).or_default() += 1;
        }
        all
    }

    /// The best one: of the zone with the fewest voters, `leaving` not counted; then the one that joined first.
    fn take(&mut self, leaving: Option<NodeId>) -> Option<NodeId> {
        let voters_beside = |node: &NodeId| {
            let zone = self.zone(*node);
            let voters = self.zones.get(&zone).copied().unwrap_or_default();
            voters - usize::from(leaving.is_some_and(|leaving| self.zone(leaving) == zone).min(voters > 0))
        };
        let best = self.nodes.keys().min_by_key(|node| (voters_beside(node), **node)).copied()?;
        self.nodes.remove(&best);
        *self.zones.entry(self.zone(best)).or_default() += 1;
        Some(best)
    }

    /// Who should have the vote of which voter, for its zone has at least two more than that of the other: after it the zones
    /// differ by less, so that this comes to an end. Votes are not moved to where no zone is known.
    fn evener<'n>(&self, voters: impl Iterator<Item = &'n NodeId>) -> Option<(NodeId, NodeId)> {
        self.label?;
        let count = |node: &NodeId| self.zones.get(&self.zone(*node)).copied().unwrap_or_default();
        let zoned = self.nodes.keys().filter(|node| self.zone(**node).is_some());
        let heir = *zoned.min_by_key(|node| (count(node), **node))?;
        let crowded = voters.filter(|voter| count(voter) > count(&heir) + 1);
        Some((heir, *crowded.max_by_key(|voter| (count(voter), **voter))?))
    }

    fn zone(&self, node: NodeId) -> Option<&'a str> {
        let (node, label) = (self.state.nodes.get(&node)?, self.label?);
        let labels = node.facts.labels.iter().chain(&node.given_labels);
        labels.filter_map(|text| text.split_once('=')).find(|(key, _)| *key == label).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Repair, Voters};

    use super::*;
    use crate::testing::World;

    fn world(nodes: u64, voters: Voters) -> World {
        let mut world = World::with_nodes(nodes);
        world.state.cluster.settings.voters = voters;
        world
    }

    fn members(voters: impl IntoIterator<Item = u64>) -> Membership {
        let voters = voters.into_iter().map(NodeId).collect();
        Membership { voters, leader: NodeId(1), is_calm: true, ..Membership::default() }
    }

    fn gone(mut members: Membership, nodes: &[u64]) -> Membership {
        members.gone.extend(nodes.iter().copied().map(NodeId));
        members
    }

    fn change(add: &[u64], remove: &[u64]) -> Option<MembershipChange> {
        let ids = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
        Some(MembershipChange::Voters { add: ids(add), remove: ids(remove) })
    }

    #[test]
    fn voters_grow_with_the_cluster_in_odd_numbers_and_at_once_while_it_forms() {
        let forming = Membership { is_calm: false, ..members([1]) };
        assert_eq!(next_change(&world(2, Voters::Auto).state, &forming), None, "two are no better than one");
        assert_eq!(next_change(&world(3, Voters::Auto).state, &forming), change(&[2, 3], &[]));
        let first = Membership { is_calm: false, is_first: true, ..members([1, 2, 3]) };
        assert_eq!(next_change(&world(10, Voters::Auto).state, &first), change(&[4, 5], &[]));
        let elected = Membership { is_first: false, ..first };
        assert_eq!(
            next_change(&world(10, Voters::Auto).state, &elected),
            None,
            "not so soon after an election"
        );
        assert_eq!(next_change(&world(10, Voters::Auto).state, &members([1, 2, 3])), change(&[4, 5], &[]));
        assert_eq!(next_change(&world(4, Voters::Fixed(7)).state, &members([1])), change(&[2, 3], &[]));
        assert_eq!(next_change(&world(9, Voters::Auto).state, &members([1, 2, 3])), None);
    }

    #[test]
    fn a_voter_that_is_gone_is_replaced_when_it_is_calm_and_somebody_can() {
        let mut five = world(5, Voters::Auto);
        five.set_status(2, NodeStatus::Lost);
        let lost = members([1, 2, 3]);
        assert_eq!(next_change(&five.state, &lost), None, "it may come back");
        let dead = gone(lost, &[2]);
        assert_eq!(next_change(&five.state, &dead), change(&[4], &[2]));
        let elected = Membership { is_calm: false, ..dead };
        assert_eq!(next_change(&five.state, &elected), None, "not so soon after an election");
        let first = Membership { is_first: true, ..elected };
        assert_eq!(next_change(&five.state, &first), None, "nor is a vote taken away while it forms");

        let unfit = Membership { unfit: [NodeId(4)].into(), ..gone(members([1, 2, 3]), &[2]) };
        assert_eq!(
            next_change(&five.state, &unfit),
            change(&[5], &[2]),
            "who cannot catch up is passed over"
        );

        let mut three = world(3, Voters::Auto);
        three.set_status(2, NodeStatus::Lost);
        let dead = gone(members([1, 2, 3]), &[2]);
        assert_eq!(next_change(&three.state, &dead), None, "nobody can take its place");
    }

    #[test]
    fn no_vote_goes_to_a_node_whose_disk_is_full() {
        let full = |members: Membership, nodes: &[u64]| Membership {
            full: nodes.iter().copied().map(NodeId).collect(),
            ..members
        };
        let mut five = world(5, Voters::Auto);
        five.set_status(2, NodeStatus::Lost);
        let dead = gone(members([1, 2, 3]), &[2]);
        assert_eq!(next_change(&five.state, &full(dead.clone(), &[4])), change(&[5], &[2]));
        assert_eq!(next_change(&five.state, &full(dead, &[4, 5])), None, "a dead one may come back");

        let three = world(3, Voters::Auto);
        let alone = Membership { is_calm: false, ..members([1]) };
        assert_eq!(next_change(&three.state, &full(alone.clone(), &[2])), None, "two are no better than one");
        assert_eq!(next_change(&three.state, &alone), change(&[2, 3], &[]), "once there is room");
        let ten = world(10, Voters::Auto);
        let but_two = full(members([1, 2, 3]), &[4, 5, 6, 7, 8]);
        assert_eq!(
            next_change(&ten.state, &but_two),
            change(&[9, 10], &[]),
            "five, as ten nodes should have"
        );
        let but_one = full(but_two, &[4, 5, 6, 7, 8, 9]);
        assert_eq!(next_change(&ten.state, &but_one), None, "four are no better than three");
        let unfit = Membership { unfit: but_one.full.clone(), full: BTreeSet::new(), ..but_one };
        assert_eq!(next_change(&ten.state, &unfit), None, "nor if one alone can catch up");
    }

    #[test]
    fn who_was_forgotten_is_replaced_at_once_and_then_removed() {
        let mut world = world(4, Voters::Auto);
        world.set_status(3, NodeStatus::Left);
        assert_eq!(next_change(&world.state, &members([1, 2, 3])), change(&[4], &[3]));
        let replaced = Membership { learners: [NodeId(3)].into(), ..members([1, 2, 4]) };
        assert_eq!(next_change(&world.state, &replaced), Some(MembershipChange::Remove(NodeId(3))));
        let lost = Membership { learners: [NodeId(2)].into(), ..members([1, 4]) };
        world.set_status(2, NodeStatus::Lost);
        assert_eq!(next_change(&world.state, &lost), None, "who is only lost is welcome back");
    }

    #[test]
    fn who_was_replaced_stays_without_a_vote_until_one_is_missing() {
        let mut world = world(5, Voters::Auto);
        let back = Membership { learners: [NodeId(2)].into(), ..members([1, 3, 4]) };
        assert_eq!(next_change(&world.state, &back), None, "three vote");
        world.state.cluster.settings.voters = Voters::Fixed(5);
        assert_eq!(next_change(&world.state, &back), change(&[2, 5], &[]), "five are to");
        world.state.cluster.settings.voters = Voters::Auto;
        world.set_status(5, NodeStatus::Lost);
        world.set_status(4, NodeStatus::Lost);
        assert_eq!(next_change(&world.state, &gone(back, &[4])), change(&[2], &[4]), "it takes a vote over");
        let fewer = Membership { learners: [NodeId(2)].into(), ..members([1]) };
        assert_eq!(next_change(&world.state, &fewer), change(&[2, 3], &[]), "two are missing");
    }

    #[test]
    fn fewer_voters_are_taken_by_the_settings_alone_and_never_from_the_leader() {
        let mut many = world(12, Voters::Fixed(3));
        let five = Membership { leader: NodeId(5), ..members(1..=5) };
        assert_eq!(next_change(&many.state, &five), change(&[], &[4, 3]));
        let elected = Membership { is_calm: false, is_first: true, ..five.clone() };
        assert_eq!(next_change(&many.state, &elected), None, "not so soon after an election");
        many.state.cluster.settings.voters = Voters::Auto;
        (6..=12).for_each(|node| many.set_status(node, NodeStatus::Lost));
        assert_eq!(next_change(&many.state, &five), None, "nodes that are lost still belong to the cluster");

        many.state.cluster.settings.voters = Voters::Fixed(3);
        many.set_status(2, NodeStatus::Lost);
        assert_eq!(next_change(&many.state, &five), change(&[], &[2, 4]), "who is not there goes first");
        many.state.cluster.settings.voters = Voters::Fixed(1);
        assert_eq!(next_change(&many.state, &five), change(&[], &[2, 4, 3, 1]));
        let mut two_lost = world(5, Voters::Fixed(3));
        [2, 4].into_iter().for_each(|node| two_lost.set_status(node, NodeStatus::Lost));
        let dead = gone(members(1..=5), &[2, 4]);
        assert_eq!(next_change(&two_lost.state, &dead), change(&[], &[4, 2]), "nobody need take their place");
        let dead = gone(members(1..=5), &[2]);
        assert_eq!(
            next_change(&two_lost.state, &dead),
            change(&[], &[2, 4]),
            "who is gone for good goes first"
        );

        let mut few = world(5, Voters::Fixed(3));
        [1, 2, 3, 4].into_iter().for_each(|node| few.set_status(node, NodeStatus::Lost));
        assert_eq!(next_change(&few.state, &five), None, "who stays must be a majority");
    }

    #[test]
    fn who_may_not_vote_is_neither_counted_nor_chosen() {
        let mut world = world(5, Voters::Auto);
        let bar = |world: &mut World, node| {
            world.state.nodes.get_mut(&NodeId(node)).expect("it is registered").may_vote = false;
        };
        bar(&mut world, 2);
        assert_eq!(next_change(&world.state, &members([1])), change(&[3, 4], &[]));
        bar(&mut world, 3);
        let three = members([1, 3, 4]);
        assert_eq!(next_change(&world.state, &three), change(&[5], &[3]), "whose vote is taken is replaced");
        bar(&mut world, 4);
        assert_eq!(next_change(&world.state, &members([1])), None, "two that may are no better than one");
    }

    #[test]
    fn voters_are_spread_over_zones() {
        let mut world = world(6, Voters::Auto);
        world.state.cluster.repair = Repair { spread: Some("zone".to_owned()), ..Repair::default() };
        for (node, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b"), (6, "c")] {
            let node = world.state.nodes.get_mut(&NodeId(node)).expect("it is registered");
            node.given_labels.push(format!("zone={zone}"));
        }
        assert_eq!(next_change(&world.state, &members([1])), change(&[3, 6], &[]));
        let dead = gone(members([1, 3, 6]), &[3]);
        world.set_status(3, NodeStatus::Lost);
        assert_eq!(next_change(&world.state, &dead), change(&[5], &[3]), "its zone has none without it");
        assert_eq!(
            next_change(&world.state, &members([1, 2, 4])),
            change(&[5], &[4]),
            "three of a, none of b"
        );
        assert_eq!(next_change(&world.state, &members([1, 2, 5])), change(&[6], &[2]));
        assert_eq!(next_change(&world.state, &members([1, 5, 6])), None);
        world.set_status(2, NodeStatus::Lost);
        assert_eq!(next_change(&world.state, &members([1, 2, 5])), None, "one that is missing may come back");
    }
}
