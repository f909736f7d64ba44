//! Backends of the made-up cluster: it keeps what is applied.

use sheaf_model::view::BackendRow;
use sheaf_model::{BackendName, BackendSpec, Revision};
use sheaf_wire::backend::{ApplyBackend, BackendApi, DeleteBackend, GotBackend, ListBackends};
use sheaf_wire::{ApiError, Caller, Done, Page, async_trait};

use super::{Fake, page};

fn row(spec: &BackendSpec) -> BackendRow {
    BackendRow {
        name: spec.name.to_string(),
        state: "closed".to_owned(),
        running: 0,
        max_running: spec.max_running,
        rate: None,
        failures: 0,
        open_until: None,
        message: String::new(),
        revision: 1,
        labels: spec.labels.clone(),
        owner: spec.owner.clone(),
    }
}

#[async_trait]
impl BackendApi for Fake {
    async fn apply(&self, caller: Caller, ask: ApplyBackend) -> Result<Done, ApiError> {
        let unchanged = self.held().backends.contains(&ask.spec);
        if self.held().full && !unchanged {
            return Err(ApiError::Exhausted("there are too many backends".to_owned()));
        }
        if ask.validate_only {
            return Ok(Done { unchanged, ..Done::default() });
        }
        let revision = Revision(self.change(&caller, ask.request));
        let mut held = self.held();
        held.backends.retain(|known| known.name != ask.spec.name);
        held.backends.push(ask.spec);
        Ok(Done { revision, unchanged, ..Done::default() })
    }

    async fn list(&self, _: Caller, ask: ListBackends) -> Result<Page<BackendRow>, ApiError> {
        Ok(page(self.held().backends.iter().map(row).collect(), &ask.page))
    }

    async fn get(&self, _: Caller, ask: BackendName) -> Result<GotBackend, ApiError> {
        let spec = self.held().backends.iter().find(|known| known.name == ask).cloned();
        let spec = spec.ok_or_else(|| ApiError::NotFound(format!("there is no backend {ask}")))?;
        Ok(GotBackend { row: row(&spec), spec, jobs: Vec::new() })
    }

    async fn delete(&self, caller: Caller, ask: DeleteBackend) -> Result<Done, ApiError> {
        let revision = Revision(self.change(&caller, ask.request));
        self.held().backends.retain(|known| known.name != ask.name);
        Ok(Done { revision, ..Done::default() })
    }
}
