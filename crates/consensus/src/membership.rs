//! Forming a cluster and changing its membership. One change at a time; all but `initialize` on the leader.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{BasicNode, ChangeMembers};
use sheaf_model::NodeId;

use crate::error::MembershipError;
use crate::raft::Types;
use crate::replica::Replica;

type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

impl Replica {
    /// Whether this member was ever in a cluster. openraft itself is asked: its metrics say nothing for a moment after
    /// a start.
    pub fn is_initialized(&self) -> BoxFuture<'_, Result<bool, MembershipError>> {
        Box::pin(async {
            let asked = self.inner.raft.is_initialized().await;
            asked.map_err(|_| MembershipError::Stopped { operation: "look for a cluster" })
        })
    }

    /// Forms a cluster of this member alone. Refused when it has ever been in one. It leads soon after; watch
    /// [`Replica::leadership`].
    pub fn initialize(&self, address: impl Into<String>) -> BoxFuture<'_, Result<(), MembershipError>> {
        self.initialize_with(BTreeMap::from([(self.node().0, BasicNode::new(address.into()))]))
    }

    fn initialize_with(
        &self,
        members: BTreeMap<u64, BasicNode>,
    ) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(self.initialized_with(members))
    }

    async fn initialized_with(&self, members: BTreeMap<u64, BasicNode>) -> Result<(), MembershipError> {
        const OPERATION: &str = "form a cluster";
        self.inner.raft.initialize(members).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(error)) => {
                MembershipError::Refused { operation: OPERATION, why: error.to_string() }
            }
            RaftError::APIError(InitializeError::NotInMembers(error)) => {
                MembershipError::Refused { operation: OPERATION, why: error.to_string() }
            }
            RaftError::Fatal(_) => MembershipError::Stopped { operation: OPERATION },
        })
    }

    /// Adds a member without a vote and returns when its log has almost caught up, which may take a snapshot. Give it a
    /// deadline; dropping the future leaves the learner in.
    pub async fn add_learner(&self, node: NodeId, address: impl Into<String>) -> Result<(), MembershipError> {
        let member = BasicNode::new(address.into());
        done("add a learner", self.inner.raft.add_learner(node.0, member, true).await)
    }

    /// Makes exactly `voters` the voters; each must be a member already. Former voters stay members without a vote. Returns
    /// when the change is committed by old and new majorities.
    pub async fn change_voters(&self, voters: &BTreeSet<NodeId>) -> Result<(), MembershipError> {
        let voters: BTreeSet<u64> = voters.iter().map(|node| node.0).collect();
        done("change the voters", self.inner.raft.change_membership(voters, true).await)
    }

    /// Removes a learner.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), MembershipError> {
        let change = ChangeMembers::RemoveNodes(BTreeSet::from([node.0]));
        done("remove a learner", self.inner.raft.change_membership(change, false).await)
    }

    /// Records that a member is reached elsewhere now. The caller is sure that it is the same member: its number
    /// belongs to one data directory for ever.
    pub async fn set_address(&self, node: NodeId, address: impl Into<String>) -> Result<(), MembershipError> {
        let change = ChangeMembers::SetNodes(BTreeMap::from([(node.0, BasicNode::new(address.into()))]));
        done("change a member's address", self.inner.raft.change_membership(change, true).await)
    }

    /// Asks `node` to take over leadership, as soon as it has everything. Returns at once; watch
    /// [`Replica::leadership`]. Nothing happens when this member does not lead.
    pub async fn transfer_leader(&self, node: NodeId) -> Result<(), MembershipError> {
        let asked = self.inner.raft.trigger().transfer_leader(node.0).await;
        asked.map_err(|_| MembershipError::Stopped { operation: "transfer leadership" })
    }
}

fn done(operation: &'static str, written: Written) -> Result<(), MembershipError> {
    match written {
        Ok(_) => Ok(()),
        Err(RaftError::Fatal(_)) => Err(MembershipError::Stopped { operation }),
        Err(RaftError::APIError(error)) => Err(match error {
            ClientWriteError::ForwardToLeader(forward) => {
                MembershipError::NotLeader { operation, leader: forward.leader_id.map(NodeId) }
            }
            ClientWriteError::LogEntryDiscarded(_) => MembershipError::Unknown { operation },
            ClientWriteError::PreconditionFailed(error) => {
                MembershipError::NotNow { operation, why: error.to_string() }
            }
            ClientWriteError::ChangeMembershipError(
                error @ (ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_)),
            ) => MembershipError::NotNow { operation, why: error.to_string() },
            ClientWriteError::ChangeMembershipError(error) => {
                MembershipError::Refused { operation, why: error.to_string() }
            }
        }),
    }
}
