//! Modules: `sheaf.v1.ModuleService`.

use std::cmp::Ordering;

use sheaf_engine::{Command, Module, State};
use sheaf_model::view::ModuleRow;
use sheaf_model::{Artifact, ModuleRef, ModuleVersion};
use sheaf_wire::cluster::Apply;
use sheaf_wire::module::{
    ApplyModule, DeleteModule, FinishPush, GotModule, ListModules, ModuleApi, PushPiece, PushState,
};
use sheaf_wire::{ApiError, Applied, Caller, Done, Page, async_trait};

use crate::Control;
use crate::filter::{page, selects};

mod places;

use places::Places;

#[async_trait]
impl ModuleApi for Control {
    async fn apply(&self, caller: Caller, ask: ApplyModule) -> Result<Applied, ApiError> {
        let ApplyModule { module, request, validate_only } = ask;
        let apply = Apply { modules: vec![module], request, validate_only, ..Apply::default() };
        self.apply_documents(&caller, apply).await
    }

    async fn get(&self, caller: Caller, ask: ModuleRef) -> Result<GotModule, ApiError> {
        self.caught_up(&caller).await?;
        let found = self.see_rows(|sight| {
            let module = match ask.version {
                Some(_) => sight.state.module(&ask),
                None => sight.state.newest(&ask.name),
            }?;
            let row = row(sight.state, module);
            let version = fixed(module);
            let buckets = sight.state.buckets_of(&version).map(|bucket| bucket.name().to_string());
            let used_by = buckets.chain(sight.state.jobs_of(&version).map(ToString::to_string)).collect();
            let (spec, nodes) = ((*module.spec).clone(), Vec::new());
            let got = GotModule { spec, row, artifact: None, used_by, nodes };
            Some((got, version, Places::seen(sight, &ask)))
        })?;
        let found = found.ok_or_else(|| ApiError::NotFound(format!("there is no module {ask}")))?;
        let (mut found, version, places) = found;
        found.nodes = self.rows_of(places).await?;
        found.artifact = self.artifact_status(&version).await?;
        Ok(found)
    }

    async fn list(&self, caller: Caller, ask: ListModules) -> Result<Page<ModuleRow>, ApiError> {
        self.caught_up(&caller).await?;
        self.see_rows(|sight| {
            let rows = (newest_first(sight.state).filter(|module| follows(module, &ask.page.token)))
                .map(|module| row(sight.state, module));
            let rows = rows.filter(|row| selects(&ask.filter, &|key| values(row, key)));
            page(&ask.page, rows, place)
        })
    }

    async fn begin_push(&self, _: Caller, ask: Artifact) -> Result<PushState, ApiError> {
        self.begin(&ask).await
    }

    async fn push_piece(&self, _: Caller, ask: PushPiece) -> Result<PushState, ApiError> {
        self.piece(ask).await
    }

    async fn finish_push(&self, caller: Caller, ask: FinishPush) -> Result<Done, ApiError> {
        self.finish(&caller, ask).await
    }

    async fn delete(&self, caller: Caller, ask: DeleteModule) -> Result<Done, ApiError> {
        let DeleteModule { name, version, request } = ask;
        let command = Command::DeleteModule(sheaf_engine::DeleteModule { name, version });
        self.change(&caller, request, command).await
    }
}

fn newest_first(state: &State) -> impl Iterator<Item = &Module> {
    state.modules.values().flat_map(|versions| {
        let mut modules: Vec<&Module> = versions.values().collect();
        modules.sort_by_key(|module| std::cmp::Reverse(module.spec.version.newness()));
        modules
    })
}

/// Whether a module comes after the one where a page ended, which need not be there any more.
fn follows(module: &Module, token: &str) -> bool {
    let Some((name, version)) = token.split_once('@') else { return true };
    match module.spec.name.as_str().cmp(name) {
        Ordering::Equal => {
            ModuleVersion::new(version).is_ok_and(|ended| module.spec.version.newness() < ended.newness())
        }
        other => other.is_gt(),
    }
}

fn place(row: &ModuleRow) -> String {
    format!("{}@{}", row.name, row.version)
}

/// As a bucket names it that is fixed to this version.
fn fixed(module: &Module) -> ModuleRef {
    ModuleRef { name: module.spec.name.clone(), version: Some(module.spec.version.clone()) }
}

fn row(state: &State, module: &Module) -> ModuleRow {
    let spec = &module.spec;
    let buckets = state.buckets_of(&fixed(module)).count();
    let newest = state.newest(&spec.name).is_some_and(|newest| newest.spec.version == spec.version);
    ModuleRow {
        name: spec.name.to_string(),
        version: spec.version.to_string(),
        runtime: spec.runtime.to_string(),
        supports_multi_node: spec.supports_multi_node,
        buckets: u32::try_from(buckets).unwrap_or(u32::MAX),
        newest,
        revision: module.revision.0,
    }
}

fn values(row: &ModuleRow, key: &str) -> Vec<String> {
    match key {
        "name" => vec![row.name.clone()],
        "version" => vec![row.version.clone()],
        "runtime" => vec![row.runtime.clone()],
        "newest" => vec![row.newest.to_string()],
        _ => Vec::new(),
    }
}
