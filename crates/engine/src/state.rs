//! The replicated state, in memory. Changed by [`crate::apply()`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{
    Artifact, BackendName, Binding, BucketName, BucketSpec, Changeable, ClusterEpoch, ClusterId,
    HistorySettings, Instance, JobId, JobSettings, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Node,
    NodeId, NodeName, ObjectKey, Repair, RequestId, Residue, Revision, Sealed, SecretName, Settings,
    SinkName, Timestamp, Trial,
};

use crate::access::Access;
use crate::asked::Asked;
use crate::backend::Backend;
use crate::change::Change;
use crate::command::Reply;
use crate::job::table::Jobs;
use crate::objects::{self, Object, Objects};
use crate::sink::Sink;

/// The cluster's identity and settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identity; none: not formed.
    pub id: Option<ClusterId>,
    /// How often it was re-founded.
    pub epoch: ClusterEpoch,
    /// What holds for all nodes.
    pub settings: Settings,
    /// The settings before the last change, while leaders must still wait for the longer of both lease times.
    pub former: Option<Settings>,
    /// Nodes registered so far, gone ones too: the next number is one more.
    pub nodes_ever: u64,
    /// When it formed.
    pub formed_at: Timestamp,
    /// How lost voters are replaced.
    pub repair: Repair,
    /// When the lease's settings last changed; 0: never. Two changes may leave the same `former`, and still the wait for
    /// it begins anew with each.
    pub lease_changed: Revision,
    /// What jobs may be.
    pub jobs: JobSettings,
    /// How much history is kept.
    pub history: HistorySettings,
}

impl Cluster {
    /// What of it can be changed.
    pub fn changeable(&self) -> Changeable {
        let (settings, repair, jobs) = (self.settings, self.repair.clone(), self.jobs);
        Changeable { settings, repair, jobs, history: self.history }
    }
}

/// A module's version, registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Module {
    /// Its content.
    pub spec: Arc<ModuleSpec>,
    /// When it was registered.
    pub revision: Revision,
    /// When that was, for people.
    pub at: Timestamp,
}

/// An artifact, registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pushed {
    /// Which blob belongs to which version.
    pub artifact: Arc<Artifact>,
    /// When it was registered.
    pub revision: Revision,
    /// When that was, for people.
    pub at: Timestamp,
}

/// A secret, sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// Its value.
    pub sealed: Sealed,
    /// When it was set last.
    pub revision: Revision,
    /// When that was, for people.
    pub at: Timestamp,
    /// Who set it.
    pub actor: String,
}

/// One revision of a bucket: what nodes are released to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// The revision; also the basis of placement decisions.
    pub revision: Revision,
    /// What the bucket is, the module's version fixed.
    pub spec: Arc<BucketSpec>,
    /// When, for people.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
}

/// A rollout under way: `release` runs on the nodes named, the current release on the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The next release.
    pub release: Release,
    /// Nodes that may run it.
    pub released: BTreeSet<NodeId>,
    /// Those of them that ran the bucket when they were released: there the module is known to have been welcome.
    pub ran: BTreeSet<NodeId>,
    /// Why no further node is released until an operator says so; none: it goes on.
    pub stopped: Option<String>,
}

/// A registered bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// What runs.
    pub current: Release,
    /// What will run, during a rollout.
    pub next: Option<Rollout>,
    /// The switch.
    pub suspended: bool,
    /// When anything of it last changed: release, switch, restart, nodes that gave up.
    pub revision: Revision,
    /// When it was created.
    pub created: Revision,
    /// The last `restart` or `resume`: an instance started from an earlier state is started anew.
    pub restarted: Revision,
    /// Nodes whose instance gave up restarting since the last update, resume or restart, and why.
    pub gave_up: BTreeMap<NodeId, String>,
    /// Nodes whose instance had given up and is to be started anew as of this revision, while the others run on.
    pub again: BTreeMap<NodeId, Revision>,
    /// That its module had it stopped, until it is resumed.
    pub emergency: Option<Emergency>,
    /// The last purge that was asked for.
    pub purge: Option<Purge>,
    /// It is a trial, which is deleted when its time is over.
    pub trial: Option<Trial>,
}

