//! Artifacts between nodes: `sheaf.peer.v1.ArtifactService`. People push with [`crate::module`].

mod serve;

use std::future::Future;

use bytes::Bytes;
use sheaf_model::{Artifact, ClusterId, Contact, Digest};

pub(crate) use serve::Serve;

use crate::{Answers, ApiError, Caller};

/// An archive is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchArtifact {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which one.
    pub digest: Digest,
    /// Where to begin, in bytes.
    pub offset: u64,
}

/// A node is to have an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldArtifact {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which one.
    pub artifact: Artifact,
    /// Who has it.
    pub from: Contact,
}

/// Somebody asks how much of an artifact is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookForArtifact {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which one.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What answers `sheaf.peer.v1.ArtifactService`: every node.
pub trait ArtifactApi: Send + Sync + 'static {
    /// The archive in pieces.
    fn fetch(
        &self,
        caller: Caller,
        ask: FetchArtifact,
    ) -> impl Future<Output = Result<Answers<Bytes>, ApiError>> + Send;
    /// Answers once it is here, verified and on disk.
    fn hold(&self, caller: Caller, ask: HoldArtifact) -> impl Future<Output = Result<(), ApiError>> + Send;
    /// Where nodes are that have all of it.
    fn holders(
        &self,
        caller: Caller,
        ask: LookForArtifact,
    ) -> impl Future<Output = Result<Vec<Contact>, ApiError>> + Send;
    /// Hundredths of it that are here.
    fn look(
        &self,
        caller: Caller,
        ask: LookForArtifact,
    ) -> impl Future<Output = Result<u32, ApiError>> + Send;
}
