//! What nodes are to give back: subtasks that were granted to them, and are not to begin there any more.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_engine::State;
use sheaf_model::session::ToNode;
use sheaf_model::{JobId, NodeId};

use super::{Inner, Worker};

impl Inner {
    /// What each node is to be told to give back that it was not told: what has not begun there, if it is drained; if that is `over`,
    /// what has begun as well.
    pub(crate) fn to_give_back(&mut self, state: &State, over: &BTreeSet<NodeId>) -> Vec<(NodeId, ToNode)> {
        let mut told = Vec::new();
        for (node, worker) in self.nodes.iter_mut().filter(|(_, worker)| worker.gives_back) {
            let drained = state.nodes.get(node).is_some_and(|it| it.drain.is_some());
            let here = state.jobs.of_jobs_on(*node).map(|(job, _)| job);
            let wanted = here.filter(|_| drained).map(|job| (job, over.contains(node))).collect();
            told.extend(worker.to_give_back(wanted).into_iter().map(|message| (*node, message)));
        }
        told
    }
}

impl Worker {
    /// What it is to be told now, if these jobs are wanted back; of each, whether what has begun is as well.
    fn to_give_back(&mut self, wanted: BTreeMap<JobId, bool>) -> Vec<ToNode> {
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
    use sheaf_model::Incarnation;
    use sheaf_model::session::Work;

    use super::*;

    fn told(floor: &mut Inner, wanted: &[(u64, bool)]) -> Vec<(Vec<u64>, bool)> {
        let (_, worker) = floor.nodes().next().unwrap();
        let wanted = wanted.iter().map(|(job, begun)| (JobId(*job), *begun)).collect();
        let message = |message| match message {
            ToNode::GiveBack { jobs, begun } => (jobs.into_iter().map(|job| job.0).collect(), begun),
            other => panic!("{other:?}"),
        };
        worker.to_give_back(wanted).into_iter().map(message).collect()
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
    }
}
