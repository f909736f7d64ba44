//! What other nodes ask of this one: who it is, a number, messages of the replicated log.

use bytes::Bytes;
use futures::StreamExt;
use sheaf_engine::{AccessCommand, Admit, Command, Register, Reply, State};
use sheaf_model::{Actor, ClusterId, Contact, Digest, Holder, NodeId, NodeKey, NodeStatus};
use sheaf_wire::peer::{AuthorityKey, Certified, Greeting, HelloAsk, JoinAsk, Joined, PeerApi, PeerHeader};
use sheaf_wire::{Answers, ApiError, Asking, Caller, async_trait};

use crate::Control;
use crate::place::{Identity, Member};
use crate::trust::Proven;

#[async_trait]
impl PeerApi for Control {
    async fn hello(&self, caller: Caller, ask: HelloAsk) -> Result<Greeting, ApiError> {
        let place = &self.place;
        // Whoever: what it says of itself counts for nothing, and it learns no more than where it may join.
        let stranger = place.trust.keyring.is_some() && self.shows_nothing(&caller);
        if !stranger {
            self.hear_of(caller.certified_node(), ask.cluster.as_ref()).await;
        }
        if ask.cluster.is_none() && !stranger {
            place.seen.send_if_modified(|seen| seen.insert(ask.instance.clone()));
        }
        let registration = place.registration.borrow().clone();
        let Identity { instance, key, name, address } = place.identity.clone();
        let left = place.member().is_some_and(|member| has_left(&member.replica.state(), &ask));
        let own = || Contact { address: address.clone(), node: registration.as_ref().map(|own| own.node) };
        let leader = if place.leads() { Some(own()) } else { place.leader_contact() };
        let greeting = Greeting {
            instance,
            key: if stranger { NodeKey::default() } else { key },
            name,
            address,
            cluster: registration.as_ref().map(|registration| registration.cluster.clone()),
            node: registration.as_ref().map(|registration| registration.node),
            member: place.member().is_some(),
            leader,
            seen: place.seen.borrow().iter().cloned().collect(),
            authorities: place.trust.authorities(),
            bridges: place.trust.bridges(),
            left,
            proof: Vec::new(),
            wall: Some(self.clock.wall()),
        };
        let membership = ask.nonce.and_then(|nonce| greeting.membership(nonce));
        let proof = membership.map(|membership| place.trust.prove(&membership)).unwrap_or_default();
        Ok(Greeting { proof, ..greeting })
    }

    async fn join(&self, caller: Caller, ask: JoinAsk) -> Result<Joined, ApiError> {
        let leader = self.place.leader_contact();
        let Some(member) = self.place.member().filter(|_| self.place.leads()) else {
            return Ok(Joined::Redirect(leader));
        };
        let cluster = {
            let state = member.replica.state();
            // The first number is the founding node's: its log has it already. Nobody comes before it.
            state.cluster.id.clone().filter(|_| !state.nodes.is_empty())
        };
        let Some(cluster) = cluster else { return Ok(Joined::Redirect(None)) };
        if ask.cluster.as_ref().is_some_and(|wanted| *wanted != cluster) {
            return Ok(Joined::Refused(format!(
                "this data directory belongs to cluster {}, but the nodes it is told to join are cluster {cluster}; \
                 give it the right join list, or an empty data directory",
                ask.cluster.unwrap_or_default()
            )));
        }
        let may_vote = match self.proven(&caller, &ask).await? {
            Proven::Welcome { may_vote } => may_vote,
            Proven::Refused(why) => {
                tracing::warn!(node = %ask.facts.name, address = %ask.facts.address, why, "a node was refused");
                return Ok(Joined::Refused(why));
            }
        };
        let actor = Actor(format!("node:{}", ask.facts.name));
        let register = Register { key: ask.key, facts: ask.facts };
        let register = match self.place.trust.keyring {
            None => Command::Register(register),
            Some(_) => Command::Access(AccessCommand::Admit(Admit { register, may_vote })),
        };
        match self.propose_as(actor, None, register, caller.deadline).await {
            Ok(Reply::Registered(node)) => {
                let certified = match self.place.trust.keyring {
                    Some(_) => Some(self.certified(&member, node, &ask.public_key)?),
                    None => None,
                };
                Ok(Joined::Registered { cluster, node, certified })
            }
            Ok(Reply::Refused(refusal)) => Ok(Joined::Refused(refusal.to_string())),
            Ok(other) => Err(ApiError::Internal(format!("an answer that fits no registration: {other:?}"))),
            Err(error) if error.can_retry() => Ok(Joined::Redirect(self.place.leader_contact())),
            Err(error) => Err(error),
        }
    }

