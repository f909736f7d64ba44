//! From what is to be started to what a keeper needs: everything rendered.

use std::collections::BTreeMap;
use std::path::Path;

use sheaf_engine::gates::Here;
use sheaf_engine::keep::Lease;
use sheaf_engine::node::Start;
use sheaf_engine::reconcile::Mode;
use sheaf_model::{
    BootId, BucketName, BucketScope, BucketSpec, Bytes, Call, FileName, LifeCycleCall, ModuleSpec, NodeName,
    Piece, RenderError, Restart, RestartWhen, Revision, Runtime, Scope, Span, Trial,
};

use crate::keeper::{Commands, Confided, Confidential, Confine, OutputLimits, Plan, Plugin};

/// A plugin is given longer than its test may take before its keeper gives it up: who asked for the test ends it in time.
const TEST_LONGER: Span = Span::seconds(10);

/// Why an instance cannot be started as its documents stand. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A template has no value here.
    #[error("{place}: {source}")]
    Render {
        /// Where the template stands.
        place: String,
        /// What is missing.
        source: RenderError,
    },
    /// The module does not say what to run.
    #[error("module {0} says nothing to execute")]
    NoExec(String),
    /// A single-node start without a lease. The node never asks for one.
    #[error("there is no lease")]
    NoLease,
}

/// What all plans of a node share.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) node: &'a NodeName,
    pub(crate) boot: &'a BootId,
    /// `${dir}`, where the rendered files are too.
    pub(crate) dir: &'a Path,
    /// `${sheaf}`.
    pub(crate) binary: &'a str,
}

/// Renders the plan of a start.
pub(super) fn plan(start: &Start, place: &Place<'_>) -> Result<Plan, PlanError> {
    let module = &start.module;
    let lease = match (start.mode, start.until) {
        (Mode::Multi(from), _) => Lease::Multi { from },
        (Mode::Single(epoch), Some(until)) => Lease::Single { epoch, boot: place.boot.clone(), until },
        (Mode::Single(_), None) => return Err(PlanError::NoLease),
    };
    let plugin = || Plugin::Instance(Box::new(instance(start, place)));
    let config = start.bucket.config.value();
    let dir = place.dir.to_string_lossy();
    let scope = Scope {
        bucket: Some(BucketScope {
            name: start.bucket.name.as_str(),
            revision: start.origin.revision,
            config: &config,
        }),
        node_name: &start.here.name,
        node_hostname: &start.here.hostname,
        node_labels: &start.here.labels,
        dir: Some(&dir),
        files: Some(&dir),
        sheaf: place.binary,
        artifact: start.artifact.as_deref(),
        subtask: None,
    };
    let mut rendered = render(module, &scope)?;
    let mut lines = if module.runtime == Runtime::Exec { lines(module, &scope)? } else { BTreeMap::new() };
    let test = lines.remove(&Call::TestSource);
    let mut limits: BTreeMap<Call, Span> =
        module.life_cycle.iter().filter_map(|(call, it)| Some((*call, it.timeout?))).collect();
    let mut restart = module.restart;
    if let Some(trial) = &start.trial {
        // Apart from the real bucket: nothing is done at its end that the real one's might notice.
        lines.clear();
        rendered.tries(trial, test.as_deref());
        limits.insert(Call::TestSource, Span(trial.max_time.0.saturating_add(TEST_LONGER.0)));
        restart.policy = RestartWhen::Never;
    }
    let commands = (!lines.is_empty())
        .then(|| Box::new(Commands { bucket: bucket(&start.bucket, start.origin.revision), lines }));
    Ok(Plan {
        bucket: start.bucket.name.clone(),
        node: place.node.clone(),
        revision: start.origin.revision,
        basis: start.origin.basis,
        lease,
        program: rendered.program,
        args: rendered.args,
        env: rendered.env,
        files: rendered.files,
        confidential: rendered.confidential,
        stop: module.stop,
        restart,
        output: OutputLimits::default(),
        restarts: 0,
        recent: Vec::new(),
        plugin: (module.runtime == Runtime::Plugin).then(plugin),
        commands,
        limits,
        farewell: None,
        confine: confine(module),
        trial: start.trial,
    })
}