/// How a module had its own bucket stopped, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Emergency {
    /// It is suspended, for good.
    Disabled {
        /// In its words.
        reason: String,
    },
    /// Nothing of it runs for a time.
    Quarantined {
        /// By the leader's clock.
        until: Timestamp,
        /// In its words.
        reason: String,
    },
}

impl Emergency {
    /// Why, in the module's words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Disabled { reason } | Self::Quarantined { reason, .. } => reason,
        }
    }
}

/// What a bucket has collected is to be thrown away, wherever it ran when that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// When it was asked for.
    pub revision: Revision,
    /// Nodes that have not said how it went.
    pub waiting: BTreeSet<NodeId>,
    /// Nodes where it failed, and why.
    pub failed: BTreeMap<NodeId, String>,
}

impl Bucket {
    /// Its path.
    pub fn name(&self) -> &BucketName {
        &self.current.spec.name
    }

    /// What `node` is released to.
    pub fn release_for(&self, node: NodeId) -> &Release {
        match &self.next {
            Some(rollout) if rollout.released.contains(&node) => &rollout.release,
            _ => &self.current,
        }
    }

    /// The release that an instance runs; none: one before those that are here, which is in the history alone. (Where a rollout
    /// took the place of another, a node that the former had reached counts as what it was before both until it is its turn.)
    pub fn release_of(&self, instance: &Instance) -> Option<&Release> {
        let known = [self.release_for(instance.node), &self.current];
        known.into_iter().find(|release| release.revision <= instance.revision)
    }

    /// The newest state of intent: what an instance must have been started from to be up to date on `node`.
    pub fn basis_for(&self, node: NodeId) -> Revision {
        let again = self.again.get(&node).copied().unwrap_or_default();
        self.release_for(node).revision.max(self.restarted).max(again)
    }

    /// What was registered last, whether all nodes are released to it or not.
    pub fn newest(&self) -> &Release {
        self.next.as_ref().map_or(&self.current, |rollout| &rollout.release)
    }
}

/// A request that was answered, kept to recognise its repetition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// The revision of the command it made.
    pub revision: Revision,
    /// When, by the proposing leader's clock.
    pub at: Timestamp,
    /// The answer.
    pub reply: Reply,
    /// What it asked for; none: not known, so that whatever comes under its id is taken for a repetition.
    pub asked: Option<Asked>,
}

/// Everything that the cluster has agreed on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The last command applied; the next one gets one more.
    pub revision: Revision,
    /// Identity and settings.
    pub cluster: Cluster,
    /// Nodes by number.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Modules by name and version.
    pub modules: BTreeMap<ModuleName, BTreeMap<ModuleVersion, Module>>,
    /// Artifacts by the module's version that they belong to.
    pub artifacts: BTreeMap<ModuleRef, Pushed>,
    /// Buckets by path.
    pub buckets: BTreeMap<BucketName, Arc<Bucket>>,
    /// Bindings by bucket; one may outlive its bucket.
    pub bindings: BTreeMap<BucketName, Arc<Binding>>,
    /// What ended multi-node buckets left behind, by bucket.
    pub residues: BTreeMap<BucketName, Residue>,
    /// Instances by bucket and node.
    pub instances: BTreeMap<BucketName, BTreeMap<NodeId, Arc<Instance>>>,
    /// Answered requests, oldest first.
    pub requests: BTreeMap<Revision, Request>,
    /// Index of `requests`.
    pub request_ids: BTreeMap<RequestId, Revision>,
    /// Objects by bucket, without their values.
    pub objects: BTreeMap<BucketName, Arc<Objects>>,
    /// See [`State::unsettled`].
    pub(crate) unsettled: BTreeSet<BucketName>,
    /// Secrets by name, sealed.
    pub secrets: BTreeMap<SecretName, Arc<Secret>>,
    /// Jobs and their subtasks.
    pub jobs: Jobs,
    /// Backends by name.
    pub backends: BTreeMap<BackendName, Arc<Backend>>,
    /// Who may do what.
    pub access: Access,
    /// Sinks by name.
    pub sinks: BTreeMap<SinkName, Arc<Sink>>,
}

impl State {
    /// Buckets that the leader may owe something by their own row: those to be placed, rolled out, or ended at a time of
    /// day. Few of many, so that a leader that looks often need not go over all.
    pub fn unsettled(&self) -> impl Iterator<Item = &Arc<Bucket>> {
        self.unsettled.iter().filter_map(|name| self.buckets.get(name))
    }

