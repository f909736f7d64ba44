//! Answers about who may do what, and whom nodes believe.

use serde::{Deserialize, Serialize};

/// `cluster token list` rows; nothing of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct TokenRow {
    pub name: String,
    pub id: String,
    /// viewer, operator or admin; agent or voter for nodes that join with it.
    pub role: String,
    /// Of the buckets that it may change; empty: all that its role may.
    pub prefix: String,
    pub created_at: String,
    pub created_by: String,
    /// None: it does not.
    pub expires_at: Option<String>,
    pub expired: bool,
    /// It is a certificate, and no token.
    #[serde(default)]
    pub certificate: bool,
}

/// `cluster ca status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct AuthorityStatus {
    /// settled, spreading (all are to believe the next one), renewing (all are to get certificates of it) or renewed (the
    /// former one can be dropped).
    pub stage: String,
    /// What that means now, for people.
    pub message: String,
    /// The one that issues first.
    pub authorities: Vec<AuthorityRow>,
    /// What has to happen before the next step.
    pub waits_for: Vec<AuthorityWait>,
    /// Names of certificates of people and programs that are worth nothing once the former one is dropped.
    pub certificates: Vec<String>,
}

/// An authority in `cluster ca status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct AuthorityRow {
    /// SHA-256 of its certificate: what tokens pin.
    pub fingerprint: String,
    /// issues, next or former.
    pub stage: String,
    pub added_at: String,
    /// Of a former one: it is dropped by itself after that, once nothing needs it.
    pub until: Option<String>,
    /// In PEM.
    pub certificate: String,
}

/// What a change of the authority waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the words of the document")]
pub struct AuthorityWait {
    /// The node's name.
    pub node: String,
    pub why: String,
}
