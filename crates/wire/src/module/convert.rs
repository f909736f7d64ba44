//! Questions and answers about modules, to and from messages.

use sheaf_model::artifact::BLOB_MAX;
use sheaf_model::view::{ArtifactOnNode, ArtifactStatus, Holds, ModuleOnNode, ModuleRow};
use sheaf_model::{Artifact, Bytes, Defect, Digest, FileName, ModuleName, ModuleRef, ModuleVersion, Shape};

use super::{ApplyModule, DeleteModule, FinishPush, GotModule, ListModules, PIECE_MAX, PushPiece, PushState};
use crate::change::page_of;
use crate::proto::v1;
use crate::spec::{module_answer, module_request, module_spec, read};
use crate::{ApiError, Caller, Filter, PAGE_MAX, Page};

const KEYS: &[&str] = &["name", "version", "runtime", "newest"];

pub(super) fn apply(message: v1::ApplyModuleRequest, caller: &Caller) -> Result<ApplyModule, ApiError> {
    let request = caller.request_id(message.request_id)?;
    let mut documents = read(vec![message.module], Vec::new())?;
    let module =
        documents.modules.pop().ok_or_else(|| ApiError::invalid("module", "missing", "a ModuleSpec"))?;
    Ok(ApplyModule { module, request, validate_only: message.validate_only })
}

impl From<ApplyModule> for v1::ApplyModuleRequest {
    fn from(ask: ApplyModule) -> Self {
        Self {
            module: Some(module_request(ask.module)),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
            validate_only: ask.validate_only,
        }
    }
}

/// Name and version, with the defects of both.
fn names(name: &str, version: &str) -> (Option<ModuleName>, Option<ModuleVersion>, Vec<Defect>) {
    let mut defects = Vec::new();
    let name = ModuleName::new(name).map_err(|e| defects.push(Defect::new("name", e.problem, e.remedy))).ok();
    let version = ModuleVersion::new(version)
        .map_err(|e| defects.push(Defect::new("version", e.problem, e.remedy)))
        .ok();
    (name, version, defects)
}

pub(super) fn get(message: &v1::GetModuleRequest) -> Result<ModuleRef, ApiError> {
    let newest = message.version.is_empty();
    match names(&message.name, if newest { "0" } else { &message.version }) {
        (Some(name), Some(version), _) => Ok(ModuleRef { name, version: (!newest).then_some(version) }),
        (_, _, defects) => Err(ApiError::Invalid(defects)),
    }
}

impl From<&ModuleRef> for v1::GetModuleRequest {
    fn from(module: &ModuleRef) -> Self {
        let version = module.version.as_ref().map(|version| version.as_str().to_owned());
        Self { name: module.name.as_str().to_owned(), version: version.unwrap_or_default() }
    }
}

