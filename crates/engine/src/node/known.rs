//! What the watch says: the part of the replicated state that concerns this node.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use sheaf_model::watch::{WatchItem, WatchedBinding, WatchedBucket};
use sheaf_model::{
    Artifact, BucketName, Epoch, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Moment, Node, Revision,
    Settings, Span,
};

use super::question::Key;
use super::rules::{Ready, Rules};
use super::{Action, NodeState};
use crate::reconcile::{self, Origin};

/// The replicated state as far as this node is concerned, at one revision.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) own: Option<Box<Node>>,
    pub(super) settings: Settings,
    pub(super) modules: BTreeMap<ModuleName, BTreeMap<ModuleVersion, KnownModule>>,
    pub(super) artifacts: BTreeMap<ModuleRef, Arc<Artifact>>,
    pub(super) buckets: BTreeMap<BucketName, Arc<KnownBucket>>,
    pub(super) bindings: BTreeMap<BucketName, WatchedBinding>,
    pub(super) residues: BTreeMap<BucketName, Revision>,
    /// The buckets that this node is to purge: there may be very many buckets, and hardly ever one of these.
    pub(super) purges: BTreeMap<BucketName, Revision>,
    pub(super) revision: Revision,
    rules: Rules,
}

/// A bucket, with what is worked out from it once.
#[derive(Clone, Debug)]
pub(super) struct KnownBucket {
    pub(super) watched: WatchedBucket,
    pub(super) rules: Arc<Ready>,
    pub(super) origin: Origin,
    /// Under which epoch it is bound to another node, which it is not to leave; none: it is not, or that is not known.
    pub(super) elsewhere: Option<Epoch>,
}

/// A module, with what is worked out from it once.
#[derive(Clone, Debug)]
pub(super) struct KnownModule {
    pub(super) spec: Arc<ModuleSpec>,
    /// Gate 3 must be asked for each bucket apart.
    pub(super) per_bucket: bool,
    /// It cannot run without its artifact.
    pub(super) uses_artifact: bool,
}

impl KnownModule {
    /// Whose answer serves this bucket, which is of the module.
    pub(super) fn key(&self, bucket: &WatchedBucket) -> Key {
        let name = self.per_bucket.then(|| bucket.spec.name.clone());
        Key { bucket: name, ..Key::of(&bucket.spec.module) }
    }
}

impl Known {
    pub(super) fn module(&self, module: &ModuleRef) -> Option<&KnownModule> {
        self.modules.get(&module.name)?.get(module.version.as_ref()?)
    }

    /// Whose answer serves this bucket; none: its module is not known yet.
    pub(super) fn key(&self, bucket: &WatchedBucket) -> Option<Key> {
        Some(self.module(&bucket.spec.module)?.key(bucket))
    }

    /// The buckets that an answer serves.
    pub(super) fn users<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a BucketName> {
        let one = key.bucket.as_ref().and_then(|bucket| self.buckets.get_key_value(bucket));
        let all = key.bucket.is_none().then_some(&self.buckets).into_iter().flatten();
        one.into_iter()
            .chain(all)
            .filter(|(_, it)| it.watched.spec.module == key.module)
            .map(|(name, _)| name)
    }

    /// Whether artifacts, or plugins' processes, are kept for a module. There may be very many buckets, and most need
    /// neither.
    fn is_equipped(&self, module: &ModuleRef) -> bool {
        let is_plugin = |known: &KnownModule| known.spec.runtime.is_plugin();
        self.artifacts.contains_key(module) || self.module(module).is_none_or(is_plugin)
    }

    /// What the node is has changed: what was said by rules holds no longer.
    pub(super) fn here_changed(&mut self) {
        self.rules = Rules::default();
        for bucket in self.buckets.values_mut() {
            let rules = self.rules.compiled(&bucket.watched.spec.node_list_rules);
            Arc::make_mut(bucket).rules = rules;
        }
    }

    /// Everything that has a name here.
    fn names(&self) -> impl Iterator<Item = &BucketName> {
        self.buckets.keys().chain(self.bindings.keys()).chain(self.residues.keys())
    }
}

impl NodeState {
    /// Takes in one item. A group of changes counts once it is whole; what follows `Reset` replaces what was known once
    /// all of it is there, and only if it is not older: a node that turns to a member behind the former one waits. What an
    /// earlier life of its agent had seen shows only in what that has left: see [`NodeState::desired`].
    pub(super) fn watch(&mut self, item: WatchItem, now: Moment, out: &mut Vec<Action>) {
        match item {
            WatchItem::Reset => {
                self.group.clear();
                self.loading = Some(Known::default());
            }
            WatchItem::Synced(revision) => match self.loading.take() {
                Some(loading) if revision < self.known.revision => self.loading = Some(loading),
                Some(loading) => self.replace(Known { revision, ..loading }, now, out),
                None => self.change(revision, now, out),
            },
            item => match &mut self.loading {
                Some(loading) => drop(loading.put(item)),
                None => self.group.push(item),
            },
        }
    }

