//! Secrets: `sheaf.v1.SecretService`, and what instances get of them.
//!
//! ```text
//!  caller ──Set, plain──► this node: seals with its key file ──Put, sealed, with the caller's token──► leader ──► the log
//! ```

use std::sync::Arc;

use sheaf_engine::{Command, PutSecret as Put, State};
use sheaf_model::view::SecretRow;
use sheaf_model::{ModuleRef, ModuleSpec, PutBucket, SecretName};
use sheaf_seal::Key;
use sheaf_wire::secret::{DeleteSecret, ListSecrets, PutSecret, SecretApi, SetSecret};
use sheaf_wire::{ApiError, Caller, Client, Done, Page, async_trait};
use tokio::time::Instant;

use crate::Control;
use crate::filter::{page, selects};

/// Warnings of secrets that are not there; more say nothing new.
const WARNINGS: usize = 20;

/// What a node needs to set secrets.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The cluster's key; none: this node has none.
    pub key: Option<Arc<Key>>,
    /// This node's own port, from where a sealed value finds the leader.
    pub own: Client,
}

#[async_trait]
impl SecretApi for Control {
    async fn set(&self, caller: Caller, ask: SetSecret) -> Result<Done, ApiError> {
        let sealing = self.sealing.as_ref();
        let Some((key, own)) = sealing.and_then(|it| Some((it.key.as_ref()?, &it.own))) else {
            let name = &self.place.identity.name;
            return Err(ApiError::Precondition(format!(
                "node {name} cannot seal a secret: {}",
                sheaf_seal::NO_KEY
            )));
        };
        let SetSecret { name, value, request } = ask;
        let sealed = key.seal(&name, &value).map_err(|error| ApiError::Internal(error.to_string()))?;
        let own = own.acting_as(&caller.actor.0)?.presenting(caller.token);
        // A token that is not valid was tried there, not by this node for all of them.
        let own = caller.remote.map_or_else(|| own.clone(), |from| own.asking_for(from));
        let own = match caller.deadline {
            Some(deadline) => own.with_deadline(deadline.saturating_duration_since(Instant::now())),
            None => own,
        };
        own.put_secret(PutSecret { name, sealed, request }).await
    }

    async fn put(&self, caller: Caller, ask: PutSecret) -> Result<Done, ApiError> {
        let PutSecret { name, sealed, request } = ask;
        self.change(&caller, request, Command::PutSecret(Put { name, sealed })).await
    }

    async fn list(&self, caller: Caller, ask: ListSecrets) -> Result<Page<SecretRow>, ApiError> {
        self.caught_up(&caller).await?;
        self.see_rows(|sight| {
            let after = sight.state.secrets.values().filter(|it| it.name.as_str() > ask.page.token.as_str());
            let rows = after.map(|secret| SecretRow {
                name: secret.name.to_string(),
                key: secret.sealed.key.to_string(),
                revision: secret.revision.0,
                at: secret.at.to_string(),
                actor: secret.actor.clone(),
            });
            let selected = rows.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, selected, |row| row.name.clone())
        })
    }

    async fn delete(&self, caller: Caller, ask: DeleteSecret) -> Result<Done, ApiError> {
        self.change(&caller, ask.request, Command::DeleteSecret(ask.name)).await
    }
}

fn values(row: &SecretRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "key" => vec![row.key.clone()],
        _ => Vec::new(),
    }
}

/// What modules and buckets name that nobody has set.
pub(crate) fn missing(modules: &[ModuleSpec], buckets: &[PutBucket], state: &State) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut told = std::collections::BTreeSet::new();
    let mut tell = |document: String, name: SecretName| {
        if !state.secrets.contains_key(&name) && told.len() < WARNINGS && told.insert(name.clone()) {
            let text = "does not exist; it starts once you set it with";
            warnings.push(format!("{document}: secret {name} {text} `sheaf secret set {name}`"));
        }
    };
    for module in modules {
        for name in module.secrets_named() {
            tell(format!("Module {}@{}", module.name, module.version), name);
        }
    }
    for put in buckets {
        if let Some(module) = module_of(&put.spec.module, modules, state) {
            for name in module.secrets_for(&put.spec) {
                tell(format!("Bucket {}", put.spec.name), name);
            }
        }
    }
    warnings
}

/// The module that a bucket will have, as far as can be told.
pub(crate) fn module_of<'a>(
    wanted: &ModuleRef,
    applied: &'a [ModuleSpec],
    state: &'a State,
) -> Option<&'a ModuleSpec> {
    let is_meant = |spec: &&ModuleSpec| {
        spec.name == wanted.name && wanted.version.as_ref().is_none_or(|version| *version == spec.version)
    };
    let known = || if wanted.version.is_some() { state.module(wanted) } else { state.newest(&wanted.name) };
    applied.iter().rfind(is_meant).or_else(|| known().map(|module| &*module.spec))
}
