//! The session: heartbeats on time, what the node has to say, and what the leader answers.
//!
//! A heartbeat that is not acknowledged for two heartbeats may mean a dead leader, and leases are running out: all who
//! might know the new one are asked at once.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use sheaf_engine::node::Input;
use sheaf_model::session::{Heartbeat, ToLeader, ToNode};
use sheaf_model::{Contact, Moment, Span};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::lag::Lag;
use super::search::{NoLeader, Opened, search};
use super::{Backoff, Link, jitter};
use crate::keeper::clock;
use crate::work::WorkInput;

/// From the second try on, all nodes of a cluster do not ask in the same moment.
const SPREAD: Duration = Duration::from_millis(300);
/// The longest wait after a refusal that asking again does not help.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// The longest wait after sessions that ended as soon as they stood, and no longer than a heartbeat: see [`pause`].
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A timer this late is counted: the machine is starved.
const LATE: Duration = Duration::from_millis(50);
/// For the last message on its way out.
const FAREWELL: Duration = Duration::from_millis(300);

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// The agent stops.
    Stop,
    /// The leader does not acknowledge, or takes no messages.
    Silent,
    /// The stream broke, or the leader ended it.
    Broken,
}

/// Keeps a session open until it is to stop. `say` is what the node has to say, in order. Once `last` is cancelled no
/// other one is opened: a stand-in has, or will.
pub(crate) async fn session(
    link: Link,
    mut say: mpsc::Receiver<ToLeader>,
    last: CancellationToken,
    stop: CancellationToken,
) {
    let mut refusals = Backoff::new(LONGEST_WAIT);
    let mut breaks = Backoff::new(LONGEST_PAUSE);
    let mut leader: Option<Contact> = None;
    let mut suspect: Option<Contact> = None;
    let mut tries = 0_u32;
    loop {
        let mut contacts = link.contacts();
        contacts
            .extend(leader.iter().filter(|leader| !contacts.contains(leader)).cloned().collect::<Vec<_>>());
        let found = tokio::select! {
            () = stop.cancelled() => return,
            // Dropping it drops streams in which nothing but Hello was said.
            found = search(&link, contacts, suspect.as_ref()) => found,
        };
        let wait = match found {
            Ok(opened) => {
                tries = 0;
                refusals.reset();
                let chief = opened.leader.clone();
                let (began, heartbeat) = (Instant::now(), opened.heartbeat.duration());
                tracing::debug!(leader = %chief, "a session stands");
                let over = keep(&link, opened, &mut say, &stop).await;
                let ends = over == Over::Stop || last.is_cancelled();
                if ends || !link.input(Input::SessionLost).await {
                    return;
                }
                tracing::info!(address = chief.address, ?over, "the session is over; looking for the leader");
                metrics::counter!("sheaf_session_losses_total").increment(1);
                suspect = (over == Over::Silent).then(|| chief.clone());
                leader = Some(chief);
                pause(&mut breaks, began.elapsed(), heartbeat)
            }
            Err(NoLeader::Refused) => refusals.wait(),
            Err(NoLeader::Left) => {
                if !link.input(Input::Left).await {
                    return;
                }
                work(&link, WorkInput::Left);
                refusals.wait()
            }
            Err(NoLeader::Yet) => {
                tries = tries.saturating_add(1);
                suspect = None;
                Backoff::FIRST + if tries > 1 { jitter(SPREAD) } else { Duration::ZERO }
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {} // dropping a wait loses nothing
        }
    }
}

/// How long to wait after a session that has lasted so long. After two heartbeats the next one follows at once: leases are running
/// out. One that ends as soon as it stands may do so each time, for what is said in it; and each time everything is said again. The
/// wait is at most a heartbeat, whatever that is set to: leases last for at least three, and are not to end for it.
fn pause(breaks: &mut Backoff, lasted: Duration, heartbeat: Duration) -> Duration {
    if lasted >= 2 * heartbeat {
        breaks.reset();
        return Duration::ZERO;
    }
    breaks.wait().min(heartbeat)
}

/// One session, from its welcome to its end.
async fn keep(
    link: &Link,
    opened: Opened,
    say: &mut mpsc::Receiver<ToLeader>,
    stop: &CancellationToken,
) -> Over {
    let beats = beats(opened.heartbeat);
    let mut session = Session { link, opened, beats, unanswered: VecDeque::new(), lag: Lag::default() };
    while say.try_recv().is_ok() {} // said to nobody: all that matters is said again now
    let start_in = session.opened.start_in;
    if !link.input(Input::SessionOpened { start_in }).await {
        return Over::Stop;
    }
    link.signals.welcomed();
    work(link, WorkInput::Opened);
    let over = session.run(say, stop).await;
    if over == Over::Stop {
        session.farewell().await;
    }
    over
}

/// Heartbeats are due so far apart, the first at once.
fn beats(heartbeat: Span) -> Interval {
    let mut beats = tokio::time::interval(heartbeat.duration().max(Duration::from_millis(10)));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

struct Session<'a> {
    link: &'a Link,
    opened: Opened,
    beats: Interval,
    /// When heartbeats were sent that nobody has acknowledged, oldest first.
    unanswered: VecDeque<Moment>,
    /// How the watch keeps up with what is acknowledged.
    lag: Lag,
}

impl Session<'_> {
    async fn run(&mut self, say: &mut mpsc::Receiver<ToLeader>, stop: &CancellationToken) -> Over {
        let mut facts = self.link.facts.clone();
        facts.mark_unchanged();
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => return Over::Stop,
                // A tick that is dropped comes again at once.
                due = self.beats.tick() => self.beat(due).await,
                () = self.link.signals.heartbeat.notified() => self.heartbeat().await, // a permit is kept
                // A new session says everything again; a permit is kept.
                () = self.link.signals.reset.notified() => return Over::Silent,
                Some(message) = say.recv() => self.send(message).await, // dropped, it has taken nothing
                Ok(()) = facts.changed() => { // the newest value stays to be seen
                    let message = ToLeader::Facts(facts.borrow_and_update().clone());
                    self.send(message).await
                }
                answer = self.opened.answers.next() => match answer { // a stream keeps what was not taken
                    Some(Ok(answer)) => self.answered(answer).await,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the session broke");
                        return Over::Broken;
                    }
                    None => return Over::Broken,
                },
            };
            if let Err(over) = sent {
                return over;
            }
        }
    }

    /// The settings have changed since the session opened. A lease that an acknowledgement gives is as short as they say: the
    /// next heartbeat is due at once.
    fn pace(&mut self, heartbeat: Span) {
        let is_said = heartbeat.0 > 0;
        if is_said && heartbeat != self.opened.heartbeat {
            self.opened.heartbeat = heartbeat;
            self.beats = beats(heartbeat);
        }
    }

    async fn beat(&mut self, due: Instant) -> Result<(), Over> {
        if due.elapsed() > LATE {
            self.link.meter.timer_was_late();
        }
        let patience = Span(2 * self.opened.heartbeat.0);
        let now = clock::now();
        if self.unanswered.front().is_some_and(|sent| now.since(*sent) >= patience) {
            return Err(Over::Silent);
        }
        self.heartbeat().await
    }

    async fn heartbeat(&mut self) -> Result<(), Over> {
        let load = self.link.meter.load();
        let seen = self.link.signals.seen();
        let sent_at = clock::now();
        self.unanswered.push_back(sent_at);
        self.send(ToLeader::Heartbeat(Heartbeat { sent_at, load, seen })).await
    }

    /// A leader that takes nothing for two heartbeats is as good as dead.
    async fn send(&mut self, message: ToLeader) -> Result<(), Over> {
        let patience = 2 * self.opened.heartbeat.duration();
        match tokio::time::timeout(patience, self.opened.messages.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Over::Broken),
            Err(_) => Err(Over::Silent),
        }
    }

    async fn answered(&mut self, answer: ToNode) -> Result<(), Over> {
        let input = match answer {
            ToNode::Acknowledged(ack) => {
                if ack.boot == self.link.boot {
                    while self.unanswered.front().is_some_and(|sent| *sent <= ack.sent_at) {
                        self.unanswered.pop_front();
                    }
                }
                self.pace(ack.heartbeat);
                let patience = self.opened.heartbeat.duration() / 2;
                let (link, now) = (self.link, Instant::now());
                if self.lag.is_behind(&ack, link.signals.seen(), now, patience) {
                    link.signals.watch_is_behind(&self.opened.leader);
                }
                Input::Acknowledged(ack)
            }
            ToNode::Recorded { seq } => Input::Recorded(seq),
            ToNode::Judge { question, spec, module, fetch } => Input::Judge { question, spec, module, fetch },
            ToNode::Run(orders) => return self.work(WorkInput::Run(orders)),
            ToNode::StopAttempts(attempts) => return self.work(WorkInput::Stop(attempts)),
            ToNode::JobsGone(jobs) => return self.work(WorkInput::Gone(jobs)),
            ToNode::GiveBack { jobs, begun } => return self.work(WorkInput::GiveBack { jobs, begun }),
            ToNode::EndsRecorded { seq } => return self.work(WorkInput::Recorded(seq)),
            ToNode::Redirect { .. } => return Err(Over::Broken),
            ToNode::Refused { reason, .. } => {
                tracing::warn!(reason, "the leader ends the session");
                return Err(Over::Broken);
            }
            ToNode::Welcome { heartbeat, .. } => {
                self.pace(heartbeat);
                return Ok(());
            }
        };
        if self.link.input(input).await { Ok(()) } else { Err(Over::Stop) }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as its siblings")]
    fn work(&self, input: WorkInput) -> Result<(), Over> {
        work(self.link, input);
        Ok(())
    }

    /// The agent stops in an orderly way; what it runs stays.
    async fn farewell(self) {
        let Opened { messages, mut answers, .. } = self.opened;
        let said = async {
            if messages.send(ToLeader::Goodbye).await.is_ok() {
                drop(messages); // the stream ends behind it
                while let Some(Ok(_)) = answers.next().await {}
            }
        };
        let _ = tokio::time::timeout(FAREWELL, said).await; // it was only polite
    }
}

