//! Where modules run, and what they are used by.

use sheaf_model::{Instance, JobName, ModuleName, ModuleRef, Phase};

use super::Sight;
use crate::state::{Bucket, State};

impl State {
    /// The buckets that are fixed to this version, or shall be.
    pub fn buckets_of<'a>(&'a self, module: &'a ModuleRef) -> impl Iterator<Item = &'a Bucket> {
        let buckets = self.buckets.values().map(|bucket| &**bucket);
        buckets
            .filter(move |it| [&it.current, it.newest()].iter().any(|release| release.spec.module == *module))
    }

    /// The jobs of this version that are kept, and those that are being submitted.
    pub fn jobs_of<'a>(&'a self, module: &'a ModuleRef) -> impl Iterator<Item = &'a JobName> {
        let kept = self.jobs.iter().map(|job| &job.spec);
        let all = kept.chain(self.jobs.submits().map(|submit| &submit.spec));
        all.filter(move |spec| spec.module == *module).map(|spec| &spec.name)
    }
}

impl<'a> Sight<'a> {
    /// Instances that are not over of a module, each with the version that it runs; none: one that its bucket had before those
    /// it has now, as its history says. That may be of another module, as its bucket may be now.
    pub fn instances_of(
        &self,
        module: &'a ModuleName,
    ) -> impl Iterator<Item = (&'a Instance, Option<&'a ModuleRef>)> + use<'a> {
        let state = self.state;
        let buckets = state.buckets.values().map(|bucket| &**bucket);
        let all = buckets.flat_map(move |bucket| {
            let instances = state.instances.get(bucket.name()).into_iter().flat_map(|nodes| nodes.values());
            let instances = instances.map(|instance| &**instance).filter(|it| it.phase != Phase::Stopped);
            instances.map(move |instance| {
                let release = bucket.release_of(instance);
                (instance, release.map(|release| &release.spec.module))
            })
        });
        all.filter(move |(_, runs)| runs.is_none_or(|runs| runs.name == *module))
    }
}
