//! What goes back to the leader, since it is not to begin here, or since nothing more is to run here. It counts as no attempt.

use std::collections::{BTreeSet, VecDeque};

use sheaf_model::{Ending, JobId};
use tokio::time::Instant;

use super::{Job, Loop, Waiting, id, never, now};
use crate::runner::ToRunner;

impl Loop {
    /// Hands back what has not begun of these jobs, and stops what has, if that is meant too.
    pub(super) async fn give_back(&mut self, jobs: BTreeSet<JobId>, begun: bool) {
        self.end_waiting(|job| jobs.contains(&job.id), &Ending::HandedBack);
        if begun {
            let meant = self.running.iter().filter(|(_, running)| jobs.contains(&running.attempt.job));
            for (ticket, _) in meant {
                self.tell_runner(ToRunner::Stop(*ticket)).await;
            }
        }
        let follows = self.workers.give_back(&jobs, begun, now());
        // What a worker gives back is not for it either, until more of its job comes.
        self.unwanted.extend(jobs);
        self.perform(follows).await;
    }

    pub(super) fn see_what_waits(&mut self) {
        let (free, now) = (self.free(), Instant::now());
        for Waiting { subtasks, stall, .. } in &mut self.waiting {
            stall.see(subtasks.len(), free, now);
        }
    }

    /// Hands back what lies ready, and does not come to a slot: they are taken by what takes long, or by what is more urgent.
    pub(super) fn give_up_on_slots(&mut self) {
        let now = Instant::now();
        self.end_those(|waiting| waiting.stall.due().is_some_and(|due| due <= now), &Ending::HandedBack);
    }

    pub(super) fn hand_back_waiting(&mut self) {
        self.end_waiting(|_| true, &Ending::HandedBack);
    }

    /// What of these jobs has not begun never does here.
    pub(super) fn end_waiting(&mut self, is_meant: impl Fn(&Job) -> bool, ending: &Ending) {
        self.end_those(|waiting| is_meant(&waiting.job), ending);
    }

    fn end_those(&mut self, is_meant: impl Fn(&Waiting) -> bool, ending: &Ending) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (those, others): (VecDeque<Waiting>, _) = waiting.partition(is_meant);
        self.waiting = others;
        for Waiting { job, subtasks, .. } in those {
            for it in subtasks {
                self.end(id(&job, &it), never(ending.clone()));
            }
        }
    }
}
