//! What the leader knows of nodes that take subtasks: how much they take, what they were given, what their gates say.
//!
//! Ephemeral, as sessions are: a new leader begins with an empty floor, and every agent says again what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sheaf_engine::State;
use sheaf_engine::dispatch::Room;
use sheaf_model::session::{OrderedSubtask, Work};
use sheaf_model::{Attempt, AttemptEnd, Ending, Incarnation, JobId, NodeId, Revision, Span, Verdict};
use tokio::sync::Notify;

use self::verdicts::{Turn, Verdicts};
use crate::backend::Paces;

mod back;
pub(crate) mod verdicts;

/// So much work a node has for each of its slots, what runs included: far more than it takes to grant more, so that this need
/// not be done with each end, and far less than anybody waits for what is more urgent. What takes longer has a slot to itself.
const AHEAD: Span = Span::millis(200);
/// Nothing is taken to be shorter: nodes say how many milliseconds it took. So for each slot a node has 200 at most.
const SHORTEST: Span = Span::millis(1);
/// Bytes of items that lie ready for each of its slots at most: they go the way of heartbeats.
const BYTES_AHEAD: u64 = 1 << 20;
/// What lies ready on a node is too much if it is likely to wait longer than this, and has been for as long: then it waits better
/// elsewhere, and behind what is more urgent. It is far more than [`AHEAD`], as what is likely changes with each end.
const TOO_LONG: Span = Span::seconds(1);
/// What nothing is known of is taken to be as long as what ended on the node lately, but no shorter.
const UNKNOWN: Duration = Duration::from_millis(50);
/// A node on which nothing has ended for so long is busy with what takes long, whatever ended there before.
const STILL: Duration = Duration::from_secs(1);
/// The part of all that a node takes that is free before it is granted more, unless a slot is idle: each entry of the log
/// carries more.
const REFILL: u64 = 4;
/// How much one end moves the mean.
const WEIGHT: f64 = 0.05;

/// Shared by sessions and the dispatcher.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    // All holds are short, and none crosses an await.
    inner: Mutex<Inner>,
    /// Something may be granted now, or is to be sent.
    pub(crate) dispatch: Notify,
}

/// Which session each node is in.
pub(crate) type Sessions = BTreeMap<NodeId, u64>;

#[derive(Debug, Default)]
pub(crate) struct Inner {
    /// Sessions that were opened.
    opened: u64,
    nodes: BTreeMap<NodeId, Worker>,
    verdicts: Verdicts,
    /// How long attempts of a job took lately, wherever they ran.
    means: BTreeMap<JobId, Duration>,
    /// How many bytes the items of a job have that was sent something of: the mean of what was sent last.
    sizes: BTreeMap<JobId, u64>,
    /// How fast backends may be sent to.
    pub(crate) paces: Paces,
}

/// A node whose agent takes subtasks, in one session.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Which session.
    session: u64,
    pub(crate) incarnation: Incarnation,
    slots: u32,
    /// The newest state that it said it has seen; none: it was not heard yet.
    seen: Option<Revision>,
    /// What it holds, as it said when the session opened, until that is compared with what it should hold.
    pub(crate) said: Option<BTreeSet<Attempt>>,
    /// What it was told to stop.
    pub(crate) stopped: BTreeSet<Attempt>,
    /// Jobs of which it keeps something, as it said, and those that it was sent something of; none: it is not to be told when
    /// they are gone.
    kept: Option<BTreeSet<JobId>>,
    /// It gives back what it is asked for.
    gives_back: bool,
    /// What it was asked to give back: of which jobs, and whether what has begun as well.
    asked_back: BTreeMap<JobId, bool>,
    /// Since when what lies ready there is likely to wait too long.
    too_much: Option<Instant>,
    /// How long attempts took there lately, and when that was last heard of.
    pace: Option<(Duration, Instant)>,
    /// The same by job.
    means: BTreeMap<JobId, Duration>,
}

impl Floor {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node keeps something of a job from now on.
    pub(crate) fn keeps(&self, node: NodeId, job: JobId) {
        self.lock().nodes().filter(|(it, _)| *it == node).for_each(|(_, worker)| worker.keeps(job));
    }

    /// Leadership begins or is over: nothing is known.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        let (opened, verdicts) = (inner.opened, Verdicts::after(&inner.verdicts));
        *inner = Inner { opened, verdicts, ..Inner::default() };
    }
}

