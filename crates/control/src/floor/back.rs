//! What nodes are to give back: subtasks that were granted to them, and are not to begin there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sheaf_engine::State;
use sheaf_model::session::ToNode;
use sheaf_model::{JobId, NodeId};

use super::{Inner, TOO_LONG, Worker};

impl Inner {
    /// What each node is to be told to give back that it was not told: what has not begun there, of paused jobs, and of all if it is
    /// drained or has too much. Of nodes whose drain is `over` what has begun as well.
    pub(crate) fn ask_back(
        &mut self,
        state: &State,
        over: &BTreeSet<NodeId>,
        now: Instant,
    ) -> Vec<(NodeId, ToNode)> {
        let full = self.have_too_much(|node| state.jobs.of_jobs_on(node), now);
        let is_paused = |job: &JobId| state.jobs.get(*job).is_some_and(|job| job.paused);
        let mut told = Vec::new();
        for (node, worker) in self.nodes.iter_mut().filter(|(_, worker)| worker.gives_back) {
            let drained = state.nodes.get(node).is_some_and(|it| it.drain.is_some());
            let all = drained || full.contains(node);
            let here = state.jobs.of_jobs_on(*node).map(|(job, _)| job);
            let wanted = here.filter(|job| all || is_paused(job));
            let begun = drained && over.contains(node);
            let messages = worker.ask_back(wanted.map(|job| (job, begun)).collect());
            told.extend(messages.into_iter().map(|message| (*node, message)));
        }
        told
    }

    /// Nodes on which what lies ready has been likely to wait too long for a while; `has`: how many of each job a node has.
    fn have_too_much<I: Iterator<Item = (JobId, u32)>>(
        &mut self,
        has: impl Fn(NodeId) -> I,
        now: Instant,
    ) -> BTreeSet<NodeId> {
        let is_full = |(node, worker): &(&NodeId, &Worker)| self.has_too_much(**node, worker, has(**node));
        let full: BTreeSet<NodeId> = self.nodes.iter().filter(is_full).map(|(node, _)| *node).collect();
        let mut for_long = BTreeSet::new();
        for (node, worker) in &mut self.nodes {
            let since = worker.too_much.unwrap_or(now);
            worker.too_much = full.contains(node).then_some(since);
            if full.contains(node) && now.saturating_duration_since(since) >= TOO_LONG.duration() {
                for_long.insert(*node);
            }
        }
        for_long
    }

    fn has_too_much(&self, node: NodeId, worker: &Worker, has: impl Iterator<Item = (JobId, u32)>) -> bool {
        let (mut held, mut work) = (0_u64, 0_u64);
        for (job, count) in has {
            held += u64::from(count);
            work = work.saturating_add(self.lasts(job, node).0 * u64::from(count));
        }
        let slots = u64::from(worker.slots); // none: it hands back by itself
        slots > 0 && held > slots && work > TOO_LONG.0 * slots
    }
}

impl Worker {
    /// What it is to be told now, if these jobs are wanted back; of each, whether what has begun is as well.
    fn ask_back(&mut self, wanted: BTreeMap<JobId, bool>) -> Vec<ToNode> {
        let is_new =
            |(job, begun): &(&JobId, &bool)| self.asked_back.get(*job).is_none_or(|asked| asked < *begun);
        let mut messages = Vec::new();
        for begun in [false, true] {
            let new = wanted.iter().filter(|(_, it)| **it == begun).filter(is_new);
            let jobs: Vec<JobId> = new.map(|(job, _)| *job).collect();
            if !jobs.is_empty() {
                messages.push(ToNode::GiveBack { jobs, begun });
            }
        }
        // What is wanted back no more, and is later, is to be said again.
        self.asked_back = wanted;
        messages
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sheaf_model::session::Work;
    use sheaf_model::{AttemptEnd, Ending, Incarnation, Span, Timestamp};

    use super::*;

    fn told(floor: &mut Inner, wanted: &[(u64, bool)]) -> Vec<(Vec<u64>, bool)> {
        let (_, worker) = floor.nodes().next().unwrap();
        let wanted = wanted.iter().map(|(job, begun)| (JobId(*job), *begun)).collect();
        let message = |message| match message {
            ToNode::GiveBack { jobs, begun } => (jobs.into_iter().map(|job| job.0).collect(), begun),
            other => panic!("{other:?}"),
        };
        worker.ask_back(wanted).into_iter().map(message).collect()
    }

    #[test]
    fn what_is_wanted_back_is_said_once_in_a_session_and_again_when_it_is_wanted_anew() {
        let (mut floor, node, life) = (Inner::default(), NodeId(1), Incarnation::from("a"));
        let work = Work { slots: 4, gives_back: true, ..Work::default() };
        floor.opened(node, &life, Some(&work));
        assert!(told(&mut floor, &[]).is_empty());
        assert_eq!(told(&mut floor, &[(7, false), (8, false)]), [(vec![7, 8], false)]);
        assert_eq!(told(&mut floor, &[(7, false), (8, false), (9, false)]), [(vec![9], false)]);
        assert_eq!(told(&mut floor, &[(7, true), (9, false)]), [(vec![7], true)]);
        assert_eq!(
            told(&mut floor, &[(7, false), (8, false)]),
            [(vec![8], false)],
            "it was resumed meanwhile"
        );
        floor.opened(node, &life, Some(&work));
        assert_eq!(told(&mut floor, &[(7, false), (8, true)]), [(vec![7], false), (vec![8], true)]);
        floor.sent(NodeId(2), JobId(8), &[]);
        assert!(told(&mut floor, &[(7, false), (8, true)]).is_empty(), "that went elsewhere");
        floor.sent(node, JobId(8), &[]);
        assert_eq!(told(&mut floor, &[(7, false), (8, true)]), [(vec![8], true)], "it was sent more");
    }

    #[test]
    fn a_node_has_too_much_when_it_is_likely_to_wait_for_long_and_has_been_for_a_while() {
        let (mut floor, node, life, begun) =
            (Inner::default(), NodeId(1), Incarnation::from("a"), Instant::now());
        let work = Work { slots: 4, gives_back: true, ..Work::default() };
        floor.opened(node, &life, Some(&work));
        let full = |floor: &mut Inner, count: u32, millis: u64| {
            let has = |_| [(JobId(7), count)].into_iter();
            !floor.have_too_much(has, begun + Duration::from_millis(millis)).is_empty()
        };
        let end = |took: u64| AttemptEnd {
            subtask: 0,
            attempt: 1,
            started_at: Timestamp(0),
            took: Span::millis(took),
            ending: Ending::Finished,
        };
        floor.ended(node, &[(JobId(7), vec![end(1)])], begun);
        assert!(!full(&mut floor, 800, 0) && !full(&mut floor, 800, 5000), "they are done soon");
        floor.ended(node, &[(JobId(7), vec![end(500)])], begun);
        assert!(!full(&mut floor, 800, 6000), "that was one of them");
        assert!(!full(&mut floor, 800, 6999) && full(&mut floor, 800, 7000));
        assert!(!full(&mut floor, 4, 7001), "what has begun alone is not too much");
        assert!(!full(&mut floor, 800, 7002), "it begins anew");
        floor.no_more(node, &life);
        assert!(!full(&mut floor, 4, 9000), "it hands back what it has");
    }
}
