//! The leader's care for the membership: as many voters as there should be, each where it is, lost ones replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sheaf_consensus::{MembershipError, Replica};
use sheaf_engine::membership::{Membership, MembershipChange, next_change};
use sheaf_model::{NodeId, Term};

use crate::Control;

/// How long a new voter may take to catch up.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
/// How long others are preferred to one that could not.
const UNFIT_FOR: Duration = Duration::from_secs(300);
/// How often the membership is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// Nobody's vote is changed so soon after an election: who is missing then may be on its way.
const CALM_AFTER: Duration = Duration::from_secs(30);
/// The term of the first leader of all.
const FIRST: Term = Term(1);

impl Control {
    /// Makes one change after the other. Never ends by itself.
    pub(crate) async fn keep_members(&self, replica: &Replica, elected: Instant) {
        let mut lost: BTreeMap<NodeId, Instant> = BTreeMap::new();
        let mut unfit: BTreeMap<NodeId, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(EVERY).await;
            self.keep_addresses(replica).await;
            unfit.retain(|_, since| since.elapsed() < UNFIT_FOR);
            let members = Membership {
                unfit: unfit.keys().copied().collect(),
                full: self.full(replica),
                ..membership(replica, elected, &mut lost)
            };
            let change = next_change(&replica.state(), &members);
            let Some(change) = change else { continue };
            if let Err(failed) = make(replica, &change).await {
                tracing::warn!(error = failed.why, ?change, "the membership is not changed; trying again");
                unfit.extend(failed.node.map(|node| (node, Instant::now())));
                tokio::time::sleep(4 * EVERY).await;
            }
        }
    }

    /// Nodes without a vote that have not said that their disks have room for changes.
    fn full(&self, replica: &Replica) -> BTreeSet<NodeId> {
        let voters = replica.voters();
        // Not while the sessions are locked: who locks both takes these first.
        let mut others: BTreeSet<NodeId> = replica.state().nodes.keys().copied().collect();
        others.retain(|node| !voters.contains(node));
        self.without_known_room(replica, others)
    }

    /// A member that came back at another address is reached there from now on. At once, also just after an election:
    /// nobody's vote changes, and without it a voter that is there would count as lost.
    async fn keep_addresses(&self, replica: &Replica) {
        let moved: Vec<(NodeId, String)> = {
            let state = replica.state();
            let address = |node: NodeId| Some(state.nodes.get(&node)?.facts.address.clone());
            let members = replica.metrics().members.into_iter().map(|member| member.peer);
            let moved = members.filter_map(|peer| {
                let now = address(peer.node).filter(|now| *now != peer.address)?;
                Some((peer.node, now))
            });
            moved.collect()
        };
        for (node, address) in moved {
            match replica.set_address(node, address.clone()).await {
                Ok(()) => tracing::info!(%node, address, "a member is reached elsewhere now"),
                Err(error) => {
                    tracing::warn!(%node, %error, "a member's address is not changed; trying again");
                    tokio::time::sleep(4 * EVERY).await;
                }
            }
        }
    }
}

/// What there is now. `lost` remembers since when this leader sees each node as lost.
fn membership(replica: &Replica, elected: Instant, lost: &mut BTreeMap<NodeId, Instant>) -> Membership {
    let metrics = replica.metrics();
    let state = replica.state();
    let is_lost = |node: &NodeId| state.nodes.get(node).is_some_and(|node| !node.status.is_alive());
    lost.retain(|node, _| is_lost(node));
    for node in metrics.members.iter().map(|member| member.peer.node).filter(is_lost) {
        lost.entry(node).or_insert_with(Instant::now);
    }
    let after = state.cluster.repair.after.duration();
    let (voters, learners): (Vec<_>, Vec<_>) = metrics.members.iter().partition(|member| member.voter);
    let nodes = |members: Vec<&sheaf_consensus::MemberMetrics>| -> BTreeSet<NodeId> {
        members.into_iter().map(|member| member.peer.node).collect()
    };
    Membership {
        voters: nodes(voters),
        learners: nodes(learners),
        leader: metrics.node,
        gone: lost.iter().filter(|(_, since)| since.elapsed() >= after).map(|(node, _)| *node).collect(),
        is_calm: elected.elapsed() >= CALM_AFTER,
        is_first: metrics.term == FIRST,
        ..Membership::default()
    }
}

/// Why a change was not made.
struct Failed {
    /// Who could not catch up.
    node: Option<NodeId>,
    why: String,
}

impl From<MembershipError> for Failed {
    fn from(error: MembershipError) -> Self {
        Self { node: None, why: error.to_string() }
    }
}

