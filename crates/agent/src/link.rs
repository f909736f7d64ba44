//! The agent's two streams: the watch from any member, and the session with the leader.
//!
//! ```text
//!  link::watch ◄── everything, then changes ── any member          inputs ──► the agent's loop
//!  link::session ── Hello, heartbeats, what the node says ──► the leader
//!                ◄── acknowledgements, questions ──────────
//! ```
//!
//! Both speak through `wire`, to the node's own port first. Both try for ever: what breaks is opened again, and
//! everything is said again then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_engine::node::Input;
use sheaf_model::session::{Hello, ToLeader};
use sheaf_model::{BootId, ClusterId, Contact, Facts, Incarnation, NodeId, NodeKey, Revision};
use sheaf_wire::Transport;
use tokio::sync::{Notify, mpsc, watch};

use crate::facts::{Counts, LoadMeter};
use crate::work::Desk;

mod lag;
mod search;
mod session;
mod watching;

pub(crate) use session::session;
pub(crate) use watching::watch;

/// Opening a stream takes at most so long.
const OPENING: Duration = Duration::from_secs(1);

/// Messages that wait for the session, of an agent or of its stand-in. When there is no room the session begins anew and all is said
/// again, at once: so there is room for what may be owed of each bucket that was ever here, with what is said beside it. What does
/// not wait takes no memory, and what waits for a leader that does not read waits until its heartbeats are late, no longer.
const MESSAGES: usize = 1 << 17;

/// Where members are, newest knowledge first; asked each time a stream is opened.
pub type Members = Arc<dyn Fn() -> Vec<Contact> + Send + Sync>;

/// What both streams need to know.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) key: NodeKey,
    pub(crate) boot: BootId,
    pub(crate) incarnation: Incarnation,
    /// The node's own port, as it reaches it itself; none: nothing is served here.
    pub(crate) own: Option<String>,
    pub(crate) members: Members,
    /// How nodes are reached.
    pub(crate) transport: Transport,
    pub(crate) meter: Arc<LoadMeter>,
    pub(crate) facts: watch::Receiver<Facts>,
    /// To the agent's loop, which never waits for either stream.
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) signals: Arc<Signals>,
    /// This is the stand-in of an agent that restarts.
    pub(crate) stand_in: bool,
    /// Where what is said of subtasks goes; none: none are taken here.
    pub(crate) desk: Option<Arc<Desk>>,
}

/// What a node has to say, on its way to the session.
pub(crate) fn messages() -> (mpsc::Sender<ToLeader>, mpsc::Receiver<ToLeader>) {
    mpsc::channel(MESSAGES)
}

/// Where there is no room a new session begins, in which it is said again.
pub(crate) fn say(to: &mpsc::Sender<ToLeader>, message: ToLeader, counts: &Counts, signals: &Signals) {
    if to.try_send(message).is_err() {
        counts.messages_were_lost();
        signals.reset.notify_one();
    }
}

/// What the agent's loop tells the session beside messages.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Send a heartbeat without waiting for the next one.
    pub(crate) heartbeat: Notify,
    /// Messages were lost because too many waited: open a new session, in which everything is said again.
    pub(crate) reset: Notify,
    seen: AtomicU64,
    /// A leader has welcomed this life of the agent.
    welcomed: AtomicBool,
    /// Why this node was last refused; empty since it was last welcome.
    refusal: Mutex<String>,
    /// A leader that has bound something here of which the watch has not told.
    ahead: Mutex<Option<Contact>>,
    is_behind: Notify,
}

impl Signals {
    /// Whether this reason is another than the last one: it is asked for several times a second.
    pub(super) fn is_news(&self, reason: &str) -> bool {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *refusal != reason;
        if is_news {
            reason.clone_into(&mut refusal);
        }
        is_news
    }

    /// Of a life of the agent that had a session, and has seen `seen`.
    pub(crate) fn of_a_welcomed_life(seen: Revision) -> Self {
        let signals = Self::default();
        signals.welcomed();
        signals.saw(seen);
        signals
    }

