//! Sessions of agents with the leader.
//!
//! ```text
//!  agent ──Hello──► session ──► Sessions::opened          acknowledger ──quorum round──► Acknowledged
//!        ──Heartbeat──► Sessions::heard ──wakes──────────────┘
//!        ──Verdicts, GaveUp──► Sessions ──wakes──► conductor
//!        ──Phases, NothingLeft, Facts──► recorder ──► the log
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use sheaf_engine::{Command, ConfirmResidue, RecordPhases, RecordPurge, RecordResults, Register, Reply};
use sheaf_model::session::{Heartbeat, Hello, ToLeader, ToNode};
use sheaf_model::{Actor, Facts, Incarnation, Moment, NodeId, NodeStatus, Span, Term, Verdict};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};
use tokio::sync::mpsc;

use crate::Control;
use crate::floor::verdicts::Verdicts;
use crate::place::left_text;
use crate::recorder::Record;

/// How long an agent may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long facts may take into the log until they are recorded again.
const FACTS_WITHIN: Span = Span::seconds(2);

/// One session under way.
struct Session {
    control: Control,
    node: NodeId,
    incarnation: Incarnation,
    /// The leadership in which it opened, and no longer than which it lasts.
    term: Term,
    from_agent: Answers<ToLeader>,
    to_agent: mpsc::Receiver<ToNode>,
    /// What the agent has said of its node since, until it is in the log; and when that was handed to the recorder.
    said: Option<(Facts, Moment)>,
    /// Its number on the floor.
    floor: u64,
}

/// What a session begins with.
struct Opened {
    to_agent: mpsc::Receiver<ToNode>,
    term: Term,
    /// For so long the node may start no single-node work.
    start_in: Span,
    floor: u64,
}

impl Control {
    /// Serves one session until the agent ends it, leadership ends, or the agent reads too slowly.
    pub(crate) async fn serve_session(
        &self,
        caller: &Caller,
        mut from_agent: Answers<ToLeader>,
    ) -> Result<Answers<ToNode>, ApiError> {
        let leads = self.place.leads();
        // Only its own agent asks this node for what it has heard of itself.
        if !leads && !self.place.has_left() {
            return Ok(only(ToNode::redirect(self.place.leader_contact())));
        }
        let hello = match tokio::time::timeout(HELLO_WITHIN, from_agent.next()).await {
            Ok(Some(Ok(ToLeader::Hello(hello)))) => hello,
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) => return Ok(stream::empty().boxed()),
            Ok(Some(Ok(_))) | Err(_) => {
                return Err(ApiError::Precondition("a session begins with Hello".to_owned()));
            }
        };
        if !leads {
            return Ok(only(self.not_leading(&hello)));
        }
        caller.speaks_for(hello.node)?;
        if let Err(refusal) = self.recognise(&hello).await {
            return Ok(only(refusal));
        }
        let heartbeat = self.settings().lease.heartbeat;
        let Opened { to_agent, term, start_in, floor } = match self.open(&hello) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(only(refusal)),
        };
        tracing::debug!(node = %hello.node, "session opened");
        let session = Session {
            control: self.clone(),
            node: hello.node,
            incarnation: hello.incarnation,
            term,
            from_agent,
            to_agent,
            said: None,
            floor,
        };
        let answers = stream::unfold(session, |mut session| async move {
            let message = session.next().await?;
            Some((Ok(message), session))
        });
        Ok(stream::once(async move { Ok(ToNode::Welcome { heartbeat, start_in }) }).chain(answers).boxed())
    }

    /// What an agent is told by a node that was forgotten.
    fn not_leading(&self, hello: &Hello) -> ToNode {
        let own = self.place.registration.borrow().clone();
        if own.is_some_and(|own| own.node == hello.node && own.cluster == hello.cluster) {
            return ToNode::Refused { reason: self.place.left_text(), retry: false, left: true };
        }
        ToNode::redirect(None)
    }

    /// Is this a node of ours? Its facts are recorded if they changed.
    async fn recognise(&self, hello: &Hello) -> Result<(), ToNode> {
        let refused = |reason: String, retry| Err(ToNode::Refused { reason, retry, left: false });
        let Some(member) = self.place.member() else { return Err(ToNode::redirect(None)) };
        let (known, cluster) = {
            let state = member.replica.state();
            (state.nodes.get(&hello.node).cloned(), state.cluster.id.clone())
        };
        if let Some(successor) = cluster.as_ref().filter(|cluster| cluster.succeeds(&hello.cluster)) {
            return refused(format!("cluster {} was founded anew as {successor}", hello.cluster), true);
        }
        if cluster.as_ref() != Some(&hello.cluster) {
            return refused(format!("this is another cluster than {}", hello.cluster), false);
        }
        match known {
            None => refused(format!("node {} is not registered here (yet)", hello.node), true),
            Some(node) if node.key != hello.key => {
                refused(format!("node {} is another data directory", hello.node), false)
            }
            Some(node) if node.status == NodeStatus::Left => {
                let reason = left_text(node.facts.name.as_str(), &hello.cluster.0);
                Err(ToNode::Refused { reason, retry: false, left: true })
            }
            Some(node) => {
                self.admit(hello)?;
                let register = Register { key: hello.key.clone(), facts: hello.facts.clone() };
                let actor = Actor(format!("node:{}", node.facts.name));
                if node.facts == hello.facts && node.status.is_alive() {
                    return Ok(());
                }
                match self.propose_as(actor, None, Command::Register(register), None).await {
                    Ok(Reply::Refused(refusal)) => refused(refusal.to_string(), true),
                    Ok(_) => Ok(()),
                    Err(_) => Err(ToNode::redirect(self.place.leader_contact())),
                }
            }
        }
    }

    /// An agent that is not to be let in must not change what is known of the one that is.
    fn admit(&self, hello: &Hello) -> Result<(), ToNode> {
        let (ttl, now) = (self.settings().lease.ttl, self.clock.moment());
        let live = self.live.lock();
        let Some(sessions) = &live.sessions else {
            return Err(ToNode::redirect(self.place.leader_contact()));
        };
        let admitted = sessions.admits(hello.node, &hello.incarnation, now, ttl);
        admitted.map_err(|reason| ToNode::Refused { reason, retry: true, left: false })
    }

    fn open(&self, hello: &Hello) -> Result<Opened, ToNode> {
        let Some(member) = self.place.member() else { return Err(ToNode::redirect(None)) };
        let now = self.clock.moment();
        let mut live = self.live.lock();
        let Some(sessions) = &mut live.sessions else {
            return Err(ToNode::redirect(self.place.leader_contact()));
        };
        let opened = sessions.opened(hello, &member.replica.state(), now);
        let start_in = opened.map_err(|reason| ToNode::Refused { reason, retry: true, left: false })?;
        let term = sessions.term;
        let to_agent = live.link(hello.node, hello.incarnation.clone());
        let floor = self.floor.lock().opened(hello.node, &hello.incarnation, hello.work.as_ref());
        self.floor.dispatch.notify_one();
        self.live.heard();
        Ok(Opened { to_agent, term, start_in, floor })
    }
}