/// The commands that tell the program of its life.
fn lines(module: &ModuleSpec, scope: &Scope<'_>) -> Result<BTreeMap<Call, Vec<String>>, PlanError> {
    let line = |(call, it): (&Call, &LifeCycleCall)| {
        let words = it.command.iter().enumerate().map(|(index, word)| {
            let place = format!("life_cycle.{}.command[{index}]", call.as_str());
            word.render(scope).map_err(|source| PlanError::Render { place, source })
        });
        Ok((*call, words.collect::<Result<_, _>>()?))
    };
    module.life_cycle.iter().map(line).collect()
}

/// The plan of a process that is asked gate 3 of a plugin: of no bucket, and never started again by its keeper. It is given no
/// secrets: what is to have some is left out by whoever spawns it.
pub(crate) fn gate(
    module: &ModuleSpec,
    name: BucketName,
    here: &Here,
    artifact: Option<&str>,
    place: &Place<'_>,
) -> Result<Plan, PlanError> {
    let dir = place.dir.to_string_lossy();
    let scope = Scope {
        bucket: None,
        node_name: &here.name,
        node_hostname: &here.hostname,
        node_labels: &here.labels,
        dir: Some(&dir),
        files: Some(&dir),
        sheaf: place.binary,
        artifact,
        subtask: None,
    };
    let rendered = render(module, &scope)?;
    Ok(Plan {
        bucket: name,
        node: place.node.clone(),
        revision: Revision(1),
        basis: Revision(1),
        lease: Lease::Multi { from: Revision(1) },
        program: rendered.program,
        args: rendered.args,
        env: rendered.env,
        files: rendered.files,
        confidential: rendered.confidential,
        stop: module.stop,
        restart: Restart { policy: RestartWhen::Never, ..module.restart },
        output: OutputLimits { file: Bytes(1 << 20), files: 2 },
        restarts: 0,
        recent: Vec::new(),
        plugin: Some(Plugin::Gate),
        commands: None,
        limits: BTreeMap::new(),
        farewell: None,
        confine: confine(module),
        trial: None,
    })
}

fn confine(module: &ModuleSpec) -> Confine {
    Confine { limits: module.limits.clone(), user: module.user.clone() }
}

/// A module's templates, filled in.
struct Rendered {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    files: Vec<(FileName, String)>,
    confidential: Vec<Confidential>,
}

impl Rendered {
    /// What is run in a trial: the module's own command for it, if there is one, else what it always runs. Either is told
    /// what is asked for.
    fn tries(&mut self, trial: &Trial, command: Option<&[String]>) {
        if let Some((program, args)) = command.and_then(<[String]>::split_first) {
            (self.program, self.args) = (program.clone(), args.to_vec());
        }
        self.env.push(("SHEAF_TEST_MAX_OBJECTS".to_owned(), trial.max_objects.to_string()));
        self.env.push(("SHEAF_TEST_MAX_TIME_MS".to_owned(), trial.max_time.0.to_string()));
    }
}

