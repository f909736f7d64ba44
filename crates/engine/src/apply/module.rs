//! Modules: registered once per version, deleted when unused.

use std::sync::Arc;

use sheaf_model::{ModuleRef, ModuleSpec};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{DeleteModule, Outcome, OutcomeVerb, Refusal, Reply};
use crate::state::Module;

/// How many of those that use a version an error names.
const SHOWN: usize = 10;

impl Transaction<'_> {
    /// Registers a version that is new; the caller has refused one that exists with other content.
    pub(super) fn put_module(&mut self, spec: &ModuleSpec) -> Outcome {
        let document = format!("Module {}@{}", spec.name, spec.version);
        let known = self.state.modules.get(&spec.name).and_then(|versions| versions.get(&spec.version));
        if let Some(known) = known {
            return Outcome { document, verb: OutcomeVerb::Unchanged, revision: known.revision };
        }
        self.put(Change::Module(Module {
            spec: Arc::new(spec.clone()),
            revision: self.revision,
            at: self.proposal.at,
        }));
        let subject = format!("{}@{}", spec.name, spec.version);
        self.event(Line::new("module.registered", subject).went("", &spec.version));
        Outcome { document, verb: OutcomeVerb::Created, revision: self.revision }
    }

    pub(super) fn delete_module(&mut self, delete: &DeleteModule) -> Result<Reply, Refusal> {
        let subject = format!("{}@{}", delete.name, delete.version);
        let known = self.state.modules.get(&delete.name).is_some_and(|v| v.contains_key(&delete.version));
        if !known {
            return Err(Refusal::NotFound("module".to_owned(), subject));
        }
        let module = ModuleRef { name: delete.name.clone(), version: Some(delete.version.clone()) };
        let buckets = self.state.buckets_of(&module).map(|bucket| bucket.name().to_string());
        let jobs = self.state.jobs_of(&module).map(|job| format!("job {job}"));
        let users: Vec<String> = buckets.chain(jobs).collect();
        if !users.is_empty() {
            let (shown, more) = users.split_at(users.len().min(SHOWN));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            return Err(Refusal::Precondition(format!(
                "module {subject} is used by {}{more}; delete these first, or apply the buckets with another version",
                shown.join(", ")
            )));
        }
        if self.state.artifacts.contains_key(&module) {
            self.put(Change::ArtifactGone(module));
        }
        self.put(Change::ModuleGone(delete.name.clone(), delete.version.clone()));
        self.event(Line::new("module.deleted", subject));
        Ok(Reply::Done(self.revision))
    }
}
