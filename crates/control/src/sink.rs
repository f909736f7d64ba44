//! Sinks: `sheaf.v1.SinkService`, and what delivers history to them.
//!
//! ```text
//!  history in SQLite ──Reader::ahead, from the cursor──► line, one for each sink ──► hand ──► webhook, smtp, exec
//!                                                         │  ▲ backoff               (secrets opened for each try)
//!                                                         ▼  └── fails
//!                                  Command::Sink(Record): the cursor, once a second at most
//! ```
//!
//! The leader delivers, and nobody else: there is one at a time, what it has applied is agreed on, and the cursor that it
//! records carries its term, so that one that was deposed moves nothing. Where mail servers or programs are within reach of
//! some nodes only, those are the nodes that should vote. A new leader goes on at the cursor: what was delivered since the
//! last record is delivered once more, under the same ids and in the same order.
//!
//! Read `courier` (which lines run), `line`, then `hand`, and what it does: `body`, `webhook`, `digest`, `letter`, `smtp`,
//! `exec`; `undelivered` is everything that can go wrong.

mod board;
mod body;
mod courier;
mod digest;
mod exec;
mod hand;
mod letter;
mod line;
mod smtp;
mod undelivered;
mod webhook;

use std::sync::Arc;
use std::time::Instant;

use sheaf_engine::sink::Sink;
use sheaf_engine::{Command, SinkCommand, State};
use sheaf_model::view::SinkRow;
use sheaf_model::{Deliverable, Event, SinkName, SinkSpec, Span, Timestamp};
use sheaf_wire::sink::{ApplySink, DeleteSink, GotSink, ListSinks, SinkApi, TestedSink};
use sheaf_wire::{ApiError, Caller, Done, Page, async_trait};

pub(crate) use board::Board;
pub(crate) use exec::Programs;
pub use exec::StartProgram;

use crate::Control;
use crate::filter::{label, page, selects};
use crate::propose::checked;
use board::Standing;
use hand::Hand;

#[async_trait]
impl SinkApi for Control {
    async fn apply(&self, caller: Caller, ask: ApplySink) -> Result<Done, ApiError> {
        let ApplySink { spec, request, validate_only } = ask;
        let warnings = self.see_rows(|sight| warnings(&spec, sight.state))?;
        if validate_only {
            let found = self.see_rows(|sight| sheaf_engine::sink::check(sight.state, &spec))?;
            return checked(found).map(|done| Done { warnings, ..done });
        }
        let command = Command::Sink(SinkCommand::Put(Arc::new(spec)));
        let done = self.change(&caller, request, command).await?;
        Ok(Done { warnings, ..done })
    }

    async fn list(&self, caller: Caller, ask: ListSinks) -> Result<Page<SinkRow>, ApiError> {
        self.caught_up(&caller).await?;
        let now = self.clock.wall();
        let leads = self.place.leads();
        self.see_rows(|sight| {
            let token = ask.page.token.as_str();
            let after = sight.state.sinks.values().filter(|it| it.spec.name.as_str() > token);
            let rows = after.map(|sink| self.sink_row(sink, leads, now));
            let selected = rows.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, selected, |row| row.name.clone())
        })
    }

    async fn get(&self, caller: Caller, ask: SinkName) -> Result<GotSink, ApiError> {
        self.caught_up(&caller).await?;
        let now = self.clock.wall();
        let leads = self.place.leads();
        let got = self.see_rows(|sight| {
            let sink = sight.state.sinks.get(&ask)?;
            Some(GotSink { spec: (*sink.spec).clone(), row: self.sink_row(sink, leads, now) })
        })?;
        got.ok_or_else(|| no_sink(&ask))
    }

    async fn test(&self, caller: Caller, ask: SinkName) -> Result<TestedSink, ApiError> {
        let member = self.member()?;
        let (spec, revision) = {
            let state = member.replica.state();
            let sink = state.sinks.get(&ask).ok_or_else(|| no_sink(&ask))?;
            (sink.spec.clone(), state.revision)
        };
        let event = Event {
            revision,
            n: 0,
            step: None,
            at: self.clock.wall(),
            kind: "sink.test".to_owned(),
            subject: ask.to_string(),
            actor: caller.actor.to_string(),
            node: self.place.identity.name.to_string(),
            before: String::new(),
            after: String::new(),
            message: "a test: nothing has happened".to_owned(),
        };
        let hand = Hand::new(self.clone(), member, spec);
        let began = Instant::now();
        let outcome = Box::pin(hand.test(&Deliverable { event, end: None })).await;
        let took = Span(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let (delivered, message) = match outcome {
            Ok(said) => (true, said),
            Err(error) => (false, error.to_string()),
        };
        Ok(TestedSink { delivered, message, took, node: self.place.identity.name.to_string() })
    }

    async fn delete(&self, caller: Caller, ask: DeleteSink) -> Result<Done, ApiError> {
        self.change(&caller, ask.request, Command::Sink(SinkCommand::Delete(ask.name))).await
    }
}

