//! The server side of `sheaf.peer.v1.DebugService`.

use std::sync::Arc;

use sheaf_model::ClusterId;
use tonic::{Request, Response, Status};

use super::DebugApi;
use crate::call::{self, Messages};
use crate::proto::peer::v1::CollectRequest;
use crate::proto::peer::v1::debug_service_server::DebugService;
use crate::proto::v1;

/// Messages in, questions to the API, messages out.
pub(crate) struct Serve(pub(crate) Arc<dyn DebugApi>);

#[tonic::async_trait]
impl DebugService for Serve {
    type CollectStream = Messages<v1::DebugFile>;

    async fn collect(
        &self,
        request: Request<CollectRequest>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let ask = |caller, cluster| self.0.collect(caller, cluster);
        call::stream(request, |q, _| Ok(ClusterId(q.cluster)), ask, |file| Ok(file.into())).await
    }
}
