//! What an attempt printed, from the node where it ran.

use std::time::Duration;

use sheaf_model::{Attempt, NodeId};
use sheaf_wire::job::JobLogs;
use sheaf_wire::logs::{AttemptLogs, LogLine};
use sheaf_wire::peer::PeerClient;
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
        PeerClient::new(&contact, &self.place.trust.transport)?.attempt_logs(logs, BEGIN_WITHIN).await
    }

    /// The attempt meant, and where it runs or ran.
    async fn attempt_of(&self, ask: &JobLogs) -> Result<(Attempt, NodeId), ApiError> {
        let JobLogs { job: name, subtask, attempt: number, .. } = ask;
        let (job, last, running) = self.see_job(name, |_, job| {
            let running = job.progress.running().get(subtask).map(|it| (it.attempt, it.node));
            let last = running.map_or(job.progress.tries(*subtask).given, |it| it.0);
            if *subtask >= job.count {
                let problem = format!("job {name} has no subtask {subtask}");
                return Err(ApiError::NotFound(problem));
            }
            Ok((job.id, last, running))
        })??;
        let attempt = |number| Attempt { job, subtask: *subtask, number };
        if let Some((running, node)) = running
            && (*number == 0 || *number == running)
        {
            return Ok((attempt(running), node));
        }
        let attempts = self.attempts(job, *subtask).await?;
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
            None if *number == 0 => {
                Err(ApiError::Precondition(format!("subtask {subtask} of job {name} was not begun yet")))
            }
            None => Err(ApiError::NotFound(format!(
                "subtask {subtask} of job {name} had {last} attempts; there is no attempt {number}"
            ))),
        }
    }
}
