//! Artifacts between nodes: `sheaf.peer.v1.ArtifactService`. People push with [`crate::module`].

mod serve;

use bytes::Bytes;
use sheaf_model::{Artifact, ClusterId, Contact, Digest};

pub(crate) use serve::{Serve, probes};

use crate::{Answers, ApiError, Caller, async_trait};

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
#[async_trait]
pub trait ArtifactApi: Send + Sync + 'static {
    /// The archive in pieces.
    async fn fetch(&self, caller: Caller, ask: FetchArtifact) -> Result<Answers<Bytes>, ApiError>;
    /// Answers once it is here, verified and on disk.
    async fn hold(&self, caller: Caller, ask: HoldArtifact) -> Result<(), ApiError>;
    /// Where nodes are that have all of it.
    async fn holders(&self, caller: Caller, ask: LookForArtifact) -> Result<Vec<Contact>, ApiError>;
    /// Hundredths of it that are here; 0 also where the rest is not fetched any more.
    async fn look(&self, caller: Caller, ask: LookForArtifact) -> Result<u32, ApiError>;
}
