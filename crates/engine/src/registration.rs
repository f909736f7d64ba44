//! What can be wrong with documents only against what is registered already. Used by apply and by `validate_only`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::{
    BucketName, BucketScope, BucketSpec, Defect, ModuleName, ModuleRef, ModuleSpec, ModuleVersion,
    NodeStatus, PutBucket, Revision, Runtime, Scope, SecretName, Template, TemplateName,
};

use crate::command::{Apply, Refusal};
use crate::state::State;

/// Modules of the same request, which count as registered.
pub(crate) type Batch<'a> = BTreeMap<(&'a ModuleName, &'a ModuleVersion), &'a ModuleSpec>;

/// Checks a whole request. The specs come back with their module's version fixed, in the order given.
///
/// All defects of all documents are refused at once; if there are none, all conflicts; if there are none, the
/// first change that is not possible as things stand.
pub fn check(state: &State, apply: &Apply) -> Result<Vec<BucketSpec>, Refusal> {
    let mut findings = Findings::default();
    let mut batch = Batch::new();
    for spec in &apply.modules {
        findings.module(state, spec);
        batch.insert((&spec.name, &spec.version), spec);
    }
    let specs = apply.buckets.iter().map(|put| findings.bucket(state, &batch, put)).collect();
    findings.refusal().map_or(Ok(specs), Err)
}

/// The module that each bucket of a request would be bound to if it were applied now, in the order given; none: the module
/// or its version is neither registered nor in the request.
pub fn modules_of<'a>(state: &'a State, apply: &'a Apply) -> Vec<Option<&'a ModuleSpec>> {
    let batch: Batch<'a> = apply.modules.iter().map(|spec| ((&spec.name, &spec.version), spec)).collect();
    let module = |put: &PutBucket| {
        let former = state.buckets.get(&put.spec.name).filter(|_| !put.latest);
        let keep = former.map(|bucket| &bucket.newest().spec.module);
        find_module(state, &batch, &put.spec.module, keep).ok()
    };
    apply.buckets.iter().map(module).collect()
}

/// The refusal of a change that was based on another revision.
pub fn moved_on(name: &BucketName, base: Revision, now: Revision) -> Refusal {
    if base == Revision(0) {
        return Refusal::Conflict(format!("bucket {name} exists already, at revision {now}"));
    }
    Refusal::Conflict(format!(
        "bucket {name} is at revision {now}, not at {base}; look at what changed (sheaf bucket history {name}) and \
         apply again"
    ))
}

#[derive(Default)]
struct Findings {
    defects: Vec<Defect>,
    conflicts: Vec<String>,
    impossible: Vec<String>,
}

impl Findings {
    fn refusal(self) -> Option<Refusal> {
        if !self.defects.is_empty() {
            let conflicts = self.conflicts.into_iter().map(|text| Defect::new("", text, ""));
            return Some(Refusal::Invalid(self.defects.into_iter().chain(conflicts).collect()));
        }
        if !self.conflicts.is_empty() {
            return Some(Refusal::Conflict(self.conflicts.join("\n")));
        }
        (!self.impossible.is_empty()).then(|| Refusal::Precondition(self.impossible.join("\n")))
    }

    fn module(&mut self, state: &State, spec: &ModuleSpec) {
        let known = state.modules.get(&spec.name).and_then(|versions| versions.get(&spec.version));
        if known.is_some_and(|known| *known.spec != *spec) {
            self.conflicts.push(format!(
                "module {}@{} is registered with other content, and a version never changes; give it a new version",
                spec.name, spec.version
            ));
        }
    }

