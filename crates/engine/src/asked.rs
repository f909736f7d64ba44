//! What a request asked for, kept beside its id: an id that comes again with something else is no repetition.

use std::fmt::Display;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};
use sheaf_model::fingerprint::{FNV_BASIS, fnv};
use sheaf_model::{Digest, JobId, NodeId, TokenId};

use crate::command::{AccessCommand, Apply, Command, Refusal, Reply, SettingsCommand, SinkCommand};
use crate::state::{Request, State};

/// How [`Asked::print`] is reckoned. Grows when any command that comes with a request's id is written or hashed in another way
/// than before: what was reckoned in another way is never compared.
const RULE: u8 = 1;

/// What a request asked for: enough to tell its repetition from something else, and to say it to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// See [`RULE`].
    rule: u8,
    /// A hash of what the caller decides of the command. No protection against who wants two to be alike.
    print: u64,
    /// For people, e.g. `suspend bucket /logs/web`.
    what: String,
}

impl Asked {
    /// Of a command, before it is applied to `state`. None: one that any repetition is believed of.
    pub fn of(command: &Command, state: &State) -> Option<Self> {
        Some(Self { rule: RULE, print: print(command)?, what: what(command, state) })
    }
}

impl Request {
    /// The answer to whoever comes with the same id: that of the first time, unless it is known to ask for something else.
    pub(crate) fn answer(&self, asked: Option<&Asked>) -> Reply {
        match (&self.asked, asked) {
            (Some(first), Some(now)) if first.rule == now.rule && first.print != now.print => {
                let other = if first.what == now.what { " with other content" } else { "" };
                Reply::Refused(Refusal::Conflict(format!(
                    "request id {:?} was already used for {:?}{other} at revision {}; use a new one",
                    self.id.0, first.what, self.revision
                )))
            }
            // Of what an earlier build remembered it is not known what it was.
            _ => self.reply.clone(),
        }
    }
}

/// A hash of what a repetition of the request has in common with it: nothing that was looked up in a state, which may be
/// another by then, and nothing that was chosen at random.
fn print(command: &Command) -> Option<u64> {
    match command {
        // As earlier builds wrote them: a repetition comes in today's form.
        Command::ApplyV1(_) | Command::ApplyV2(_) | Command::ChangeSettingsV1(_) => None,
        // Asked again when the token is gone, so that nobody knows any more which one it was.
        Command::Access(AccessCommand::RevokeToken(TokenId([0, 0, 0, 0, 0, 0]))) => None,
        // Asked again when there may be nothing to drop any more.
        Command::Access(AccessCommand::DropAuthority(Digest(zeros))) if *zeros == [0; 32] => None,
        // Its key is made anew each time.
        Command::Access(AccessCommand::BeginRotation(_)) => hash(&"rotation"),
        // Sealed anew each time.
        Command::PutSecret(put) => hash(&("secret", &put.name)),
        // What the bucket was, and what it is to go back from, are looked up each time.
        Command::Rollback(rollback) => hash(&("rollback", &rollback.put.spec.name)),
        // And so are the subtasks that are meant.
        Command::CancelJob(cancel) => hash(&("cancel", cancel.job, &cancel.reason)),
        Command::RetryJob(retry) => hash(&("retry", retry.job)),
        Command::ReprioritizeJob(ask) => hash(&("reprioritize", ask.job, ask.priority)),
        Command::AddStatusLine(add) => hash(&("line", &add.bucket, &add.kind, &add.text)),
        command => hash(command),
    }
}

/// None: it cannot be encoded, so that it never was in a log.
fn hash(value: &impl Serialize) -> Option<u64> {
    postcard::serialize_with_flavor(value, Hashing(FNV_BASIS)).ok()
}

/// Where an encoding goes that only its hash is wanted of.
struct Hashing(u64);

impl Flavor for Hashing {
    type Output = u64;

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0 = fnv(self.0, bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn finalize(self) -> postcard::Result<u64> {
        Ok(self.0)
    }
}

fn what(command: &Command, state: &State) -> String {
    let to = |verb: &str, subject: &dyn Display| format!("{verb} {subject}");
    let on_node = |verb: &str, id: NodeId| match state.nodes.get(&id) {
        Some(node) => format!("{verb} node {}", node.facts.name),
        None => format!("{verb} node {id}"),
    };
    let on_job = |verb: &str, id: JobId| match state.jobs.get(id) {
        Some(job) => format!("{verb} job {}", job.spec.name),
        None => format!("{verb} job {id}"),
    };
    match command {
        Command::Apply(apply) => documents(apply),
        Command::Suspend(on) => to("suspend bucket", &on.bucket),
        Command::Resume(on) => to("resume bucket", &on.bucket),
        Command::Restart(on) => to("restart bucket", &on.bucket),
        Command::Purge(on) => to("purge bucket", &on.bucket),
        Command::DeleteBucket(on) => to("delete bucket", &on.bucket),
        Command::Move(ask) => to("move bucket", &ask.bucket),
        Command::Rollback(rollback) => to("roll back bucket", &rollback.put.spec.name),
        Command::AddStatusLine(add) => to("add a line to bucket", &add.bucket),
        Command::PutArtifact(artifact) => to("push module", &artifact.module),
        Command::DeleteModule(delete) => format!("delete module {}@{}", delete.name, delete.version),
        Command::LabelNode(label) => on_node("label", label.node),
        Command::Drain(drain) => on_node("drain", drain.node),
        Command::Undrain(node) => on_node("undrain", *node),
        Command::Forget(node) => on_node("forget", *node),
        Command::PutSecret(put) => to("set secret", &put.name),
        Command::DeleteSecret(name) => to("delete secret", name),
        Command::PutBackend(spec) => to("apply Backend", &spec.name),
        Command::DeleteBackend(name) => to("delete backend", name),
        Command::Sink(SinkCommand::Put(spec)) => to("apply Sink", &spec.name),
        Command::Sink(SinkCommand::Delete(name)) => to("delete sink", name),
        Command::Settings(SettingsCommand::Change(_)) => "change settings".to_owned(),
        Command::Access(AccessCommand::RevokeToken(id)) => match state.access.tokens.get(id) {
            Some(token) => to("revoke token", &token.name),
            None => to("revoke token", id),
        },
        Command::Access(AccessCommand::BeginRotation(_)) => "replace the authority".to_owned(),
        Command::Access(AccessCommand::DropAuthority(authority)) => to("drop authority", &authority.short()),
        Command::PauseJob(id) => on_job("pause", *id),
        Command::ResumeJob(id) => on_job("resume", *id),
        Command::CancelJob(cancel) => on_job("cancel", cancel.job),
        Command::RetryJob(retry) => on_job("retry", retry.job),
        Command::ReprioritizeJob(ask) => on_job("reprioritize", ask.job),
        Command::DeleteJob(id) => on_job("delete", *id),
        // Nobody outside of the cluster asks for it.
        _ => "another change".to_owned(),
    }
}

fn documents(apply: &Apply) -> String {
    let modules = apply.modules.iter().map(|spec| format!("Module {}@{}", spec.name, spec.version));
    let mut all = modules.chain(apply.buckets.iter().map(|put| format!("Bucket {}", put.spec.name)));
    let first = all.next().unwrap_or_else(|| "nothing".to_owned());
    match apply.modules.len() + apply.buckets.len() {
        0 | 1 => format!("apply {first}"),
        count => format!("apply {first} and {} more", count - 1),
    }
}

#[cfg(test)]
mod tests;