fn render(module: &ModuleSpec, scope: &Scope<'_>) -> Result<Rendered, PlanError> {
    let no_exec = || PlanError::NoExec(format!("{}@{}", module.name, module.version));
    let exec = module.exec.as_ref().ok_or_else(no_exec)?;
    let render = |place: String, template: &sheaf_model::Template| {
        template.render(scope).map_err(|source| PlanError::Render { place, source })
    };
    let mut args = Vec::new();
    for (index, arg) in exec.args.iter().enumerate() {
        args.push(render(format!("exec.args[{index}]"), arg)?);
    }
    let mut confidential = Vec::new();
    let mut text = |confided: Confided, place: String, template: &sheaf_model::Template| {
        let pieces =
            template.render_but_secrets(scope).map_err(|source| PlanError::Render { place, source })?;
        Ok::<_, PlanError>(match pieces.as_slice() {
            [] => Some(String::new()),
            [Piece::Text(text)] => Some(text.clone()),
            _ => {
                confidential.push(Confidential { place: confided, pieces });
                None
            }
        })
    };
    let mut env = Vec::new();
    for (name, value) in &exec.env {
        let value = text(Confided::Env(name.clone()), format!("exec.env.{name}"), value)?;
        env.extend(value.map(|value| (name.clone(), value)));
    }
    env.extend(scope.artifact.map(|path| (sheaf_module::ARTIFACT.to_owned(), path.to_owned())));
    let mut files = Vec::new();
    for (name, content) in &module.files {
        let content = text(Confided::File(name.clone()), format!("files.{name}"), content)?;
        files.extend(content.map(|content| (name.clone(), content)));
    }
    let program = render("exec.command".to_owned(), &exec.command)?;
    Ok(Rendered { program, args, env, files, confidential })
}

/// What a plugin is told of itself.
fn instance(start: &Start, place: &Place<'_>) -> sheaf_module::Instance {
    sheaf_module::Instance {
        bucket: bucket(&start.bucket, start.origin.revision),
        node: node(&start.here),
        epoch: start.mode.epoch().map(|epoch| epoch.0),
        dir: place.dir.to_owned(),
    }
}

/// A bucket as plugins know it.
pub(crate) fn bucket(spec: &BucketSpec, revision: Revision) -> sheaf_module::Bucket {
    sheaf_module::Bucket {
        name: spec.name.to_string(),
        revision: revision.0,
        kind: spec.kind.as_str().to_owned(),
        module: spec.module.to_string(),
        multi_node: spec.multi_node,
        config_json: spec.config.as_str().to_owned(),
        labels: spec.labels.clone(),
        owner: spec.owner.clone().unwrap_or_default(),
        poll_frequency_ms: spec.poll_frequency.map(|every| every.0),
    }
}