/// What is about subtasks goes past the node's loop, which knows nothing of them.
fn work(link: &Link, input: WorkInput) {
    if let Some(desk) = &link.desk {
        desk.bring(input);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(4);

    #[test]
    fn sessions_that_end_at_once_are_opened_ever_more_seldom_until_one_has_lasted() {
        let mut breaks = Backoff::new(LONGEST_PAUSE);
        let mut longest = Backoff::FIRST;
        for _ in 0..20 {
            let wait = pause(&mut breaks, Duration::ZERO, LONG);
            assert!(wait >= longest / 2 && wait < longest * 3 / 2, "{wait:?} after {longest:?}");
            longest = (longest * 2).min(LONGEST_PAUSE);
        }
        assert_eq!(longest, LONGEST_PAUSE);
        assert_eq!(pause(&mut breaks, 2 * LONG, LONG), Duration::ZERO);
        assert!(pause(&mut breaks, LONG, LONG) < Backoff::FIRST * 3 / 2);
    }

    #[test]
    fn no_lease_ends_for_the_wait_before_the_next_session() {
        let mut breaks = Backoff::new(LONGEST_PAUSE);
        // Leases of a second have three of them, and more.
        let heartbeat = Duration::from_millis(150);
        let waits: Vec<Duration> = (0..20).map(|_| pause(&mut breaks, Duration::ZERO, heartbeat)).collect();
        assert!(waits.iter().all(|wait| *wait <= heartbeat), "{waits:?}");
        assert_eq!(waits.last(), Some(&heartbeat));
    }
}
