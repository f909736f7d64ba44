//! Artifacts: one for a module's version, never another.

use std::sync::Arc;

use sheaf_model::Artifact;

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{Refusal, Reply};
use crate::state::{Pushed, State};

/// Whether the artifact could be registered: the version it belongs to is, and has no other. The same one is given back.
pub fn check<'s>(state: &'s State, artifact: &Artifact) -> Result<Option<&'s Pushed>, Refusal> {
    let module = &artifact.module;
    if state.module(module).is_none() {
        return Err(Refusal::NotFound(
            "module".to_owned(),
            format!("{module}; register it first: sheaf module apply -f FILE"),
        ));
    }
    match state.artifacts.get(module) {
        Some(known) if *known.artifact == *artifact => Ok(Some(known)),
        Some(known) => Err(Refusal::Conflict(format!(
            "module {module} has the artifact {}, and a version never changes; this is {}: give it a new version",
            short(&known.artifact),
            short(artifact),
        ))),
        None => Ok(None),
    }
}

fn short(artifact: &Artifact) -> String {
    let digest = artifact.digest.short();
    match artifact.shape.file() {
        "" => format!("{digest} (a directory)"),
        file => format!("{digest} (the file {file})"),
    }
}

impl Transaction<'_> {
    pub(super) fn put_artifact(&mut self, artifact: &Artifact) -> Result<Reply, Refusal> {
        if let Some(known) = check(self.state, artifact)? {
            return Ok(Reply::Unchanged(known.revision));
        }
        self.put(Change::Artifact(Pushed {
            artifact: Arc::new(artifact.clone()),
            revision: self.revision,
            at: self.proposal.at,
        }));
        let line = Line::new("module.pushed", &artifact.module);
        self.event(line.went("", artifact.digest).because(format!("{} bytes", artifact.size)));
        Ok(Reply::Done(self.revision))
    }
}
