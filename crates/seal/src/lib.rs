//! Seals secrets and opens them again, makes tokens and knows them again, signs what is sent outside; sole owner of `ring`.
//!
//! ```text
//!  key file ──read──► Key ──seal(name, value)──► Sealed ──► the log, SQLite, other nodes
//!                      └───open(name, Sealed)──► value, for an instance on this very node
//! ```
//!
//! ChaCha20-Poly1305 with a random nonce for each sealing. The secret's name is sealed with the value, so that nobody can
//! give one secret's value out as another's. A key is the cluster's, and the same file on each node that sets secrets or
//! runs what needs them.
//!
//! Read `key` (the file), then `sealing`, then `token` and `signature`.

mod key;
mod sealing;
mod signature;
mod token;

pub use key::{Key, KeyError, make, read};
pub use sealing::SealError;
pub use signature::{hmac_sha256, nonce, sign_es256};
pub use token::{digest_of, is_secret_of, new_token, sha256, token_of_secret};

/// What is wrong on a node without a key, and what to do about it.
pub const NO_KEY: &str = "it has no key for secrets; make one with `sheaf secret keygen FILE`, give every node that file as \
                          [secrets] key_file, and restart its agent";
