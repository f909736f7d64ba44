//! Backends: registered and deleted by people; opened and closed by how subtasks go that were sent to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_model::{BackendName, BackendSpec, Revision, Span, Timestamp};

use super::{Line, Transaction};
use crate::backend::{Backend, Opened};
use crate::change::Change;
use crate::command::{Refusal, Reply};
use crate::state::State;

/// Most backends of a cluster.
const BACKENDS_MAX: usize = 1_000;
/// A backend cannot ask to be left alone for longer.
const PAUSE_MAX: Span = Span::seconds(3600);
/// Names shown in a refusal.
const SHOWN: usize = 10;

/// Whether a backend could be registered; since which revision it is so already, if it is.
pub fn check(state: &State, spec: &BackendSpec) -> Result<Option<Revision>, Refusal> {
    match state.backends.get(&spec.name) {
        Some(known) => Ok((*known.spec == *spec).then_some(known.revision)),
        None if state.backends.len() >= BACKENDS_MAX => {
            Err(Refusal::Exhausted(format!("there are {BACKENDS_MAX} backends already, which is the most")))
        }
        None => Ok(None),
    }
}

impl Transaction<'_> {
    /// What is registered anew keeps how it stands.
    pub(super) fn put_backend(&mut self, spec: &Arc<BackendSpec>) -> Result<Reply, Refusal> {
        if let Some(revision) = check(self.state, spec)? {
            return Ok(Reply::Unchanged(revision));
        }
        let former = self.state.backends.get(&spec.name);
        let backend = Backend {
            spec: spec.clone(),
            revision: self.revision,
            at: self.proposal.at,
            failures: former.map_or(0, |former| former.failures),
            opened: former.and_then(|former| former.opened.clone()),
        };
        let kind = if former.is_some() { "backend.changed" } else { "backend.created" };
        self.put(Change::Backend(Arc::new(backend)));
        self.event(Line::new(kind, &spec.name));
        Ok(Reply::Done(self.revision))
    }

    pub(super) fn delete_backend(&mut self, name: &BackendName) -> Result<Reply, Refusal> {
        if !self.state.backends.contains_key(name) {
            return Err(Refusal::NotFound("backend".to_owned(), name.to_string()));
        }
        let users = self.state.jobs_through(name);
        if !users.is_empty() {
            let more = users.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            let shown: Vec<&str> = users.iter().take(SHOWN).map(String::as_str).collect();
            return Err(Refusal::Precondition(format!(
                "backend {name} is used by jobs that are not over: {}{more}; cancel these first, or wait for their end",
                shown.join(", ")
            )));
        }
        self.put(Change::BackendGone(name.clone()));
        self.event(Line::new("backend.deleted", name));
        Ok(Reply::Done(self.revision))
    }

    /// A subtask that was sent through a backend has ended well.
    pub(super) fn backend_did(&mut self, name: &BackendName) {
        let Some(known) = self.state.backends.get(name) else { return };
        // What was sent before it opened says nothing of how it is now.
        if known.is_open(self.proposal.at) || (known.failures == 0 && known.opened.is_none()) {
            return;
        }
        let was_open = known.opened.is_some();
        let closed = Backend { failures: 0, opened: None, ..(**known).clone() };
        self.put(Change::Backend(Arc::new(closed)));
        if was_open {
            self.event(Line::new("backend.closed", name).went("open", "closed"));
        }
    }

    /// A backend has refused or failed a subtask.
    pub(super) fn backend_failed(&mut self, name: &BackendName, why: &str) {
        let Some(known) = self.state.backends.get(name) else { return };
        let now = self.proposal.at;
        if known.is_open(now) {
            return; // what was sent before it opened
        }
        let mut next = (**known).clone();
        next.failures = next.failures.saturating_add(1);
        let breaker = next.spec.breaker;
        // Once open, the first one that fails opens it again.
        let tried = next.opened.as_ref().is_some_and(|opened| opened.times > 0);
        let opens = breaker.failures > 0 && (tried || next.failures >= breaker.failures);
        if opens {
            let times = next.opened.as_ref().map_or(0, |opened| opened.times).saturating_add(1);
            let doubled = 1_u64.checked_shl(times - 1).unwrap_or(u64::MAX);
            let pause = breaker.pause_min.0.saturating_mul(doubled).min(breaker.pause_max.0);
            let until = Timestamp(now.0.saturating_add(pause));
            next.opened = Some(Opened { until, times, why: clipped(why) });
        }
        let (failures, until) = (next.failures, next.opened.as_ref().map(|opened| opened.until));
        self.put(Change::Backend(Arc::new(next)));
        if let Some(until) = until.filter(|_| opens) {
            let why = format!("{failures} failures in a row, until {until}: {}", clipped(why));
            self.event(Line::new("backend.opened", name).went("closed", "open").because(why));
        }
    }

    /// A backend asks to be left alone for so long. It is not broken: after that it takes as many as ever.
    pub(super) fn backend_pauses(&mut self, name: &BackendName, pause: Span, why: &str) {
        let Some(known) = self.state.backends.get(name) else { return };
        let until = Timestamp(self.proposal.at.0.saturating_add(pause.0.min(PAUSE_MAX.0)));
        if known.opened.as_ref().is_some_and(|opened| opened.until >= until) {
            return;
        }
        let mut next = (**known).clone();
        let times = next.opened.as_ref().map_or(0, |opened| opened.times);
        let news = !next.is_open(self.proposal.at);
        next.opened = Some(Opened { until, times, why: clipped(why) });
        self.put(Change::Backend(Arc::new(next)));
        if news {
            let why = format!("it asks to be left alone until {until}: {}", clipped(why));
            self.event(Line::new("backend.paused", name).went("closed", "open").because(why));
        }
    }
}

/// The last line of a message, and not too much of it.
fn clipped(message: &str) -> String {
    let line = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.trim().chars().take(200).collect()
}

impl State {
    /// Jobs that are not over, or whose submit is under way, and that name a backend.
    pub fn jobs_through(&self, name: &BackendName) -> BTreeSet<String> {
        let jobs = self.jobs.iter().filter(|job| !job.state().is_over()).map(|job| &job.spec);
        let all = jobs.chain(self.jobs.submits().map(|submit| &submit.spec));
        all.filter(|spec| spec.backends.contains(name)).map(|spec| spec.name.to_string()).collect()
    }
}

#[cfg(test)]
mod tests;