    /// Puts `name` among them or takes it out, after anything of it has changed.
    fn settle(&mut self, name: &BucketName) {
        let is_unsettled = self.buckets.get(name).is_some_and(|bucket| {
            let to_place = !bucket.current.spec.multi_node
                && !bucket.is_off()
                && !self.bindings.contains_key(name)
                && !self.residues.contains_key(name);
            to_place
                || bucket.next.is_some()
                || bucket.trial.is_some()
                || bucket.quarantined_until().is_some()
        });
        if is_unsettled && !self.unsettled.contains(name) {
            self.unsettled.insert(name.clone());
        } else if !is_unsettled && !self.unsettled.is_empty() {
            self.unsettled.remove(name);
        }
    }

    /// A copy with one job and nothing else of what the cluster has: enough to try what an operator may do with that job.
    pub fn with_only(&self, job: JobId) -> Self {
        let jobs = self.jobs.only(job);
        Self { revision: self.revision, cluster: self.cluster.clone(), jobs, ..Self::default() }
    }

    /// Puts one changed row in place. Events, old releases and values of objects live only in the store.
    pub fn put(&mut self, change: &Change) {
        match change {
            Change::Cluster(cluster) => self.cluster = cluster.clone(),
            Change::Node(node) => {
                self.nodes.insert(node.id, node.clone());
            }
            Change::Module(module) => {
                let versions = self.modules.entry(module.spec.name.clone()).or_default();
                versions.insert(module.spec.version.clone(), module.clone());
            }
            Change::ModuleGone(name, version) => self.remove_module(name, version),
            Change::Bucket(_)
            | Change::BucketGone(_)
            | Change::Binding(_)
            | Change::BindingGone(_)
            | Change::Residue(_)
            | Change::ResidueGone(_) => self.put_of_bucket(change),
            Change::Instance(instance) => {
                let nodes = self.instances.entry(instance.bucket.clone()).or_default();
                nodes.insert(instance.node, instance.clone());
            }
            Change::InstanceGone(name, node) => self.remove_instance(name, *node),
            Change::Request(request) => {
                self.request_ids.insert(request.id.clone(), request.revision);
                self.requests.insert(request.revision, request.clone());
            }
            Change::RequestGone(revision) => {
                if let Some(request) = self.requests.remove(revision) {
                    self.request_ids.remove(&request.id);
                }
            }
            Change::Object(object) => self.put_object(object),
            Change::ObjectGone(bucket, key) => self.remove_object(bucket, key),
            Change::ObjectsGone(bucket) => {
                self.objects.remove(bucket);
            }
            Change::Artifact(pushed) => {
                self.artifacts.insert(pushed.artifact.module.clone(), pushed.clone());
            }
            Change::ArtifactGone(module) => {
                self.artifacts.remove(module);
            }
            Change::Secret(secret) => {
                self.secrets.insert(secret.name.clone(), secret.clone());
            }
            Change::SecretGone(name) => {
                self.secrets.remove(name);
            }
            Change::Backend(_) | Change::BackendGone(_) | Change::Sink(_) | Change::SinkGone(_) => {
                self.put_of_outside(change);
            }
            Change::Token(_) | Change::TokenGone(_) | Change::Authority(_) | Change::AuthorityGone(_) => {
                self.access.put(change);
            }
            Change::Job(_)
            | Change::JobGone(_)
            | Change::Dependencies(..)
            | Change::Transitions(_)
            | Change::Submit(_)
            | Change::SubmitGone(_)
            | Change::Items(_)
            | Change::Runner(..)
            | Change::RunnerGone(_) => self.jobs.put(change),
            Change::Release(..) | Change::Event(_) | Change::ObjectValue(..) => {}
        }
    }

    /// What stands for something outside of the cluster.
    fn put_of_outside(&mut self, change: &Change) {
        match change {
            Change::Backend(backend) => {
                self.backends.insert(backend.spec.name.clone(), backend.clone());
            }
            Change::BackendGone(name) => {
                self.backends.remove(name);
            }
            Change::Sink(sink) => {
                self.sinks.insert(sink.spec.name.clone(), sink.clone());
            }
            Change::SinkGone(name) => {
                self.sinks.remove(name);
            }
            // Every other one is known to who calls this.
            _ => {}
        }
    }

