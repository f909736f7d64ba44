//! What follows for one bucket: the node's verdict, and what shall run of it here.

use sheaf_model::watch::{WatchedBinding, WatchedBucket};
use sheaf_model::{BucketName, Call, Epoch, Moment, Node, NodeStatus, Revision, Verdict};

use super::known::{KnownBucket, KnownModule};
use super::{Leaving, NodeState, Place, Seen, artifact};
use crate::gates::{self, Answer, Asked, Equipment};
use crate::reconcile::{self, Desired, Mode, Observed, Origin, Run};

impl NodeState {
    /// The node's answer for a bucket; none while gate 3, on which alone it depends, has not been answered.
    pub(super) fn verdict(&self, bucket: &KnownBucket, place: &Place) -> Option<Verdict> {
        let watched = &bucket.watched;
        let module = self.known.module(&watched.spec.module);
        let asked = self.asked(bucket, module, place);
        let verdict = gates::evaluate(
            &watched.spec,
            watched.revision,
            bucket.rules.said(&self.here).clone(),
            module.map(|module| &*module.spec),
            &self.here,
            asked,
        );
        let open = verdict.gates[..2].iter().all(|gate| gate.pass == Some(true));
        let unclear = asked.running && (asked.lasting.is_some() || asked.equipment != Equipment::Complete);
        let waits = open && verdict.gates[2].pass.is_none() && !unclear;
        (!waits).then_some(verdict)
    }