    fn bucket(&mut self, state: &State, batch: &Batch<'_>, put: &PutBucket) -> BucketSpec {
        let mut spec = put.spec.clone();
        let former = state.buckets.get(&spec.name);
        let document = format!("Bucket {}", spec.name);
        match (put.base, former) {
            (None | Some(Revision(0)), None) => {}
            (Some(base), None) => {
                let text = format!("bucket {} does not exist, so it is not at revision {base}", spec.name);
                self.conflicts.push(text);
            }
            (Some(base), Some(bucket)) if base != bucket.revision => {
                self.conflicts.push(moved_on(&spec.name, base, bucket.revision).to_string());
            }
            _ => {}
        }
        let keep = former.map(|bucket| &bucket.newest().spec.module).filter(|_| !put.latest);
        if former.is_some_and(|bucket| bucket.trial.is_some()) {
            self.impossible
                .push(format!("bucket {} is a test that is under way; use another name", spec.name));
        }
        match find_module(state, batch, &spec.module, keep) {
            Ok(module) => {
                spec.module.version = Some(module.version.clone());
                let defects = against_module(&spec, module);
                self.defects.extend(defects.into_iter().map(|defect| defect.of(&document)));
            }
            Err(defect) => self.defects.push(defect.of(&document)),
        }
        if former.is_some_and(|bucket| bucket.current.spec.multi_node) && !spec.multi_node {
            self.end_of_multi_node(state, &spec.name);
        }
        spec
    }

    /// Ending multi-node needs every node's word; a node that cannot give it now is named.
    fn end_of_multi_node(&mut self, state: &State, name: &BucketName) {
        let unreachable: Vec<&str> = (state.nodes.values())
            .filter(|node| node.status == NodeStatus::Lost)
            .map(|node| node.facts.name.as_str())
            .collect();
        if !unreachable.is_empty() {
            self.impossible.push(format!(
                "bucket {name} cannot become single-node while {} may still run it; wait until they are back, vouch for \
                 those that are gone for good with {}, or use another name",
                unreachable.join(", "),
                unreachable.iter().map(|node| format!("`sheaf node forget {node}`")).collect::<Vec<_>>().join(" and ")
            ));
        }
    }
}

pub(crate) fn find_module<'a>(
    state: &'a State,
    batch: &Batch<'a>,
    wanted: &ModuleRef,
    former: Option<&ModuleRef>,
) -> Result<&'a ModuleSpec, Defect> {
    let versions = || {
        let registered = state.modules.get(&wanted.name).into_iter().flatten().map(|(_, m)| &*m.spec);
        let new = batch.iter().filter(|((name, _), _)| **name == wanted.name).map(|(_, spec)| *spec);
        registered.chain(new)
    };
    let kept = former.filter(|former| former.name == wanted.name).and_then(|former| former.version.as_ref());
    let found = match wanted.version.as_ref().or(kept) {
        Some(version) => versions().find(|spec| spec.version == *version),
        None => versions().max_by_key(|spec| spec.version.newness()),
    };
    found.ok_or_else(|| {
        let versions: BTreeSet<&ModuleVersion> = versions().map(|spec| &spec.version).collect();
        let known: Vec<&str> = if versions.is_empty() {
            state.modules.keys().map(ModuleName::as_str).take(20).collect()
        } else {
            versions.iter().map(|version| version.as_str()).collect()
        };
        let remedy = match (versions.is_empty(), known.is_empty()) {
            (_, true) => "register it first: sheaf module apply -f FILE".to_owned(),
            (true, false) => format!("registered modules: {}", known.join(", ")),
            (false, false) => format!("registered versions: {}", known.join(", ")),
        };
        Defect::new("module", format!("there is no module {wanted}"), remedy)
    })
}

/// What a bucket asks of its module that the module cannot give.
fn against_module(spec: &BucketSpec, module: &ModuleSpec) -> Vec<Defect> {
    let mut defects = Vec::new();
    if spec.multi_node && !module.supports_multi_node {
        defects.push(Defect::new(
            "multi_node",
            format!("module {}@{} says supports_multi_node: false", module.name, module.version),
            "multi_node: false, or another module",
        ));
    }
    if module.is_for_subtasks() {
        let (why, remedy) = match module.runtime {
            Runtime::Worker => ("it says worker: true", "a module without it"),
            Runtime::Builtin(_) => ("it takes subtasks", "a module of runtime exec or plugin"),
            _ => (
                "it names ${item}, ${job}, ${subtask} or ${attempt}",
                "a module that names the bucket, or neither",
            ),
        };
        defects.push(Defect::new(
            "module",
            format!("module {}@{} is for jobs: {why}", module.name, module.version),
            remedy,
        ));
        return defects;
    }
    defects.extend(unset(spec, module, "missing", |value| value.is_none()));
    defects.extend(no_secrets(spec, module));
    defects
}