impl Control {
    /// The same, which lets sinks run these programs on this node, by their absolute paths, and has them started so.
    #[must_use]
    pub fn letting_sinks_run(self, programs: Vec<String>, start: StartProgram) -> Self {
        Self { sink_programs: Programs { allowed: programs.into(), start }, ..self }
    }

    /// Events that each sink wants and has not got, while this node leads.
    pub fn sink_lags(&self) -> Vec<(String, u64)> {
        self.sinks.lags()
    }

    fn sink_row(&self, sink: &Sink, leads: bool, now: Timestamp) -> SinkRow {
        let standing = if leads { self.sinks.get(&sink.spec.name) } else { None };
        row(sink, standing.as_ref(), now)
    }
}

fn row(sink: &Sink, standing: Option<&Standing>, now: Timestamp) -> SinkRow {
    let spec = &sink.spec;
    let failing = sink.failing.as_ref();
    let lag = standing.map(|standing| standing.lag);
    let fails = failing.is_some() || standing.is_some_and(|standing| standing.failures > 0);
    let state = match lag {
        _ if spec.suspended => "suspended",
        _ if fails => "failing",
        Some(0) => "idle",
        Some(_) => "delivering",
        None => "active",
    };
    let error = standing.and_then(|standing| standing.error.clone());
    let oldest = standing.and_then(|standing| standing.oldest);
    SinkRow {
        name: spec.name.to_string(),
        target: spec.target.as_str().to_owned(),
        place: spec.target.place(),
        state: state.to_owned(),
        cursor: standing.map_or(sink.cursor, |standing| standing.place.max(sink.cursor)).0,
        lag_events: lag,
        lag_seconds: lag.map(|_| oldest.map_or(0, |at| now.0.saturating_sub(at.0) / 1000)),
        delivered: sink.delivered,
        last_success: sink.last_success.map(|at| at.to_string()),
        failing_since: failing.map(|failing| failing.since.to_string()),
        failures: failing.map_or(0, |it| it.failures).max(standing.map_or(0, |it| it.failures)),
        last_error: error.or_else(|| failing.map(|failing| failing.why.clone())).unwrap_or_default(),
        next_try: standing.and_then(|standing| standing.next_try).map(|at| at.to_string()),
        missed: sink.missed,
        missed_last: sink.missed_last.map(|(after, to)| format!("revisions {} to {to}", after.0 + 1)),
        revision: sink.revision.0,
        labels: spec.labels.clone(),
        owner: spec.owner.clone(),
    }
}

fn values(row: &SinkRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "target" => vec![row.target.clone()],
        "state" => vec![row.state.clone()],
        "owner" => row.owner.iter().cloned().collect(),
        key => label(&row.labels, key),
    }
}

/// What a sink names that nobody has set.
fn warnings(spec: &SinkSpec, state: &State) -> Vec<String> {
    let missing = spec.secrets().filter(|name| !state.secrets.contains_key(*name));
    let warning = |name| {
        let text = "does not exist; deliveries fail until you set it with";
        format!("Sink {}: secret {name} {text} `sheaf secret set {name}`", spec.name)
    };
    missing.map(warning).collect()
}

fn no_sink(name: &SinkName) -> ApiError {
    ApiError::NotFound(format!("there is no sink {name}"))
}

#[cfg(test)]
mod tests;
