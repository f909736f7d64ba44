//! What the gates of nodes say of jobs: what the leader has heard, and what it has asked and not heard yet.
//!
//! Nodes keep nothing of a question, so every answer counts, and it is kept until another one comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_model::{JobId, NodeId, Revision, Verdict};

/// A refusal is asked for again after so long: what a gate looks at may have changed.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The same of a module that has an artifact, which the node may be fetching.
const ASK_SOON: Duration = Duration::from_secs(2);
/// How long an answer is waited for: a check says itself how long it may take. What broke off is asked again.
const LOST: Duration = Duration::from_secs(3600);
/// Questions that a node has to answer at most: it answers a few at a time, and what it is told waits for it to read.
const AT_ONCE: usize = 64;
/// Those of them at most about jobs that it has been asked about before: checks that take long each time leave room for others.
const AGAIN_AT_ONCE: usize = 8;
/// Numbers of these questions begin here; those of a plan begin at 1.
const FIRST: u64 = 1 << 32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    jobs: BTreeMap<JobId, BTreeMap<NodeId, Answer>>,
    /// By number: who was asked about what, and has not answered.
    open: BTreeMap<u64, (JobId, NodeId, Turn)>,
    /// How many of those each node has.
    waiting: BTreeMap<(NodeId, Turn), usize>,
    /// Questions that were asked.
    asked: u64,
}

#[derive(Debug, Default)]
struct Answer {
    /// What was said last, and when.
    said: Option<(Arc<Verdict>, Instant)>,
    /// The question that has no answer yet, and since when.
    question: Option<(u64, Instant)>,
    /// After so long a refusal is asked for again.
    again: Duration,
    /// See [`Verdicts::turn`]: what it was when the question was asked that was answered, or is to be.
    own: Revision,
}

/// Which questions come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// The node has never been asked about the job: however many refuse, each job has its turn.
    First,
    /// What it said may not hold any more.
    Again,
}

impl Answer {
    fn may_run(&self) -> bool {
        self.said.as_ref().is_some_and(|(verdict, _)| verdict.eligible())
    }

    /// See [`Verdicts::turn`].
    fn is_due(&self, own: Revision, now: Instant) -> bool {
        let is_old = |since: Instant, after: Duration| now.saturating_duration_since(since) >= after;
        let is_awaited = self.question.is_some_and(|(_, since)| !is_old(since, LOST));
        let is_refusal = |at: Instant| !self.may_run() && is_old(at, self.again);
        let is_due = self.said.as_ref().is_none_or(|(_, at)| is_refusal(*at));
        (is_due || own > self.own) && !is_awaited
    }
}

impl Verdicts {
    /// Nothing is known; no number is given again.
    pub(super) fn after(former: &Self) -> Self {
        Self { asked: former.asked, ..Self::default() }
    }

    /// Whether a question of this number is about a job.
    pub(crate) const fn is_ours(question: u64) -> bool {
        question >= FIRST
    }

    fn of(&self, job: JobId, node: NodeId) -> Option<&Answer> {
        self.jobs.get(&job)?.get(&node)
    }

    /// What a node said of a job last; none in that: it has not answered yet. None: it was not asked.
    pub(super) fn verdict(&self, job: JobId, node: NodeId) -> Option<Option<Arc<Verdict>>> {
        let said = &self.of(job, node)?.said;
        Some(said.as_ref().map(|(verdict, _)| verdict.clone()))
    }

    /// Whether a node's gates let it run a job.
    pub(crate) fn may_run(&self, job: JobId, node: NodeId) -> bool {
        self.of(job, node).is_some_and(Answer::may_run)
    }

    /// Whether a node is to be asked about a job now. `own`: when its own record last changed, as far as it has seen it. What it
    /// said before it saw that, as before it was given a label, holds until it has answered anew.
    pub(super) fn turn(&self, job: JobId, node: NodeId, own: Revision, now: Instant) -> Option<Turn> {
        self.stands(job, node, own, now).1
    }

    /// Both: whether a node's gates let it run a job, and whether it is to be asked now.
    pub(super) fn stands(
        &self,
        job: JobId,
        node: NodeId,
        own: Revision,
        now: Instant,
    ) -> (bool, Option<Turn>) {
        let Some(answer) = self.of(job, node) else { return (false, Some(Turn::First)) };
        let (may_run, is_due) = (answer.may_run(), answer.is_due(own, now));
        (may_run, is_due.then_some(Turn::Again))
    }