    fn put_of_bucket(&mut self, change: &Change) {
        match change {
            Change::Bucket(bucket) => {
                self.buckets.insert(bucket.name().clone(), bucket.clone());
                self.settle(bucket.name());
            }
            Change::BucketGone(name) => {
                self.buckets.remove(name);
                self.settle(name);
            }
            Change::Binding(binding) => {
                self.bindings.insert(binding.bucket.clone(), binding.clone());
                self.settle(&binding.bucket);
            }
            Change::BindingGone(name) => {
                self.bindings.remove(name);
                self.settle(name);
            }
            Change::Residue(residue) => {
                self.residues.insert(residue.bucket.clone(), residue.clone());
                self.settle(&residue.bucket);
            }
            Change::ResidueGone(name) => {
                self.residues.remove(name);
                self.settle(name);
            }
            // Every other one is known to who calls this.
            _ => {}
        }
    }

    fn remove_module(&mut self, name: &ModuleName, version: &ModuleVersion) {
        let Some(versions) = self.modules.get_mut(name) else { return };
        versions.remove(version);
        if versions.is_empty() {
            self.modules.remove(name);
        }
    }

    fn remove_instance(&mut self, bucket: &BucketName, node: NodeId) {
        let Some(nodes) = self.instances.get_mut(bucket) else { return };
        nodes.remove(&node);
        if nodes.is_empty() {
            self.instances.remove(bucket);
        }
    }

    fn put_object(&mut self, object: &Object) {
        let objects = self.objects.entry(object.bucket.clone()).or_default();
        Arc::make_mut(objects).put(object.key.clone(), object.entry);
    }

    fn remove_object(&mut self, bucket: &BucketName, key: &ObjectKey) {
        let Some(objects) = self.objects.get_mut(bucket) else { return };
        Arc::make_mut(objects).remove(key);
        if objects.is_empty() {
            self.objects.remove(bucket);
        }
    }

    /// Every row, as changes: putting them into an empty state gives this one (but for its `revision`).
    pub fn rows(&self) -> impl Iterator<Item = Change> + '_ {
        std::iter::once(Change::Cluster(self.cluster.clone()))
            .chain(self.nodes.values().cloned().map(Change::Node))
            .chain(self.modules.values().flat_map(BTreeMap::values).cloned().map(Change::Module))
            .chain(self.artifacts.values().cloned().map(Change::Artifact))
            .chain(self.buckets.values().cloned().map(Change::Bucket))
            .chain(self.bindings.values().cloned().map(Change::Binding))
            .chain(self.residues.values().cloned().map(Change::Residue))
            .chain(self.instances.values().flat_map(BTreeMap::values).cloned().map(Change::Instance))
            .chain(self.requests.values().cloned().map(Change::Request))
            .chain(objects::rows(&self.objects).map(Change::Object))
            .chain(self.secrets.values().cloned().map(Change::Secret))
            .chain(self.jobs.rows())
            .chain(self.backends.values().cloned().map(Change::Backend))
            .chain(self.access.rows())
            .chain(self.sinks.values().cloned().map(Change::Sink))
    }

    /// The module a bucket's release is fixed to.
    pub fn module(&self, module: &ModuleRef) -> Option<&Module> {
        self.modules.get(&module.name)?.get(module.version.as_ref()?)
    }

    /// The newest version of a module, by version order.
    pub fn newest(&self, name: &ModuleName) -> Option<&Module> {
        self.modules.get(name)?.values().max_by_key(|module| module.spec.version.newness())
    }

    /// The node that holds `name` now, else the last one that did.
    pub fn node_named(&self, name: &str) -> Option<&Node> {
        let named = || self.nodes.values().filter(|node| node.facts.name.as_str() == name);
        named().find(|node| node.status.is_alive()).or_else(|| named().next_back())
    }

    /// Whether the node is registered and heard of.
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.status.is_alive())
    }

    /// A node's name for people, also of a number that is not known.
    pub fn node_name(&self, id: NodeId) -> String {
        self.nodes.get(&id).map_or_else(|| format!("node {id}"), |node| node.facts.name.to_string())
    }

    /// Names in use now.
    pub fn names(&self) -> BTreeSet<&NodeName> {
        self.nodes.values().filter(|node| node.status.is_alive()).map(|node| &node.facts.name).collect()
    }
}
