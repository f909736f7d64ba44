//! The client side of `sheaf.v1.NodeService`.

use sheaf_model::view::{AffinityRow, NodeDetail, NodeRow};
use tonic::transport::Channel;

use super::{Affinity, DrainNode, Drained, LabelNode, Labelled, ListNodes, OnNode};
use crate::probe::Probe;
use crate::proto::v1;
use crate::proto::v1::node_service_client::NodeServiceClient;
use crate::server::MESSAGE_MAX;
use crate::{Asking, Client, Done, Page};

impl Client {
    fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// A page of nodes, in the order of their names.
    pub fn list_nodes(&self, ask: ListNodes) -> Asking<'_, Page<NodeRow>> {
        Box::pin(async move {
            let request = self.request(v1::ListNodesRequest::from(ask));
            Ok(self.unary(request, async |request| self.nodes().list(request).await).await?.into())
        })
    }

    /// One node, by name or number.
    pub fn node<'a>(&'a self, name: &'a str) -> Asking<'a, NodeDetail> {
        Box::pin(async move {
            let request = self.request(v1::GetNodeRequest { name: name.to_owned() });
            self.unary(request, async |request| self.nodes().get(request).await).await?.try_into()
        })
    }

    /// A page of what runs where, since when and why.
    pub fn affinity(&self, ask: Affinity) -> Asking<'_, Page<AffinityRow>> {
        Box::pin(async move {
            let request = self.request(v1::AffinityRequest::from(ask));
            Ok(self.unary(request, async |request| self.nodes().affinity(request).await).await?.into())
        })
    }

    /// Gives a node labels and takes them away.
    pub fn label_node(&self, ask: LabelNode) -> Asking<'_, Labelled> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::LabelNodeRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.nodes().label(request).await).await?.into())
        })
    }

    /// Empties a node, or only says what would move where.
    pub fn drain_node(&self, ask: DrainNode) -> Asking<'_, Drained> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::DrainNodeRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.nodes().drain(request).await).await?.into())
        })
    }

    /// Lets a node take work again.
    pub fn undrain_node(&self, ask: OnNode) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::UndrainNodeRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.nodes().undrain(request).await).await?.into())
        })
    }

    /// Vouches for a node that is lost.
    pub fn forget_node(&self, ask: OnNode) -> Asking<'_, Done> {
        Box::pin(async move {
            let id = ask.request.clone();
            let request = self.change(v1::ForgetNodeRequest::from(ask), id.as_ref());
            Ok(self.unary(request, async |request| self.nodes().forget(request).await).await?.into())
        })
    }
}

/// What is made of the bytes of each answer, see [`crate::probe`].
pub(crate) fn answers() -> Vec<Probe> {
    vec![
        Probe::plain::<v1::ListNodesResponse, Page<NodeRow>>(),
        Probe::answer::<v1::NodeDetail, NodeDetail>(),
        Probe::plain::<v1::AffinityResponse, Page<AffinityRow>>(),
        Probe::plain::<v1::LabelNodeResponse, Labelled>(),
        Probe::plain::<v1::DrainNodeResponse, Drained>(),
    ]
}
