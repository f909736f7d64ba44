//! Secrets: set and deleted by people, read by the instances whose modules name them. What is here is sealed.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_model::{BucketName, Claim, Defect, ModuleRef, SECRETS_MAX, SecretName};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{PutSecret, Refusal, Reply};
use crate::state::{Secret, State};

/// Names shown in a refusal.
const SHOWN: usize = 10;

impl Transaction<'_> {
    pub(super) fn put_secret(&mut self, put: &PutSecret) -> Result<Reply, Refusal> {
        let PutSecret { name, sealed } = put;
        sealed.check().map_err(|error| Refusal::Exhausted(format!("secret {name}: {error}")))?;
        let former = self.state.secrets.get(name);
        if former.is_none() && self.state.secrets.len() >= SECRETS_MAX {
            return Err(Refusal::Exhausted(format!(
                "there are {SECRETS_MAX} secrets already, which is the most"
            )));
        }
        let (before, after) = (if former.is_some() { "set" } else { "" }, "set");
        self.put(Change::Secret(Arc::new(Secret {
            name: name.clone(),
            sealed: sealed.clone(),
            revision: self.revision,
            at: self.proposal.at,
            actor: self.proposal.actor.to_string(),
        })));
        self.event(
            Line::new("secret.set", name).went(before, after).because(format!("with key {}", sealed.key)),
        );
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn delete_secret(&mut self, name: &SecretName) -> Result<Reply, Refusal> {
        if !self.state.secrets.contains_key(name) {
            return Err(Refusal::NotFound("secret".to_owned(), name.to_string()));
        }
        let users = self.state.users_of(name);
        if !users.is_empty() {
            let more = users.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let shown: Vec<&str> = users.iter().take(SHOWN).map(String::as_str).collect();
            return Err(Refusal::Precondition(format!(
                "secret {name} is named by {}{more}; delete these first, or apply them without it",
                shown.join(", ")
            )));
        }
        self.put(Change::SecretGone(name.clone()));
        self.event(Line::new("secret.deleted", name).went("set", ""));
        Ok(Reply::Done(self.revision))
    }
}

fn not_found(name: &SecretName) -> Refusal {
    Refusal::NotFound("secret".to_owned(), format!("{name}; set it with `sheaf secret set {name}`"))
}

impl State {
    /// Modules, buckets and sinks that name a secret, as documents are called.
    pub fn users_of(&self, name: &SecretName) -> BTreeSet<String> {
        let mut users = BTreeSet::new();
        for module in self.modules.values().flat_map(|versions| versions.values()) {
            if module.spec.secrets_named().contains(name) {
                users.insert(format!("Module {}@{}", module.spec.name, module.spec.version));
            }
        }
        for bucket in self.buckets.values() {
            let next = bucket.next.iter().map(|next| &next.release);
            let named = std::iter::once(&bucket.current).chain(next).any(|release| {
                let module =
                    self.module(&release.spec.module).filter(|module| !module.spec.secrets.is_empty());
                module.is_some_and(|module| module.spec.secrets_for(&release.spec).contains(name))
            });
            if named {
                users.insert(format!("Bucket {}", bucket.name()));
            }
        }
        for sink in self.sinks.values().filter(|sink| sink.spec.secrets().any(|named| named == name)) {
            users.insert(format!("Sink {}", sink.spec.name));
        }
        users
    }

    /// A secret, for an instance that runs its bucket now, or is about to: under the epoch that is bound, or as one of
    /// many; if its module names it for this bucket.
    pub fn secret_for(
        &self,
        bucket: &BucketName,
        claim: Claim,
        name: &SecretName,
    ) -> Result<Arc<Secret>, Refusal> {
        let Some(known) = self.buckets.get(bucket) else {
            return Err(Refusal::NotFound("bucket".to_owned(), bucket.to_string()));
        };
        self.may_start(bucket, known.current.spec.multi_node, claim)?;
        let release = known.release_for(claim.node);
        let module = self.module(&release.spec.module);
        let named = module.map(|module| module.spec.secrets_for(&release.spec)).unwrap_or_default();
        if !named.contains(name) {
            return Err(undeclared(name, &release.spec.module, bucket, &named));
        }
        self.secrets.get(name).cloned().ok_or_else(|| not_found(name))
    }

    /// A node that is about to start one of many has not said so yet; all that is known of it is that it is there.
    fn may_start(&self, bucket: &BucketName, multi_node: bool, claim: Claim) -> Result<(), Refusal> {
        let node = self.node_name(claim.node);
        let stale = |why: String| Err(Refusal::Stale(why));
        match (self.bindings.get(bucket), claim.epoch) {
            _ if multi_node && self.is_alive(claim.node) => Ok(()),
            _ if multi_node => stale(format!("node {node} is not known to be alive")),
            (Some(binding), epoch) if Some(binding.epoch) == epoch && binding.node == claim.node => Ok(()),
            (_, Some(epoch)) => stale(format!("epoch {epoch} of bucket {bucket} on node {node} is over")),
            (_, None) => stale(format!("bucket {bucket} is no longer multi-node")),
        }
    }
}

fn undeclared(
    name: &SecretName,
    module: &ModuleRef,
    bucket: &BucketName,
    named: &BTreeSet<SecretName>,
) -> Refusal {
    let named: Vec<&str> = named.iter().map(SecretName::as_str).collect();
    let named = if named.is_empty() { "none".to_owned() } else { named.join(", ") };
    let problem =
        format!("secret {name} is none that module {module} names for bucket {bucket} (it names {named})");
    Refusal::Invalid(vec![Defect::new("name", problem, "list it under secrets in the module's document")])
}

#[cfg(test)]
mod tests;
