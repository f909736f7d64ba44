//! How one authority takes the place of another on the nodes; what of it is decided together is in [`sheaf_engine::rotation`].
//!
//! ```text
//!  rotate ──► leader: a new authority into `next.pem`; it is proposed, with the present one's word for it (a bridge)
//!  members: believe what the state says; fetch the new key from each other      others: learn it from a member's greeting
//!  all: tell the leader whom they believe ──► it has the new one issue, and later drops the former one
//!  all: renew their certificates as soon as another authority issues
//! ```

use std::sync::Arc;

use sheaf_engine::rotation::lacking;
use sheaf_engine::{AccessCommand, BeginRotation, Command, State};
use sheaf_model::view::AuthorityStatus;
use sheaf_model::{AuthorityRecord, Digest, NodeStatus, ObjectValue, Span};
use sheaf_trust::{Authority, Keyring, PrivateKey, pin};
use sheaf_wire::cluster::{RotateAuthority, RotationStep};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{ApiError, Caller, Done};

use super::{WITHIN, internal, unsecured};
use crate::Control;
use crate::place::{Member, Registration, contact};

/// Whom the cluster believes, as its state says.
struct Believed {
    /// Certificates in DER, that of the one that issues first.
    authorities: Vec<Vec<u8>>,
    /// What leads from one of them to another.
    bridges: Vec<Vec<u8>>,
    /// Whose keys members are to have: the one that issues, and the one that is to.
    keys: Vec<Digest>,
}

impl Believed {
    fn of(state: &State) -> Self {
        let access = &state.access;
        let (authorities, bridges) = access.certificates();
        let keys = access.issuing().into_iter().chain(access.successor());
        Self { authorities, bridges, keys: keys.map(|it| it.fingerprint).collect() }
    }
}

impl Control {
    /// On a member: believes whom the cluster believes, and has the keys that it should.
    pub(super) async fn look_after_authorities(
        &self,
        member: &Member,
        keyring: &Keyring,
        registration: &Registration,
    ) -> Result<(), ApiError> {
        let believed = Believed::of(&member.replica.state());
        let news = keyring.keep_authorities(&believed.authorities, &believed.bridges);
        if news.map_err(internal)? {
            self.place.trust.refresh().map_err(internal)?;
        }
        if member.replica.peer(registration.node).is_none() {
            return Ok(());
        }
        for wanted in &believed.keys {
            if keyring.with_key(&wanted.0).is_none() {
                self.fetch_key(member, keyring, registration, wanted).await?;
            }
        }
        Ok(())
    }

