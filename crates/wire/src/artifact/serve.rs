//! The server side of `sheaf.peer.v1.ArtifactService`.

use std::sync::Arc;

use sheaf_model::{ClusterId, Contact, Digest, NodeId};
use tonic::{Request, Response, Status};

use super::{ArtifactApi, FetchArtifact, HoldArtifact, LookForArtifact};
use crate::ApiError;
use crate::call::{self, Messages};
use crate::probe::Probe;
use crate::proto::peer::v1;
use crate::proto::peer::v1::artifact_service_server::ArtifactService;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn ArtifactApi>);

fn digest(bytes: &[u8]) -> Result<Digest, ApiError> {
    let bytes = bytes.try_into().map_err(|_| ApiError::invalid("digest", "no digest", "32 bytes"))?;
    Ok(Digest(bytes))
}

fn fetch(q: v1::FetchArtifactRequest) -> Result<FetchArtifact, ApiError> {
    Ok(FetchArtifact { cluster: ClusterId(q.cluster), digest: digest(&q.digest)?, offset: q.offset })
}

fn hold(q: v1::HoldArtifactRequest) -> Result<HoldArtifact, ApiError> {
    let wrong =
        |error: serde_json::Error| ApiError::invalid("artifact", error.to_string(), "JSON of an Artifact");
    let artifact = serde_json::from_slice(&q.artifact).map_err(wrong)?;
    let from = Contact { address: q.from, node: (q.node != 0).then_some(NodeId(q.node)) };
    Ok(HoldArtifact { cluster: ClusterId(q.cluster), artifact, from })
}

fn look(q: v1::LookForArtifactRequest) -> Result<LookForArtifact, ApiError> {
    Ok(LookForArtifact { cluster: ClusterId(q.cluster), digest: digest(&q.digest)?, size: q.size })
}

#[tonic::async_trait]
impl ArtifactService for Serve {
    type FetchStream = Messages<v1::ArtifactPiece>;

    async fn fetch(
        &self,
        request: Request<v1::FetchArtifactRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let ask = |caller, ask| self.0.fetch(caller, ask);
        call::stream(request, |q, _| fetch(q), ask, |data| Ok(v1::ArtifactPiece { data })).await
    }

    async fn hold(
        &self,
        request: Request<v1::HoldArtifactRequest>,
    ) -> Result<Response<v1::HoldArtifactResponse>, Status> {
        let ask = |caller, ask| self.0.hold(caller, ask);
        call::unary(request, |q, _| hold(q), ask, |()| v1::HoldArtifactResponse {}).await
    }

    async fn holders(
        &self,
        request: Request<v1::LookForArtifactRequest>,
    ) -> Result<Response<v1::HoldersResponse>, Status> {
        let write = |holders: Vec<Contact>| v1::HoldersResponse {
            nodes: holders.iter().map(|holder| holder.node.map_or(0, |node| node.0)).collect(),
            addresses: holders.into_iter().map(|holder| holder.address).collect(),
        };
        call::unary(request, |q, _| look(q), |caller, ask| self.0.holders(caller, ask), write).await
    }

    async fn look(
        &self,
        request: Request<v1::LookForArtifactRequest>,
    ) -> Result<Response<v1::LookForArtifactResponse>, Status> {
        let write = |percent| v1::LookForArtifactResponse { percent };
        call::unary(request, |q, _| look(q), |caller, ask| self.0.look(caller, ask), write).await
    }
}

/// What is made of the bytes of each question, see [`crate::probe`].
pub(crate) fn probes() -> Vec<Probe> {
    vec![
        Probe::of("ArtifactService/Fetch", |q, _| fetch(q)),
        Probe::of("ArtifactService/Hold", |q, _| hold(q)),
        Probe::of("ArtifactService/Look", |q, _| look(q)),
    ]
}
