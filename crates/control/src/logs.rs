//! Output of a bucket's instances, gathered from the nodes that have it.
//!
//! Once, each node is asked for what it has; `follow` stays, and opens again what breaks off.

mod follow;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::SelectAll;
use futures::{StreamExt, stream};
use sheaf_engine::State;
use sheaf_model::{BucketName, Contact, Node, NodeStatus, Timestamp};
use sheaf_store::EventFilter;
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::{LogLine, LogStream};
use sheaf_wire::{Answers, ApiError, Caller};

use crate::Control;
use crate::bucket::no_bucket;
use crate::event::read;
use crate::node::find;

/// How long a node may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// So many of the latest events about a bucket tell where it ran of late.
const LOOKED_AT: usize = 1000;
/// What is wrong with a node that is lost.
const LOST: &str = "it is lost; what it printed is on its disk";

/// A node whose output is read.
struct Source {
    name: String,
    contact: Contact,
}

impl Control {
    /// Lines of every node that runs, or ran, the bucket, merged as they come. A node that cannot be read says so in
    /// a line of its own, and so does one that is lost.
    pub(crate) async fn gather_logs(
        &self,
        _caller: Caller,
        ask: BucketLogs,
    ) -> Result<Answers<LogLine>, ApiError> {
        let sources = self.sources(&ask)?;
        let lost = match &ask.node {
            // It is asked, whatever becomes of that.
            Some(_) => Vec::new(),
            None => self.lost(&ask.of.bucket).await?,
        };
        if ask.of.follow {
            return Ok(self.follow_logs(sources, lost, ask));
        }
        let mut merged = SelectAll::new();
        merged.push(self.told(&lost));
        let opening = sources.into_iter().map(|Source { name, contact }| {
            let of = ask.of.clone();
            async move {
                let problem = match self.readers.logs(&contact, of, BEGIN_WITHIN).await {
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

    fn sources(&self, ask: &BucketLogs) -> Result<Vec<Source>, ApiError> {
        let name = &ask.of.bucket;
        self.see(|sight| {
            let state = sight.state;
            if !state.buckets.contains_key(name) && !state.instances.contains_key(name) {
                return Err(no_bucket(name));
            }
            let source = |node: &Node| Source { name: node.facts.name.to_string(), contact: node.contact() };
            if let Some(only) = &ask.node {
                return Ok(vec![source(find(state, only)?)]);
            }
            // A node keeps the output of what it ran before, so all that are reachable are asked.
            let alive = state.nodes.values().filter(|node| node.status != NodeStatus::Left);
            Ok(alive.filter(|node| node.status.is_alive()).map(source).collect())
        })?
    }

    /// Names of the nodes that are lost, as far as they have something of the bucket.
    async fn lost(&self, bucket: &BucketName) -> Result<Vec<String>, ApiError> {
        let is_any = self.see_rows(|sight| sight.state.nodes.values().any(is_lost))?;
        if !is_any {
            return Ok(Vec::new());
        }
        let filter = EventFilter { subject: Some(bucket.to_string()), ..EventFilter::default() };
        let latest = read(&self.member()?, move |reader| reader.tail(None, &filter, LOOKED_AT)).await;
        // Where it was before is not known then; what was printed elsewhere is read all the same.
        let latest = latest.unwrap_or_default();
        let ran = latest.iter().filter(|event| event.kind.starts_with("instance."));
        let ran: BTreeSet<&str> = ran.map(|event| event.node.as_str()).collect();
        self.see_rows(|sight| lost(sight.state, bucket, &ran))
    }

    /// A line for each node that is lost.
    fn told(&self, lost: &[String]) -> Answers<LogLine> {
        let now = self.clock.wall();
        let lines: Vec<_> = lost.iter().map(|name| Ok(trouble(name, now, LOST))).collect();
        stream::iter(lines).boxed()
    }
}

/// Names of lost nodes that have an instance of the bucket, or on which it `ran`. Not a name that another node has now.
fn lost(state: &State, bucket: &BucketName, ran: &BTreeSet<&str>) -> Vec<String> {
    let (instances, alive) = (state.instances.get(bucket), state.names());
    let gone = state.nodes.values().filter(|node| is_lost(node));
    let gone = gone.filter(|node| !alive.contains(&node.facts.name));
    let had_it = gone.filter(|node| {
        ran.contains(node.facts.name.as_str()) || instances.is_some_and(|nodes| nodes.contains_key(&node.id))
    });
    let names: BTreeSet<String> = had_it.map(|node| node.facts.name.to_string()).collect();
    names.into_iter().collect()
}

fn is_lost(node: &Node) -> bool {
    node.status == NodeStatus::Lost
}

fn trouble(node: &str, at: Timestamp, problem: &str) -> LogLine {
    said(node, at, format!("its output cannot be read: {problem}"))
}

fn said(node: &str, at: Timestamp, text: String) -> LogLine {
    LogLine { node: node.to_owned(), at, stream: LogStream::Sheaf, text }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use sheaf_engine::Change;
    use sheaf_model::{Instance, NodeId, NodeKey, Phase, Revision};

    use super::*;
    use crate::propose::tests::facts;

    pub(crate) fn node(id: u64, name: &str, status: NodeStatus) -> Change {
        Change::Node(Node {
            id: NodeId(id),
            key: NodeKey(id.to_string()),
            facts: facts(name),
            given_labels: Vec::new(),
            status,
            since: Timestamp::default(),
            reason: String::new(),
            registered: Revision(1),
            revision: Revision(1),
            drain: None,
            may_vote: true,
        })
    }

    fn instance(bucket: &BucketName, node: u64) -> Change {
        Change::Instance(Arc::new(Instance {
            bucket: bucket.clone(),
            node: NodeId(node),
            phase: Phase::Running,
            epoch: None,
            revision: Revision(1),
            pid: Some(1),
            started_at: None,
            restarts: 0,
            exit: None,
            message: String::new(),
        }))
    }

    #[test]
    fn a_lost_node_is_told_that_has_or_had_an_instance() {
        use NodeStatus::{Left, Lost, Ready};
        let bucket = BucketName::new("/a").expect("a name");
        let mut state = State::default();
        for (id, name, status) in [
            (1, "has", Lost),
            (2, "had", Lost),
            (3, "never", Lost),
            (4, "runs", Ready),
            (5, "forgotten", Left),
            (6, "again", Lost),
            (7, "again", Ready),
        ] {
            state.put(&node(id, name, status));
        }
        for id in [1, 4, 6] {
            state.put(&instance(&bucket, id));
        }
        let ran: BTreeSet<&str> = ["had", "runs", "forgotten", "again", "elsewhere"].into();
        assert_eq!(lost(&state, &bucket, &ran), ["had", "has"]);
        let other = BucketName::new("/b").expect("a name");
        assert_eq!(lost(&state, &other, &BTreeSet::new()), [""; 0]);
    }
}