impl Session {
    /// Takes in what the agent says until there is something to say to it; none: the session is over.
    async fn next(&mut self) -> Option<ToNode> {
        loop {
            tokio::select! {
                biased;
                // Dropping `recv` loses nothing: a message stays in the channel.
                message = self.to_agent.recv() => return message,
                // Dropping `next` loses nothing: a message is handed out whole or not at all.
                message = self.from_agent.next() => match message {
                    Some(Ok(ToLeader::Goodbye)) | Some(Err(_)) | None => return None,
                    Some(Ok(message)) => self.take(message).await,
                },
            }
        }
    }

    async fn take(&mut self, message: ToLeader) {
        let is_heartbeat = matches!(message, ToLeader::Heartbeat(_));
        if let ToLeader::Facts(facts) = &message {
            self.said = Some((facts.clone(), self.control.clock.moment()));
        }
        self.control.take(self.node, &self.incarnation, self.term, message).await;
        if is_heartbeat {
            self.record_facts_again().await;
        }
    }

    /// Hands the recorder once more what did not come into the log: an agent says its facts once.
    async fn record_facts_again(&mut self) {
        let now = self.control.clock.moment();
        let Some((facts, at)) = &mut self.said else { return };
        if self.control.knows(self.node, facts) {
            self.said = None;
        } else if now.since(*at) >= FACTS_WITHIN {
            *at = now;
            let facts = facts.clone();
            self.control.register(self.node, self.term, facts).await;
        }
    }
}

impl Control {
    /// Takes in what an agent says in a session of this term.
    async fn take(&self, node: NodeId, of: &Incarnation, term: Term, message: ToLeader) {
        match message {
            ToLeader::Heartbeat(heartbeat) => self.beats(node, of, &heartbeat),
            ToLeader::Verdicts(verdicts) => {
                self.take_verdicts(node, verdicts);
                self.live.heard();
            }
            ToLeader::GaveUp { bucket, epoch } => {
                let member = self.place.member();
                if let (Some(member), Some(sessions)) = (member, &mut self.live.lock().sessions) {
                    sessions.gave_up(node, bucket, epoch, &member.replica.state());
                }
                self.live.conduct.notify_one();
            }
            ToLeader::Judged { question, mut verdict } => {
                verdict.clip();
                if Verdicts::is_ours(question) {
                    self.floor.lock().answered(question, node, verdict, Instant::now());
                    self.floor.dispatch.notify_one();
                } else {
                    self.live.lock().judged(question, node, verdict);
                }
            }
            ToLeader::Phases { seq, instances } => {
                let command = Command::RecordPhases(RecordPhases { node, instances });
                let then = Some((of.clone(), ToNode::Recorded { seq }));
                self.record(node, term, command, then).await;
            }
            ToLeader::NothingLeft { bucket, revision } => {
                let confirm = ConfirmResidue { bucket, node, revision };
                self.record(node, term, Command::ConfirmResidue(confirm), None).await;
            }
            ToLeader::Purged { bucket, revision, failure } => {
                let record = RecordPurge { bucket, node, revision, failure };
                self.record(node, term, Command::RecordPurge(record), None).await;
            }
            ToLeader::Ends { seq, ends } => {
                self.floor.lock().ended(node, &ends, Instant::now());
                let record = RecordResults { node, results: ends };
                let then = Some((of.clone(), ToNode::EndsRecorded { seq }));
                self.record(node, term, Command::RecordResults(record), then).await;
            }
            ToLeader::NoMoreWork => self.floor.lock().no_more(node, of),
            ToLeader::Facts(facts) => {
                self.floor.lock().forget_verdicts(node);
                self.register(node, term, facts).await;
            }
            ToLeader::Release => {
                if let Some(sessions) = &mut self.live.lock().sessions
                    && sessions.is_of(node, of)
                {
                    sessions.release_all(node);
                }
                self.live.conduct.notify_one();
            }
            ToLeader::Hello(_) | ToLeader::Goodbye => {}
        }
    }