    fn replace(&mut self, new: Known, now: Moment, out: &mut Vec<Action>) {
        self.dirty.append(&mut self.places.keys().cloned().collect());
        self.dirty.append(&mut new.names().cloned().collect());
        self.awaited.clear();
        let former = std::mem::replace(&mut self.known, new);
        if self.known.bindings.values().any(|binding| is_news(&former, binding)) {
            out.push(Action::HeartbeatNow);
        }
        for bucket in self.known.buckets.values() {
            self.questions.want(&self.known, &bucket.watched, now);
        }
        self.keep_interval(former.settings.gate_interval, now);
        self.refresh_here(now);
        self.synced = true;
        self.retire = true;
        // What an earlier life of the agent has sworn is asked for only now, and nothing else may be left to be done.
        self.say_again = Some(now);
    }

    fn change(&mut self, revision: Revision, now: Moment, out: &mut Vec<Action>) {
        let group = std::mem::take(&mut self.group);
        let news = |item: &WatchItem| matches!(item, WatchItem::Binding(it) if is_news(&self.known, it));
        if group.iter().any(news) {
            out.push(Action::HeartbeatNow);
        }
        let asks = |item: &WatchItem| match item {
            WatchItem::Residue(..) => true,
            WatchItem::Binding(binding) => binding.leaving,
            _ => false,
        };
        if group.iter().any(asks) {
            self.say_again = Some(now); // it may be sworn already
        }
        let interval = self.known.settings.gate_interval;
        for item in group {
            match self.known.put(item) {
                Put::Bucket(bucket, equipped) => {
                    self.retire |= equipped;
                    self.may_succeed_now(&bucket, now);
                    self.dirty.insert(bucket);
                }
                // Whatever is bound anywhere is told to all nodes: most of it changes nothing here.
                Put::Elsewhere(bucket, is_bound) => {
                    let well = self.places.get(&bucket).filter(|place| place.is_well());
                    match well.map(|place| place.seen.is_some()) {
                        None => {
                            self.may_succeed_now(&bucket, now);
                            self.dirty.insert(bucket);
                        }
                        Some(is_here) if is_here && is_bound => drop(self.dirty.insert(bucket)),
                        Some(_) => {}
                    }
                }
                Put::Own => {
                    self.retire = true;
                    self.refresh_here(now);
                    self.dirty.append(&mut self.known.names().cloned().collect());
                }
                Put::Module(module) => {
                    self.retire = true;
                    self.module_came(&module, now);
                }
                Put::Nothing => {}
            }
        }
        self.keep_interval(interval, now);
        self.known.revision = self.known.revision.max(revision);
        while self.awaited.first().is_some_and(|(state, _)| *state <= self.known.revision) {
            if let Some((_, bucket)) = self.awaited.pop_first() {
                self.dirty.insert(bucket);
            }
        }
    }

    /// Gate 3 is asked again as often as the settings say now, whatever they said before.
    fn keep_interval(&mut self, former: Span, now: Moment) {
        let interval = self.known.settings.gate_interval;
        if interval != former {
            self.questions.renew_every(interval, self.identity.node, now);
        }
    }

    /// Something of a bucket changed: gate 3 must be known, and what failed may now succeed.
    fn may_succeed_now(&mut self, bucket: &BucketName, now: Moment) {
        if let Some(it) = self.known.buckets.get(bucket) {
            self.questions.want(&self.known, &it.watched, now);
        }
        if let Some(place) = self.places.get_mut(bucket) {
            place.retry_at = None;
            place.failures = 0;
        }
    }

    /// Buckets may have come before their module.
    fn module_came(&mut self, module: &ModuleRef, now: Moment) {
        for it in self.known.buckets.values().filter(|it| it.watched.spec.module == *module) {
            self.questions.want(&self.known, &it.watched, now);
            self.dirty.insert(it.watched.spec.name.clone());
        }
    }
}

/// Whether the node did not know that it is bound under this epoch.
fn is_news(known: &Known, binding: &WatchedBinding) -> bool {
    let had = known.bindings.get(&binding.bucket);
    !binding.leaving && had.is_none_or(|had| had.epoch != binding.epoch)
}

/// What an item was about.
enum Put {
    /// And whether its module is, or was, one that artifacts or processes are kept for.
    Bucket(BucketName, bool),
    /// About where a bucket is bound, and not to this node, now or before; and whether it is known to be to another one.
    Elsewhere(BucketName, bool),
    Module(ModuleRef),
    Own,
    Nothing,
}

