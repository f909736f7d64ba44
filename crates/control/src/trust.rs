//! What secures this node's connections: its certificate and how it is renewed, and the authority on voters.
//!
//! ```text
//!  a node that joins ──Join, public key──► leader ──issues──► its first certificate
//!  each node, in time ──Renew────────────► leader ──issues──► its next
//!  a new voter ──FetchAuthority──► another voter ──► the authority's key, over TLS, into a file; never into the log
//! ```
//!
//! Who may come in is in `proof`.

mod proof;

use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::State;
use sheaf_model::{ClusterId, Holder, NodeId, NodeStatus, Timestamp};
use sheaf_trust::{Authority, Keyring, KeyringError, PrivateKey, PublicKey};
use sheaf_wire::peer::{AuthorityKey, Certified, Confidential, JoinAsk, PeerClient};
use sheaf_wire::{ApiError, Caller, Credentials, Join, Pair, Transport};
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
        let authorities = keyring.authorities();
        // What a token pins is needed until there is a certificate, which is when the transport is refreshed first.
        let credentials = Credentials { authorities, own, join: self.join.clone(), pin: None };
        Ok(self.transport.replace(&credentials)?)
    }

    /// Keeps a certificate for `key` and uses it.
    pub fn keep(&self, certified: &Certified, key: &PrivateKey, now: Timestamp) -> Result<(), TrustFailure> {
        let Some(keyring) = &self.keyring else { return Ok(()) };
        keyring.keep_authorities(&certified.authorities)?;
        // Two thirds of its life: enough is left for a cluster that is down for days.
        let after = u64::try_from(certified.lifetime.as_millis()).unwrap_or(u64::MAX) / 3 * 2;
        keyring.keep_own(&certified.certificate, key, Timestamp(now.0.saturating_add(after)))?;
        self.refresh()
    }

    /// Whom this node trusts, for others; empty: nothing is secured.
    pub fn authorities(&self) -> Vec<Vec<u8>> {
        self.keyring.as_ref().map(|keyring| keyring.authorities()).unwrap_or_default()
    }

    /// Issues a certificate, if the authority's key is here.
    pub fn certify(
        &self,
        node: NodeId,
        public_key: &[u8],
        address: &str,
        now: Timestamp,
    ) -> Result<Certified, ApiError> {
        let keyring = self.keyring.as_ref().ok_or_else(unsecured)?;
        let authority = keyring.authority().ok_or_else(|| {
            ApiError::unavailable("this voter has not got the authority's key from the others yet")
        })?;
        let public = PublicKey::read(public_key)
            .map_err(|error| ApiError::invalid("public_key", error.to_string(), "65 bytes"))?;
        let host = address.rsplit_once(':').map(|(host, _)| host);
        let issued = authority.issue(&public, Holder::Node(node), host, now, self.lifetime);
        let certificate = issued.map_err(|error| ApiError::Internal(error.to_string()))?;
        Ok(Certified { certificate, authorities: keyring.authorities(), lifetime: self.lifetime })
    }
}

fn unsecured() -> ApiError {
    ApiError::Precondition("nothing is secured in this cluster: it runs without certificates".to_owned())
}

