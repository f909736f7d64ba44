//! What people see of jobs: rows from memory, and details of attempts from the history.

use std::time::Instant;

use sheaf_engine::job::progress::Place;
use sheaf_engine::{Job, State};
use sheaf_model::view::{
    FailedAttempts, FailureGroup, GateView, JobExplanation, JobRow, JobStatus, NodeExplanation, SubtaskRow,
};
use sheaf_model::{
    FailureClass, GateOutcome, JobId, JobName, Node, NodeStatus, Ranges, Run, SubtaskCounts, SubtaskState,
    Timestamp,
};
use sheaf_store::{FailedAlike, FailedGroups, Lately, RanAttempt, Wanted};
use sheaf_wire::job::{ExplainJob, GotJob, ListSubtasks};
use sheaf_wire::{ApiError, Caller, Page};

use super::bulk::WHERE_WITHIN;
use super::ended;
use crate::Control;
use crate::event::{read, read_at_once};

/// Groups of failures that a status names.
const GROUPS: usize = 10;

pub(super) fn row(job: &Job) -> JobRow {
    let counts = job.counts();
    JobRow {
        name: job.spec.name.to_string(),
        id: job.id.0,
        state: job.state(),
        priority: job.priority,
        module: job.spec.module.to_string(),
        counts,
        progress: counts.progress(),
        created_at: job.created_at.to_string(),
        owner: job.spec.owner.clone(),
        labels: job.spec.labels.clone(),
    }
}

/// How many subtasks finish or fail in a second: lately, or of a job that is over on the whole.
fn rate(job: &Job, now: Timestamp, lately: Option<Lately>) -> f64 {
    rate_of(job.counts(), (job.started_at, job.ended_at), now, lately)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate_of(
    counts: SubtaskCounts,
    (started, over): (Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
    lately: Option<Lately>,
) -> f64 {
    let (ended, since, until) = match (lately, started, over) {
        (_, Some(started), Some(over)) => (counts.finished + counts.failed, started, over),
        (Some(lately), ..) => (lately.ended, lately.since, now),
        _ => return 0.0,
    };
    let took = until.0.saturating_sub(since.0);
    if took == 0 { 0.0 } else { ended as f64 * 1000.0 / took as f64 }
}

fn status(
    job: &Job,
    now: Timestamp,
    lately: Option<Lately>,
    (failures, failure_groups): (Vec<FailureGroup>, u64),
    message: String,
) -> JobStatus {
    let (counts, rate) = (job.counts(), rate(job, now, lately));
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "for people"
    )]
    let eta = (rate > 0.0 && counts.left() > 0 && !job.paused)
        .then(|| Timestamp(now.0.saturating_add((counts.left() as f64 * 1000.0 / rate) as u64)));
    let [exit, lost, timeout, backend, refused] = FailureClass::ALL.map(|class| job.failures[class as usize]);
    JobStatus {
        name: job.spec.name.to_string(),
        id: job.id.0,
        state: job.state(),
        priority: job.priority,
        module: job.spec.module.to_string(),
        count: job.count.into(),
        max_running: job.spec.max_running,
        counts,
        progress: counts.progress(),
        rate_per_s: (rate * 10.0).round() / 10.0,
        eta: eta.map(|at| at.to_string()),
        created_at: job.created_at.to_string(),
        started_at: job.started_at.map(|at| at.to_string()),
        ended_at: job.ended_at.map(|at| at.to_string()),
        owner: job.spec.owner.clone(),
        labels: job.spec.labels.clone(),
        revision: job.revision.0.max(job.created.0),
        failed_attempts: FailedAttempts { exit, lost, timeout, backend, refused },
        failures,
        failure_groups,
        message,
    }
}

impl Control {
    pub(super) async fn got(&self, name: &JobName) -> Result<GotJob, ApiError> {
        let (id, failed, runs_since) = self.see_job(name, |_, job| {
            (job.id, job.counts().failed > 0, job.started_at.filter(|_| job.ended_at.is_none()))
        })?;
        let lately = match runs_since {
            Some(started) => {
                let member = self.member()?;
                Some(read_at_once(&member, move |reader| reader.ended_lately(id, started)).await?)
            }
            None => None,
        };
        let groups = if failed { self.failure_groups(id).await? } else { Default::default() };
        let now = self.clock.wall();
        self.see_job(name, |state, job| GotJob {
            spec: (*job.spec).clone(),
            status: status(job, now, lately, groups, self.why(state, job, None).join("; ")),
        })
    }

