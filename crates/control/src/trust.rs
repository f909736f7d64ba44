//! What secures this node's connections: its certificate and how it is renewed, and the authority on voters.
//!
//! ```text
//!  a node that joins ──Join, public key──► leader ──issues──► its first certificate
//!  each node, in time ──Renew────────────► leader ──issues──► its next
//!  a new voter ──FetchAuthority──► another voter ──► the authority's key, over TLS, into a file; never into the log
//! ```
//!
//! Who may come in is in `proof`; how one authority takes the place of another is in `rotation`.

mod proof;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::State;
use sheaf_model::{ClusterId, Digest, Holder, Node, NodeId, NodeStatus, Timestamp, TokenId, Trusting};
use sheaf_trust::{Keyring, KeyringError, PrivateKey, PublicKey, names, pin};
use sheaf_wire::peer::{AuthorityKey, Certified, Confidential, Greeting, JoinAsk, Membership, PeerClient};
use sheaf_wire::{ApiError, Caller, Credentials, Join, Pair, Transport, vouched};
use tokio_util::sync::CancellationToken;

use self::proof::Judged;
use crate::Control;
use crate::place::Member;

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(3);

/// What secures this node; without a keyring nothing is.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// How connections are made and taken.
    pub transport: Transport,
    /// Its keys and certificates; none: nothing is secured.
    pub keyring: Option<Arc<Keyring>>,
    /// What its join secret gives.
    pub join: Option<Join>,
    /// The token that its join secret is: once that is revoked, the secret brings nobody in.
    pub secret: Option<TokenId>,
    /// How long the certificates are good that it issues.
    pub lifetime: Duration,
}

/// Why this node's certificate could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum TrustFailure {
    /// Its files.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// What the library says of them.
    #[error(transparent)]
    Credentials(#[from] sheaf_wire::CredentialsError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] sheaf_trust::TrustError),
}

impl Trust {
    /// From now on connections are made with what the keyring holds now.
    pub fn refresh(&self) -> Result<(), TrustFailure> {
        let Some(keyring) = &self.keyring else { return Ok(()) };
        let own = keyring.own().map(|own| Pair { certificate: own.certificate, key: own.key });
        let (authorities, bridges) = (keyring.authorities(), keyring.bridges());
        // What a token pins is needed until there is a certificate, which is when the transport is refreshed first.
        let credentials = Credentials { authorities, bridges, own, join: self.join.clone(), pin: None };
        Ok(self.transport.replace(&credentials)?)
    }

    /// Keeps a certificate for `key` and uses it.
    pub fn keep(&self, certified: &Certified, key: &PrivateKey, now: Timestamp) -> Result<(), TrustFailure> {
        let Some(keyring) = &self.keyring else { return Ok(()) };
        // Who has a key is a member, and knows from the state whom to believe: whoever answers may be behind it.
        if keyring.authority().is_none() && keyring.next().is_none() {
            keyring.keep_authorities(&certified.authorities, &certified.bridges)?;
        }
        // Two thirds of its life: enough is left for a cluster that is down for days.
        let after = u64::try_from(certified.lifetime.as_millis()).unwrap_or(u64::MAX) / 3 * 2;
        keyring.keep_own(&certified.certificate, key, Timestamp(now.0.saturating_add(after)))?;
        self.refresh()
    }

    /// Whether the cluster knows the token that this node's join secret is.
    pub(crate) fn secret_counts(&self, state: &State) -> bool {
        self.secret.is_some_and(|id| state.access.tokens.contains_key(&id))
    }