async fn make(replica: &Replica, change: &MembershipChange) -> Result<(), Failed> {
    match change {
        MembershipChange::Voters { add, remove } => {
            let members = replica.metrics();
            let mut voters: BTreeSet<NodeId> = members.voters().map(|voter| voter.peer.node).collect();
            for node in add {
                catch_up(replica, *node).await.map_err(|why| Failed { node: Some(*node), why })?;
            }
            voters.extend(add);
            voters.retain(|node| !remove.contains(node));
            replica.change_voters(&voters).await?;
            let numbers =
                |nodes: &mut dyn Iterator<Item = &NodeId>| nodes.map(|node| node.0).collect::<Vec<_>>();
            tracing::info!(
                voters = ?numbers(&mut voters.iter()),
                added = ?numbers(&mut add.iter()),
                removed = ?numbers(&mut remove.iter()),
                "voters changed"
            );
        }
        MembershipChange::Remove(node) => {
            replica.remove_learner(*node).await?;
            tracing::info!(%node, "a member that was forgotten is removed");
        }
    }
    Ok(())
}

/// Makes a node a member without a vote, and returns when it has nearly everything.
async fn catch_up(replica: &Replica, node: NodeId) -> Result<(), String> {
    let address = replica.state().nodes.get(&node).map(|node| node.facts.address.clone());
    let address = address.ok_or_else(|| format!("node {node} is not registered"))?;
    let added = tokio::time::timeout(CATCH_UP_WITHIN, replica.add_learner(node, address.clone())).await;
    added
        .map_err(|_| format!("node {node} at {address} did not catch up within {CATCH_UP_WITHIN:?}"))?
        .map_err(|error| format!("node {node} at {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::{Command, Proposal, Register, SetNodeStatus};
    use sheaf_model::session::{Heartbeat, Hello};
    use sheaf_model::{
        Actor, BootId, Bytes, Incarnation, Load, Moment, NodeKey, NodeStatus, Revision, Timestamp,
    };

    use super::*;
    use crate::propose::tests::{One, Still, facts};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_counts_as_full_until_it_says_that_it_is_not() {
        let one = One::formed().await;
        let (control, replica) = (one.control(Arc::new(Still)), &one.member.replica);
        for name in ["n1", "n2"] {
            let command = Command::Register(Register { key: NodeKey::from(name), facts: facts(name) });
            let (actor, at) = (Actor::from("test"), Timestamp::default());
            replica.propose(&Proposal { actor, at, request: None, command }).await.expect("registered");
        }
        control.live.begin(Term(1), Moment(0));
        let two = NodeId(2);
        assert_eq!(
            control.full(replica),
            BTreeSet::from([two]),
            "it has not been heard, and the other one votes"
        );
        let heard = |free: u64| {
            let load = Load { disk_available: Bytes(free), ..Load::default() };
            let heartbeat = Heartbeat { sent_at: Moment(0), load, seen: Revision(0) };
            let mut live = control.live.lock();
            let sessions = live.sessions.as_mut().expect("it leads");
            if !sessions.is_connected(two) {
                let state = replica.state();
                let hello = Hello {
                    cluster: state.cluster.id.clone().expect("a cluster"),
                    node: two,
                    key: NodeKey::from("n2"),
                    boot: BootId::from("b"),
                    incarnation: Incarnation::from("a"),
                    facts: facts("n2"),
                    fresh: true,
                    stand_in: false,
                    work: None,
                };
                sessions.opened(&hello, &state, Moment(0)).expect("nobody else is live");
            }
            sessions.heard(two, &heartbeat, Moment(0));
            drop(live);
            control.full(replica)
        };
        assert_eq!(
            heard(replica.reserve_bytes() - 1),
            BTreeSet::from([two]),
            "only votes would be written there"
        );
        assert_eq!(heard(replica.reserve_bytes()), BTreeSet::new());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn votes_stay_for_30_s_after_an_election_and_who_is_lost_is_waited_for_5_min() {
        let one = One::formed().await;
        let replica = &one.member.replica;
        let two = NodeId(2);
        let mut commands: Vec<Command> = ["n1", "n2"]
            .map(|name| Command::Register(Register { key: NodeKey::from(name), facts: facts(name) }))
            .into();
        commands.push(Command::SetNodeStatus(SetNodeStatus {
            node: two,
            status: NodeStatus::Lost,
            reason: String::new(),
            term: None,
        }));
        for command in commands {
            let (actor, at) = (Actor::from("test"), Timestamp::default());
            replica.propose(&Proposal { actor, at, request: None, command }).await.expect("agreed on");
        }
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a time");
        let seen = |elected, lost| {
            let mut since = BTreeMap::from([(two, ago(lost))]);
            let members = membership(replica, ago(elected), &mut since);
            (members.is_calm, members.gone.contains(&two))
        };
        // So much a busy machine may be late.
        let late = 9;
        assert_eq!(seen(30 - late, 300 - late), (false, false));
        assert_eq!(seen(30, 300 - late), (true, false));
        assert_eq!(seen(30 - late, 300), (false, true));
    }
}
