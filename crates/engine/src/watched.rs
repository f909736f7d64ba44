//! What one node must know of the replicated state: everything at first, then what changes.

use std::collections::BTreeSet;

use sheaf_model::watch::{WatchItem, WatchedBinding, WatchedBucket};
use sheaf_model::{Binding, BucketName, NodeId};

use crate::change::Change;
use crate::state::{Bucket, State};

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// The node.
    pub node: NodeId,
    /// The buckets of which it has something, or may have before it was told everything: of these it is told at the
    /// beginning where they are bound, if to another node. There may be very many others, which are nothing to it. None: an
    /// agent of an earlier version, which would not understand that of any.
    pub places: Option<BTreeSet<BucketName>>,
}

/// Everything that a node must know, for an empty memory; ends with `Synced`.
pub fn everything<'a>(state: &'a State, watcher: &'a Watcher) -> impl Iterator<Item = WatchItem> + 'a {
    let node = watcher.node;
    let own = state.nodes.get(&node).map(|node| WatchItem::Own(Box::new(node.clone())));
    let modules = state.modules.values().flat_map(|versions| versions.values());
    let bindings = state.bindings.values().filter(move |binding| binding.node == node);
    let places = watcher.places.iter().flatten();
    let elsewhere = places.filter_map(move |name| bound_elsewhere(state.bindings.get(name)?, node));
    let residues = state.residues.values();
    std::iter::once(WatchItem::Reset)
        .chain(std::iter::once(WatchItem::Settings(state.cluster.settings)))
        .chain(own)
        .chain(modules.map(|module| WatchItem::Module(module.spec.clone())))
        .chain(state.artifacts.values().map(|pushed| WatchItem::Artifact(pushed.artifact.clone())))
        .chain(state.buckets.values().map(move |bucket| WatchItem::Bucket(watched(bucket, node))))
        .chain(bindings.map(|binding| {
            WatchItem::Binding(WatchedBinding {
                bucket: binding.bucket.clone(),
                epoch: binding.epoch,
                leaving: binding.leaving.is_some(),
            })
        }))
        .chain(elsewhere)
        .chain(residues.filter_map(move |residue| {
            let ending = residue.nodes.get(&node)?;
            Some(WatchItem::Residue(residue.bucket.clone(), *ending))
        }))
        .chain(std::iter::once(WatchItem::Synced(state.revision)))
}

/// What a change means to a node; none: nothing.
pub fn item(change: &Change, watcher: &Watcher) -> Option<WatchItem> {
    let node = watcher.node;
    match change {
        Change::Cluster(cluster) => Some(WatchItem::Settings(cluster.settings)),
        Change::Node(row) if row.id == node => Some(WatchItem::Own(Box::new(row.clone()))),
        Change::Module(module) => Some(WatchItem::Module(module.spec.clone())),
        Change::ModuleGone(name, version) => Some(WatchItem::ModuleGone(name.clone(), version.clone())),
        Change::Artifact(pushed) => Some(WatchItem::Artifact(pushed.artifact.clone())),
        Change::ArtifactGone(module) => Some(WatchItem::ArtifactGone(module.clone())),
        Change::Bucket(bucket) => Some(WatchItem::Bucket(watched(bucket, node))),
        Change::BucketGone(name) => Some(WatchItem::BucketGone(name.clone())),
        Change::Binding(binding) if binding.node == node => Some(WatchItem::Binding(WatchedBinding {
            bucket: binding.bucket.clone(),
            epoch: binding.epoch,
            leaving: binding.leaving.is_some(),
        })),
        // Bound elsewhere or not at all: not here.
        Change::Binding(binding) => {
            let elsewhere = bound_elsewhere(binding, node).filter(|_| watcher.places.is_some());
            Some(elsewhere.unwrap_or_else(|| WatchItem::BindingGone(binding.bucket.clone())))
        }
        Change::BindingGone(name) => Some(WatchItem::BindingGone(name.clone())),
        Change::Residue(residue) => Some(match residue.nodes.get(&node) {
            Some(ending) => WatchItem::Residue(residue.bucket.clone(), *ending),
            None => WatchItem::ResidueGone(residue.bucket.clone()),
        }),
        Change::ResidueGone(name) => Some(WatchItem::ResidueGone(name.clone())),
        Change::Node(_)
        | Change::Instance(_)
        | Change::InstanceGone(..)
        | Change::Request(_)
        | Change::RequestGone(_)
        | Change::Release(..)
        | Change::Event(_)
        | Change::Object(_)
        | Change::ObjectValue(..)
        | Change::ObjectGone(..)
        | Change::ObjectsGone(_)
        | Change::Secret(_)
        | Change::SecretGone(_)
        | Change::Job(_)
        | Change::JobGone(_)
        | Change::Dependencies(..)
        | Change::Transitions(_)
        | Change::Submit(_)
        | Change::SubmitGone(_)
        | Change::Items(_)
        | Change::Runner(..)
        | Change::RunnerGone(_)
        | Change::Backend(_)
        | Change::BackendGone(_)
        | Change::Token(_)
        | Change::TokenGone(_)
        | Change::Authority(_)
        | Change::AuthorityGone(_)
        | Change::Sink(_)
        | Change::SinkGone(_) => None,
    }
}

/// What a binding is to another node than its own; none: it is this one's, or about to end, and the next may be this one's.
fn bound_elsewhere(binding: &Binding, node: NodeId) -> Option<WatchItem> {
    let stays = binding.node != node && binding.leaving.is_none();
    stays.then(|| WatchItem::BoundElsewhere(binding.bucket.clone(), binding.epoch))
}

fn watched(bucket: &Bucket, node: NodeId) -> WatchedBucket {
    let release = bucket.release_for(node);
    WatchedBucket {
        spec: release.spec.clone(),
        revision: release.revision,
        basis: bucket.basis_for(node),
        suspended: bucket.is_off(),
        gave_up: bucket.gave_up.contains_key(&node),
        purge: bucket
            .purge
            .as_ref()
            .filter(|purge| purge.waiting.contains(&node))
            .map(|purge| purge.revision),
        trial: bucket.trial,
    }
}