    /// Whom this node trusts, for others; empty: nothing is secured.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        self.keyring.as_ref().map(|keyring| keyring.authorities()).unwrap_or_default()
    }

    /// What leads from one of these to another, for others.
    pub fn bridges(&self) -> Vec<Vec<u8>> {
        self.keyring.as_ref().map(|keyring| keyring.bridges()).unwrap_or_default()
    }

    /// What proves that this node is a member: the signature of the authority whose key it has. Empty: it has none.
    pub(crate) fn prove(&self, membership: &Membership) -> Vec<u8> {
        let authority = self.keyring.as_ref().and_then(|keyring| keyring.authority());
        let proof = authority.and_then(|authority| authority.sign(&membership.statement()).ok());
        proof.map(|proof| proof.to_vec()).unwrap_or_default()
    }

    /// Whether a greeting proves, to who has asked with this nonce, that a member was asked: this node believes the authority
    /// whose key has signed it, or one that vouches for that.
    pub(crate) fn is_proven(&self, greeting: &Greeting, nonce: [u8; 32]) -> bool {
        let Some(membership) = greeting.membership(nonce).filter(|_| !greeting.proof.is_empty()) else {
            return false;
        };
        let mut known = self.authorities();
        known.extend(self.transport.pinned().into_iter().chain(self.transport.successor()));
        let is_vouched = |it: &&Vec<u8>| vouched(it, &greeting.bridges, &known);
        let vouched: Vec<Vec<u8>> = greeting.authorities.iter().filter(is_vouched).cloned().collect();
        membership.is_signed(&greeting.proof, &known) || membership.is_signed(&greeting.proof, &vouched)
    }

    /// What this node says of authorities to the leader; a `member` is to have their keys.
    pub fn said(&self, member: bool) -> Trusting {
        let Some(keyring) = &self.keyring else { return Trusting::default() };
        let authorities = keyring.authorities();
        let leading = |der: &[u8]| Digest(pin(der)).leading();
        let signed = keyring.own().and_then(|own| authorities.iter().find(|it| names(&own.certificate, it)));
        let two = |all: &[u64]| std::array::from_fn(|at| all.get(at).copied().unwrap_or_default());
        let believes: Vec<u64> = authorities.iter().map(|der| leading(der)).collect();
        let keys = [keyring.authority(), keyring.next()].into_iter().flatten();
        let keys: Vec<u64> = keys.map(|authority| leading(authority.certificate())).collect();
        Trusting {
            issuer: signed.map_or(0, |der| leading(der)),
            believes: two(&believes),
            member,
            keys: two(&keys),
        }
    }

    /// What a member says of whom to believe, to a node that has no replica. An authority that is new here counts if one that is
    /// believed already vouches for it; one that is left out is dropped, but for that of this node's own certificate. Whether
    /// that was news.
    pub(crate) fn learn(&self, authorities: &[Vec<u8>], bridges: &[Vec<u8>]) -> Result<bool, TrustFailure> {
        let Some(keyring) = &self.keyring else { return Ok(false) };
        let (known, own) = (keyring.authorities(), keyring.own());
        let is_good = |it: &Vec<u8>| known.contains(it) || vouched(it, bridges, &known);
        let own_stays = own.is_some_and(|own| authorities.iter().any(|it| names(&own.certificate, it)));
        if !own_stays || !authorities.iter().all(is_good) {
            return Ok(false);
        }
        let leads = |bridge: &&Vec<u8>| {
            let alone = std::slice::from_ref(*bridge);
            authorities.iter().any(|it| vouched(it, alone, authorities))
        };
        let bridges: Vec<Vec<u8>> = bridges.iter().filter(leads).cloned().collect();
        let news = keyring.keep_authorities(authorities, &bridges)?;
        if news {
            tracing::info!(authorities = authorities.len(), "this node believes other authorities now");
            self.refresh()?;
        }
        Ok(news)
    }

    /// Issues a certificate, if the authority's key is here. By `hosts` people call the node.
    pub fn certify<'a>(
        &self,
        node: NodeId,
        public_key: &[u8],
        hosts: impl IntoIterator<Item = &'a str>,
        now: Timestamp,
    ) -> Result<Certified, ApiError> {
        let keyring = self.keyring.as_ref().ok_or_else(unsecured)?;
        let authority = keyring.authority().ok_or_else(|| {
            ApiError::unavailable("this voter has not got the authority's key from the others yet")
        })?;
        let public = PublicKey::read(public_key)
            .map_err(|error| ApiError::invalid("public_key", error.to_string(), "65 bytes"))?;
        let issued = authority.issue(&public, Holder::Node(node), hosts, now, self.lifetime);
        let certificate = issued.map_err(|error| ApiError::Internal(error.to_string()))?;
        let (authorities, bridges) = (keyring.authorities(), keyring.bridges());
        Ok(Certified { certificate, authorities, bridges, lifetime: self.lifetime })
    }
}

