//! Backends: `sheaf.v1.BackendService`, and how many subtasks each takes now.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engine::backend::{Backend, Pace};
use sheaf_engine::{Command, Job, State};
use sheaf_model::view::BackendRow;
use sheaf_model::{BackendName, Defect, JobSpec, Timestamp};
use sheaf_wire::backend::{ApplyBackend, BackendApi, DeleteBackend, GotBackend, ListBackends};
use sheaf_wire::{ApiError, Caller, Done, Page, async_trait};

use crate::Control;
use crate::filter::{label, page, selects};
use crate::propose::checked;

/// Names shown where one is not known.
const SHOWN: usize = 20;

#[async_trait]
impl BackendApi for Control {
    async fn apply(&self, caller: Caller, ask: ApplyBackend) -> Result<Done, ApiError> {
        let ApplyBackend { spec, request, validate_only } = ask;
        if validate_only {
            return checked(self.see_rows(|sight| sheaf_engine::backend::check(sight.state, &spec))?);
        }
        self.change(&caller, request, Command::PutBackend(Arc::new(spec))).await
    }

    async fn list(&self, caller: Caller, ask: ListBackends) -> Result<Page<BackendRow>, ApiError> {
        self.caught_up(&caller).await?;
        let now = self.clock.wall();
        self.see_rows(|sight| {
            let token = ask.page.token.as_str();
            let after = sight.state.backends.values().filter(|it| it.spec.name.as_str() > token);
            let rows = after.map(|backend| row(sight.state, backend, now));
            let selected = rows.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, selected, |row| row.name.clone())
        })
    }

    async fn get(&self, caller: Caller, ask: BackendName) -> Result<GotBackend, ApiError> {
        self.caught_up(&caller).await?;
        let now = self.clock.wall();
        let got = self.see_rows(|sight| {
            let backend = sight.state.backends.get(&ask)?;
            let jobs = sight.state.jobs_through(&ask).into_iter().collect();
            Some(GotBackend { spec: (*backend.spec).clone(), row: row(sight.state, backend, now), jobs })
        })?;
        got.ok_or_else(|| ApiError::NotFound(format!("there is no backend {ask}")))
    }

    async fn delete(&self, caller: Caller, ask: DeleteBackend) -> Result<Done, ApiError> {
        self.change(&caller, ask.request, Command::DeleteBackend(ask.name)).await
    }
}

fn row(state: &State, backend: &Backend, now: Timestamp) -> BackendRow {
    let spec = &backend.spec;
    let word = match &backend.opened {
        None => "closed",
        Some(_) if backend.is_open(now) => "open",
        // It only asked to be left alone for a while.
        Some(opened) if opened.times == 0 => "closed",
        Some(_) => "trying",
    };
    let rate = spec.rate.map(|rate| rate.to_string());
    BackendRow {
        name: spec.name.to_string(),
        state: word.to_owned(),
        running: state.jobs.on_backend(&spec.name),
        max_running: spec.max_running,
        rate,
        failures: backend.failures,
        open_until: backend.opened.as_ref().filter(|it| now < it.until).map(|it| it.until.to_string()),
        message: backend.opened.as_ref().map(|it| it.why.clone()).unwrap_or_default(),
        revision: backend.revision.0,
        labels: spec.labels.clone(),
        owner: spec.owner.clone(),
    }
}

fn values(row: &BackendRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "state" => vec![row.state.clone()],
        "owner" => row.owner.iter().cloned().collect(),
        key => label(&row.labels, key),
    }
}

/// Backends that a job names and nobody has registered.
pub(crate) fn unknown(spec: &JobSpec, state: &State) -> Vec<Defect> {
    let missing = spec.backends.iter().enumerate().filter(|(_, name)| !state.backends.contains_key(*name));
    let known: Vec<&str> = state.backends.keys().take(SHOWN).map(BackendName::as_str).collect();
    let remedy = match known.as_slice() {
        [] => "register it first: sheaf backend apply -f FILE".to_owned(),
        known => format!("one of {}", known.join(", ")),
    };
    missing
        .map(|(n, name)| {
            Defect::new(format!("backends[{n}]"), format!("there is no backend {name}"), remedy.clone())
        })
        .collect()
}

/// What the leader remembers of rates.
#[derive(Debug, Default)]
pub(crate) struct Paces(BTreeMap<BackendName, Pace>);

impl Paces {
    /// How many more subtasks each backend takes now.
    pub(crate) fn rooms(&mut self, state: &State, now: Timestamp) -> BTreeMap<BackendName, u32> {
        self.0.retain(|name, _| state.backends.contains_key(name));
        let room = |(name, backend): (&BackendName, &Arc<Backend>)| {
            let pace = self.pace(backend, now);
            (name.clone(), backend.room(state.jobs.on_backend(name), pace, now))
        };
        state.backends.iter().map(room).collect()
    }

    fn pace(&mut self, backend: &Backend, now: Timestamp) -> u32 {
        let Some(rate) = backend.spec.rate else { return u32::MAX };
        self.0.entry(backend.spec.name.clone()).or_insert_with(|| Pace::new(rate, now)).fill(rate, now)
    }

    /// So many were granted through one.
    pub(crate) fn took(&mut self, name: &BackendName, count: u32) {
        if let Some(pace) = self.0.get_mut(name) {
            pace.took(count);
        }
    }

    /// Why a job's backends take nothing of it now, a line for each; empty: one does, or it needs none.
    pub(crate) fn why_not(&mut self, job: &Job, state: &State, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for name in &job.spec.backends {
            let why = match state.backends.get(name) {
                None => Some(format!("there is no backend {name}")),
                Some(backend) => {
                    let pace = self.pace(backend, now);
                    backend.why_not(state.jobs.on_backend(name), pace, now)
                }
            };
            match why {
                Some(why) => lines.push(why),
                None => return Vec::new(),
            }
        }
        lines
    }
}