    /// A node is asked about a job: the number of the question. None: it has enough to answer. `fetches`: what it lacks may be on
    /// its way to it; `own` as in [`Verdicts::turn`].
    pub(super) fn ask(
        &mut self,
        job: JobId,
        node: NodeId,
        fetches: bool,
        own: Revision,
        now: Instant,
    ) -> Option<u64> {
        let turn = if self.of(job, node).is_some() { Turn::Again } else { Turn::First };
        let waiting = |turn| self.waiting.get(&(node, turn)).copied().unwrap_or_default();
        let again = waiting(Turn::Again);
        if again + waiting(Turn::First) >= AT_ONCE || (turn == Turn::Again && again >= AGAIN_AT_ONCE) {
            return None;
        }
        *self.waiting.entry((node, turn)).or_default() += 1;
        let question = FIRST + self.asked;
        self.asked += 1;
        self.open.insert(question, (job, node, turn));
        let answer = self.jobs.entry(job).or_default().entry(node).or_default();
        answer.again = if fetches { ASK_SOON } else { ASK_AGAIN };
        answer.own = own;
        if let Some((former, _)) = answer.question.replace((question, now)) {
            self.close(former);
        }
        Some(question)
    }

    /// A node answered; what was not asked, or is not waited for any more, is nothing.
    pub(crate) fn answered(&mut self, question: u64, node: NodeId, verdict: Verdict, now: Instant) {
        if self.open.get(&question).is_none_or(|(_, asked, _)| *asked != node) {
            return;
        }
        let Some(job) = self.close(question) else { return };
        if let Some(answer) = self.jobs.get_mut(&job).and_then(|nodes| nodes.get_mut(&node)) {
            answer.said = Some((Arc::new(verdict), now));
            answer.question = None;
        }
    }

    /// Nobody waits for its answer any more. What it was about.
    fn close(&mut self, question: u64) -> Option<JobId> {
        let (job, node, turn) = self.open.remove(&question)?;
        if let Some(waiting) = self.waiting.get_mut(&(node, turn)) {
            *waiting = waiting.saturating_sub(1);
        }
        Some(job)
    }

    /// What a node said may not hold, and what it was asked it may not answer.
    pub(super) fn forget(&mut self, node: NodeId) {
        let answers = self.jobs.values_mut().filter_map(|nodes| nodes.remove(&node));
        let questions: Vec<u64> = answers.filter_map(|answer| Some(answer.question?.0)).collect();
        for question in questions {
            self.close(question);
        }
    }