impl Known {
    fn put(&mut self, item: WatchItem) -> Put {
        match item {
            WatchItem::Reset | WatchItem::Synced(_) => Put::Nothing,
            WatchItem::Own(node) => {
                self.own = Some(node);
                Put::Own
            }
            WatchItem::Settings(settings) => {
                self.settings = settings;
                Put::Nothing
            }
            WatchItem::Module(spec) => {
                let module = ModuleRef { name: spec.name.clone(), version: Some(spec.version.clone()) };
                let (per_bucket, uses_artifact) = (spec.checks_use_bucket(), spec.uses_artifact());
                let known = KnownModule { per_bucket, uses_artifact, spec };
                let versions = self.modules.entry(module.name.clone()).or_default();
                versions.insert(known.spec.version.clone(), known);
                Put::Module(module)
            }
            WatchItem::ModuleGone(name, version) => {
                if let Some(versions) = self.modules.get_mut(&name) {
                    versions.remove(&version);
                }
                Put::Module(ModuleRef { name, version: Some(version) })
            }
            WatchItem::Artifact(artifact) => {
                let module = artifact.module.clone();
                self.artifacts.insert(module.clone(), artifact);
                Put::Module(module)
            }
            WatchItem::ArtifactGone(module) => {
                self.artifacts.remove(&module);
                Put::Module(module)
            }
            WatchItem::Bucket(watched) => self.put_bucket(watched),
            WatchItem::BucketGone(name) => {
                let former = self.buckets.remove(&name);
                self.purges.remove(&name);
                Put::Bucket(name, former.is_some_and(|it| self.is_equipped(&it.watched.spec.module)))
            }
            WatchItem::Binding(binding) => {
                let name = binding.bucket.clone();
                self.elsewhere(&name, None);
                self.bindings.insert(name.clone(), binding);
                Put::Bucket(name, false)
            }
            WatchItem::BindingGone(name) => self.not_here(name, None),
            WatchItem::BoundElsewhere(name, epoch) => self.not_here(name, Some(epoch)),
            WatchItem::Residue(name, revision) => {
                self.residues.insert(name.clone(), revision);
                Put::Bucket(name, false)
            }
            WatchItem::ResidueGone(name) => {
                let had = self.residues.remove(&name).is_some();
                if had {
                    return Put::Bucket(name, false);
                }
                let is_bound = self.buckets.get(&name).is_some_and(|it| it.elsewhere.is_some());
                Put::Elsewhere(name, is_bound)
            }
        }
    }

    fn put_bucket(&mut self, watched: WatchedBucket) -> Put {
        let name = watched.spec.name.clone();
        let rules = self.rules.compiled(&watched.spec.node_list_rules);
        match watched.purge {
            Some(revision) => drop(self.purges.insert(name.clone(), revision)),
            None => drop(self.purges.remove(&name)),
        }
        let mut equipped = self.is_equipped(&watched.spec.module);
        let mut bucket = KnownBucket::new(watched, rules);
        let former = match self.buckets.entry(name.clone()) {
            Entry::Occupied(mut there) => {
                // Whatever changed of it, its binding did not.
                bucket.elsewhere = there.get().elsewhere;
                Some(there.insert(Arc::new(bucket)))
            }
            Entry::Vacant(free) => {
                free.insert(Arc::new(bucket));
                None
            }
        };
        equipped |= former.is_some_and(|it| self.is_equipped(&it.watched.spec.module));
        Put::Bucket(name, equipped)
    }

    /// A bucket is not bound to this node; under which epoch it is to another one, if it is.
    fn not_here(&mut self, name: BucketName, elsewhere: Option<Epoch>) -> Put {
        let is_known = self.elsewhere(&name, elsewhere);
        let had = self.bindings.remove(&name).is_some();
        if had { Put::Bucket(name, false) } else { Put::Elsewhere(name, is_known && elsewhere.is_some()) }
    }

    /// Whether the bucket is known here.
    fn elsewhere(&mut self, name: &BucketName, epoch: Option<Epoch>) -> bool {
        let bucket = self.buckets.get_mut(name);
        bucket.map(|bucket| Arc::make_mut(bucket).elsewhere = epoch).is_some()
    }
}

impl KnownBucket {
    fn new(watched: WatchedBucket, rules: Arc<Ready>) -> Self {
        let origin = Origin {
            revision: watched.revision,
            basis: watched.basis,
            content: reconcile::content(&watched.spec),
            live: None,
            artifact: None,
        };
        Self { rules, origin, watched, elsewhere: None }
    }
}
