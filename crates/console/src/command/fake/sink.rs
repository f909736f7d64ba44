//! Sinks of the made-up cluster: it keeps what is applied, and delivers nothing.

use sheaf_model::view::SinkRow;
use sheaf_model::{Revision, SinkName, SinkSpec};
use sheaf_wire::sink::{ApplySink, DeleteSink, GotSink, ListSinks, SinkApi, TestedSink};
use sheaf_wire::{ApiError, Caller, Done, Page, async_trait};

use super::{Fake, page};

fn row(spec: &SinkSpec) -> SinkRow {
    SinkRow {
        name: spec.name.to_string(),
        target: spec.target.as_str().to_owned(),
        place: spec.target.place(),
        state: "idle".to_owned(),
        cursor: 0,
        lag_events: None,
        lag_seconds: None,
        delivered: 0,
        last_success: None,
        failing_since: None,
        failures: 0,
        last_error: String::new(),
        next_try: None,
        missed: 0,
        missed_last: None,
        revision: 1,
        labels: spec.labels.clone(),
        owner: spec.owner.clone(),
    }
}

#[async_trait]
impl SinkApi for Fake {
    async fn apply(&self, caller: Caller, ask: ApplySink) -> Result<Done, ApiError> {
        let unchanged = self.held().sinks.contains(&ask.spec);
        if self.held().full && !unchanged {
            return Err(ApiError::Exhausted("there are too many sinks".to_owned()));
        }
        if ask.validate_only {
            return Ok(Done { unchanged, ..Done::default() });
        }
        let revision = Revision(self.change(&caller, ask.request));
        let mut held = self.held();
        held.sinks.retain(|known| known.name != ask.spec.name);
        held.sinks.push(ask.spec);
        let warnings = vec!["nobody sees to it".to_owned()];
        Ok(Done { revision, unchanged, warnings })
    }

    async fn list(&self, _: Caller, ask: ListSinks) -> Result<Page<SinkRow>, ApiError> {
        Ok(page(self.held().sinks.iter().map(row).collect(), &ask.page))
    }

    async fn get(&self, _: Caller, ask: SinkName) -> Result<GotSink, ApiError> {
        let spec = self.held().sinks.iter().find(|known| known.name == ask).cloned();
        let spec = spec.ok_or_else(|| ApiError::NotFound(format!("there is no sink {ask}")))?;
        Ok(GotSink { row: row(&spec), spec })
    }

    async fn test(&self, _: Caller, ask: SinkName) -> Result<TestedSink, ApiError> {
        Err(ApiError::NotFound(format!("there is no sink {ask}")))
    }

    async fn delete(&self, caller: Caller, ask: DeleteSink) -> Result<Done, ApiError> {
        let revision = Revision(self.change(&caller, ask.request));
        self.held().sinks.retain(|known| known.name != ask.name);
        Ok(Done { revision, ..Done::default() })
    }
}
