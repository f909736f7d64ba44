//! Applying commands to the replicated state: total, deterministic, all or nothing.
//!
//! Each command has its file, named by what it is about. A handler first looks at everything that could refuse it
//! and only then puts rows, so that a refusal leaves the state untouched.

mod access;
mod artifact;
mod backend;
mod binding;
mod bucket;
mod cluster;
mod emergency;
mod founding;
mod job;
mod leaving;
mod module;
mod node;
mod object;
mod phase;
mod purge;
mod rollout;
mod secret;
mod sink;
mod trial;

pub use artifact::check as check_artifact;
pub use backend::check as check_backend;
pub use job::check as check_job;
pub(crate) use purge::FAILURE_MAX;
pub use sink::check as check_sink;

use std::collections::BTreeMap;

use sheaf_model::{Event, JobId, NodeId, Revision, Term};

use crate::asked::Asked;
use crate::change::Change;
use crate::command::{Command, Proposal, Refusal, Reply};
use crate::job::step::Transitions;
use crate::state::{Request, State};

/// How many answered requests are remembered …
const REQUESTS_KEPT: usize = 100_000;
/// … and for how long, by the proposing leaders' clocks: 10 minutes, in milliseconds.
const REQUESTS_KEPT_FOR: u64 = 600_000;
/// How many forgotten requests one command sweeps at most, so that no command is slow.
const SWEPT_AT_ONCE: usize = 16;

/// Applies one proposal of an entry of `term`.
///
/// Every replica gets the same proposals in the same order and ends in the same state, whatever they hold: this
/// never panics and reads nothing else. The proposal takes the next revision even when it is refused. What changed
/// is put into `state` and appended to `changes`.
pub fn apply(state: &mut State, term: Term, proposal: &Proposal, changes: &mut Vec<Change>) -> Reply {
    state.revision.0 += 1;
    if let Some(reply) = answered_before(state, proposal) {
        return reply;
    }
    let (revision, steps) = (state.revision, BTreeMap::new());
    let asked = proposal.request.as_ref().and_then(|_| Asked::of(&proposal.command, state));
    let mut transaction = Transaction { revision, events: 0, state, term, proposal, asked, steps, changes };
    let reply = transaction.run();
    transaction.put_steps();
    transaction.remember(&reply);
    reply
}

/// The answer this request got the first time; a refusal, if its id was used for something else then.
fn answered_before(state: &State, proposal: &Proposal) -> Option<Reply> {
    let revision = state.request_ids.get(proposal.request.as_ref()?)?;
    let request = state.requests.get(revision)?;
    Some(request.answer(Asked::of(&proposal.command, state).as_ref()))
}

/// One command under way.
struct Transaction<'a> {
    state: &'a mut State,
    term: Term,
    proposal: &'a Proposal,
    /// What is asked, if it is to be remembered.
    asked: Option<Asked>,
    revision: Revision,
    events: u32,
    /// What it has done to subtasks, by job, and not yet put.
    steps: BTreeMap<JobId, Transitions>,
    changes: &'a mut Vec<Change>,
}