/// A node as plugins know it.
pub(crate) fn node(here: &Here) -> sheaf_module::Node {
    sheaf_module::Node {
        name: here.name.clone(),
        hostname: here.hostname.clone(),
        labels: here.labels.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::reconcile::Origin;
    use sheaf_model::{Exec, Json, ModuleName, ModuleRef, ModuleVersion, Moment, Template, TemplateSet};

    use super::*;

    fn start(command: &str, mode: Mode, until: Option<Moment>) -> Start {
        let template = |text| Template::parse(text, TemplateSet::Instance).expect("a template");
        let name = ModuleName::new("m").expect("a name");
        let mut module = ModuleSpec::new(name, ModuleVersion::new("1").expect("a version"), Runtime::Exec);
        let env = BTreeMap::from([("A".to_owned(), template("${node.name}"))]);
        let args = vec![template("${bucket.config.port}"), template("${dir}/x")];
        module.exec = Some(Exec { command: template(command), args, env });
        let reference = ModuleRef::parse("m@1").expect("a reference");
        let mut bucket = BucketSpec::new(BucketName::new("/a").expect("a name"), reference);
        bucket.config = Json::new(&serde_json::json!({"port": 514}));
        let origin =
            Origin { revision: Revision(7), basis: Revision(9), content: 1, live: None, artifact: None };
        let here = Arc::new(Here { name: "n1".to_owned(), ..Here::default() });
        Start {
            bucket: Arc::new(bucket),
            module: Arc::new(module),
            mode,
            origin,
            until,
            here,
            artifact: None,
            trial: None,
        }
    }

    fn render(start: &Start) -> Result<Plan, PlanError> {
        let node = NodeName::new("n1").expect("a name");
        let place = Place { node: &node, boot: &"b1".into(), dir: Path::new("/d"), binary: "/usr/bin/sheaf" };
        plan(start, &place)
    }

    #[test]
    fn everything_is_rendered() {
        let mode = Mode::Single(sheaf_model::Epoch(4));
        let plan = render(&start("${sheaf}", mode, Some(Moment(5)))).expect("a plan");
        assert_eq!(plan.program, "/usr/bin/sheaf");
        assert_eq!(plan.args, ["514", "/d/x"]);
        assert_eq!(plan.env, [("A".to_owned(), "n1".to_owned())]);
        assert_eq!(plan.lease.until(), Some(Moment(5)));
        assert_eq!((plan.revision, plan.basis), (Revision(7), Revision(9)));
    }

    #[test]
    fn a_trial_runs_the_command_for_it_once_and_tells_nothing_of_its_life() {
        let template = |text| Template::parse(text, TemplateSet::Instance).expect("a template");
        let mut start = start("/bin/real", Mode::Multi(Revision(1)), None);
        start.trial =
            Some(Trial { until: sheaf_model::Timestamp(1), max_objects: 10, max_time: Span::seconds(5) });
        let plan = render(&start).expect("a plan");
        assert_eq!((&*plan.program, plan.restart.policy), ("/bin/real", RestartWhen::Never));
        let module = Arc::make_mut(&mut start.module);
        for call in [Call::TestSource, Call::Delete, Call::NewSource] {
            let command = vec![template("/bin/show"), template(call.as_str())];
            module.life_cycle.insert(call, LifeCycleCall { command, timeout: None });
        }
        let plan = render(&start).expect("a plan");
        assert_eq!((&*plan.program, &*plan.args), ("/bin/show", &["on_test_source".to_owned()][..]));
        assert_eq!(plan.commands, None);
        assert!(plan.env.contains(&("SHEAF_TEST_MAX_OBJECTS".to_owned(), "10".to_owned())), "{:?}", plan.env);
        // Without a trial it is the other way round.
        start.trial = None;
        let plan = render(&start).expect("a plan");
        assert_eq!(plan.program, "/bin/real");
        let told: Vec<Call> = plan.commands.expect("commands").lines.into_keys().collect();
        assert_eq!(told, [Call::NewSource, Call::Delete]);
    }

    #[test]
    fn what_has_secrets_in_it_is_left_open_and_nothing_of_it_is_in_the_plan() {
        let template = |text| Template::parse(text, TemplateSet::Confidential).expect("a template");
        let mut start = start("/bin/true", Mode::Multi(Revision(1)), None);
        let module = Arc::make_mut(&mut start.module);
        let exec = module.exec.as_mut().expect("a command");
        exec.env.insert("KEY".to_owned(), template("${node.name}:${secret.token}"));
        module.files.insert(FileName::new("a.conf").expect("a name"), template("x"));
        module.files.insert(FileName::new("b.conf").expect("a name"), template("${secret.token}"));
        let plan = render(&start).expect("a plan");
        assert_eq!(plan.env, [("A".to_owned(), "n1".to_owned())]);
        assert_eq!(plan.files.len(), 1);
        let places: Vec<&Confided> = plan.confidential.iter().map(|it| &it.place).collect();
        let file = FileName::new("b.conf").expect("a name");
        assert_eq!(places, [&Confided::Env("KEY".to_owned()), &Confided::File(file)]);
        let name = sheaf_model::SecretName::new("token").expect("a name");
        assert_eq!(plan.confidential[0].pieces, [Piece::Text("n1:".to_owned()), Piece::Secret(name)]);
    }

    #[test]
    fn what_is_missing_is_named_with_its_place() {
        let multi = Mode::Multi(Revision(1));
        let error = render(&start("${bucket.config.host}", multi, None)).expect_err("no such key");
        assert!(error.to_string().starts_with("exec.command: ${bucket.config.host}"), "{error}");
        let single = Mode::Single(sheaf_model::Epoch(4));
        assert!(matches!(render(&start("/bin/true", single, None)), Err(PlanError::NoLease)));
    }
}
