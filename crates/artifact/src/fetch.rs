//! A blob from another node.

use std::time::Duration;

use futures::StreamExt;
use sheaf_model::{Artifact, ClusterId, Contact};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{ApiError, Transport};
use tokio::time::timeout;

use crate::{Cache, CacheError};

/// How long a node may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(3);
/// A node of which no piece came for so long does not send.
const STALLED: Duration = Duration::from_secs(10);

/// Why no node could give it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Each that was asked, with its reason.
    #[error("no node that answers has it: {}", .0.iter().map(|(node, why)| format!("{node}: {why}")).collect::<Vec<_>>().join("; "))]
    Nowhere(Vec<(String, String)>),
    /// Nobody to ask is known.
    #[error("no other node is known")]
    Nobody,
    /// It came, and could not be kept.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Cache {
    /// Has the blob here when it returns: fetched from the first of `sources` that gives it, from where a
    /// former try ended. `progress` hears of the bytes that are here.
    pub async fn fetch(
        &self,
        cluster: &ClusterId,
        artifact: &Artifact,
        sources: &[Contact],
        progress: impl Fn(u64),
    ) -> Result<(), FetchError> {
        let part = self.part(&artifact.digest);
        let _busy = part.busy.lock().await;
        let mut failures = Vec::new();
        for source in sources {
            if self.has(&artifact.digest) {
                break;
            }
            match self.fetch_from(cluster, artifact, source, &progress).await {
                Ok(()) => {}
                Err(FetchFailure::There(error)) => failures.push((source.to_string(), error.to_string())),
                Err(FetchFailure::Here(error)) => match error {
                    CacheError::Digest { .. } => {
                        tracing::warn!(%source, module = %artifact.module, %error, "asking another node");
                        failures.push((source.to_string(), error.to_string()));
                    }
                    error => return Err(error.into()),
                },
            }
        }
        match (self.has(&artifact.digest), failures.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(FetchError::Nobody),
            (false, false) => Err(FetchError::Nowhere(failures)),
        }
    }

    async fn fetch_from(
        &self,
        cluster: &ClusterId,
        artifact: &Artifact,
        source: &Contact,
        progress: impl Fn(u64),
    ) -> Result<(), FetchFailure> {
        let Artifact { digest, size, .. } = artifact;
        let mut have = self.received(digest, *size);
        let mut pieces = PeerClient::new(source, self.transport())?
            .fetch_artifact(cluster, *digest, have, BEGIN_WITHIN)
            .await?;
        loop {
            let piece = timeout(STALLED, pieces.next()).await;
            let piece =
                piece.map_err(|_| ApiError::DeadlineExceeded(format!("it sent nothing for {STALLED:?}")))?;
            let Some(piece) = piece.transpose()? else { break };
            let offset = have;
            let length = piece.len() as u64;
            have = self.receive(*digest, *size, offset, piece).await.map_err(FetchFailure::Here)?;
            progress(have);
            if have != offset + length && have < *size {
                return Err(ApiError::Internal("somebody else writes the same artifact".to_owned()).into());
            }
        }
        if self.has(digest) {
            return Ok(());
        }
        Err(ApiError::unavailable(format!("it ended after {have} of {size} bytes")).into())
    }
}

/// Where nodes are that have it, as the first of `members` that answers says; none, if none does.
pub async fn holders(
    cluster: &ClusterId,
    artifact: &Artifact,
    members: &[Contact],
    transport: &Transport,
) -> Vec<Contact> {
    for member in members {
        let Ok(client) = PeerClient::new(member, transport) else { continue };
        match client.artifact_holders(cluster, artifact, BEGIN_WITHIN).await {
            Ok(holders) => return holders,
            Err(error) => tracing::debug!(%member, %error, "it does not say who has an artifact"),
        }
    }
    Vec::new()
}

enum FetchFailure {
    There(ApiError),
    Here(CacheError),
}

impl From<ApiError> for FetchFailure {
    fn from(error: ApiError) -> Self {
        Self::There(error)
    }
}