    fn asked(&self, bucket: &KnownBucket, module: Option<&KnownModule>, place: &Place) -> Asked<'_> {
        let key = module.map(|module| module.key(&bucket.watched));
        let asked = self.questions.asked(key.as_ref(), place.is_alive());
        let spec = &bucket.watched.spec;
        let Some(module) = module else { return asked };
        let equipment = self.holdings.equipment(&self.known, &spec.module, module.uses_artifact);
        // Most modules have and need none: only of the others the rules, which gate 2 is asked by, are asked before.
        if equipment == Equipment::Complete
            || !artifact::may_run(&spec.module.name, bucket.rules.said(&self.here), &self.here)
        {
            return asked;
        }
        Asked { equipment, ..asked }
    }

    /// What shall be of the bucket here, as it is known. None: this is not for now to decide, everything stays as it is.
    pub(super) fn desired(
        &mut self,
        name: &BucketName,
        bucket: Option<&KnownBucket>,
        place: &mut Place,
        now: Moment,
    ) -> Option<Desired> {
        if self.left {
            // Whatever comes here again comes to a node that has joined anew, with an empty data directory.
            place.decommissioned = true;
            return Some(Desired {
                run: Run::Nothing("this node has left the cluster"),
                remove: true,
                ..Desired::default()
            });
        }
        // What was so before something here began does not end it: a member may be behind what an earlier life of this node's
        // agent had seen.
        let is_behind = self.is_behind(name, place.begun_from());
        if self.is_behind(name, place.since()) {
            return None; // a view that does not know what is here
        }
        let own = self.known.own.as_deref()?;
        if self.known.revision < own.registered {
            return None; // a view from before this node was
        }
        let fence = place.fence;
        let binding = self.known.bindings.get(name);
        let leaving = binding.filter(|binding| binding.leaving && binding.epoch > fence.gave_up);
        let residue = self.known.residues.get(name).copied();
        let mut desired = Desired {
            give_up: leaving.map(|binding| binding.epoch),
            confirm: residue.filter(|ending| *ending > fence.gave_up_multi),
            ..Desired::default()
        };
        if bucket.is_none() && is_behind {
            return None; // it was made anew before this began
        }
        desired.run = match bucket {
            Some(bucket) => self.wanted(bucket, place, binding, own),
            None => Run::default(),
        };
        place.decommissioned = match (bucket, desired.run) {
            (None, _) => true,
            (Some(_), Run::Want(..)) => false,
            (Some(bucket), Run::Nothing(_)) => {
                let leaves = self.leaves_for_good(bucket, place, leaving.is_some(), own);
                place.decommissioned || (leaves && !is_behind)
            }
        };
        place.elsewhere = bucket.is_some_and(|bucket| self.is_elsewhere(bucket, place));
        desired.remove = place.is_left_for_good();
        if let Run::Want(mode, _) = desired.run {
            desired.hold = self.hold(name, place, mode, now);
        }
        Some(desired)
    }

    /// Whether what is known is older than this state; the bucket is looked at again once it is not.
    fn is_behind(&mut self, name: &BucketName, state: Revision) -> bool {
        let is_behind = self.known.revision < state;
        if is_behind {
            self.awaited.insert((state, name.clone()));
        }
        is_behind
    }

    fn wanted(
        &self,
        bucket: &KnownBucket,
        place: &Place,
        binding: Option<&WatchedBinding>,
        own: &Node,
    ) -> Run {
        let watched = &bucket.watched;
        if watched.suspended {
            return Run::Nothing("the bucket is suspended");
        }
        if watched.gave_up {
            return Run::Nothing("it gave up restarting here");
        }
        if own.status == NodeStatus::Left {
            return Run::Nothing("this node has left");
        }
        if place.verdict.as_deref().is_some_and(refuses) {
            return Run::Nothing("this node is not available");
        }
        if watched.spec.multi_node {
            return self.wanted_multi(bucket, place, own);
        }
        match binding {
            None => Run::Nothing("it is not bound to this node"),
            Some(binding) if binding.leaving => Run::Nothing("its binding is leaving"),
            Some(binding) if binding.epoch <= place.fence.gave_up => Run::Nothing("this epoch was given up"),
            Some(binding) => Run::Want(Mode::Single(binding.epoch), self.origin(bucket)),
        }
    }

    fn wanted_multi(&self, bucket: &KnownBucket, place: &Place, own: &Node) -> Run {
        if self.leaving == Some(Leaving::Everything) {
            return Run::Nothing("this node's agent is stopping");
        }
        if own.drain.is_some_and(|drain| !drain.keep_multi_node) {
            return Run::Nothing("this node is being drained");
        }
        let residue = self.known.residues.get(&bucket.watched.spec.name).copied().unwrap_or_default();
        let ended: Revision = place.fence.gave_up_multi.max(residue);
        if self.known.revision <= ended {
            return Run::Nothing("multi-node has ended");
        }
        Run::Want(Mode::Multi(self.known.revision), self.origin(bucket))
    }

    /// What the bucket is started from: some modules take changes as they run, as long as the module is the same; of others how
    /// often they are polled is the keeper's business alone.
    fn origin(&self, bucket: &KnownBucket) -> Origin {
        let spec = &bucket.watched.spec;
        let module = self.known.module(&spec.module);
        let takes = |call| module.is_some_and(|module| module.spec.takes(call));
        let live = if takes(Call::UpdatedSource) {
            Some(reconcile::program(spec))
        } else {
            takes(Call::PeriodicPoll).then_some(bucket.origin.content)
        };
        let artifact = self.known.artifacts.get(&spec.module).map(|artifact| artifact.digest);
        Origin { live, artifact, ..bucket.origin }
    }

    /// Whether the bucket leaves this node for good, and not only for a while.
    fn leaves_for_good(&self, bucket: &KnownBucket, place: &Place, leaving: bool, own: &Node) -> bool {
        let watched = &bucket.watched;
        if watched.suspended || watched.gave_up {
            return false;
        }
        if own.drain.is_some_and(|drain| !drain.keep_multi_node) && watched.spec.multi_node {
            return true;
        }
        let refused = place.verdict.as_deref().filter(|verdict| !verdict.eligible()).is_some_and(|verdict| {
            let first = verdict.gates[..2].iter().any(|gate| gate.pass == Some(false));
            let module = self.known.module(&watched.spec.module);
            first || matches!(self.asked(bucket, module, place).lasting, Some(Answer::No(_)))
        });
        refused || (leaving && !watched.spec.multi_node)
    }

    /// Whether the bucket is bound to another node, later than it was to this one in anything that this node knows. A member
    /// that is behind may tell of a binding that was over before what is here began: the order of epochs says so. Where this
    /// node has given up restarting it stays: that shows why it is left out.
    fn is_elsewhere(&self, bucket: &KnownBucket, place: &Place) -> bool {
        let WatchedBucket { spec, suspended, gave_up, .. } = &bucket.watched;
        let (Some(epoch), Some(seen)) = (bucket.elsewhere, place.seen.as_deref()) else { return false };
        if spec.multi_node || *suspended || *gave_up {
            return false;
        }
        let (single, multi) = match seen.observed.mode {
            Mode::Single(had) => (had, Revision::default()),
            Mode::Multi(from) => (Epoch::default(), from),
        };
        let leased = self.leases.newest(&spec.name).unwrap_or_default();
        single.max(place.fence.gave_up).max(leased) < epoch
            && multi.max(place.fence.gave_up_multi) < epoch.revision()
    }

    /// Why what is wanted may not be started just now.
    fn hold(&mut self, name: &BucketName, place: &Place, mode: Mode, now: Moment) -> Option<&'static str> {
        if let Mode::Single(epoch) = mode
            && self.leases.valid(name, epoch, now).is_none()
        {
            return Some("it waits for its lease");
        }
        let bucket = self.known.buckets.get(name)?;
        let module = self.known.module(&bucket.watched.spec.module)?;
        if self.holdings.path(&self.known, &bucket.watched.spec.module, module.uses_artifact).is_err() {
            return Some("its artifact is not here yet");
        }
        if place.is_alive() {
            return None;
        }
        if mode.epoch().is_some() && now < self.start_from {
            self.retries.insert((self.start_from, name.clone()));
            return Some("a former life of this agent was heard lately");
        }
        if !place.verdict.as_deref().is_some_and(Verdict::eligible) {
            return Some("the gates have not been answered");
        }
        let key = module.key(&bucket.watched);
        let asks = module.spec.can_run_on_this_node.iter().any(|check| check.kind.is_admission());
        let finished = place.seen.as_ref().is_some_and(|seen| seen.observed.is_finished(mode, bucket.origin));
        if asks && !finished && !self.questions.is_admission_fresh(&key, now) {
            return Some("its admission checks are being asked");
        }
        None
    }
}

/// Whether a gate says no. What is unknown refuses nothing: what runs, runs on.
fn refuses(verdict: &Verdict) -> bool {
    verdict.gates.iter().any(|gate| gate.pass == Some(false))
}

impl Place {
    /// The newest change that what is here was started after: a state from before does not know of it. Revisions only grow, also
    /// where a cluster is founded anew.
    fn since(&self) -> Revision {
        let Some(Seen { observed: Observed { mode, origin, .. }, .. }) = self.seen.as_deref() else {
            return Revision::default();
        };
        let bound = mode.epoch().map(Epoch::revision).unwrap_or_default();
        origin.revision.max(origin.basis).max(bound)
    }

    /// The state that it was started from, as far as is known.
    fn begun_from(&self) -> Revision {
        match self.seen.as_ref().map(|seen| seen.observed.mode) {
            Some(Mode::Multi(from)) => from.max(self.since()),
            Some(Mode::Single(_)) | None => self.since(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.observed.is_alive())
    }

    /// Whether what is here of the bucket is of no more use.
    pub(super) fn is_left_for_good(&self) -> bool {
        self.decommissioned || self.elsewhere
    }
}