impl Inner {
    /// A session of a node has opened; the number it has here.
    pub(crate) fn opened(&mut self, node: NodeId, incarnation: &Incarnation, work: Option<&Work>) -> u64 {
        self.forget_verdicts(node);
        self.opened += 1;
        self.nodes.remove(&node);
        if let Some(work) = work {
            let worker = Worker {
                session: self.opened,
                incarnation: incarnation.clone(),
                slots: work.slots,
                seen: None,
                said: Some(work.held.iter().copied().collect()),
                stopped: BTreeSet::new(),
                kept: work.kept.as_ref().map(|kept| kept.iter().copied().collect()),
                gives_back: work.gives_back,
                asked_back: BTreeMap::new(),
                too_much: None,
                pace: None,
                means: BTreeMap::new(),
            };
            self.nodes.insert(node, worker);
        }
        self.opened
    }

    /// This session is over; another one may have opened since.
    pub(crate) fn closed(&mut self, node: NodeId, session: u64) {
        if self.nodes.get(&node).is_some_and(|worker| worker.session == session) {
            self.nodes.remove(&node);
        }
    }

    /// The session that a node is in; none: its agent takes no subtasks, or is not there.
    pub(crate) fn session(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).map(|worker| worker.session)
    }

    /// The same of all nodes.
    pub(crate) fn sessions(&self) -> Sessions {
        self.nodes.iter().map(|(node, worker)| (*node, worker.session)).collect()
    }

    /// It says what it has seen. Whether that is the first that is heard of it.
    pub(crate) fn heard(&mut self, node: NodeId, incarnation: &Incarnation, seen: Revision) -> bool {
        let worker = self.nodes.get_mut(&node).filter(|worker| worker.incarnation == *incarnation);
        worker.is_some_and(|worker| worker.seen.replace(seen).is_none())
    }

    /// It takes no more.
    pub(crate) fn no_more(&mut self, node: NodeId, incarnation: &Incarnation) {
        if let Some(worker) = self.nodes.get_mut(&node).filter(|worker| worker.incarnation == *incarnation) {
            worker.slots = 0;
        }
    }

    /// Its config is another one: what its gates said may not hold.
    pub(crate) fn forget_verdicts(&mut self, node: NodeId) {
        self.verdicts.forget(node);
    }

    /// Attempts on it have ended. What was not begun, or was stopped, says nothing of how long others take; what failed says
    /// only that they may take longer: it may have failed at the beginning.
    pub(crate) fn ended(&mut self, node: NodeId, ends: &[(JobId, Vec<AttemptEnd>)], now: Instant) {
        let Some(worker) = self.nodes.get_mut(&node) else { return };
        for (job, ends) in ends {
            for end in ends.iter().filter(|it| matches!(it.ending, Ending::Finished | Ending::Failed(_))) {
                let took = end.took.duration();
                let likely = self.means.get(job).copied().unwrap_or(UNKNOWN);
                for means in [&mut worker.means, &mut self.means] {
                    let known = means.get(job).copied();
                    if end.ending == Ending::Finished || took > known.unwrap_or(likely) {
                        means.insert(*job, known.map_or(took, |mean| moved(mean, took)));
                    }
                }
                worker.pace = Some((worker.pace.map_or(took, |(mean, _)| moved(mean, took)), now));
            }
        }
    }

    /// These subtasks of a job are sent to a node. What it was asked to give back before does not mean them.
    pub(crate) fn sent(&mut self, node: NodeId, job: JobId, subtasks: &[OrderedSubtask]) {
        if let Some(worker) = self.nodes.get_mut(&node) {
            worker.asked_back.remove(&job);
        }
        let bytes: usize = subtasks.iter().map(|subtask| subtask.item.as_str().len()).sum();
        if let Some(mean) = bytes.checked_div(subtasks.len()) {
            self.sizes.insert(job, u64::try_from(mean).unwrap_or(u64::MAX));
        }
    }

    /// How long a subtask of a job is likely to have a slot of a node. What takes longer than [`AHEAD`] counts as that, and
    /// what is large as if it took long.
    pub(crate) fn takes(&self, job: JobId, node: NodeId) -> Span {
        let bytes = self.sizes.get(&job).copied().unwrap_or_default();
        let as_large = Span(bytes.saturating_mul(AHEAD.0) / BYTES_AHEAD);
        self.lasts(job, node).max(as_large).min(AHEAD)
    }

    /// The same, however large it is. What is not known of the node is known of others: they may be faster.
    fn lasts(&self, job: JobId, node: NodeId) -> Span {
        let worker = self.nodes.get(&node);
        let known = worker.and_then(|worker| worker.means.get(&job)).or_else(|| self.means.get(&job));
        let guess = || worker?.pace.map(|(mean, _)| mean.max(UNKNOWN));
        let likely = known.copied().or_else(guess).unwrap_or(UNKNOWN);
        let millis = u64::try_from(likely.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        Span(millis).clamp(SHORTEST, AHEAD)
    }

    /// The room of every node, and the nodes that are to be granted more now.
    pub(crate) fn rooms(&self, state: &State, now: Instant) -> (BTreeMap<NodeId, Room>, BTreeSet<NodeId>) {
        let (mut rooms, mut wanting) = (BTreeMap::new(), BTreeSet::new());
        for (node, worker) in &self.nodes {
            let (room, wants) = self.room(*node, worker, state.jobs.of_jobs_on(*node), now);
            rooms.insert(*node, room);
            if wants {
                wanting.insert(*node);
            }
        }
        (rooms, wanting)
    }

    /// The room of a node that has so many of each job, and whether it is to be granted more now.
    fn room(
        &self,
        node: NodeId,
        worker: &Worker,
        has: impl Iterator<Item = (JobId, u32)>,
        now: Instant,
    ) -> (Room, bool) {
        let (mut held, mut work) = (0_u32, 0_u64);
        for (job, count) in has {
            held = held.saturating_add(count);
            work = work.saturating_add(self.takes(job, node).0 * u64::from(count));
        }
        let idle = worker.slots.saturating_sub(held);
        let most = if worker.is_still(now) { 0 } else { AHEAD.0 * u64::from(worker.slots) };
        let spare = most.saturating_sub(work);
        let wants = idle > 0 || spare > most / REFILL;
        let incarnation = worker.incarnation.clone();
        (Room { incarnation, slots: worker.slots, idle, spare: Span(spare) }, wants)
    }

    pub(crate) fn nodes(&mut self) -> impl Iterator<Item = (NodeId, &mut Worker)> {
        self.nodes.iter_mut().map(|(node, worker)| (*node, worker))
    }

    /// What a node said of a job last; none in that: it has not answered yet. None: it was not asked.
    pub(crate) fn verdict(&self, job: JobId, node: NodeId) -> Option<Option<Arc<Verdict>>> {
        self.verdicts.verdict(job, node)
    }

    /// Whether a node's gates let it run a job.
    pub(crate) fn may_run(&self, job: JobId, node: NodeId) -> bool {
        self.verdicts.may_run(job, node)
    }

    /// When each node's own record last changed, if it has seen that. Those that were not heard yet are left out, and are not asked
    /// about anything.
    pub(crate) fn own(&self, state: &State) -> BTreeMap<NodeId, Revision> {
        let own = |(node, worker): (&NodeId, &Worker)| {
            let (own, seen) = (state.nodes.get(node)?.revision, worker.seen?);
            Some((*node, if own <= seen { own } else { Revision::default() }))
        };
        self.nodes.iter().filter_map(own).collect()
    }

    /// Whether a node is to be asked about a job now; `own` as in [`Verdicts::turn`].
    pub(crate) fn turn(&self, job: JobId, node: NodeId, own: Revision, now: Instant) -> Option<Turn> {
        self.verdicts.turn(job, node, own, now)
    }

    /// Both: whether a node's gates let it run a job, and whether it is to be asked now.
    pub(crate) fn stands(
        &self,
        job: JobId,
        node: NodeId,
        own: Revision,
        now: Instant,
    ) -> (bool, Option<Turn>) {
        self.verdicts.stands(job, node, own, now)
    }

    /// A node is asked about a job: the number of the question. None: it has enough to answer. `fetches`: what it lacks may be on
    /// its way to it; `own` as in [`Verdicts::turn`].
    pub(crate) fn ask(
        &mut self,
        job: JobId,
        node: NodeId,
        fetches: bool,
        own: Revision,
        now: Instant,
    ) -> Option<u64> {
        self.verdicts.ask(job, node, fetches, own, now)
    }

    /// A node has answered.
    pub(crate) fn answered(&mut self, question: u64, node: NodeId, verdict: Verdict, now: Instant) {
        self.verdicts.answered(question, node, verdict, now);
    }

    /// Forgets jobs that are not there any more.
    pub(crate) fn keep_jobs(&mut self, is_there: impl Fn(JobId) -> bool) {
        self.verdicts.keep_jobs(&is_there);
        self.means.retain(|job, _| is_there(*job));
        self.nodes.values_mut().for_each(|worker| worker.means.retain(|job, _| is_there(*job)));
        self.sizes.retain(|job, _| is_there(*job));
    }
}