impl From<GotModule> for v1::GetModuleResponse {
    fn from(got: GotModule) -> Self {
        Self {
            spec: Some(module_answer(got.spec)),
            row: Some(got.row.into()),
            artifact: got.artifact.map(Into::into),
            used_by: got.used_by,
            nodes: got.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::GetModuleResponse> for GotModule {
    type Error = ApiError;

    fn try_from(got: v1::GetModuleResponse) -> Result<Self, ApiError> {
        let row = got.row.ok_or_else(|| ApiError::Internal("the answer has no row".to_owned()))?;
        Ok(Self {
            spec: module_spec(got.spec)?,
            row: row.into(),
            artifact: got.artifact.map(Into::into),
            used_by: got.used_by,
            nodes: got.nodes.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<ModuleOnNode> for v1::ModuleOnNode {
    fn from(on: ModuleOnNode) -> Self {
        Self { node: on.node, version: on.version, state: on.state, instances: on.instances }
    }
}

impl From<v1::ModuleOnNode> for ModuleOnNode {
    fn from(on: v1::ModuleOnNode) -> Self {
        Self { node: on.node, version: on.version, state: on.state, instances: on.instances }
    }
}

impl From<ModuleRow> for v1::ModuleRow {
    fn from(row: ModuleRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            runtime: row.runtime,
            supports_multi_node: row.supports_multi_node,
            buckets: row.buckets,
            newest: row.newest,
            revision: row.revision,
        }
    }
}

impl From<v1::ModuleRow> for ModuleRow {
    fn from(row: v1::ModuleRow) -> Self {
        Self {
            name: row.name,
            version: row.version,
            runtime: row.runtime,
            supports_multi_node: row.supports_multi_node,
            buckets: row.buckets,
            newest: row.newest,
            revision: row.revision,
        }
    }
}

pub(super) fn list(message: v1::ListModulesRequest) -> Result<ListModules, ApiError> {
    Ok(ListModules {
        page: page_of(message.page_size, message.page_token, PAGE_MAX)?,
        filter: Filter::parse(&message.filter, KEYS).map_err(ApiError::Invalid)?,
    })
}

impl From<ListModules> for v1::ListModulesRequest {
    fn from(ask: ListModules) -> Self {
        Self { page_size: ask.page.size, page_token: ask.page.token, filter: ask.filter.to_string() }
    }
}

impl From<Page<ModuleRow>> for v1::ListModulesResponse {
    fn from(page: Page<ModuleRow>) -> Self {
        Self { modules: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl From<v1::ListModulesResponse> for Page<ModuleRow> {
    fn from(page: v1::ListModulesResponse) -> Self {
        Self { rows: page.modules.into_iter().map(Into::into).collect(), next: page.next_page_token }
    }
}

pub(super) fn delete(message: v1::DeleteModuleRequest, caller: &Caller) -> Result<DeleteModule, ApiError> {
    match names(&message.name, &message.version) {
        (Some(name), Some(version), _) => {
            Ok(DeleteModule { name, version, request: caller.request_id(message.request_id)? })
        }
        (_, _, defects) => Err(ApiError::Invalid(defects)),
    }
}

impl From<DeleteModule> for v1::DeleteModuleRequest {
    fn from(ask: DeleteModule) -> Self {
        Self {
            name: ask.name.as_str().to_owned(),
            version: ask.version.as_str().to_owned(),
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

impl From<ArtifactStatus> for v1::ArtifactStatus {
    fn from(it: ArtifactStatus) -> Self {
        let ArtifactStatus { digest, size, file, revision, nodes } = it;
        let on = |on: ArtifactOnNode| v1::ArtifactOnNode {
            node: on.node,
            voter: on.voter,
            percent: on.percent,
            state: v1::artifact_on_node::Holds::from(on.state).into(),
        };
        Self { digest, size, file, revision, nodes: nodes.into_iter().map(on).collect() }
    }
}

impl From<v1::ArtifactStatus> for ArtifactStatus {
    fn from(it: v1::ArtifactStatus) -> Self {
        let v1::ArtifactStatus { digest, size, file, revision, nodes } = it;
        let on = |on: v1::ArtifactOnNode| ArtifactOnNode {
            state: on.state().into(),
            node: on.node,
            voter: on.voter,
            percent: on.percent,
        };
        Self { digest, size, file, revision, nodes: nodes.into_iter().map(on).collect() }
    }
}

impl From<Holds> for v1::artifact_on_node::Holds {
    fn from(it: Holds) -> Self {
        match it {
            Holds::Held => Self::Held,
            Holds::Cached => Self::Cached,
            Holds::Fetching => Self::Fetching,
            Holds::Missing => Self::Missing,
        }
    }
}

impl From<v1::artifact_on_node::Holds> for Holds {
    fn from(it: v1::artifact_on_node::Holds) -> Self {
        use v1::artifact_on_node::Holds as Word;
        match it {
            Word::Held => Self::Held,
            Word::Cached => Self::Cached,
            Word::Fetching => Self::Fetching,
            Word::Missing | Word::Unspecified => Self::Missing,
        }
    }
}

/// Reads which archive belongs to which version, with all that is wrong with it.
pub(super) fn artifact(message: Option<v1::ArtifactSpec>) -> Result<Artifact, ApiError> {
    let it = message.ok_or_else(|| ApiError::invalid("artifact", "missing", "an ArtifactSpec"))?;
    let (name, version, mut defects) = names(&it.name, &it.version);
    let mut wrong = |field: &str, problem: String, remedy: String| {
        defects.push(Defect::new(format!("artifact.{field}"), problem, remedy));
    };
    let digest = it.digest.parse::<Digest>();
    if let Err(error) = digest {
        wrong("digest", format!("{:?} is no digest", it.digest), error.to_string());
    }
    if it.size == 0 || it.size > BLOB_MAX {
        wrong("size", format!("{} bytes", it.size), format!("from 1 byte to {}", Bytes(BLOB_MAX)));
    }
    let shape = match it.file.as_str() {
        "" => Some(Shape::Directory),
        file => match FileName::new(file) {
            Ok(name) => Some(Shape::File(name)),
            Err(error) => {
                wrong("file", error.problem, error.remedy);
                None
            }
        },
    };
    match (name, version, digest, shape) {
        (Some(name), Some(version), Ok(digest), Some(shape)) if defects.is_empty() => {
            let module = ModuleRef { name, version: Some(version) };
            Ok(Artifact { module, digest, size: it.size, shape })
        }
        _ => Err(ApiError::Invalid(defects)),
    }
}

impl From<&Artifact> for v1::ArtifactSpec {
    fn from(it: &Artifact) -> Self {
        Self {
            name: it.module.name.to_string(),
            version: it.module.version.as_ref().map(ToString::to_string).unwrap_or_default(),
            digest: it.digest.to_string(),
            size: it.size,
            file: it.shape.file().to_owned(),
        }
    }
}

pub(super) fn piece(message: v1::PushPieceRequest) -> Result<PushPiece, ApiError> {
    if message.data.len() > PIECE_MAX {
        let problem = format!("{} bytes", message.data.len());
        return Err(ApiError::invalid("data", problem, format!("at most {PIECE_MAX} bytes")));
    }
    Ok(PushPiece { artifact: artifact(message.artifact)?, offset: message.offset, data: message.data })
}

impl From<PushPiece> for v1::PushPieceRequest {
    fn from(ask: PushPiece) -> Self {
        Self { artifact: Some((&ask.artifact).into()), offset: ask.offset, data: ask.data }
    }
}

pub(super) fn finish(message: v1::FinishPushRequest, caller: &Caller) -> Result<FinishPush, ApiError> {
    let request = caller.request_id(message.request_id)?;
    Ok(FinishPush { artifact: artifact(message.artifact)?, request })
}

impl From<FinishPush> for v1::FinishPushRequest {
    fn from(ask: FinishPush) -> Self {
        let request_id = ask.request.map(|id| id.0).unwrap_or_default();
        Self { artifact: Some((&ask.artifact).into()), request_id }
    }
}

impl From<PushState> for v1::PushResponse {
    fn from(it: PushState) -> Self {
        Self { received: it.received, registered: it.registered }
    }
}

impl From<v1::PushResponse> for PushState {
    fn from(it: v1::PushResponse) -> Self {
        Self { received: it.received, registered: it.registered }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> v1::ArtifactSpec {
        let digest = Digest([0xab; 32]).to_string();
        let (name, version) = ("flume".to_owned(), "1.11.0".to_owned());
        v1::ArtifactSpec { name, version, digest, size: 2048, file: "run.sh".to_owned() }
    }

    fn problems(change: impl FnOnce(&mut v1::ArtifactSpec)) -> String {
        let mut spec = spec();
        change(&mut spec);
        artifact(Some(spec)).unwrap_err().to_string()
    }

    #[test]
    fn an_artifact_reads_back() {
        let read = artifact(Some(spec())).unwrap();
        assert_eq!(read.shape.file(), "run.sh");
        assert_eq!(v1::ArtifactSpec::from(&read), spec());
        let directory = v1::ArtifactSpec { file: String::new(), ..spec() };
        assert_eq!(artifact(Some(directory)).unwrap().shape, Shape::Directory);
    }

    #[test]
    fn everything_that_is_wrong_with_an_artifact_is_said_at_once() {
        let said = problems(|it| {
            it.digest = "ab".to_owned();
            it.size = 0;
            it.file = "../run.sh".to_owned();
        });
        for part in [
            "artifact.digest",
            "64 hexadecimal digits",
            "artifact.size",
            "from 1 byte to 2GiB",
            "artifact.file",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(problems(|it| it.version.clear()).contains("version"));
        assert!(problems(|it| it.size = BLOB_MAX + 1).contains("artifact.size"));
        assert!(artifact(None).unwrap_err().to_string().contains("artifact: missing"));
    }

    #[test]
    fn a_piece_has_a_longest() {
        let of = |length: usize| v1::PushPieceRequest {
            artifact: Some(spec()),
            offset: 7,
            data: vec![0; length].into(),
        };
        assert_eq!(piece(of(PIECE_MAX)).unwrap().offset, 7);
        assert!(piece(of(PIECE_MAX + 1)).unwrap_err().to_string().contains("at most 4194304 bytes"));
    }

    #[test]
    fn where_an_artifact_is_reads_back() {
        let on = |node: &str, voter, percent, state| ArtifactOnNode {
            node: node.to_owned(),
            voter,
            percent,
            state,
        };
        let status = ArtifactStatus {
            digest: Digest([1; 32]).to_string(),
            size: 9,
            file: String::new(),
            revision: 4,
            nodes: vec![
                on("a", true, 100, Holds::Held),
                on("b", false, 100, Holds::Cached),
                on("c", false, 40, Holds::Fetching),
                on("d", true, 0, Holds::Missing),
            ],
        };
        assert_eq!(ArtifactStatus::from(v1::ArtifactStatus::from(status.clone())), status);
    }
}