/// What of the bucket's config its module names and is null, as `port:` with nothing behind it is: no template can be filled in
/// with that. Not looked at when documents are applied: earlier builds took such buckets, and their logs are applied again.
pub fn nulls(spec: &BucketSpec, module: &ModuleSpec) -> Vec<Defect> {
    let found =
        unset(spec, module, "its value is null", |value| value.is_some_and(serde_json::Value::is_null));
    found.into_iter().map(|defect| defect.of(format!("Bucket {}", spec.name))).collect()
}

/// What of the bucket's config its module names and `lacks` holds for; none: there is no such key. The problem is in words.
fn unset(
    spec: &BucketSpec,
    module: &ModuleSpec,
    problem: &str,
    lacks: impl Fn(Option<&serde_json::Value>) -> bool,
) -> Vec<Defect> {
    // Parsed only for modules that use it.
    let config = OnceCell::new();
    let mut places: BTreeMap<String, &'static str> = BTreeMap::new();
    for (place, template) in templates(module) {
        for name in template.names() {
            if let TemplateName::BucketConfig(path) = name
                && lacks(lookup(config.get_or_init(|| spec.config.value()), path))
            {
                places.entry(path.join(".")).or_insert(place);
            }
        }
    }
    let defect = |(path, place): (String, &str)| {
        let field = if path.is_empty() { "config".to_owned() } else { format!("config.{path}") };
        let (name, version) = (&module.name, &module.version);
        let problem = format!("{problem}; module {name}@{version} uses ${{bucket.{field}}} in its {place}");
        Defect::new(&field, problem, format!("set {field}"))
    };
    places.into_iter().map(defect).collect()
}

/// What the bucket's config says for names of secrets, and is none.
fn no_secrets(spec: &BucketSpec, module: &ModuleSpec) -> Vec<Defect> {
    let from_config = module.secrets.iter().filter(|entry| entry.literal().is_none());
    let wrong = from_config.filter_map(|entry| {
        let config = spec.config.value();
        let bucket = BucketScope { name: spec.name.as_str(), revision: Revision(0), config: &config };
        // One that is missing is told by the others.
        let text = entry.render(&Scope { bucket: Some(bucket), ..Scope::default() }).ok()?;
        let error = SecretName::new(&text).err()?;
        let module = format!("{}@{}", module.name, module.version);
        let problem = format!("module {module} takes the name of a secret from {entry}: {}", error.problem);
        Some(Defect::new("config", problem, error.remedy))
    });
    wrong.collect()
}

fn templates(module: &ModuleSpec) -> impl Iterator<Item = (&'static str, &Template)> {
    let exec = module.exec.iter().flat_map(|exec| {
        std::iter::once(("command", &exec.command))
            .chain(exec.args.iter().map(|template| ("args", template)))
            .chain(exec.env.values().map(|template| ("env", template)))
    });
    let checks = module.can_run_on_this_node.iter().flat_map(|check| check.kind.templates());
    let calls = module.life_cycle.values().flat_map(|it| &it.command);
    exec.chain(module.files.values().map(|template| ("files", template)))
        .chain(checks.map(|template| ("can_run_on_this_node", template)))
        .chain(calls.map(|template| ("life_cycle", template)))
        .chain(module.secrets.iter().map(|template| ("secrets", template)))
}

fn lookup<'a>(value: &'a serde_json::Value, path: &[String]) -> Option<&'a serde_json::Value> {
    path.iter().try_fold(value, |value, key| match value {
        serde_json::Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}
