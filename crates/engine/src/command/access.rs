//! What can be asked about who may do what, and who belongs to the cluster.

use serde::{Deserialize, Serialize};
use sheaf_model::{Digest, ObjectValue, Span, Term, Timestamp, TokenId, TokenName, TokenUse};

use super::Register;

/// See [`crate::Command::Access`]. New variants are added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AccessCommand {
    /// Makes a token.
    CreateToken(CreateToken),
    /// A token is worth nothing from now on.
    RevokeToken(TokenId),
    /// A token that expired some time ago is forgotten; verified when applied.
    ExpireToken(ExpireToken),
    /// Certificates of an authority are believed from now on, and it issues them.
    PutAuthority(PutAuthority),
    /// They are believed no more. The one that issues cannot be dropped.
    DropAuthority(Digest),
    /// A node joins by proof of what it may become.
    Admit(Admit),
    /// Certificates of another authority are believed from now on; it issues them once every node believes it.
    BeginRotation(BeginRotation),
    /// Every node believes the next authority: it issues from now on.
    IssueBy(IssueBy),
    /// Nothing needs the former authority any more: it is dropped; verified when applied.
    RetireAuthority(RetireAuthority),
}

/// See [`AccessCommand::CreateToken`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateToken {
    /// Random.
    pub id: TokenId,
    /// Taken: refused as conflicting.
    pub name: TokenName,
    /// What it is for.
    pub of: TokenUse,
    /// SHA-256 of its secret.
    pub digest: Digest,
    /// None: it does not.
    pub expires_at: Option<Timestamp>,
}

/// See [`AccessCommand::ExpireToken`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpireToken {
    /// Which one.
    pub id: TokenId,
    /// When it expired; another: stale.
    pub expires_at: Timestamp,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`AccessCommand::PutAuthority`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PutAuthority {
    /// SHA-256 of the certificate, reckoned by whoever proposes it.
    pub fingerprint: Digest,
    /// DER.
    pub certificate: ObjectValue,
}

/// See [`AccessCommand::BeginRotation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeginRotation {
    /// SHA-256 of the certificate, reckoned by whoever proposes it.
    pub fingerprint: Digest,
    /// DER.
    pub certificate: ObjectValue,
    /// A certificate of the new authority by the one that issues; DER.
    pub bridge: ObjectValue,
    /// How long certificates are good that the present authority signs.
    pub lifetime: Span,
}

/// See [`AccessCommand::IssueBy`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueBy {
    /// The next authority; another: stale.
    pub fingerprint: Digest,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`AccessCommand::RetireAuthority`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetireAuthority {
    /// A former authority; another: stale.
    pub fingerprint: Digest,
    /// Until when its certificates are good; another time: stale.
    pub until: Timestamp,
    /// The term of the decision; another: stale.
    pub term: Term,
}

/// See [`AccessCommand::Admit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admit {
    /// As without proof.
    pub register: Register,
    /// The node may become a voter.
    pub may_vote: bool,
}