    async fn renew(
        &self,
        caller: Caller,
        cluster: ClusterId,
        public_key: Vec<u8>,
    ) -> Result<Certified, ApiError> {
        self.renewed(&caller, &cluster, &public_key)
    }

    async fn fetch_authority(
        &self,
        caller: Caller,
        cluster: ClusterId,
        fingerprint: Option<Digest>,
    ) -> Result<AuthorityKey, ApiError> {
        self.authority_for(&caller, &cluster, fingerprint)
    }

    async fn raft(&self, header: PeerHeader, message: Bytes) -> Result<Bytes, ApiError> {
        let replica = self.addressed(&header).await?.replica;
        let answering = replica.clone();
        // On the runtime of consensus: nothing else that this node does delays a vote or a heartbeat.
        let answer = replica.runtime().spawn(async move { answering.handle_peer(message).await });
        answer.await.map_err(stopped)?.map_err(|error| ApiError::unavailable(error.to_string()))
    }

    async fn raft_stream(
        &self,
        header: PeerHeader,
        messages: Answers<Bytes>,
    ) -> Result<Answers<Bytes>, ApiError> {
        let replica = self.addressed(&header).await?.replica;
        let messages = messages.filter_map(|message| async move { message.ok() }).boxed();
        let answers = replica.handle_append_stream(messages);
        Ok(answers.map(|answer| answer.map_err(|error| ApiError::unavailable(error.to_string()))).boxed())
    }

    async fn raft_snapshot(
        &self,
        header: PeerHeader,
        head: Bytes,
        pieces: Answers<Bytes>,
    ) -> Result<Bytes, ApiError> {
        let replica = self.addressed(&header).await?.replica;
        let receiving = replica.clone();
        let answer = replica.runtime().spawn(async move { receiving.handle_snapshot(head, pieces).await });
        answer.await.map_err(stopped)?.map_err(|error| ApiError::unavailable(error.to_string()))
    }
}

impl Control {
    /// Whether a caller has no certificate that counts: that of a join secret does not once it was revoked.
    fn shows_nothing(&self, caller: &Caller) -> bool {
        match (caller.holder, self.place.member()) {
            (Some(Holder::Joining), Some(member)) => {
                let state = member.replica.state();
                // Before the cluster's first entries there is nothing to be revoked.
                !state.nodes.is_empty() && !self.place.trust.secret_counts(&state)
            }
            (holder, _) => holder.is_none(),
        }
    }

    /// The replica that a member's message is meant for. A registered node that the leader has chosen as a member
    /// learns it from the first message, and opens its replica then: after it has heard from members that who sends it is
    /// one of them.
    async fn addressed(&self, header: &PeerHeader) -> Result<Member, ApiError> {
        let registration = self.place.registration.borrow().clone();
        let Some(registration) = registration else {
            return Err(ApiError::Precondition("this node belongs to no cluster".to_owned()));
        };
        if registration.cluster != header.cluster {
            return Err(ApiError::Precondition(format!(
                "this is a node of cluster {}, not of {}",
                registration.cluster, header.cluster
            )));
        }
        if registration.node != header.to {
            return Err(ApiError::Precondition(format!(
                "this is node {}, not {}",
                registration.node, header.to
            )));
        }
        self.may_send_log(header.from).await?;
        if let Some(member) = self.place.member() {
            return Ok(member);
        }
        tracing::info!(from = %header.from, "this node becomes a member");
        self.become_member(registration.node).await
    }

    /// Opens this node's replica, once, and lets everybody know.
    ///
    /// # Errors
    /// That it could not be opened, and why.
    pub fn become_member(&self, node: NodeId) -> Asking<'_, Member> {
        Box::pin(self.open_replica(node))
    }

    async fn open_replica(&self, node: NodeId) -> Result<Member, ApiError> {
        let member = self.place.opener.open(node).await.map_err(ApiError::Internal)?;
        self.place.member.send_if_modified(|known| {
            let fresh = known.is_none();
            if fresh {
                *known = Some(member.clone());
            }
            fresh
        });
        Ok(member)
    }
}

/// Whether who asks was forgotten by the cluster that it names. That is never undone, so that any member may say it,
/// however far behind it is.
fn has_left(state: &State, ask: &HelloAsk) -> bool {
    let known = ask.node.and_then(|node| state.nodes.get(&node)).filter(|known| known.key == ask.key);
    state.cluster.id.is_some()
        && state.cluster.id == ask.cluster
        && known.is_some_and(|known| known.status == NodeStatus::Left)
}

fn stopped(_: tokio::task::JoinError) -> ApiError {
    ApiError::unavailable("this node is stopping")
}