    fn take_verdicts(&self, node: NodeId, verdicts: Vec<Arc<Verdict>>) {
        let (now, member) = (self.clock.moment(), self.place.member());
        let mut live = self.live.lock();
        let (Some(member), Some(sessions)) = (member, &mut live.sessions) else { return };
        if !sessions.answered(node, verdicts, &member.replica.state(), now) {
            // Its agent opens another and says all again; until then what it is ahead by is applied here.
            live.cut(node);
        }
    }

    fn beats(&self, node: NodeId, of: &Incarnation, heartbeat: &Heartbeat) {
        if self.floor.lock().heard(node, of, heartbeat.seen) {
            self.floor.dispatch.notify_one();
        }
        let now = self.clock.moment();
        // A late one of a former life, perhaps of another boot, is not this one's.
        let before = match &mut self.live.lock().sessions {
            Some(sessions) if sessions.is_of(node, of) => sessions.heard(node, heartbeat, now),
            _ => None,
        };
        let lease = self.place.member().map(|member| member.replica.state().cluster.settings.lease);
        let (heartbeat, ttl) = lease.map_or((0, u64::MAX), |lease| (lease.heartbeat.0, lease.ttl.0));
        let since = before.map(|before| now.since(before).0);
        if since.is_some_and(|since| since > ttl / 2) {
            metrics::counter!("sheaf_late_heartbeats_total").increment(1);
        }
        // One out of turn is sent because something is to be started.
        match since {
            Some(since) if since * 4 > heartbeat * 3 => self.live.routine.notify_one(),
            _ => self.live.round.notify_one(),
        }
    }

    /// Hands something to the recorder. Waits while its queue is full: the agent is then slowed down, and heartbeats
    /// with it, which is right, since the log does not keep up.
    async fn record(&self, node: NodeId, term: Term, command: Command, then: Option<(Incarnation, ToNode)>) {
        if self.records.capacity() == 0 {
            self.live.reports_waited.fetch_add(1, Ordering::Relaxed);
        }
        // The recorder ends only with the process.
        let _ = self.records.send(Record { node, term, command, then }).await;
    }

    /// Whether this is what the log says of a node.
    fn knows(&self, node: NodeId, facts: &Facts) -> bool {
        let member = self.place.member();
        member.is_some_and(|m| m.replica.state().nodes.get(&node).is_some_and(|node| node.facts == *facts))
    }

    async fn register(&self, node: NodeId, term: Term, facts: Facts) {
        let known = self.place.member();
        let key = known.and_then(|m| m.replica.state().nodes.get(&node).map(|node| node.key.clone()));
        if let Some(key) = key {
            self.record(node, term, Command::Register(Register { key, facts }), None).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.to_agent.close();
        let mut live = self.control.live.lock();
        live.unlink(self.node, &self.incarnation);
        if let Some(sessions) = &mut live.sessions {
            sessions.closed(self.node, &self.incarnation);
        }
        drop(live);
        self.control.floor.lock().closed(self.node, self.floor);
        self.control.live.heard();
    }
}

fn only(message: ToNode) -> Answers<ToNode> {
    stream::once(async move { Ok(message) }).boxed()
}

#[async_trait]
impl sheaf_wire::peer::AgentApi for Control {
    async fn session(
        &self,
        caller: Caller,
        messages: Answers<ToLeader>,
    ) -> Result<Answers<ToNode>, ApiError> {
        self.serve_session(&caller, messages).await
    }

    async fn watch(
        &self,
        caller: Caller,
        ask: sheaf_wire::peer::WatchNode,
    ) -> Result<Answers<Vec<sheaf_model::watch::WatchItem>>, ApiError> {
        caller.speaks_for(ask.node)?;
        self.watch_node(&ask).await
    }
}

#[cfg(test)]
mod tests;
