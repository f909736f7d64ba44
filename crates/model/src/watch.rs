//! What a node must know of the replicated state, as a stream: first everything, then what changes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    Artifact, BucketName, BucketSpec, Epoch, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Node,
    Revision, Settings, Trial,
};

/// One piece of a node's watch. Within a stream the order is: `Reset`, everything, `Synced`, then changes, each
/// group ending with `Synced`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WatchItem {
    /// Forget what was known: all of it follows.
    Reset,
    /// The node's own record.
    Own(Box<Node>),
    /// The cluster's settings.
    Settings(Settings),
    /// A module's version.
    Module(Arc<ModuleSpec>),
    /// A module's version is gone.
    ModuleGone(ModuleName, ModuleVersion),
    /// A bucket as this node shall see it.
    Bucket(WatchedBucket),
    /// A bucket is gone.
    BucketGone(BucketName),
    /// A binding to this node.
    Binding(WatchedBinding),
    /// The bucket is not bound to this node any more.
    BindingGone(BucketName),
    /// This node must confirm that nothing multi-node of this name is left from up to this revision.
    Residue(BucketName, Revision),
    /// Nothing to confirm any more.
    ResidueGone(BucketName),
    /// Everything up to this revision has been said.
    Synced(Revision),
    /// The artifact of a module's version.
    Artifact(Arc<Artifact>),
    /// A module's version has no artifact any more.
    ArtifactGone(ModuleRef),
    /// The bucket is bound to another node, under this epoch, and is not to leave it. Only for agents that say that they
    /// understand it; others hear `BindingGone`, as all do where it is to leave that node.
    BoundElsewhere(BucketName, Epoch),
}

/// A bucket as one node shall see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchedBucket {
    /// What this node is released to.
    pub spec: Arc<BucketSpec>,
    /// The revision of that release; verdicts are about it.
    pub revision: Revision,
    /// An instance started from an earlier state than this is started anew.
    pub basis: Revision,
    /// Switched off.
    pub suspended: bool,
    /// This node's instance gave up restarting; it is not started again as things stand.
    pub gave_up: bool,
    /// This node is still to purge what the bucket has collected, as asked at this revision.
    #[serde(default)]
    pub purge: Option<Revision>,
    /// It is a trial of a bucket.
    #[serde(default)]
    pub trial: Option<Trial>,
}

/// A single-node bucket's binding to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedBinding {
    /// The bucket.
    pub bucket: BucketName,
    /// Its epoch.
    pub epoch: Epoch,
    /// It is to stop, gracefully, and to be given up.
    pub leaving: bool,
}