/// What a node that wants in has proven.
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
        let judged = {
            let member = self.member()?;
            let state = member.replica.state();
            let mut nodes = state.nodes.values();
            let known = nodes.find(|node| node.key == ask.key && node.status != NodeStatus::Left);
            let is_unheard_of = |shown: NodeId| ask.cluster.is_some() && !state.nodes.contains_key(&shown);
            proof::judge(known, caller.holder, caller.certified_node().is_some_and(is_unheard_of))
        };
        let may_vote = match judged {
            Judged::Welcome { may_vote } => return Ok(Proven::Welcome { may_vote }),
            Judged::Refused(why) => return Ok(Proven::Refused(why)),
            Judged::ByToken { may_vote } => may_vote,
        };
        let refused = |why: &str| Ok(Proven::Refused(why.to_owned()));
        let Some(token) = &ask.token else {
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
        let address = {
            let state = member.replica.state();
            let known = state.nodes.get(&node).filter(|known| known.status != NodeStatus::Left);
            known.map(|known| known.facts.address.clone())
        };
        let gone = || ApiError::Precondition(format!("node {node} was forgotten; it must join anew"));
        self.place.trust.certify(node, public_key, &address.ok_or_else(gone)?, self.clock.wall())
    }

    /// The authority's key, for a node that votes or is about to.
    pub(crate) fn authority_for(
        &self,
        caller: &Caller,
        cluster: &ClusterId,
    ) -> Result<AuthorityKey, ApiError> {
        let node = shown(caller)?;
        self.same_cluster(cluster)?;
        let member = self.member()?;
        if !member.replica.metrics().members.iter().any(|member| member.peer.node == node) {
            return Err(ApiError::Precondition(format!("node {node} is no member of this cluster")));
        }
        let keyring = self.place.trust.keyring.as_ref().ok_or_else(unsecured)?;
        let authority = keyring.authority();
        let authority = authority.ok_or_else(|| ApiError::NotFound("the authority's key".to_owned()))?;
        tracing::info!(%node, "the authority's key goes to another voter");
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
        let failed = |error: TrustFailure| ApiError::Internal(error.to_string());
        let member = self.place.member();
        if let Some(member) = &member {
            let trusted = trusted(&member.replica.state());
            if keyring.keep_authorities(&trusted).map_err(|error| failed(error.into()))? {
                self.place.trust.refresh().map_err(failed)?;
            }
            let votes = member.replica.metrics().members.iter().any(|m| m.peer.node == registration.node);
            if votes && keyring.authority().is_none() && !trusted.is_empty() {
                self.ask_for_authority(member, keyring, &registration.cluster, registration.node).await?;
            }
        }
        if keyring.is_due(self.clock.wall()) {
            self.renew_own(&registration.cluster).await?;
        }
        Ok(())
    }

    async fn ask_for_authority(
        &self,
        member: &Member,
        keyring: &Keyring,
        cluster: &ClusterId,
        me: NodeId,
    ) -> Result<(), ApiError> {
        let others = member.replica.metrics().members.into_iter().filter(|other| other.peer.node != me);
        let mut why = ApiError::unavailable("no other voter has the authority's key");
        for other in others {
            let peer = PeerClient::new(&other.peer.address, &self.place.trust.transport)?;
            match peer.fetch_authority(cluster, WITHIN).await {
                Ok(got) => {
                    let internal = |error: TrustFailure| ApiError::Internal(error.to_string());
                    let key = PrivateKey::from_pem(got.key.0.as_bytes());
                    let key = key.map_err(|error| internal(error.into()))?;
                    let authority = Authority::from_parts(key, got.certificate);
                    let authority = authority.map_err(|error| internal(error.into()))?;
                    keyring.keep_authority(authority).map_err(|error| internal(error.into()))?;
                    tracing::info!("this voter has the authority's key now");
                    return self.place.trust.refresh().map_err(internal);
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn renew_own(&self, cluster: &ClusterId) -> Result<(), ApiError> {
        let leader = self.place.leader_address();
        let leader = leader.ok_or_else(|| ApiError::unavailable("no leader is known now"))?;
        let internal = |error: TrustFailure| ApiError::Internal(error.to_string());
        let key = PrivateKey::new().map_err(|error| internal(error.into()))?;
        let peer = PeerClient::new(&leader, &self.place.trust.transport)?;
        let certified = peer.renew(cluster, key.public().raw(), WITHIN).await?;
        self.place.trust.keep(&certified, &key, self.clock.wall()).map_err(internal)?;
        tracing::info!("this node's certificate was renewed");
        Ok(())
    }
}

/// Whom the cluster trusts, the issuing authority first.
fn trusted(state: &State) -> Vec<Vec<u8>> {
    let authorities = state.access.authorities.iter().rev();
    authorities.map(|authority| authority.certificate.as_bytes().to_vec()).collect()
}

/// The node whose certificate the caller has shown.
fn shown(caller: &Caller) -> Result<NodeId, ApiError> {
    caller
        .certified_node()
        .ok_or_else(|| ApiError::Precondition("for nodes that show their certificate".to_owned()))
}
