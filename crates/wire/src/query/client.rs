//! The client side of `sheaf.v1.QueryService`.

use sheaf_model::QueryPart;
use tonic::transport::Channel;

use super::{RunQuery, convert};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::query_service_client::QueryServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Answers, Asking, Client, call};

impl Client {
    fn queries(&self) -> QueryServiceClient<Channel> {
        QueryServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// Answers one statement that reads: columns, rows, the end.
    pub fn query(&self, ask: RunQuery) -> Asking<'_, Answers<QueryPart>> {
        Box::pin(async move {
            let request = self.request(v1::QueryRequest::from(ask));
            let parts = self.stream(request, async |request| self.queries().query(request).await).await?;
            let mut is_first = true;
            Ok(call::incoming(self.address(), parts, move |part| {
                convert::part(part, std::mem::replace(&mut is_first, false))
            }))
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![Probe::answered(|answer: v1::QueryResponse| {
        let first = convert::part(answer.clone(), true);
        first.and_then(|_| convert::part(answer, false))
    })]
}