impl Transaction<'_> {
    fn run(&mut self) -> Reply {
        let result = match &self.proposal.command {
            Command::Form(form) => self.form(form),
            _ if self.state.cluster.id.is_none() => {
                Err(Refusal::Precondition("the cluster is not formed yet".to_owned()))
            }
            Command::Register(register) => self.register(register),
            Command::SetNodeStatus(set) => self.set_node_status(set),
            Command::Apply(apply) => self.apply_documents(apply),
            Command::ApplyV1(former) => self.apply_documents(&former.clone().into()),
            Command::ApplyV2(former) => self.apply_documents(&former.clone().into()),
            Command::Suspend(on) => self.suspend(on),
            Command::Resume(on) => self.resume(on),
            Command::Restart(on) => self.restart(on),
            Command::DeleteBucket(on) => self.delete_bucket(on),
            Command::DeleteModule(delete) => self.delete_module(delete),
            Command::LabelNode(label) => self.label_node(label),
            Command::Bind(bind) => self.bind(bind),
            Command::Leave(leave) => self.leave(leave),
            Command::Free(free) => self.free(free),
            Command::RecordPhases(record) => self.record_phases(record),
            Command::ConfirmResidue(confirm) => self.confirm_residue(confirm),
            Command::Drain(drain) => self.drain(drain),
            Command::Undrain(node) => self.undrain(*node),
            Command::Forget(node) => self.forget(*node),
            Command::Move(move_bucket) => self.move_bucket(move_bucket),
            Command::ChangeSettingsV1(wanted) => self.change_settings_v1(wanted),
            Command::DropFormer(term) => self.drop_former(*term),
            Command::Refound(refound) => self.refound(refound),
            Command::ReleaseNodes(release) => self.release_nodes(release),
            Command::StopRollout(stop) => self.stop_rollout(stop),
            Command::FinishRollout(finish) => self.finish_rollout(finish),
            Command::Rollback(rollback) => self.rollback(rollback),
            Command::PutObject(put) => self.put_object(put),
            Command::DeleteObject(delete) => self.delete_object(delete),
            Command::AddStatusLine(add) => self.add_status_line(add),
            Command::Disable(disable) => self.disable(disable),
            Command::Quarantine(ask) => self.quarantine(ask),
            Command::EndQuarantine(end) => self.end_quarantine(end),
            Command::Purge(on) => self.purge(on),
            Command::RecordPurge(record) => self.record_purge(record),
            Command::PutTrial(put) => self.put_trial(put),
            Command::PutArtifact(artifact) => self.put_artifact(artifact),
            Command::PutSecret(put) => self.put_secret(put),
            Command::DeleteSecret(name) => self.delete_secret(name),
            Command::PutBackend(spec) => self.put_backend(spec),
            Command::DeleteBackend(name) => self.delete_backend(name),
            Command::Access(command) => self.run_of_access(command),
            Command::Settings(command) => self.run_of_settings(command),
            Command::Sink(command) => self.run_of_sinks(command),
            command => self.run_of_jobs(command),
        };
        result.unwrap_or_else(Reply::Refused)
    }

    fn run_of_jobs(&mut self, command: &Command) -> Result<Reply, Refusal> {
        match command {
            Command::BeginSubmit(begin) => self.begin_submit(begin),
            Command::AddItems(add) => self.add_items(add),
            Command::CommitSubmit(commit) => self.commit_submit(commit),
            Command::Submit(all) => self.submit_all(all),
            Command::CollectSubmit(collect) => self.collect_submit(collect),
            Command::TakeUp(take) => self.take_up(take),
            Command::Grant(grant) => self.grant(grant),
            Command::RecordResults(record) => self.record_results(record),
            Command::WakeSubtasks(wake) => self.wake_subtasks(wake),
            Command::PauseJob(id) => self.pause_job(*id, true),
            Command::ResumeJob(id) => self.pause_job(*id, false),
            Command::CancelJob(cancel) => self.cancel_job(cancel),
            Command::RetryJob(retry) => self.retry_job(retry),
            Command::ReprioritizeJob(ask) => self.reprioritize_job(ask),
            Command::DeleteJob(id) => self.delete_job(*id),
            // Every other one is known to who calls this.
            _ => Err(Refusal::Precondition("this is no command about jobs".to_owned())),
        }
    }

    fn put(&mut self, change: Change) {
        self.state.put(&change);
        self.changes.push(change);
    }

    fn event(&mut self, line: Line) {
        let n = self.events;
        self.events += 1;
        let node = line.node.map(|id| self.state.node_name(id)).unwrap_or_default();
        self.changes.push(Change::Event(Event {
            revision: self.revision,
            n,
            step: None,
            at: self.proposal.at,
            kind: line.kind.to_owned(),
            subject: line.subject,
            actor: self.proposal.actor.to_string(),
            node,
            before: line.before,
            after: line.after,
            message: line.message,
        }));
    }

    /// Keeps the answer for a repetition of the same request; sweeps what is too old.
    fn remember(&mut self, reply: &Reply) {
        let Some(id) = &self.proposal.request else { return };
        if matches!(reply, Reply::Refused(_)) {
            return; // Nothing was changed; asking again may well succeed.
        }
        for _ in 0..SWEPT_AT_ONCE {
            let Some((revision, oldest)) = self.state.requests.first_key_value() else { break };
            let too_old = oldest.at.0.saturating_add(REQUESTS_KEPT_FOR) < self.proposal.at.0;
            if !too_old && self.state.requests.len() < REQUESTS_KEPT {
                break;
            }
            let revision = *revision;
            self.put(Change::RequestGone(revision));
        }
        let asked = self.asked.take();
        self.put(Change::Request(Request {
            id: id.clone(),
            revision: self.revision,
            at: self.proposal.at,
            reply: reply.clone(),
            asked,
        }));
    }

    /// Refuses a decision that was made in another term.
    fn in_term(&self, decided: Term) -> Result<(), Refusal> {
        if decided == self.term {
            return Ok(());
        }
        Err(Refusal::Stale(format!("decided in term {decided}, the entry is of term {}", self.term)))
    }
}

/// An event to be; what is left out stays empty.
#[derive(Default)]
struct Line {
    kind: &'static str,
    subject: String,
    node: Option<NodeId>,
    before: String,
    after: String,
    message: String,
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "callers read better without a reference to what they name"
)]
impl Line {
    fn new(kind: &'static str, subject: impl ToString) -> Self {
        Self { kind, subject: subject.to_string(), ..Self::default() }
    }

    fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    fn went(mut self, before: impl ToString, after: impl ToString) -> Self {
        self.before = before.to_string();
        self.after = after.to_string();
        self
    }

    fn because(mut self, message: impl ToString) -> Self {
        self.message = message.to_string();
        self
    }
}

#[cfg(test)]
mod tests;
