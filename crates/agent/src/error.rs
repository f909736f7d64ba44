//! What can go wrong in an agent as a whole. What goes wrong with one bucket is that bucket's phase or verdict.

use std::error::Error;
use std::path::PathBuf;

use crate::keepers::KeeperError;

/// Why an agent does not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The file system said no.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The instances of an earlier life cannot be looked at.
    #[error("cannot look at the instances on disk")]
    Instances(#[source] KeeperError),
    /// The clock of leases cannot be waited for.
    #[error("cannot use a timer on the boot clock")]
    Alarm {
        /// Why not.
        source: std::io::Error,
    },
    /// Its own port cannot be one.
    #[error("cannot ask this node's own port {address}")]
    Own {
        /// Where it was to be.
        address: String,
        /// Why not.
        source: sheaf_wire::ApiError,
    },
    /// A stand-in cannot be reached by the agent that comes.
    #[error("cannot listen for the agent that comes")]
    StandIn {
        /// Why not.
        source: std::io::Error,
    },
    /// Its keys and certificates cannot be read.
    #[error("cannot use this node's keys and certificates")]
    Keyring(#[source] sheaf_trust::KeyringError),
    /// They cannot be used.
    #[error("cannot use this node's certificate")]
    Credentials(#[source] sheaf_wire::CredentialsError),
    /// A part of the agent ended although nobody asked it to.
    #[error("the agent's {0} ended by itself")]
    Ended(&'static str),
}

/// An error with its causes, on one line.
pub(crate) fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
