//! Artifacts: which ones this node needs, and what that means for its buckets.
//!
//! A node needs the artifact of a bucket that its config and the bucket's rules let it run. It is fetched before gate 3 is
//! asked, and until then is that gate's refusal; what runs meanwhile runs on. The same holds of a job that the leader asks
//! about, for a while after it asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::{Artifact, BucketSpec, Digest, GateOutcome, Holding, ModuleName, ModuleRef, Moment, Span};

use super::known::Known;
use super::{Action, NodeState, Place};
use crate::artifact::Keep;
use crate::gates::{self, Equipment, Here};
use crate::reconcile::Step;

/// For so long after the leader asked about a job the artifact of its module is needed here: subtasks follow, or it asks again.
const FOR_JOBS: Span = Span::seconds(600);

/// What this node is to have of the cluster's artifacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To be fetched and unpacked.
    pub needed: Vec<Arc<Artifact>>,
    /// What must not be removed, as far as the node knows.
    pub keep: Keep,
}

/// What the node has, as its cache says.
#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    held: BTreeMap<Digest, Holding>,
    /// What was last asked for; none: nothing yet.
    wanted: Option<Wanted>,
    /// Of jobs that the leader asked about, each until when.
    for_jobs: BTreeMap<ModuleRef, Moment>,
}

/// Its module cannot be asked or run before its artifact is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotYet;

impl Holdings {
    /// Where a module's artifact is, which it may use; none: it has none and needs none.
    pub(super) fn path(
        &self,
        known: &Known,
        module: &ModuleRef,
        uses_artifact: bool,
    ) -> Result<Option<String>, NotYet> {
        match known.artifacts.get(module) {
            Some(artifact) => match self.held.get(&artifact.digest) {
                Some(Holding::Ready(path)) => Ok(Some(path.clone())),
                Some(Holding::Fetching(_) | Holding::Failed(_)) | None => Err(NotYet),
            },
            None if uses_artifact => Err(NotYet),
            None => Ok(None),
        }
    }

    /// What gate 3 has to know.
    pub(super) fn equipment<'a>(
        &'a self,
        known: &'a Known,
        module: &ModuleRef,
        uses_artifact: bool,
    ) -> Equipment<'a> {
        match known.artifacts.get(module) {
            Some(artifact) => match self.held.get(&artifact.digest) {
                Some(Holding::Ready(_)) => Equipment::Complete,
                Some(Holding::Fetching(percent)) => Equipment::Fetching(&artifact.digest, *percent),
                Some(Holding::Failed(why)) => Equipment::Failed(&artifact.digest, why),
                None => Equipment::Fetching(&artifact.digest, 0),
            },
            None if uses_artifact => Equipment::NeverPushed,
            None => Equipment::Complete,
        }
    }
}

/// Whether gates 1 and 2 let the node run it, the second of which says this: what they refuse is not fetched.
pub(super) fn may_run(module: &ModuleName, second: &GateOutcome, here: &Here) -> bool {
    gates::local_config(module, here).pass == Some(true) && second.pass == Some(true)
}

impl Place {
    /// What must not be removed under it: what it is started from, runs, or is told its end with.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = Digest> {
        let starts = match self.busy {
            Some(Step::Start(_, origin)) => origin.artifact,
            _ => None,
        };
        let ends = self.is_left_for_good() || self.busy == Some(Step::Remove);
        let seen = self.seen.as_ref().filter(|seen| seen.observed.is_alive() || ends);
        starts.into_iter().chain(seen.and_then(|seen| seen.observed.origin.artifact))
    }
}

impl NodeState {
    /// What the cache has of an artifact now.
    pub(super) fn holds(&mut self, digest: Digest, holding: Holding, now: Moment) {
        if self.holdings.held.get(&digest) == Some(&holding) {
            return;
        }
        let ready = matches!(holding, Holding::Ready(_));
        self.holdings.held.insert(digest, holding);
        let of: Vec<ModuleRef> = (self.known.artifacts.iter())
            .filter(|(_, artifact)| artifact.digest == digest)
            .map(|(module, _)| module.clone())
            .collect();
        for module in of {
            if ready {
                self.questions.ask_module(&module, now);
            }
            let users = self.known.buckets.iter().filter(|(_, it)| it.watched.spec.module == module);
            self.dirty.append(&mut users.map(|(name, _)| name.clone()).collect());
        }
    }

    /// The leader asks about a job: its artifact is needed, if this node's config and the job's rules let it run here.
    pub(super) fn want_for_job(&mut self, job: &BucketSpec, now: Moment) {
        if !self.known.artifacts.contains_key(&job.module) {
            return;
        }
        let second = gates::node_list_rules(&job.node_list_rules.compile(), &self.here);
        if may_run(&job.module.name, &second, &self.here) {
            self.holdings.for_jobs.insert(job.module.clone(), now.after(FOR_JOBS));
            self.retire = true;
        }
    }

    /// Says which artifacts are to be here, when that is another set than before.
    pub(super) fn want_artifacts(&mut self, now: Moment, out: &mut Vec<Action>) {
        let Self { known, holdings, here, places, .. } = self;
        let mut needed = BTreeMap::new();
        holdings.for_jobs.retain(|_, until| now < *until);
        for artifact in holdings.for_jobs.keys().filter_map(|module| known.artifacts.get(module)) {
            needed.insert(artifact.digest, artifact.clone());
        }
        if !known.artifacts.is_empty() {
            for bucket in known.buckets.values() {
                let module = &bucket.watched.spec.module;
                // One bucket that may run is enough: rules are not looked at more often than need be.
                if let Some(artifact) = known.artifacts.get(module)
                    && !needed.contains_key(&artifact.digest)
                    && may_run(&module.name, bucket.rules.said(here), here)
                {
                    needed.insert(artifact.digest, artifact.clone());
                }
            }
        }
        let mut keep = Keep {
            registered: known.artifacts.values().map(|artifact| artifact.digest).collect(),
            needed: needed.keys().copied().collect(),
        };
        // What runs may still read what it was started from, whatever became of its bucket.
        keep.needed.extend(places.values().flat_map(Place::artifacts));
        let wanted = Wanted { needed: needed.into_values().collect(), keep };
        if holdings.wanted.as_ref() != Some(&wanted) {
            let stay: BTreeSet<Digest> = wanted.needed.iter().map(|artifact| artifact.digest).collect();
            holdings.held.retain(|digest, _| stay.contains(digest));
            holdings.wanted = Some(wanted.clone());
            out.push(Action::WantArtifacts(wanted));
        }
    }
}
