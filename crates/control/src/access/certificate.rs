//! Certificates of people and programs: how they are made, and what they prove.
//!
//! The cluster keeps the digest of a certificate's public key under its id, as it keeps that of a token's secret: it is revoked
//! as a token is, and a certificate that an authority signed without the cluster's knowledge proves nothing.

use std::time::Duration;

use sheaf_engine::{AccessCommand, Command, CreateToken, Reply};
use sheaf_model::{Digest, Holder, Timestamp, TokenRecord, TokenUse};
use sheaf_trust::{PublicKey, pin};
use sheaf_wire::cluster::{CreateCertificate, CreatedCertificate};
use sheaf_wire::{ApiError, Caller, Signed, public_key};

use super::row;
use crate::Control;
use crate::place::Member;
use crate::propose::refused;
use crate::trust::unsecured;

/// How long a certificate is good whose end nobody names: ten years.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Whether the holder of the certificate that the cluster knows has signed it, for this cluster and for now.
pub(super) fn proves(
    member: &Member,
    signed: &Signed,
    known: &TokenRecord,
    now: Timestamp,
) -> Result<(), String> {
    let (cluster, authorities) = {
        let state = member.replica.state();
        let believed = state.access.authorities.iter().map(|it| it.certificate.as_bytes().to_vec());
        (state.cluster.id.clone().unwrap_or_default(), believed.collect::<Vec<_>>())
    };
    let key = signed.verify(&cluster, &authorities, now)?;
    if sheaf_seal::sha256(&key) != known.digest {
        return Err("the certificate is not the one that the cluster has made under this id".to_owned());
    }
    Ok(())
}

impl Control {
    /// Makes a certificate for a key that its holder keeps.
    ///
    /// # Errors
    /// As `ClusterService.CreateCertificate`.
    pub(crate) async fn make_certificate(
        &self,
        caller: &Caller,
        ask: CreateCertificate,
    ) -> Result<CreatedCertificate, ApiError> {
        let internal = |error: &dyn std::error::Error| ApiError::Internal(error.to_string());
        let member = self.member()?;
        let keyring = self.place.trust.keyring.as_ref().ok_or_else(unsecured)?;
        let authority = keyring.authority().ok_or_else(|| {
            ApiError::unavailable("this voter has not got the authority's key from the others yet")
        })?;
        let key = PublicKey::read(&ask.public_key)
            .map_err(|error| ApiError::invalid("public_key", error.to_string(), "65 bytes"))?;
        // The id alone is of use: it is as random as a token's.
        let id = sheaf_seal::new_token(None).map_err(|error| internal(&error))?.id();
        let now = self.clock.wall();
        let lifetime = ask.ttl.map_or(LIFETIME, sheaf_model::Span::duration);
        let certificate = authority.issue(&key, Holder::Person(id), None, now, lifetime);
        let certificate = certificate.map_err(|error| internal(&error))?;
        let key = public_key(&certificate);
        let key = key.ok_or_else(|| ApiError::Internal("the certificate cannot be read".to_owned()))?;
        let create = CreateToken {
            id,
            name: ask.name,
            of: TokenUse::Certificate { rights: ask.rights, authority: Digest(pin(authority.certificate())) },
            digest: sheaf_seal::sha256(&key),
            expires_at: ask.ttl.map(|ttl| Timestamp(now.0.saturating_add(ttl.0))),
        };
        let command = Command::Access(AccessCommand::CreateToken(create));
        let revision = match self.propose(caller, None, command).await? {
            Reply::Done(revision) => revision,
            Reply::Refused(refusal) => return Err(refused(refusal)),
            other => {
                return Err(ApiError::Internal(format!("an answer that fits no certificate: {other:?}")));
            }
        };
        let (made, cluster) = {
            let state = member.replica.state();
            let made = state.access.tokens.get(&id).map(|record| row(record, now));
            (made, state.cluster.id.clone().unwrap_or_default())
        };
        let row = made.ok_or_else(|| {
            ApiError::Precondition("the certificate was revoked in the moment it was made".to_owned())
        })?;
        let authority = authority.certificate().to_vec();
        Ok(CreatedCertificate { certificate, authority, cluster, row, revision })
    }
}

#[cfg(test)]
mod tests;
