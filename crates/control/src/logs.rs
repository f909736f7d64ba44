//! Output of a bucket's instances, gathered from the nodes that have it.

use std::time::Duration;

use futures::stream::SelectAll;
use futures::{StreamExt, stream};
use sheaf_model::{NodeStatus, Timestamp};
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::{LogLine, LogStream};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{Answers, ApiError, Caller};

use crate::Control;
use crate::bucket::no_bucket;

/// How long a node may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

impl Control {
    /// Lines of every node that runs, or ran, the bucket, merged as they come. A node that cannot be read says so in
    /// a line of its own.
    pub(crate) async fn gather_logs(
        &self,
        _caller: Caller,
        ask: BucketLogs,
    ) -> Result<Answers<LogLine>, ApiError> {
        let nodes = self.nodes_with_logs(&ask)?;
        let mut merged = SelectAll::new();
        let opening = nodes.into_iter().map(|(name, address)| {
            let of = ask.of.clone();
            async move {
                let opened = async {
                    PeerClient::new(&address, &self.place.trust.transport)?.logs(of, BEGIN_WITHIN).await
                };
                let problem = match opened.await {
                    Ok(lines) => return Some((name, lines)),
                    Err(ApiError::NotFound(_)) => return None,
                    Err(error) => error.to_string(),
                };
                let at = self.clock.wall();
                let line = trouble(&name, at, &problem);
                Some((name, stream::once(async move { Ok(line) }).boxed()))
            }
        });
        for (name, lines) in futures::future::join_all(opening).await.into_iter().flatten() {
            let clock = self.clock.clone();
            // A node that breaks off says so and does not end the others.
            merged.push(
                lines
                    .map(move |line| line.or_else(|e| Ok(trouble(&name, clock.wall(), &e.to_string()))))
                    .boxed(),
            );
        }
        Ok(merged.boxed())
    }

    fn nodes_with_logs(&self, ask: &BucketLogs) -> Result<Vec<(String, String)>, ApiError> {
        let name = &ask.of.bucket;
        self.see(|sight| {
            let state = sight.state;
            if !state.buckets.contains_key(name) && !state.instances.contains_key(name) {
                return Err(no_bucket(name));
            }
            let alive = state.nodes.values().filter(|node| node.status != NodeStatus::Left);
            if let Some(only) = &ask.node {
                let node = state
                    .node_named(only)
                    .ok_or_else(|| ApiError::NotFound(format!("there is no node {only}")))?;
                return Ok(vec![(node.facts.name.to_string(), node.facts.address.clone())]);
            }
            // A node keeps the output of what it ran before, so all that are reachable are asked.
            let reachable = alive.filter(|node| node.status.is_alive());
            Ok(reachable.map(|node| (node.facts.name.to_string(), node.facts.address.clone())).collect())
        })?
    }
}

fn trouble(node: &str, at: Timestamp, problem: &str) -> LogLine {
    LogLine {
        node: node.to_owned(),
        at,
        stream: LogStream::Sheaf,
        text: format!("its output cannot be read: {problem}"),
    }
}