/// What a node is called by in its certificate: the host of its address, its hostname and its name, as long as no other living node
/// with a smaller number is called so, or is there. Whoever comes later has no certificate of a name that is taken. An IP address
/// that it is reached at may be that of others, too: several agents may be behind one.
fn hosts(nodes: &BTreeMap<NodeId, Node>, node: &Node) -> Vec<String> {
    let earlier = nodes.values().filter(|other| other.id < node.id && other.status.is_alive());
    let taken: BTreeSet<String> =
        earlier.flat_map(|other| other.facts.hosts()).map(str::to_ascii_lowercase).collect();
    let is_reached_at = |host: &str| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok() && node.facts.hosts().next() == Some(host)
    };
    let is_free = |host: &&str| is_reached_at(host) || !taken.contains(&host.to_ascii_lowercase());
    node.facts.hosts().filter(is_free).map(str::to_owned).collect()
}

fn internal(error: impl Into<TrustFailure>) -> ApiError {
    ApiError::Internal(error.into().to_string())
}

pub(crate) fn unsecured() -> ApiError {
    ApiError::Precondition("nothing is secured in this cluster: it runs without certificates".to_owned())
}

/// Why the join secret brings a node in no more.
const SECRET_REVOKED: &str = "the join secret was revoked, or is none that this cluster began with: put a join token, as `sheaf \
                              cluster token create --role agent` prints it, into the file that [security] join_token_file \
                              names, and take join_secret_file out";

/// What a node that wants in has proven.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Proven {
    /// It is welcome; whether it may become a voter.
    Welcome {
        /// See [`sheaf_engine::Admit`].
        may_vote: bool,
    },
    /// It is not, and why.
    Refused(String),
}

impl Control {
    /// What a data directory that asks for a number has proven: by its certificate, by the join secret, by a token.
    pub(crate) async fn proven(&self, caller: &Caller, ask: &JoinAsk) -> Result<Proven, ApiError> {
        if self.place.trust.keyring.is_none() {
            return Ok(Proven::Welcome { may_vote: true });
        }
        let is_revoked = caller.holder == Some(Holder::Joining) && !self.takes_the_secret().await?;
        let judged = {
            let member = self.member()?;
            let state = member.replica.state();
            let mut nodes = state.nodes.values();
            let known = nodes.find(|node| node.key == ask.key && node.status != NodeStatus::Left);
            let is_unheard_of = |shown: NodeId| ask.cluster.is_some() && !state.nodes.contains_key(&shown);
            let holder = caller.holder.filter(|_| !is_revoked);
            proof::judge(known, holder, caller.certified_node().is_some_and(is_unheard_of))
        };
        let may_vote = match judged {
            Judged::Welcome { may_vote } => return Ok(Proven::Welcome { may_vote }),
            Judged::Refused(why) => return Ok(Proven::Refused(why)),
            Judged::ByToken { may_vote } => may_vote,
        };
        let refused = |why: &str| Ok(Proven::Refused(why.to_owned()));
        let Some(token) = &ask.token else {
            if is_revoked {
                return refused(SECRET_REVOKED);
            }
            return refused(
                "this cluster takes a node by a join token or by its join secret: put one, as `sheaf cluster token create \
                 --role agent` prints it, into the file that [security] join_token_file names",
            );
        };
        match self.joining(token, None).await {
            Ok((of_voter, by)) => {
                tracing::info!(node = %ask.facts.name, token = by, "a node joins by a token");
                Ok(Proven::Welcome { may_vote: of_voter && may_vote })
            }
            Err(ApiError::Unauthenticated(why) | ApiError::Forbidden(why)) => Ok(Proven::Refused(why)),
            Err(error) => Err(error),
        }
    }

    /// Whether this node's join secret still brings somebody in: whether the token that it is was not revoked. Who has begun to
    /// lead just now may not know it yet, and asks.
    async fn takes_the_secret(&self) -> Result<bool, ApiError> {
        let member = self.member()?;
        let confirmed = tokio::time::timeout(WITHIN, member.replica.confirm_leadership()).await;
        if !matches!(confirmed, Ok(Ok(_))) {
            return Err(ApiError::unavailable("no majority answers this node now"));
        }
        Ok(self.place.trust.secret_counts(&member.replica.state()))
    }

    /// A node's next certificate; for the node that shows its present one.
    pub(crate) fn renewed(
        &self,
        caller: &Caller,
        cluster: &ClusterId,
        public_key: &[u8],
    ) -> Result<Certified, ApiError> {
        let node = shown(caller)?;
        let member = self.leading()?;
        self.same_cluster(cluster)?;
        self.certified(&member, node, public_key)
    }

