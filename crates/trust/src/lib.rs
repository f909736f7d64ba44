//! The cluster's authority and the certificates that it issues; sole owner of `rcgen`.
//!
//! ```text
//!  Authority ──issue(public key, Holder)──► certificate ──► Keyring of a node ──► wire::Transport
//!      ▲                                                       ▲
//!      │ key: a file on each voter, never in the log           │ files under DIR/trust, for the agent's user alone
//!      │
//!  JoinSecret ──Authority::of_secret──► the same on each node that holds the secret: before there is a cluster, that is
//!                                       how its nodes know each other
//! ```
//!
//! One authority takes the place of another while both are believed: the former one vouches for its successor by a certificate
//! (a bridge), so that whoever believes the former alone still believes what the successor signs.
//!
//! Keys are ECDSA on P-256, which every TLS library speaks; those of a join secret are Ed25519, which can be derived.
//!
//! Read `key`, `authority`, then `keyring` (the files), `person` (certificates that nodes do not have).

mod authority;
mod key;
mod keyring;
mod person;

use std::time::Duration;

use sheaf_model::{Holder, Timestamp};

pub use authority::{Authority, names, pin};
pub use key::{PUBLIC_KEY, PrivateKey, PublicKey};
pub use keyring::{Keyring, KeyringError, Own, encode};
pub use person::Person;

/// How long a process may run with the certificate that it made from its join secret when it began.
const JOINING: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a join secret gives to whoever holds it.
pub struct Joining {
    /// The secret's authority, in DER.
    pub authority: Vec<u8>,
    /// A certificate of it, in DER.
    pub certificate: Vec<u8>,
    /// That one's key in PKCS #8 DER. Secret.
    pub key: Vec<u8>,
}

/// See [`Joining`].
pub fn joining(secret: &[u8; 32], now: Timestamp) -> Result<Joining, TrustError> {
    let authority = Authority::of_secret(secret)?;
    let key = PrivateKey::new()?;
    let certificate = authority.issue(&key.public(), Holder::Joining, None, now, JOINING)?;
    Ok(Joining { authority: authority.certificate().to_vec(), certificate, key: key.der() })
}

/// Why a key or a certificate could not be made or read. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The library said no.
    #[error("cannot {operation}: {source}")]
    Library {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: rcgen::Error,
    },
    /// It is not what it should be.
    #[error("this is no {expected}")]
    Malformed {
        /// What was expected.
        expected: &'static str,
    },
}

pub(crate) fn failed(operation: &'static str) -> impl Fn(rcgen::Error) -> TrustError {
    move |source| TrustError::Library { operation, source }
}
