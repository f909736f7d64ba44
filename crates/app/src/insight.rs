//! What this node shows of itself to whoever is to help: files for a support bundle, without anything secret.
//!
//! What cannot be had within its time says so; the others come all the same.

mod disk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use sheaf_agent::{Running, State};
use sheaf_control::Control;
use sheaf_model::{ClusterId, Contact, first_lines, redacted};
use sheaf_web::metrics::Metrics;
use sheaf_wire::debug::{DebugApi, DebugFile, FILE_MAX};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};

use crate::config::Config;
use crate::node::Logs;
use crate::telemetry::Recent;

/// How long one file may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Instances and verdicts, at most of each: a node may have many thousands.
const SHOWN: usize = 1000;

/// What there is to look at.
pub(crate) struct Insight {
    pub(crate) config: Arc<Config>,
    pub(crate) control: Control,
    pub(crate) logs: Arc<Logs>,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    pub(crate) dir: PathBuf,
}

#[async_trait]
impl DebugApi for Insight {
    async fn collect(&self, _: Caller, cluster: ClusterId) -> Result<Answers<DebugFile>, ApiError> {
        let own = self.control.place().registration.borrow().clone();
        if own.is_none_or(|own| own.cluster != cluster) {
            return Err(ApiError::Precondition(format!("this node does not belong to cluster {cluster}")));
        }
        let (agent, disk, metrics) = futures::join!(self.agent(), self.disk(), self.measured());
        let files = [
            ("about.json", Ok(pretty(self.about()))),
            ("config.json", Ok(pretty(self.config.shown()))),
            ("raft.json", Ok(pretty(self.raft()))),
            ("agent.json", agent.map(pretty)),
            ("disk.json", disk.map(pretty)),
            ("metrics.txt", metrics),
            ("log.txt", Ok(self.recent.text())),
        ];
        let node = self.config.name.to_string();
        let files = files.map(|(name, content)| {
            let content = content.map(|text| clipped(redacted(&text)).into());
            Ok(DebugFile { node: node.clone(), name: name.to_owned(), content })
        });
        Ok(stream::iter(files).boxed())
    }
}

impl Insight {
    fn about(&self) -> Value {
        let system = rustix::system::uname();
        let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        json!({
            "name": self.config.name.as_str(),
            "version": sheaf_model::version(),
            "pid": std::process::id(),
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "system": word(system.sysname()),
            "kernel": word(system.release()),
            "machine": word(system.machine()),
            "secured": self.control.place().trust.transport.is_secured(),
            "waiting_for": *self.control.place().waiting_for.borrow(),
        })
    }

    /// Where this node's replica stands.
    fn raft(&self) -> Value {
        let place = self.control.place();
        let Some(member) = place.member() else {
            let known = place.members.borrow().clone();
            let at = |contact: Option<Contact>| contact.map(|contact| contact.to_string());
            return json!({"holds_a_replica": false, "member": at(known.member), "leader": at(known.leader)});
        };
        let metrics = member.replica.metrics();
        let (revision, members) = {
            let state = member.replica.state();
            let members = metrics.members.iter().map(|one| {
                json!({
                    "name": state.node_name(one.peer.node),
                    "id": one.peer.node.0,
                    "address": one.peer.address,
                    "voter": one.voter,
                    "match_lag": one.match_lag,
                })
            });
            (state.revision.0, members.collect::<Vec<_>>())
        };
        let leadership = *member.replica.leadership().borrow();
        json!({
            "holds_a_replica": true,
            "node": metrics.node.0,
            "term": metrics.term.0,
            "leader": metrics.leader.map(|leader| leader.0),
            "leading": leadership.leading,
            "since_s": leadership.since.elapsed().as_secs(),
            "heard_by_a_majority": member.replica.is_heard(),
            "last": metrics.last,
            "committed": metrics.committed,
            "applied": metrics.applied,
            "durable": metrics.durable,
            "purged": metrics.purged,
            "revision": revision,
            "late_timers": member.replica.late_timers(),
            "members": members,
        })
    }

    /// Where this node's agent stands.
    async fn agent(&self) -> Result<Value, String> {
        let agent = self.logs.agent().ok_or("this node's agent does not run yet")?;
        let state = tokio::time::timeout(WITHIN, agent.state()).await;
        let state = state.map_err(|_| late())?.map_err(|error| error.to_string())?;
        Ok(of_agent(&state))
    }

    async fn disk(&self) -> Result<Value, String> {
        let dir = self.dir.clone();
        let measuring = tokio::task::spawn_blocking(move || disk::measure(&dir, WITHIN));
        // Longer than it gives itself: a disk that does not answer holds its thread.
        let measured = tokio::time::timeout(WITHIN * 2, measuring).await.map_err(|_| late())?;
        measured.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn measured(&self) -> Result<String, String> {
        tokio::time::timeout(WITHIN, self.metrics.text()).await.map_err(|_| late())
    }
}

fn late() -> String {
    format!("not there within {WITHIN:?}")
}

/// Without what programs printed, which is all that follows a first line.
fn pretty(mut value: Value) -> String {
    first_lines(&mut value);
    format!("{value:#}\n")
}

fn of_agent(state: &State) -> Value {
    let instance = |one: &Running| {
        json!({
            "bucket": one.bucket.as_str(),
            "phase": one.phase.as_str(),
            "pid": one.pid,
            "message": one.message,
        })
    };
    json!({
        "has_session": state.has_session,
        "seen": state.seen.0,
        "load": state.load,
        "instances": state.instances.iter().take(SHOWN).map(instance).collect::<Vec<_>>(),
        "instances_in_all": state.instances.len(),
        "verdicts": state.verdicts.iter().take(SHOWN).collect::<Vec<_>>(),
        "verdicts_in_all": state.verdicts.len(),
    })
}

/// The last part of what is too long, from the beginning of a line.
fn clipped(text: String) -> String {
    if text.len() <= FILE_MAX {
        return text;
    }
    let mut from = text.len() - FILE_MAX;
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let rest = &text[from..];
    rest.find('\n').map_or(rest, |end| &rest[end + 1..]).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_keeps_its_end() {
        assert_eq!(clipped("short".to_owned()), "short");
        let text = clipped(format!("first\n{}\nlast\n", "é".repeat(FILE_MAX / 2)));
        assert_eq!(text, "last\n");
        let lines = clipped("a line\n".repeat(FILE_MAX));
        assert!(lines.len() <= FILE_MAX && lines.starts_with("a line\n"), "{}", lines.len());
    }
}
