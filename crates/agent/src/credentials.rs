//! What a node shows to others, from the files in its data directory.

use std::path::Path;

use sheaf_trust::Keyring;
use sheaf_wire::{Credentials, Pair, Transport};

use crate::error::AgentError;

/// How the node with this data directory reaches others.
pub(crate) fn of_node(data_dir: &Path) -> Result<Transport, AgentError> {
    let keyring = Keyring::of_node(data_dir).map_err(AgentError::Keyring)?;
    let Some(own) = keyring.own() else { return Ok(Transport::plain()) };
    let own = Some(Pair { certificate: own.certificate, key: own.key });
    let (authorities, bridges) = (keyring.authorities(), keyring.bridges());
    let credentials = Credentials { authorities, bridges, own, ..Credentials::default() };
    Transport::tls(&credentials).map_err(AgentError::Credentials)
}