impl Worker {
    /// It is sent something of a job.
    pub(crate) fn keeps(&mut self, job: JobId) {
        if let Some(kept) = &mut self.kept {
            kept.insert(job);
        }
    }

    /// Jobs of which it keeps something and that are not there.
    pub(crate) fn keeps_of(&self, is_there: impl Fn(JobId) -> bool) -> Vec<JobId> {
        self.kept.iter().flatten().copied().filter(|job| !is_there(*job)).collect()
    }

    /// It was told that these are gone.
    pub(crate) fn was_told_of(&mut self, gone: &[JobId]) {
        if let Some(kept) = &mut self.kept {
            kept.retain(|job| !gone.contains(job));
        }
    }

    /// Whether nothing has ended on it for long, as far as is known.
    fn is_still(&self, now: Instant) -> bool {
        self.pace.is_none_or(|(_, at)| now.saturating_duration_since(at) >= STILL)
    }
}

/// A mean after one more.
fn moved(mean: Duration, took: Duration) -> Duration {
    mean.mul_f64(1.0 - WEIGHT) + took.mul_f64(WEIGHT)
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Failure, FailureClass, Json, Timestamp};

    use super::*;

    fn end(took: u64) -> AttemptEnd {
        AttemptEnd {
            subtask: 0,
            attempt: 1,
            started_at: Timestamp(0),
            took: Span::millis(took),
            ending: Ending::Finished,
        }
    }

    /// What a node has room for at once, how much work it takes beside, and whether it wants that now.
    fn room(floor: &Inner, has: &[(JobId, u32)], now: Instant) -> Option<(u32, u64, bool)> {
        let (node, worker) = floor.nodes.first_key_value()?;
        let (room, wants) = floor.room(*node, worker, has.iter().copied(), now);
        Some((room.idle, room.spare.0, wants))
    }

    #[test]
    fn what_lies_ready_depends_on_how_long_attempts_take() {
        let (mut floor, now) = (Inner::default(), Instant::now());
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let [short, long, other] = [7, 8, 9].map(JobId);
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        assert_eq!(room(&floor, &[], now), Some((4, 0, true)), "nothing is known of what it runs");
        assert_eq!(room(&floor, &[(short, 4)], now), Some((0, 0, false)));
        floor.ended(node, &[(short, vec![end(5), end(5)])], now);
        let canceled = AttemptEnd { ending: Ending::Canceled, ..end(0) };
        floor.ended(node, &[(short, vec![canceled; 100])], now);
        assert_eq!(room(&floor, &[(short, 4)], now), Some((0, 780, true)));
        assert_eq!(room(&floor, &[(short, 119)], now), Some((0, 205, true)));
        assert_eq!(room(&floor, &[(short, 120)], now), Some((0, 200, false)), "there is plenty");
        assert_eq!(floor.takes(other, node), Span(50), "as nothing is known of it");
        floor.ended(node, &[(long, vec![end(60_000)])], now);
        assert_eq!(floor.takes(other, node), AHEAD, "as what ended there");
        let mixed = [(short, 3), (long, 3)];
        assert_eq!(room(&floor, &mixed, now), Some((0, 185, false)), "only one slot goes on soon");
        assert_eq!(room(&floor, &[(long, 3)], now), Some((1, 200, true)));
        assert_eq!(room(&floor, &[(long, 4)], now), Some((0, 0, false)), "it waits better elsewhere");
        assert_eq!(room(&floor, &[(short, 3)], now + STILL), Some((1, 0, true)), "it is busy, or was idle");
        floor.ended(node, &[(other, vec![end(0)])], now);
        assert_eq!(floor.takes(other, node), SHORTEST);
    }

    #[test]
    fn a_slow_node_among_quick_ones_keeps_little() {
        let (mut floor, now) = (Inner::default(), Instant::now());
        let (life, job) = (Incarnation::from("a"), JobId(7));
        let [slow, quick, new] = [1, 2, 3].map(NodeId);
        for node in [slow, quick, new] {
            floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        }
        floor.ended(quick, &[(job, vec![end(5); 100])], now);
        assert_eq!(floor.takes(job, slow), Span(5), "as elsewhere");
        floor.ended(slow, &[(job, vec![end(1000)])], now);
        floor.ended(quick, &[(job, vec![end(5); 100])], now);
        assert_eq!([slow, quick].map(|node| floor.takes(job, node)), [AHEAD, Span(5)]);
        assert!(floor.takes(job, new) < Span(10), "as on all of them");
        assert_eq!(room(&floor, &[(job, 4)], now), Some((0, 0, false)));
        floor.opened(slow, &life, Some(&Work { slots: 4, ..Work::default() }));
        assert!(floor.takes(job, slow) < Span(10), "nothing is known of it any more");
        floor.keep_jobs(|_| false);
        assert_eq!(floor.takes(job, quick), Span(50), "as nothing is known of it");
    }

    #[test]
    fn of_large_items_few_lie_ready() {
        let (mut floor, now) = (Inner::default(), Instant::now());
        let (node, life, job) = (NodeId(1), Incarnation::from("a"), JobId(7));
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        floor.ended(node, &[(job, vec![end(1)])], now);
        let send = |floor: &mut Inner, bytes: usize| {
            let item = Json::new(&"x".repeat(bytes - 2).into());
            floor.sent(node, job, &[OrderedSubtask { subtask: 0, attempt: 1, backend: None, item }]);
        };
        send(&mut floor, 1000);
        assert_eq!(floor.takes(job, node), SHORTEST);
        send(&mut floor, 512 << 10);
        assert_eq!(floor.takes(job, node), Span(100), "2 for each slot");
        floor.sent(node, job, &[]);
        assert_eq!(floor.takes(job, node), Span(100));
        floor.keep_jobs(|_| false);
        assert_eq!(floor.takes(job, node), Span(50), "as nothing is known of it");
    }

    #[test]
    fn what_fails_at_once_does_not_make_others_short() {
        let (mut floor, now) = (Inner::default(), Instant::now());
        let (node, life, job) = (NodeId(1), Incarnation::from("a"), JobId(7));
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        let failed = |took: u64| {
            let failure = Failure { class: FailureClass::Exit, exit: None, message: String::new() };
            AttemptEnd { ending: Ending::Failed(failure), ..end(took) }
        };
        floor.ended(node, &[(job, vec![failed(1); 100])], now);
        assert_eq!(floor.takes(job, node), Span(50), "as nothing is known of it");
        floor.ended(node, &[(job, vec![end(60_000)])], now);
        floor.ended(node, &[(job, vec![failed(1); 1000])], now);
        assert_eq!(floor.takes(job, node), AHEAD);
        let late = JobId(8);
        floor.ended(node, &[(late, vec![failed(120)])], now);
        assert_eq!(floor.takes(late, node), Span(120), "so long at least");
    }

    #[test]
    fn the_first_that_is_heard_of_a_node_in_a_session_is_told_apart() {
        let (mut floor, node, life) = (Inner::default(), NodeId(1), Incarnation::from("a"));
        let heard = |floor: &mut Inner, life: &Incarnation| floor.heard(node, life, Revision(7));
        assert!(!heard(&mut floor, &life), "it has no session");
        for _ in 0..2 {
            floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
            assert!(!heard(&mut floor, &"former".into()));
            assert!(heard(&mut floor, &life) && !heard(&mut floor, &life));
        }
    }

    #[test]
    fn a_node_that_takes_no_more_has_no_room() {
        let (mut floor, now) = (Inner::default(), Instant::now());
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        for _ in 0..2 {
            floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        }
        floor.ended(node, &[(JobId(7), vec![end(5)])], now);
        floor.no_more(node, &"another".into());
        assert_eq!(room(&floor, &[], now), Some((4, 800, true)));
        floor.no_more(node, &life);
        assert_eq!(room(&floor, &[], now), Some((0, 0, false)));
        floor.closed(node, 1);
        assert_eq!(room(&floor, &[], now), Some((0, 0, false)), "the end of a former session");
        floor.closed(node, 2);
        assert_eq!(room(&floor, &[], now), None);
    }

    #[test]
    fn who_does_not_say_what_it_keeps_is_not_told_of_jobs_that_are_gone() {
        let mut floor = Inner::default();
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let none = |_: JobId| false;
        floor.opened(node, &life, Some(&Work { slots: 4, ..Work::default() }));
        let (_, worker) = floor.nodes().next().unwrap();
        worker.keeps(JobId(7));
        assert!(worker.keeps_of(none).is_empty());
        let kept = Some(vec![JobId(5), JobId(6)]);
        floor.opened(node, &life, Some(&Work { slots: 4, kept, ..Work::default() }));
        let (_, worker) = floor.nodes().next().unwrap();
        worker.keeps(JobId(7));
        let gone = worker.keeps_of(|job| job == JobId(6));
        assert_eq!(gone, [JobId(5), JobId(7)]);
        worker.was_told_of(&gone);
        assert_eq!(worker.keeps_of(none), [JobId(6)]);
    }
}
