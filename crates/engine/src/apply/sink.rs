//! Sinks: registered and deleted by people; their cursors moved by the leader, which delivers.

use std::sync::Arc;

use sheaf_model::{Revision, SINKS_MAX, SinkName, SinkSpec};

use super::{Line, Transaction};
use crate::change::Change;
use crate::command::{RecordSink, Refusal, Reply, SinkCommand, SinkOutcome};
use crate::sink::{Sink, SinkFailing};
use crate::state::State;

/// Characters kept of why a delivery failed.
const WHY_MAX: usize = 500;

/// Whether a sink could be registered; since which revision it is so already, if it is.
pub fn check(state: &State, spec: &SinkSpec) -> Result<Option<Revision>, Refusal> {
    match state.sinks.get(&spec.name) {
        Some(known) => Ok((*known.spec == *spec).then_some(known.revision)),
        None if state.sinks.len() >= SINKS_MAX => {
            Err(Refusal::Exhausted(format!("there are {SINKS_MAX} sinks already, which is the most")))
        }
        None => Ok(None),
    }
}

impl Transaction<'_> {
    pub(super) fn run_of_sinks(&mut self, command: &SinkCommand) -> Result<Reply, Refusal> {
        match command {
            SinkCommand::Put(spec) => self.put_sink(spec),
            SinkCommand::Delete(name) => self.delete_sink(name),
            SinkCommand::Record(record) => self.record_sink(record),
        }
    }

    /// What is registered anew keeps its cursor and how it stands.
    fn put_sink(&mut self, spec: &Arc<SinkSpec>) -> Result<Reply, Refusal> {
        if let Some(revision) = check(self.state, spec)? {
            return Ok(Reply::Unchanged(revision));
        }
        let former = self.state.sinks.get(&spec.name).cloned();
        let (spec, revision, at) = (spec.clone(), self.revision, self.proposal.at);
        let word = |spec: &SinkSpec| if spec.suspended { "suspended" } else { "active" };
        let line = Line::new("sink.applied", &spec.name);
        let line = line.went(former.as_ref().map_or("", |former| word(&former.spec)), word(&spec));
        let sink = match former {
            Some(former) => Sink { spec, revision, at, ..(*former).clone() },
            None => Sink {
                spec,
                revision,
                at,
                created: revision,
                cursor: revision,
                delivered: 0,
                last_success: None,
                failing: None,
                missed: 0,
                missed_last: None,
            },
        };
        self.put(Change::Sink(Arc::new(sink)));
        self.event(line);
        Ok(Reply::Done(self.revision))
    }

    fn delete_sink(&mut self, name: &SinkName) -> Result<Reply, Refusal> {
        if !self.state.sinks.contains_key(name) {
            return Err(Refusal::NotFound("sink".to_owned(), name.to_string()));
        }
        self.put(Change::SinkGone(name.clone()));
        self.event(Line::new("sink.deleted", name));
        Ok(Reply::Done(self.revision))
    }

    fn record_sink(&mut self, record: &RecordSink) -> Result<Reply, Refusal> {
        self.in_term(record.term)?;
        let name = &record.name;
        let Some(known) = self.state.sinks.get(name).filter(|sink| sink.created == record.created) else {
            return Err(Refusal::Stale(format!("sink {name} is deleted")));
        };
        if record.cursor < known.cursor || record.cursor > self.revision {
            return Err(Refusal::Stale(format!("the cursor of sink {name} is at {}", known.cursor)));
        }
        let now = self.proposal.at;
        let mut next = (**known).clone();
        next.cursor = record.cursor;
        next.delivered = next.delivered.saturating_add(record.delivered);
        let mut lines = Vec::new();
        if let Some((after, to)) = record.missed {
            next.missed = next.missed.saturating_add(1);
            next.missed_last = Some((after, to));
            let why =
                format!("history after revision {after} up to {to} was dropped before it was delivered");
            lines.push(Line::new("sink.missed", name).because(why));
        }
        match &record.outcome {
            SinkOutcome::Nothing => {}
            SinkOutcome::Delivered => {
                next.last_success = Some(now);
                if let Some(failing) = next.failing.take() {
                    let why = format!("it failed since {}", failing.since);
                    lines.push(Line::new("sink.recovered", name).went("failing", "active").because(why));
                }
            }
            SinkOutcome::Failed { failures, why } => {
                let why: String = why.chars().take(WHY_MAX).collect();
                if next.failing.is_none() {
                    lines.push(Line::new("sink.failing", name).went("active", "failing").because(&why));
                }
                let since = next.failing.map_or(now, |failing| failing.since);
                next.failing = Some(SinkFailing { since, failures: *failures, why });
            }
        }
        self.put(Change::Sink(Arc::new(next)));
        for line in lines {
            self.event(line);
        }
        Ok(Reply::Done(self.revision))
    }
}

#[cfg(test)]
mod tests;