    /// The largest groups, and how many there are.
    async fn failure_groups(&self, job: JobId) -> Result<(Vec<FailureGroup>, u64), ApiError> {
        let member = self.member()?;
        let FailedGroups { largest, all } =
            read(&member, move |reader| reader.failure_groups(job, GROUPS)).await?;
        let view = |FailedAlike { fingerprint, subtasks, message }: FailedAlike| FailureGroup {
            fingerprint: fingerprint.to_string(),
            subtasks,
            message,
        };
        Ok((largest.into_iter().map(view).collect(), all))
    }

    /// The attempts of a subtask that are over, in order.
    pub(super) async fn attempts(&self, job: JobId, subtask: u32) -> Result<Vec<RanAttempt>, ApiError> {
        read(&self.member()?, move |reader| reader.attempts(job, subtask)).await
    }

    pub(super) async fn subtask_page(
        &self,
        caller: &Caller,
        ask: ListSubtasks,
    ) -> Result<Page<SubtaskRow>, ApiError> {
        let from: u32 = match ask.page.token.as_str() {
            "" => 0,
            token => token.parse().map_err(|_| {
                ApiError::invalid("page_token", format!("{token:?} is no token of this list"), "as answered")
            })?,
        };
        let size = if ask.page.size == 0 { sheaf_wire::PAGE_MAX } else { ask.page.size };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (among, to) = self.narrowed(caller, &ask, from, size).await?;
        let (id, mut rows, next) = self.see_job(&ask.job, |state, job| {
            let Some(last) = job.count.checked_sub(1).filter(|last| from <= *last) else {
                return (job.id, Vec::new(), None);
            };
            let within = Run::new(from, to.map_or(last, |to| to.clamp(from, last)));
            let found = job.subtasks(within, &ask.states, among.as_ref());
            let mut found: Vec<(u32, Place)> = found.take(size + 1).collect();
            let next = match found.len() > size {
                true => found.pop().map(|(subtask, _)| subtask),
                // What comes after was not looked at yet.
                false => within.last.checked_add(1).filter(|next| *next <= last),
            };
            let rows: Vec<SubtaskRow> =
                found.into_iter().map(|(subtask, place)| subtask_row(state, job, subtask, place)).collect();
            (job.id, rows, next)
        })?;
        self.add_history(id, &mut rows).await?;
        Ok(Page { rows, next: next.map(|next| next.to_string()).unwrap_or_default() })
    }

    /// The subtasks from one on among which a page is to be found, and up to where they were looked for; none: everywhere.
    async fn narrowed(
        &self,
        caller: &Caller,
        ask: &ListSubtasks,
        from: u32,
        size: usize,
    ) -> Result<(Option<Ranges>, Option<u32>), ApiError> {
        let among = match &ask.selector {
            Some(selector) => Some(self.selected(caller, &ask.job, Some(selector), None).await?.subtasks),
            None => None,
        };
        let Some(condition) = ask.condition.clone() else { return Ok((among, None)) };
        let (job, states, until) = (ask.job.clone(), ask.states.clone(), Instant::now() + WHERE_WITHIN);
        // One more tells whether the page is the last.
        let most = u64::try_from(size).unwrap_or(u64::MAX).saturating_add(1);
        let wanted = Wanted { job, condition, states, among, from, most, until };
        let found = self.subtasks_where(caller, wanted).await?;
        Ok((Some(found.subtasks), found.to))
    }

    /// Of those that do not run just now: how their last attempts went.
    async fn add_history(&self, job: JobId, rows: &mut [SubtaskRow]) -> Result<(), ApiError> {
        let past: Ranges =
            rows.iter().filter(|row| row.state != SubtaskState::Running).map(|row| row.subtask).collect();
        if past.is_empty() {
            return Ok(());
        }
        let member = self.member()?;
        let backends = {
            let state = member.replica.state();
            state.jobs.get(job).map(|job| job.spec.backends.clone()).unwrap_or_default()
        };
        let mut last = read(&member, move |reader| reader.last_attempts(job, &past)).await?;
        for row in rows {
            let Some(ran) = last.remove(&row.subtask) else { continue };
            row.attempt = ran.number;
            row.node = ran.node.map(|node| self.node_name(node));
            row.backend = ran.backend.and_then(|it| backends.get(usize::from(it))).map(ToString::to_string);
            row.started_at = ran.started_at.map(|at| at.to_string());
            row.ended_at = Some(ran.ended_at.to_string());
            row.exit_code = ran.exit_code;
            row.message = ran.message;
            row.fingerprint = ran.fingerprint.map(|it| it.to_string());
        }
        Ok(())
    }