    async fn fetch_key(
        &self,
        member: &Member,
        keyring: &Keyring,
        registration: &Registration,
        wanted: &Digest,
    ) -> Result<(), ApiError> {
        let others = member.replica.metrics().members.into_iter();
        let others = others.filter(|other| other.peer.node != registration.node);
        let mut why = ApiError::unavailable("no other voter has the authority's key");
        for other in others {
            let contact = contact(other.peer);
            let peer = PeerClient::new(&contact, &self.place.trust.transport)?;
            let got = match peer.fetch_authority(&registration.cluster, wanted, WITHIN).await {
                Ok(got) => got,
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            // Whatever it answers: only what the cluster has agreed on counts.
            if pin(&got.certificate) != wanted.0 {
                why = ApiError::unavailable(format!("{contact} has the key of another authority"));
                continue;
            }
            let key = PrivateKey::from_pem(got.key.0.as_bytes()).map_err(internal)?;
            let authority = Authority::from_parts(key, got.certificate);
            let authority = authority.map_err(internal)?;
            let issues = keyring.authorities().first().is_some_and(|first| pin(first) == wanted.0);
            let kept = if issues {
                keyring.keep_authority(authority)
            } else {
                keyring.keep_next(authority).map(drop)
            };
            kept.map_err(internal)?;
            tracing::info!(authority = wanted.short(), "this voter has the authority's key now");
            return self.place.trust.refresh().map_err(internal);
        }
        Err(why)
    }

    /// Begins to replace the authority that issues, or ends that.
    pub(crate) async fn rotate(&self, caller: &Caller, ask: RotateAuthority) -> Result<Done, ApiError> {
        let member = self.leading()?;
        let before = ask.request.as_ref().is_some_and(|id| {
            let state = member.replica.state();
            state.request_ids.contains_key(id)
        });
        let (command, warnings) = match ask.step {
            // One that was asked before is answered as then, whatever there is to do now.
            _ if before => (AccessCommand::DropAuthority(Digest([0; 32])), Vec::new()),
            RotationStep::Begin => (self.beginning(&member)?, Vec::new()),
            RotationStep::Finish => self.finishing(&member)?,
            RotationStep::Abandon => (self.abandoning(&member)?, Vec::new()),
        };
        let done = self.change(caller, ask.request, Command::Access(command)).await?;
        Ok(Done { warnings: done.warnings.into_iter().chain(warnings).collect(), ..done })
    }

    fn beginning(&self, member: &Member) -> Result<AccessCommand, ApiError> {
        let keyring = self.place.trust.keyring.as_ref().ok_or_else(unsecured)?;
        let (issuing, successor, former) = {
            let state = member.replica.state();
            let fingerprint = |it: &Arc<AuthorityRecord>| it.fingerprint;
            let access = &state.access;
            (
                access.issuing().map(fingerprint),
                access.successor().map(fingerprint),
                access.former().map(fingerprint),
            )
        };
        if let Some(former) = former {
            return Err(ApiError::Precondition(format!(
                "authority {} is being replaced already, and believed still: sheaf cluster ca status shows what needs it, and \
                 sheaf cluster ca rotate --finish drops it",
                former.short()
            )));
        }
        let missing =
            || ApiError::unavailable("this voter has not got the authority's key from the others yet");
        let present = issuing.and_then(|issuing| keyring.with_key(&issuing.0)).ok_or_else(missing)?;
        let now = self.clock.wall();
        let next = match &successor {
            Some(begun) => keyring.with_key(&begun.0).ok_or_else(missing)?,
            None => {
                let new = Authority::new(now).map_err(internal)?;
                keyring.next_or(new).map_err(internal)?
            }
        };
        let bridge = present.vouch_for(&next, now).map_err(internal)?;
        let lifetime = u64::try_from(self.place.trust.lifetime.as_millis()).unwrap_or(u64::MAX);
        Ok(AccessCommand::BeginRotation(BeginRotation {
            fingerprint: Digest(pin(next.certificate())),
            certificate: ObjectValue::from(next.certificate()),
            bridge: ObjectValue::from(bridge.as_slice()),
            lifetime: Span(lifetime),
        }))
    }

    /// Drops the former authority, if everybody who is there, and everybody who votes, can do without it. With what that means
    /// to those that are not there.
    fn finishing(&self, member: &Member) -> Result<(AccessCommand, Vec<String>), ApiError> {
        let voters: Vec<_> = member.replica.metrics().voters().map(|voter| voter.peer.node).collect();
        self.see(|sight| {
            let access = &sight.state.access;
            let (Some(former), Some(issuing)) = (access.former(), access.issuing()) else {
                return Err(ApiError::Precondition(
                    "there is no former authority that could be dropped; sheaf cluster ca status shows how it stands".to_owned(),
                ));
            };
            let sessions = sight.sessions.ok_or_else(|| ApiError::unavailable("this node does not lead now"))?;
            let name = |node| sight.state.node_name(node);
            let mut lacks: Vec<String> = lacking(sight.state, sessions)
                .into_iter()
                .map(|(node, lack)| format!("{} {lack}", name(node)))
                .collect();
            let has_new = |node| sessions.load(node).trust.issuer == issuing.fingerprint.leading();
            let away = |node| !sight.state.is_alive(node) && !has_new(node);
            lacks.extend(voters.iter().filter(|voter| away(**voter)).map(|voter| {
                let name = name(*voter);
                format!("{name} votes and is away without a certificate of the new authority: sheaf node forget {name}")
            }));
            if !lacks.is_empty() {
                return Err(ApiError::Precondition(format!(
                    "authority {} is needed still: {}; wait for them, or forget those that are gone for good",
                    former.fingerprint.short(),
                    lacks.join("; ")
                )));
            }
            let lost = sight.state.nodes.values().filter(|node| node.status == NodeStatus::Lost);
            let lost: Vec<String> =
                lost.filter(|node| away(node.id)).map(|node| node.facts.name.to_string()).collect();
            let warnings = if lost.is_empty() {
                Vec::new()
            } else {
                let names = lost.join(", ");
                vec![format!("away, and to join anew with an empty data directory and a join token: {names}")]
            };
            Ok((AccessCommand::DropAuthority(former.fingerprint), warnings))
        })?
    }

    fn abandoning(&self, member: &Member) -> Result<AccessCommand, ApiError> {
        let next = member.replica.state().access.successor().map(|next| next.fingerprint);
        let next = next.ok_or_else(|| {
            ApiError::Precondition(
                "there is no authority that has not issued yet; sheaf cluster ca status shows how it stands"
                    .to_owned(),
            )
        })?;
        Ok(AccessCommand::DropAuthority(next))
    }

    pub(crate) async fn status_of_authorities(&self, caller: &Caller) -> Result<AuthorityStatus, ApiError> {
        self.caught_up(caller).await?;
        let wall = self.clock.wall();
        self.see(|sight| sight.authority_status(wall, |der| sheaf_trust::encode(&[der.to_vec()])))
    }
}
