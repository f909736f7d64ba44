//! Secrets on the node where they are used: they come sealed, from any member, and are opened here.
//!
//! What is opened is given to the one who asked and to nobody else: a plugin, over its socket; or a keeper, which fills it into
//! its program's environment and files and keeps it in its memory.

use std::sync::Arc;

use sheaf_model::{BucketName, Claim, Epoch, NodeId, NodeName, Sealed, SecretName, SecretValue};
use sheaf_module::{Refused, Why};
use sheaf_seal::{Key, SealError};
use sheaf_wire::instance::GetSecret;
use sheaf_wire::{ApiError, Client};

use crate::keeper::{Opened, Plan};

/// What the secrets of one instance's environment and files may have together, in bytes.
const TOGETHER_MAX: usize = 512 << 10;

/// Why a secret is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// The cluster does not give it.
    #[error("{0}")]
    Asked(ApiError),
    /// This node has no key.
    #[error("node {node} cannot open secret {name}: {}", sheaf_seal::NO_KEY)]
    NoKey { node: NodeName, name: SecretName },
    /// It is sealed with another key, or damaged.
    #[error(transparent)]
    Sealed(#[from] SealError),
    /// It cannot stand where a text stands.
    #[error(
        "secret {0} is not text without zero bytes: it cannot stand in env or files; a plugin can ask for it"
    )]
    NoText(SecretName),
    /// All of them are too much.
    #[error("the secrets of its env and files have more than {TOGETHER_MAX} bytes together")]
    TooMuch,
}

impl From<SecretError> for Refused {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::Asked(error) => crate::context::refused(&error),
            error => Self::new(Why::Other, error.to_string()),
        }
    }
}

/// Who opens secrets on this node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Secrets {
    node: NodeId,
    name: NodeName,
    client: Client,
    /// None: this node has none.
    key: Option<Arc<Key>>,
}

impl Secrets {
    /// `client` is of this node's own port; nothing is asked there before a secret is.
    pub(crate) fn new(node: NodeId, name: NodeName, client: Client, key: Option<Arc<Key>>) -> Self {
        Self { node, name, client, key }
    }

    /// A secret as it is now, for an instance that runs its bucket, or is about to.
    pub(crate) async fn get(
        &self,
        bucket: &BucketName,
        claim: Claim,
        name: &SecretName,
    ) -> Result<SecretValue, SecretError> {
        let ask = GetSecret { bucket: bucket.clone(), claim, name: name.clone() };
        // Without a revision: whatever was acknowledged to anybody.
        let sealed = self.client.secret_for(ask).await.map_err(SecretError::Asked)?;
        open(self.key.as_deref(), &self.name, name, &sealed)
    }

    /// All that a plan leaves open, for an instance of this epoch; none: one of those that all nodes run.
    pub(crate) async fn of_plan(&self, plan: &Plan, epoch: Option<Epoch>) -> Result<Opened, SecretError> {
        let claim = Claim { node: self.node, epoch };
        let mut opened = Opened::default();
        let mut bytes = 0;
        for name in plan.secrets() {
            if opened.has(name) {
                continue;
            }
            let value = self.get(&plan.bucket, claim, name).await?;
            bytes += value.reveal().len();
            if bytes > TOGETHER_MAX {
                return Err(SecretError::TooMuch);
            }
            opened.put(name.clone(), text(name, &value)?);
        }
        Ok(opened)
    }
}

/// A secret that came sealed; `key` is that of `node`, if it has one.
pub(crate) fn open(
    key: Option<&Key>,
    node: &NodeName,
    name: &SecretName,
    sealed: &Sealed,
) -> Result<SecretValue, SecretError> {
    let no_key = || SecretError::NoKey { node: node.clone(), name: name.clone() };
    Ok(key.ok_or_else(no_key)?.open(name, sealed)?)
}

/// A secret as it can stand in an environment or a file.
pub(crate) fn text(name: &SecretName, value: &SecretValue) -> Result<String, SecretError> {
    let text = std::str::from_utf8(value.reveal()).ok().filter(|text| !text.contains('\0'));
    text.map(str::to_owned).ok_or_else(|| SecretError::NoText(name.clone()))
}