    /// A certificate for a node that is registered.
    pub(crate) fn certified(
        &self,
        member: &Member,
        node: NodeId,
        public_key: &[u8],
    ) -> Result<Certified, ApiError> {
        let hosts = {
            let state = member.replica.state();
            let known = state.nodes.get(&node).filter(|known| known.status != NodeStatus::Left);
            known.map(|known| hosts(&state.nodes, known))
        };
        let gone = || ApiError::Precondition(format!("node {node} was forgotten; it must join anew"));
        let hosts = hosts.ok_or_else(gone)?;
        self.place.trust.certify(node, public_key, hosts.iter().map(String::as_str), self.clock.wall())
    }

    /// The key of an authority, or of the one that issues, for a node that votes or is about to.
    pub(crate) fn authority_for(
        &self,
        caller: &Caller,
        cluster: &ClusterId,
        wanted: Option<Digest>,
    ) -> Result<AuthorityKey, ApiError> {
        let node = shown(caller)?;
        self.same_cluster(cluster)?;
        let member = self.member()?;
        if !member.replica.metrics().members.iter().any(|member| member.peer.node == node) {
            return Err(ApiError::Precondition(format!("node {node} is no member of this cluster")));
        }
        let keyring = self.place.trust.keyring.as_ref().ok_or_else(unsecured)?;
        let authority = match &wanted {
            Some(wanted) => keyring.with_key(&wanted.0),
            None => keyring.authority(),
        };
        let authority = authority.ok_or_else(|| ApiError::NotFound("the authority's key".to_owned()))?;
        tracing::info!(%node, "an authority's key goes to another voter");
        Ok(AuthorityKey {
            key: Confidential(authority.key().pem()),
            certificate: authority.certificate().to_vec(),
        })
    }

    fn leading(&self) -> Result<Member, ApiError> {
        let leads = self.place.member().filter(|_| self.place.leads());
        leads.ok_or_else(|| ApiError::unavailable("this node does not lead now"))
    }

    fn same_cluster(&self, cluster: &ClusterId) -> Result<(), ApiError> {
        let ours = self.cluster_id()?;
        if ours == *cluster {
            return Ok(());
        }
        Err(ApiError::Precondition(format!("this is a node of cluster {ours}, not of {cluster}")))
    }

    /// Keeps this node's certificate good, trusts whom the cluster trusts, and on a voter has the authority's key.
    pub(crate) async fn run_trust(&self, stop: CancellationToken) {
        let Some(keyring) = self.place.trust.keyring.clone() else { return };
        let mut told = String::new();
        loop {
            if let Err(error) = self.look_after(&keyring).await {
                let error = error.to_string();
                if error != told {
                    tracing::warn!(error, "this node's certificate is not looked after; trying again");
                    told = error;
                }
            } else {
                told.clear();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    async fn look_after(&self, keyring: &Keyring) -> Result<(), ApiError> {
        let registration = self.place.registration.borrow().clone();
        let Some(registration) = registration else { return Ok(()) };
        if let Some(member) = &self.place.member() {
            self.look_after_authorities(member, keyring, &registration).await?;
        }
        if keyring.is_due(self.clock.wall()) {
            self.renew_own(&registration.cluster).await?;
        }
        Ok(())
    }

    async fn renew_own(&self, cluster: &ClusterId) -> Result<(), ApiError> {
        let leader = self.place.leader_contact();
        let leader = leader.ok_or_else(|| ApiError::unavailable("no leader is known now"))?;
        let key = PrivateKey::new().map_err(internal)?;
        let peer = PeerClient::new(&leader, &self.place.trust.transport)?;
        let certified = peer.renew(cluster, key.public().raw(), WITHIN).await?;
        self.place.trust.keep(&certified, &key, self.clock.wall()).map_err(internal)?;
        tracing::info!("this node's certificate was renewed");
        Ok(())
    }
}

/// The node whose certificate the caller has shown.
fn shown(caller: &Caller) -> Result<NodeId, ApiError> {
    caller
        .certified_node()
        .ok_or_else(|| ApiError::Precondition("for nodes that show their certificate".to_owned()))
}

#[cfg(test)]
pub(crate) mod tests;