    pub(super) async fn explain_job(&self, ask: ExplainJob) -> Result<JobExplanation, ApiError> {
        let (id, over, mut explanation) = self.see_job(&ask.job, |state, job| {
            let subtask = match ask.subtask {
                Some(subtask) if subtask >= job.count => {
                    let problem = format!("job {} has no subtask {subtask}", job.spec.name);
                    return Err(ApiError::invalid(
                        "subtask",
                        problem,
                        format!("0 to {}", job.count.max(1) - 1),
                    ));
                }
                other => other,
            };
            let place = subtask.and_then(|subtask| Some((subtask, job.progress.place(subtask)?)));
            let over = match place {
                Some((_, place)) => ended::is_over(job.state_at(place)),
                None => job.state().is_over(),
            };
            let why = match place {
                Some((subtask, place)) => self.why_subtask(state, job, subtask, place),
                None if over => ended::of_job(job),
                None => self.why(state, job, None),
            };
            let explanation = JobExplanation {
                name: job.spec.name.to_string(),
                state: job.state(),
                subtask: place.map(|(subtask, place)| subtask_row(state, job, subtask, place)),
                why,
                // No gate is asked about what is over, and none will be.
                nodes: if over { Vec::new() } else { self.job_nodes(state, job) },
            };
            Ok((job.id, over, explanation))
        })??;
        match &mut explanation.subtask {
            Some(row) => {
                self.add_history(id, std::slice::from_mut(row)).await?;
                if over {
                    let told = self.see_job(&ask.job, |_, job| {
                        ended::of_subtask(job, row, job.progress.tries(row.subtask).counted)
                    })?;
                    explanation.why.extend(told);
                }
            }
            None if over => {
                let (groups, all) = self.failure_groups(id).await?;
                explanation.why.extend(ended::of_groups(&explanation.name, &groups, all));
            }
            None => {}
        }
        Ok(explanation)
    }

    fn job_nodes(&self, state: &State, job: &Job) -> Vec<NodeExplanation> {
        let nodes = state.nodes.values().filter(|node| node.status != NodeStatus::Left);
        let mut nodes: Vec<NodeExplanation> = nodes
            .map(|node| {
                let said = self.floor.lock().verdict(job.id, node.id);
                let silence = if said.is_some() { "asked, and not answered yet" } else { "not asked yet" };
                let (verdict, silent) =
                    (said.flatten(), std::array::from_fn(|_| GateOutcome::unknown(silence)));
                let gates = verdict.as_ref().map_or(&silent, |verdict| &verdict.gates);
                NodeExplanation {
                    node: node.facts.name.to_string(),
                    status: node.status.as_str().to_owned(),
                    eligible: verdict.as_ref().is_some_and(|verdict| verdict.eligible()),
                    running: job.progress.running().values().any(|it| it.node == node.id),
                    gates: GateView::all(gates),
                    obstacle: obstacle(node),
                    node_id: node.id.0,
                }
            })
            .collect();
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        nodes
    }
}

/// What keeps subtasks from a node whatever its gates say.
fn obstacle(node: &Node) -> String {
    if node.status.is_alive() && node.drain.is_some() {
        "the node is being drained".to_owned()
    } else {
        String::new()
    }
}

/// What memory knows of a subtask.
fn subtask_row(state: &State, job: &Job, subtask: u32, place: Place) -> SubtaskRow {
    let running = job.progress.running().get(&subtask);
    let backend = running.and_then(|it| it.backend).and_then(|it| job.spec.backends.get(usize::from(it)));
    SubtaskRow {
        subtask,
        state: job.state_at(place),
        attempt: running.map_or(job.progress.tries(subtask).given, |it| it.attempt),
        node: running.map(|it| state.node_name(it.node)),
        backend: backend.map(ToString::to_string),
        priority: job.priority_of(subtask),
        started_at: running.map(|it| it.since.to_string()),
        ended_at: None,
        exit_code: None,
        message: String::new(),
        fingerprint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_canceled_did_not_come_at_any_rate() {
        let counts = SubtaskCounts { finished: 10, failed: 10, canceled: 1_000_000, ..Default::default() };
        let (started, over, now) = (Timestamp(1_000), Timestamp(11_000), Timestamp(500_000));
        let close = |rate: f64, wanted: f64| (rate - wanted).abs() < 1e-9;
        assert!(close(rate_of(counts, (Some(started), Some(over)), now, None), 2.0));
        let lately = Some(Lately { ended: 98, since: Timestamp(451_000) });
        assert!(close(rate_of(counts, (Some(started), None), now, lately), 2.0));
        assert!(close(rate_of(counts, (None, None), now, None), 0.0), "nothing began");
    }
}
