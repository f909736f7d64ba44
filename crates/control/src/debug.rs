//! What somebody needs to see who is to help, gathered from every node. Any member does it, whoever leads or not.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use sheaf_model::{ClusterId, Contact, NodeStatus};
use sheaf_wire::debug::{self, AskDebug, DebugFile, DebugPart};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{Answers, ApiError, Transport};

use crate::Control;
use crate::node::find;

/// How long a node may take to begin: longer than it gives itself for what is slow, its disk.
const BEGIN_WITHIN: Duration = Duration::from_secs(12);
/// How long all that it sends may take.
const WITHIN: Duration = Duration::from_secs(20);
/// Nodes at a time: what one sends is held until it is whole.
const AT_ONCE: usize = 4;
/// What a node sends beyond is refused: it may be one that wants to do harm.
const FILES_MAX: usize = 32;
const BYTES_MAX: usize = 16 << 20;

/// A node that is asked.
struct Source {
    name: String,
    contact: Contact,
}

impl Control {
    /// Asks each node for what it shows of itself. One that does not answer says why, in its end.
    pub(crate) fn gather_debug(&self, ask: &AskDebug) -> Result<Answers<DebugPart>, ApiError> {
        let cluster = self.place.cluster();
        let cluster = cluster.ok_or_else(|| ApiError::unavailable("this node belongs to no cluster yet"))?;
        let sources = self.debug_sources(ask)?;
        let nodes = sources.iter().map(|source| source.name.clone()).collect();
        let transport = self.place.trust.transport.clone();
        let asked = stream::iter(sources).map(move |source| {
            let (cluster, transport) = (cluster.clone(), transport.clone());
            async move { of_node(&source, &cluster, &transport).await }
        });
        let parts = asked.buffer_unordered(AT_ONCE).flat_map(|parts| stream::iter(parts).map(Ok));
        Ok(stream::once(async move { Ok(DebugPart::Nodes(nodes)) }).chain(parts).boxed())
    }

    fn debug_sources(&self, ask: &AskDebug) -> Result<Vec<Source>, ApiError> {
        let source =
            |node: &sheaf_model::Node| Source { name: node.facts.name.to_string(), contact: node.contact() };
        self.see_rows(|sight| match &ask.node {
            Some(only) => find(sight.state, only).map(|node| vec![source(node)]),
            // One that is lost may answer here all the same.
            None => {
                let there = sight.state.nodes.values().filter(|node| node.status != NodeStatus::Left);
                Ok(there.map(source).collect())
            }
        })?
    }
}

/// All that a node sends, and its end.
async fn of_node(source: &Source, cluster: &ClusterId, transport: &Transport) -> Vec<DebugPart> {
    let mut parts = Vec::new();
    let failure = match tokio::time::timeout(WITHIN, collect(source, cluster, transport, &mut parts)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not all of it came within {WITHIN:?}")),
    };
    parts.push(DebugPart::End { node: source.name.clone(), failure });
    parts
}

async fn collect(
    source: &Source,
    cluster: &ClusterId,
    transport: &Transport,
    parts: &mut Vec<DebugPart>,
) -> Result<(), ApiError> {
    let client = PeerClient::new(&source.contact, transport)?;
    let mut files = client.collect_debug(cluster, BEGIN_WITHIN).await?;
    let mut size = 0;
    while let Some(file) = files.next().await {
        let file = file?;
        size += file.content.as_ref().map_or(0, bytes::Bytes::len);
        if parts.len() >= FILES_MAX || size > BYTES_MAX || !debug::is_file_name(&file.name) {
            return Err(ApiError::Precondition(format!(
                "node {} sends what no node of this version does; the rest of it was not taken",
                source.name
            )));
        }
        // Whatever it calls itself.
        parts.push(DebugPart::File(DebugFile { node: source.name.clone(), ..file }));
    }
    Ok(())
}