    /// Forgets jobs that are not there any more.
    pub(super) fn keep_jobs(&mut self, is_there: impl Fn(JobId) -> bool) {
        let gone: Vec<JobId> = self.jobs.keys().copied().filter(|job| !is_there(*job)).collect();
        for job in gone {
            let answers = self.jobs.remove(&job).unwrap_or_default();
            for (question, _) in answers.into_values().filter_map(|answer| answer.question) {
                self.close(question);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, GateOutcome, ModuleRef};

    use super::*;

    const NODE: NodeId = NodeId(1);
    const OTHER: NodeId = NodeId(2);
    const OWN: Revision = Revision(5);

    fn verdict(passes: bool) -> Verdict {
        let gate = || if passes { GateOutcome::pass("") } else { GateOutcome::refuse("no") };
        Verdict {
            bucket: BucketName::new("/jobs/a").unwrap(),
            revision: Revision::default(),
            module: ModuleRef::parse("m@1").unwrap(),
            gates: std::array::from_fn(|_| gate()),
        }
    }

    fn ask(verdicts: &mut Verdicts, job: u64, node: NodeId, now: Instant) -> u64 {
        verdicts.ask(JobId(job), node, false, OWN, now).unwrap()
    }

    #[test]
    fn who_refuses_is_asked_again_after_a_while_and_what_it_said_stays() {
        let (mut verdicts, now, job) = (Verdicts::default(), Instant::now(), JobId(7));
        assert_eq!(verdicts.turn(job, NODE, OWN, now), Some(Turn::First));
        let (question, other) = (ask(&mut verdicts, 7, NODE, now), ask(&mut verdicts, 7, OTHER, now));
        assert!(Verdicts::is_ours(question) && question != other && !Verdicts::is_ours(4711));
        assert_eq!((verdicts.turn(job, NODE, OWN, now), verdicts.verdict(job, NODE)), (None, Some(None)));
        verdicts.answered(question, OTHER, verdict(true), now);
        assert!(!verdicts.may_run(job, OTHER), "that is the other's question");
        verdicts.answered(question, NODE, verdict(false), now);
        verdicts.answered(other, OTHER, verdict(true), now);
        assert!(!verdicts.may_run(job, NODE) && verdicts.may_run(job, OTHER));
        let later = now + ASK_AGAIN;
        assert_eq!(verdicts.turn(job, NODE, OWN, later - Duration::from_millis(1)), None);
        assert_eq!(
            (verdicts.turn(job, NODE, OWN, later), verdicts.turn(job, OTHER, OWN, later)),
            (Some(Turn::Again), None)
        );
        let again = ask(&mut verdicts, 7, NODE, later);
        assert!(verdicts.verdict(job, NODE).flatten().is_some(), "until it answers anew");
        verdicts.answered(again, NODE, verdict(true), later);
        assert!(verdicts.may_run(job, NODE));
    }

    #[test]
    fn an_answer_counts_however_late_it_comes_and_nobody_is_asked_again_before() {
        let (mut verdicts, now, job) = (Verdicts::default(), Instant::now(), JobId(7));
        let question = ask(&mut verdicts, 7, NODE, now);
        let later = now + 20 * ASK_AGAIN;
        assert_eq!((verdicts.turn(job, NODE, OWN, later), verdicts.verdict(job, NODE)), (None, Some(None)));
        verdicts.answered(question, NODE, verdict(true), later);
        assert!(verdicts.may_run(job, NODE));
        let lost = ask(&mut verdicts, 8, NODE, now);
        assert_eq!(verdicts.turn(JobId(8), NODE, OWN, now + LOST), Some(Turn::Again), "it broke off");
        ask(&mut verdicts, 8, NODE, now + LOST);
        verdicts.answered(lost, NODE, verdict(true), now + LOST);
        assert_eq!(verdicts.verdict(JobId(8), NODE), Some(None), "the other is waited for");
    }

    #[test]
    fn who_has_seen_that_it_was_changed_is_asked_again_and_what_it_said_holds_until_then() {
        let (mut verdicts, now, job) = (Verdicts::default(), Instant::now(), JobId(7));
        let question = verdicts.ask(job, NODE, false, Revision::default(), now).unwrap();
        assert_eq!(verdicts.turn(job, NODE, OWN, now), None, "it has not answered yet");
        verdicts.answered(question, NODE, verdict(true), now);
        assert_eq!(verdicts.turn(job, NODE, Revision::default(), now), None);
        assert_eq!(verdicts.turn(job, NODE, OWN, now), Some(Turn::Again), "it may not have known of it");
        let question = ask(&mut verdicts, 7, NODE, now);
        assert!(verdicts.may_run(job, NODE) && verdicts.turn(job, NODE, OWN, now).is_none());
        verdicts.answered(question, NODE, verdict(false), now);
        assert!(!verdicts.may_run(job, NODE) && verdicts.turn(job, NODE, OWN, now).is_none());
        assert_eq!(verdicts.turn(job, NODE, Revision(6), now), Some(Turn::Again));
    }

    #[test]
    fn what_is_asked_again_leaves_room_for_what_was_never_asked() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let first: Vec<u64> = (0..20).map(|job| ask(&mut verdicts, job, NODE, now)).collect();
        first.into_iter().for_each(|question| verdicts.answered(question, NODE, verdict(false), now));
        let later = now + ASK_AGAIN;
        let again = |verdicts: &mut Verdicts, job| verdicts.ask(JobId(job), NODE, false, OWN, later);
        let asked: Vec<u64> = (0..20).filter_map(|job| again(&mut verdicts, job)).collect();
        assert_eq!(asked.len(), AGAIN_AT_ONCE);
        for job in 100..100 + (AT_ONCE - AGAIN_AT_ONCE) as u64 {
            ask(&mut verdicts, job, NODE, later);
        }
        assert_eq!(verdicts.ask(JobId(1000), NODE, false, OWN, later), None, "that is all");
        verdicts.answered(asked[0], NODE, verdict(false), later);
        assert!(again(&mut verdicts, 19).is_some() && again(&mut verdicts, 18).is_none());
    }

    #[test]
    fn a_node_is_asked_so_many_at_once_and_whoever_goes_makes_room() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let questions: Vec<u64> = (0..AT_ONCE as u64).map(|job| ask(&mut verdicts, job, NODE, now)).collect();
        assert_eq!(verdicts.ask(JobId(1000), NODE, false, OWN, now), None);
        assert!(verdicts.ask(JobId(1000), OTHER, false, OWN, now).is_some(), "of each node");
        verdicts.answered(questions[0], NODE, verdict(false), now);
        ask(&mut verdicts, 1001, NODE, now);
        assert_eq!(verdicts.ask(JobId(1002), NODE, false, OWN, now), None);
        verdicts.keep_jobs(|job| job != JobId(1));
        ask(&mut verdicts, 1002, NODE, now);
        verdicts.answered(questions[1], NODE, verdict(true), now);
        assert_eq!(verdicts.verdict(JobId(1), NODE), None, "its job is gone");
        verdicts.forget(NODE);
        assert_eq!(verdicts.turn(JobId(2), NODE, OWN, now), Some(Turn::First));
        verdicts.answered(questions[2], NODE, verdict(true), now);
        assert!(!verdicts.may_run(JobId(2), NODE), "said in a former session");
        for job in 0..AT_ONCE as u64 {
            ask(&mut verdicts, job, NODE, now);
        }
        assert!(
            Verdicts::after(&verdicts).ask(JobId(1), NODE, false, OWN, now)
                > verdicts.open.keys().max().copied()
        );
    }
}
