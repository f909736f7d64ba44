//! Output of a bucket's instances, gathered from the nodes that have it.
//!
//! Once, each node is asked for what it has; `follow` stays, and opens again what breaks off.

mod follow;

use std::time::Duration;

use futures::stream::SelectAll;
use futures::{StreamExt, stream};
use sheaf_model::{Contact, NodeStatus, Timestamp};
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::{LogLine, LogStream, LogsOf};
use sheaf_wire::peer::PeerClient;
use sheaf_wire::{Answers, ApiError, Caller};

use crate::Control;
use crate::bucket::no_bucket;

/// How long a node may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

/// A node whose output is read.
struct Source {
    name: String,
    contact: Contact,
}

impl Control {
    /// Lines of every node that runs, or ran, the bucket, merged as they come. A node that cannot be read says so in
    /// a line of its own.
    pub(crate) async fn gather_logs(
        &self,
        _caller: Caller,
        ask: BucketLogs,
    ) -> Result<Answers<LogLine>, ApiError> {
        let sources = self.sources(&ask)?;
        if ask.of.follow {
            return Ok(self.follow_logs(sources, ask));
        }
        let mut merged = SelectAll::new();
        let opening = sources.into_iter().map(|Source { name, contact }| {
            let of = ask.of.clone();
            async move {
                let problem = match self.open_logs(&contact, of).await {
                    Ok(lines) => return Some((name, lines)),
                    Err(ApiError::NotFound(_)) => return None,
                    Err(error) => error.to_string(),
                };
                let line = trouble(&name, self.clock.wall(), &problem);
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

    async fn open_logs(&self, contact: &Contact, of: LogsOf) -> Result<Answers<LogLine>, ApiError> {
        PeerClient::new(contact, &self.place.trust.transport)?.logs(of, BEGIN_WITHIN).await
    }

    fn sources(&self, ask: &BucketLogs) -> Result<Vec<Source>, ApiError> {
        let name = &ask.of.bucket;
        self.see(|sight| {
            let state = sight.state;
            if !state.buckets.contains_key(name) && !state.instances.contains_key(name) {
                return Err(no_bucket(name));
            }
            let source = |node: &sheaf_model::Node| Source {
                name: node.facts.name.to_string(),
                contact: node.contact(),
            };
            if let Some(only) = &ask.node {
                let node = state
                    .node_named(only)
                    .ok_or_else(|| ApiError::NotFound(format!("there is no node {only}")))?;
                return Ok(vec![source(node)]);
            }
            // A node keeps the output of what it ran before, so all that are reachable are asked.
            let alive = state.nodes.values().filter(|node| node.status != NodeStatus::Left);
            Ok(alive.filter(|node| node.status.is_alive()).map(source).collect())
        })?
    }
}

fn trouble(node: &str, at: Timestamp, problem: &str) -> LogLine {
    said(node, at, format!("its output cannot be read: {problem}"))
}

fn said(node: &str, at: Timestamp, text: String) -> LogLine {
    LogLine { node: node.to_owned(), at, stream: LogStream::Sheaf, text }
}
