//! What the leader knows beyond the replicated state: its sessions, and how to reach the agents behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_engine::Sessions;
use sheaf_model::session::ToNode;
use sheaf_model::{FullQueues, Incarnation, Moment, NodeId, Queue, Term, Verdict};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

/// How many messages to one agent may wait; a session that reads slower is closed and opens anew.
pub(crate) const TO_NODE_QUEUE: usize = 256;

/// Shared by the session service, the acknowledger and the conductor.
#[derive(Default)]
pub(crate) struct Live {
    /// Everything that is decided about leases is decided under this one lock: an epoch that was fenced must never be
    /// named again. Held for microseconds, across no await. Whoever needs more takes this first, then the state, then the floor.
    inner: Mutex<Inner>,
    /// A heartbeat waits for a quorum round, and somebody for what follows.
    pub(crate) round: Notify,
    /// One came when it was expected: it can wait for the next round that comes anyway.
    pub(crate) routine: Notify,
    /// Something was answered, given up, opened or closed: the conductor should look.
    pub(crate) conduct: Notify,
    /// Reports that waited for the recorder.
    pub(crate) reports_waited: AtomicU64,
    /// What is known of nodes beyond the rows has changed; of what kind, those who show it look for themselves.
    heard: watch::Sender<()>,
}

/// See [`Live`].
#[derive(Default)]
pub(crate) struct Inner {
    /// Sessions of the term this node leads in; none: it does not lead.
    pub(crate) sessions: Option<Sessions>,
    links: BTreeMap<NodeId, Link>,
    questions: BTreeMap<u64, Question>,
    asked: u64,
    /// Sessions that were cut off since this process began, because their agents read too slowly.
    cut_off: u64,
}

/// One that was asked of some nodes.
struct Question {
    /// Who has not answered it yet.
    open: BTreeSet<NodeId>,
    answers: mpsc::Sender<(NodeId, Verdict)>,
}

struct Link {
    incarnation: Incarnation,
    to_node: mpsc::Sender<ToNode>,
}

impl Live {
    /// The lock; see [`Live`].
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leadership begins: nothing is known yet.
    pub(crate) fn begin(&self, term: Term, now: Moment) {
        let mut inner = self.lock();
        let sessions = Some(Sessions::new(term, now));
        *inner = Inner { sessions, cut_off: inner.cut_off, ..Inner::default() };
        self.heard();
    }

    /// A node answered, gave up, came or went: the conductor should look, and whoever shows how buckets do.
    pub(crate) fn heard(&self) {
        self.conduct.notify_one();
        self.heard.send_replace(());
    }

    /// Wakes whenever [`Self::heard`] is said.
    pub(crate) fn hearing(&self) -> watch::Receiver<()> {
        self.heard.subscribe()
    }

    /// Leadership is over: every session ends, and its agent looks for the new leader.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        *inner = Inner { cut_off: inner.cut_off, ..Inner::default() };
    }

    /// How often the queues to and from agents were full.
    pub(crate) fn full_queues(&self) -> FullQueues {
        let reports = self.reports_waited.load(Ordering::Relaxed);
        FullQueues::default().with(Queue::Sessions, self.lock().cut_off).with(Queue::Reports, reports)
    }
}

impl Inner {
    /// Remembers how to reach an agent; a former link of the node ends.
    pub(crate) fn link(&mut self, node: NodeId, incarnation: Incarnation) -> mpsc::Receiver<ToNode> {
        let (to_node, receiver) = mpsc::channel(TO_NODE_QUEUE);
        self.links.insert(node, Link { incarnation, to_node });
        receiver
    }

    /// Forgets a link, unless a newer session has taken its place.
    pub(crate) fn unlink(&mut self, node: NodeId, incarnation: &Incarnation) {
        if self
            .links
            .get(&node)
            .is_some_and(|link| link.incarnation == *incarnation && link.to_node.is_closed())
        {
            self.links.remove(&node);
        }
    }

    /// Says something to an agent. One that does not read is cut off.
    pub(crate) fn say(&mut self, node: NodeId, message: ToNode) {
        let Some(link) = self.links.get(&node) else { return };
        if let Err(error) = link.to_node.try_send(message) {
            self.cut_off += u64::from(matches!(error, TrySendError::Full(_)));
            self.links.remove(&node);
        }
    }

    /// The same to one life of it alone: it means what that one has said, and another counts anew.
    pub(crate) fn say_to(&mut self, node: NodeId, life: &Incarnation, message: ToNode) {
        if self.links.get(&node).is_some_and(|link| link.incarnation == *life) {
            self.say(node, message);
        }
    }

