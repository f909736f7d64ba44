//! Where jobs stand.

use sheaf_model::JobState;
use sheaf_model::view::JobCounts;

use super::Sight;

impl Sight<'_> {
    /// How many jobs are in which state.
    pub fn job_counts(&self) -> JobCounts {
        let mut counts = JobCounts::default();
        for job in self.state.jobs.iter() {
            let count = match job.state() {
                JobState::Running => {
                    counts.subtasks_ready += job.counts().ready;
                    &mut counts.running
                }
                JobState::Paused => &mut counts.paused,
                JobState::Finished => &mut counts.finished,
                JobState::Failed => &mut counts.failed,
                JobState::Canceled => &mut counts.canceled,
            };
            *count += 1;
        }
        counts
    }
}
