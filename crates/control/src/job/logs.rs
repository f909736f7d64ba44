//! What an attempt printed, from the node where it ran.

use std::time::Duration;

use sheaf_engine::job::progress::Place;
use sheaf_model::{Attempt, NodeId};
use sheaf_store::AttemptState;
use sheaf_wire::job::JobLogs;
use sheaf_wire::logs::{AttemptLogs, LogLine};
use sheaf_wire::{Answers, ApiError};

use crate::Control;

/// How long the node may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

impl Control {
    pub(super) async fn job_logs(&self, ask: JobLogs) -> Result<Answers<LogLine>, ApiError> {
        let (attempt, node) = self.attempt_of(&ask).await?;
        let contact = {
            let state = &self.member()?.replica;
            let state = state.state();
            let found = state.nodes.get(&node).filter(|node| node.status.is_alive());
            found.map(|node| node.contact())
        };
        let Some(contact) = contact else {
            return Err(ApiError::unavailable(format!(
                "attempt {} of subtask {} ran on node {}, which keeps its output and does not answer",
                attempt.number,
                attempt.subtask,
                self.node_name(node)
            )));
        };
        let logs = AttemptLogs { attempt, follow: ask.follow, tail: ask.tail };
        self.readers.attempt_logs(&contact, logs, BEGIN_WITHIN).await
    }

    /// The attempt meant, and where it runs or ran.
    async fn attempt_of(&self, ask: &JobLogs) -> Result<(Attempt, NodeId), ApiError> {
        let JobLogs { job: name, subtask, attempt: number, .. } = ask;
        let (job, had, running) = self.see_job(name, |_, job| {
            let running = job.progress.running().get(subtask).map(|it| (it.attempt, it.node));
            let Some(place) = job.progress.place(*subtask) else {
                let problem = format!("job {name} has no subtask {subtask}");
                return Err(ApiError::NotFound(problem));
            };
            let given = running.map_or(job.progress.tries(*subtask).given, |it| it.0);
            // How often what has finished was tried is not kept with the job.
            let had = if place == Place::Finished { Had::Finished } else { Had::Attempts(given) };
            Ok((job.id, had, running))
        })??;
        let attempt = |number| Attempt { job, subtask: *subtask, number };
        if let Some((running, node)) = running
            && (*number == 0 || *number == running)
        {
            return Ok((attempt(running), node));
        }
        let attempts = self.attempts(job, *subtask).await?;
        let last = attempts.last().filter(|last| last.end == AttemptState::Finished);
        let had = last.map_or(had, |last| Had::Attempts(last.number));
        let wanted =
            if *number == 0 { attempts.last() } else { attempts.iter().find(|it| it.number == *number) };
        match wanted {
            Some(ran) => match ran.node {
                Some(node) => Ok((attempt(ran.number), node)),
                None => Err(ApiError::Precondition(format!(
                    "where attempt {} of subtask {subtask} of job {name} ran is not known any more",
                    ran.number
                ))),
            },
            None => Err(unknown(*number, had, *subtask, name.as_str())),
        }
    }
}

/// How many attempts a subtask had, as its job knows.
#[derive(Clone, Copy, Debug)]
enum Had {
    /// So many.
    Attempts(u32),
    /// One that finished, and perhaps others before.
    Finished,
}

/// That history has nothing of an attempt; 0: of any.
fn unknown(number: u32, had: Had, subtask: u32, job: &str) -> ApiError {
    let kept = "what its attempts went through is not kept any more (history.age, history.events), so it is not known where \
                it ran and what it printed";
    match had {
        Had::Attempts(0) if number == 0 => {
            ApiError::Precondition(format!("subtask {subtask} of job {job} was not begun yet"))
        }
        Had::Attempts(last) if number > last => ApiError::NotFound(format!(
            "subtask {subtask} of job {job} had {last} attempts; there is no attempt {number}"
        )),
        Had::Attempts(_) => {
            ApiError::Precondition(format!("subtask {subtask} of job {job} was tried; {kept}"))
        }
        Had::Finished => {
            ApiError::Precondition(format!("subtask {subtask} of job {job} has finished; {kept}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_history_does_not_have_was_not_begun_or_is_forgotten_or_never_was() {
        let said = |number, had| unknown(number, had, 7, "ndvi").to_string();
        assert!(said(0, Had::Attempts(0)).contains("subtask 7 of job ndvi was not begun yet"));
        assert!(said(3, Had::Attempts(2)).contains("had 2 attempts; there is no attempt 3"));
        assert!(
            said(0, Had::Attempts(2))
                .contains("was tried; what its attempts went through is not kept any more")
        );
        for number in [0, 1] {
            assert!(
                said(number, Had::Finished)
                    .contains("has finished; what its attempts went through is not kept")
            );
        }
    }
}