    /// Asks every connected agent, and no stand-in; answers arrive at the receiver as they come.
    pub(crate) fn ask_all(
        &mut self,
        ask: impl Fn(u64) -> ToNode,
    ) -> (u64, usize, mpsc::Receiver<(NodeId, Verdict)>) {
        let restarting =
            |node: &NodeId| self.sessions.as_ref().is_some_and(|sessions| sessions.is_restarting(*node));
        let nodes: Vec<NodeId> = self.links.keys().copied().filter(|node| !restarting(node)).collect();
        let (question, receiver) = self.ask(&nodes, ask);
        (question, nodes.len(), receiver)
    }

    /// The same of these nodes.
    pub(crate) fn ask(
        &mut self,
        nodes: &[NodeId],
        ask: impl Fn(u64) -> ToNode,
    ) -> (u64, mpsc::Receiver<(NodeId, Verdict)>) {
        self.asked += 1;
        let question = self.asked;
        let (answers, receiver) = mpsc::channel(nodes.len().max(1));
        for node in nodes {
            self.say(*node, ask(question));
        }
        self.questions.insert(question, Question { open: nodes.iter().copied().collect(), answers });
        (question, receiver)
    }

    /// Ends a node's session; its agent opens another.
    pub(crate) fn cut(&mut self, node: NodeId) {
        self.links.remove(&node);
    }

    /// An agent answered. What nobody waits for is dropped, and what a node says that was not asked or has answered: there is
    /// room for one answer of each that was asked.
    pub(crate) fn judged(&mut self, question: u64, node: NodeId, verdict: Verdict) {
        let Some(question) = self.questions.get_mut(&question) else { return };
        if question.open.remove(&node) {
            let _ = question.answers.try_send((node, verdict));
        }
    }

    /// Nobody waits for answers to this question any more.
    pub(crate) fn forget(&mut self, question: u64) {
        self.questions.remove(&question);
    }
}

/// Shared by everything in this crate.
pub(crate) type SharedLive = Arc<Live>;

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, GateOutcome, ModuleRef, Revision};

    use super::*;

    #[test]
    fn what_is_meant_for_a_former_life_is_not_said_to_the_next() {
        let live = Live::default();
        let (node, former, next) = (NodeId(7), Incarnation::from("a"), Incarnation::from("b"));
        let mut reader = live.lock().link(node, next.clone());
        live.lock().say_to(node, &former, ToNode::EndsRecorded { seq: 7 });
        live.lock().say_to(node, &next, ToNode::EndsRecorded { seq: 1 });
        assert_eq!(reader.try_recv(), Ok(ToNode::EndsRecorded { seq: 1 }));
        assert!(reader.try_recv().is_err());
    }

    #[test]
    fn a_node_answers_once_and_only_what_it_was_asked() {
        let live = Live::default();
        let [asked, other, stranger] = [7, 8, 9].map(NodeId);
        let verdict = || Verdict {
            bucket: BucketName::new("/a").unwrap(),
            revision: Revision::default(),
            module: ModuleRef::parse("m@1").unwrap(),
            gates: std::array::from_fn(|_| GateOutcome::pass("")),
        };
        let (question, mut answers) =
            live.lock().ask(&[asked, other], |question| ToNode::Recorded { seq: question });
        for node in [stranger, asked, asked, stranger, other] {
            live.lock().judged(question, node, verdict());
        }
        let mut heard = Vec::new();
        while let Ok((node, _)) = answers.try_recv() {
            heard.push(node);
        }
        assert_eq!(heard, [asked, other], "the place of another is not taken");
    }

    #[test]
    fn an_agent_that_does_not_read_is_cut_off_and_counted_across_leaderships() {
        let live = Live::default();
        let (node, life) = (NodeId(7), Incarnation("a".to_owned()));
        let reader = live.lock().link(node, life.clone());
        let fill = |n: usize| (0..n).for_each(|_| live.lock().say(node, ToNode::Recorded { seq: 1 }));
        fill(TO_NODE_QUEUE);
        assert_eq!(live.full_queues(), FullQueues::default());
        fill(3);
        assert_eq!(live.full_queues().times(Queue::Sessions), 1, "nothing more is said to it");
        assert_eq!(reader.len(), TO_NODE_QUEUE, "what it gets ends there");
        live.end();
        drop(live.lock().link(node, life));
        fill(1);
        assert_eq!(live.full_queues().times(Queue::Sessions), 1, "one that has gone was not too slow");
    }
}