    /// The newest state the node has seen whole.
    pub(crate) fn saw(&self, revision: Revision) {
        self.seen.store(revision.0, Ordering::Relaxed);
    }

    /// What the watch tells is older than what this leader acknowledges.
    fn watch_is_behind(&self, leader: &Contact) {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(leader.clone());
        self.is_behind.notify_one();
    }

    /// Returns such a leader, once there is one.
    async fn ahead(&self) -> Contact {
        loop {
            if let Some(leader) = self.ahead.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return leader;
            }
            self.is_behind.notified().await; // a permit is kept
        }
    }

    fn welcomed(&self) {
        self.welcomed.store(true, Ordering::Relaxed);
    }

    fn seen(&self) -> Revision {
        Revision(self.seen.load(Ordering::Relaxed))
    }
}

impl Link {
    fn hello(&self) -> ToLeader {
        ToLeader::Hello(Box::new(Hello {
            cluster: self.cluster.clone(),
            node: self.node,
            key: self.key.clone(),
            boot: self.boot.clone(),
            incarnation: self.incarnation.clone(),
            facts: self.facts.borrow().clone(),
            fresh: !self.signals.welcomed.load(Ordering::Relaxed),
            stand_in: self.stand_in,
            work: self.desk.as_ref().map(|desk| desk.work()),
        }))
    }

    /// Hands the loop something. False: it has ended.
    async fn input(&self, input: Input) -> bool {
        if self.inputs.capacity() == 0 {
            self.meter.counts().input_waited();
        }
        self.inputs.send(input).await.is_ok()
    }

    /// The node's own port, then the members', each once.
    fn contacts(&self) -> Vec<Contact> {
        let mut all: Vec<Contact> = self.own.iter().map(|own| Contact::of(self.node, own)).collect();
        for contact in (self.members)() {
            if !all.contains(&contact) {
                all.push(contact);
            }
        }
        all
    }

    /// With who is there, if whoever has named the address does not say, and it is known here.
    fn named(&self, contact: Contact) -> Contact {
        if contact.node.is_some() {
            return contact;
        }
        let known = (self.members)().into_iter().find(|known| known.address == contact.address);
        known.unwrap_or(contact)
    }
}

/// A wait of up to `span`, by chance: what broke for all at once is not to come back all at once.
fn jitter(span: Duration) -> Duration {
    let chance = uuid::Uuid::new_v4().as_u64_pair().0 % 1000;
    span.mul_f64(f64::from(u32::try_from(chance).unwrap_or(0)) / 1000.0)
}

/// Waits that grow from one failure to the next, with jitter.
#[derive(Debug)]
struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);

    fn new(max: Duration) -> Self {
        Self { next: Self::FIRST, max }
    }

    fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(self.max);
        wait / 2 + jitter(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sheaf_model::BucketName;

    use super::*;

    #[test]
    fn agents_whose_leader_is_lost_do_not_come_back_in_the_same_moment() {
        const SPREAD: Duration = Duration::from_millis(300);
        const LONGEST: Duration = Duration::from_secs(10);
        let many = |wait: fn() -> Duration| (0..100).map(|_| wait()).collect::<BTreeSet<Duration>>();
        let (first, later) = (many(|| Backoff::new(LONGEST).wait()), many(|| jitter(SPREAD)));
        assert!(first.len() > 50 && later.len() > 50, "{first:?}, {later:?}");
        assert!(first.iter().all(|wait| *wait >= Backoff::FIRST / 2 && *wait < Backoff::FIRST * 3 / 2));
        assert!(later.iter().all(|wait| *wait < SPREAD));
    }

    #[test]
    fn what_is_owed_of_very_many_buckets_is_said_without_a_new_session() {
        let (say, _said) = messages();
        for number in 0..100_000 {
            let bucket = BucketName::new(&format!("/b{number}")).expect("a name");
            let message = ToLeader::NothingLeft { bucket, revision: Revision(1) };
            say.try_send(message).unwrap_or_else(|_| panic!("no room for message {number}"));
        }
    }
}
