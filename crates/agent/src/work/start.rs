//! From a subtask to what its runner needs: everything rendered.

use std::path::{Path, PathBuf};

use sheaf_model::session::OrderedSubtask;
use sheaf_model::{Attempt, Bytes, Facts, Runtime, Scope, SubtaskScope, Template};

use super::{Job, Place, confide};
use crate::keeper::{Confided, Confidential, Confine, Opened, OutputLimits};
use crate::runner::Start;
use crate::secrets;

/// What is kept of what an attempt writes: its beginning falls away first.
pub(super) const OUTPUT: OutputLimits = OutputLimits { file: Bytes(1 << 20), files: 2 };
/// The binary's own word for what is part of it; its name follows.
const BUILTIN: &str = "builtin";
/// The kernel takes no longer variable; who needs more reads the file.
const VARIABLE_MAX: usize = 100 << 10;

/// Of an `exec` module: a program for a subtask, in the workplace of that number. The error is for people; trying again does not help.
pub(super) fn start(
    place: &Place,
    facts: &Facts,
    job: &Job,
    artifact: Option<&str>,
    subtask: &OrderedSubtask,
    ticket: u64,
    workplace: u32,
) -> Result<Start, String> {
    let attempt = Attempt { job: job.id, subtask: subtask.subtask, number: subtask.attempt };
    let item = subtask.item.value();
    let name = job.spec.name.as_str();
    let scope = SubtaskScope { job: name, subtask: subtask.subtask, attempt: subtask.attempt, item: &item };
    // Another user's is made for it, and nobody else's afterwards.
    let lent = confine(job).is_none();
    let dir = if lent { place.workplace(workplace) } else { place.attempt(attempt).join("dir") };
    let mut start = Rendering { place, facts, job, artifact, dir }.start(ticket, Some(scope))?;
    let text = subtask.item.as_str();
    let told =
        [("SHEAF_SUBTASK", subtask.subtask.to_string()), ("SHEAF_ATTEMPT", subtask.attempt.to_string())];
    start.env.extend(told.map(|(name, value)| (name.to_owned(), value)));
    if let Some(backend) = &subtask.backend {
        start.env.push(("SHEAF_BACKEND".to_owned(), backend.to_string()));
        let config = job.config_of(Some(backend)).to_owned();
        start.env.push(("SHEAF_BACKEND_CONFIG".to_owned(), config));
    }
    if text.len() <= VARIABLE_MAX {
        start.env.push(("SHEAF_ITEM".to_owned(), text.to_owned()));
    }
    if !item.is_number() {
        start.files.insert(0, ("item.json".to_owned(), text.to_owned()));
    }
    start.lent = lent;
    start.output = place.output(attempt);
    start.timeout = job.spec.timeout;
    Ok(start)
}

/// Of a worker: the process that takes a job's subtasks, and serves at `socket`. The error is for people; trying again does
/// not help.
pub(super) fn worker(
    place: &Place,
    facts: &Facts,
    job: &Job,
    artifact: Option<&str>,
    socket: &Path,
    ticket: u64,
) -> Result<Start, String> {
    let own = place.of_worker(job.id);
    let mut start = Rendering { place, facts, job, artifact, dir: own.join("dir") }.start(ticket, None)?;
    let told = [
        (sheaf_module::SOCKET, socket.to_string_lossy().into_owned()),
        (sheaf_module::PROTOCOL_VARIABLE, sheaf_module::PROTOCOL.to_string()),
    ];
    start.env.extend(told.map(|(name, value)| (name.to_owned(), value)));
    if !job.module.secrets.is_empty() {
        let context = confide::socket(socket).to_string_lossy().into_owned();
        start.env.push((sheaf_module::CONTEXT.to_owned(), context));
    }
    if let Runtime::Builtin(_) = job.module.runtime {
        let kept = place.of_job(job.id).join("builtin");
        let told = [
            (sheaf_builtins::CLUSTER, place.cluster.to_string()),
            (sheaf_builtins::JOB_ID, job.id.to_string()),
            (sheaf_builtins::KEPT, kept.to_string_lossy().into_owned()),
        ];
        start.env.extend(told.map(|(name, value)| (name.to_owned(), value)));
    }
    start.output = own.join("output");
    start.shared.extend(socket.parent().map(Path::to_owned));
    Ok(start)
}

fn confine(job: &Job) -> Confine {
    Confine { limits: job.module.limits.clone(), user: job.module.user.clone() }
}

/// What all programs of a job share.
struct Rendering<'a> {
    place: &'a Place,
    facts: &'a Facts,
    job: &'a Job,
    /// Where what was pushed for the module is.
    artifact: Option<&'a str>,
    dir: PathBuf,
}

impl Rendering<'_> {
    /// The secrets that the module's environment and files name.
    fn opened(&self) -> Result<Opened, String> {
        let Self { place, facts, job, .. } = self;
        let mut opened = Opened::default();
        for name in job.module.secrets_in_templates() {
            let sealed = job.secrets.get(name);
            let sealed =
                sealed.ok_or_else(|| format!("secret {name} is not set yet: sheaf secret set {name}"))?;
            let value = secrets::open(place.key.as_deref(), &facts.name, name, sealed);
            let text =
                value.and_then(|value| secrets::text(name, &value)).map_err(|error| error.to_string())?;
            opened.put(name.clone(), text);
        }
        Ok(opened)
    }

    fn start(&self, ticket: u64, subtask: Option<SubtaskScope<'_>>) -> Result<Start, String> {
        let Self { place, facts, job, artifact, dir } = self;
        let (dir_text, binary) = (dir.to_string_lossy(), place.binary.to_string_lossy());
        let scope = Scope {
            bucket: None,
            node_name: facts.name.as_str(),
            node_hostname: &facts.hostname,
            node_labels: &facts.labels,
            dir: Some(&dir_text),
            files: Some(&dir_text),
            sheaf: &binary,
            artifact: *artifact,
            subtask,
        };
        let render = |place: String, template: &Template| {
            template.render(&scope).map_err(|error| format!("{place}: {error}"))
        };
        let (program, args) = match (&job.module.runtime, &job.module.exec) {
            (Runtime::Builtin(name), _) => {
                (binary.clone().into_owned(), vec![BUILTIN.to_owned(), name.clone()])
            }
            (_, None) => return Err("the module says nothing to execute".to_owned()),
            (_, Some(exec)) => {
                let args = exec.args.iter().enumerate();
                let args = args.map(|(n, arg)| render(format!("exec.args[{n}]"), arg));
                (render("exec.command".to_owned(), &exec.command)?, args.collect::<Result<_, _>>()?)
            }
        };
        let mut env = vec![
            ("SHEAF_NODE".to_owned(), facts.name.to_string()),
            ("SHEAF_DIR".to_owned(), dir_text.clone().into_owned()),
            ("SHEAF_JOB".to_owned(), job.spec.name.to_string()),
        ];
        env.extend(artifact.map(|path| (sheaf_module::ARTIFACT.to_owned(), path.to_owned())));
        let opened = self.opened()?;
        let reveal = |at: String, template: &Template| {
            let pieces = template.render_but_secrets(&scope).map_err(|error| format!("{at}: {error}"))?;
            Confidential { place: Confided::Env(at), pieces }.reveal(&opened)
        };
        for (name, value) in job.module.exec.iter().flat_map(|exec| &exec.env) {
            env.push((name.clone(), reveal(format!("exec.env.{name}"), value)?));
        }
        let mut files = Vec::new();
        for (name, content) in &job.module.files {
            files.push((name.to_string(), reveal(format!("files.{name}"), content)?));
        }
        Ok(Start {
            ticket,
            program,
            args,
            env,
            files,
            dir: dir.clone(),
            lent: false,
            output: dir.clone(),
            limits: OUTPUT,
            timeout: None,
            stop: job.module.stop,
            confine: confine(job),
            shared: Vec::new(),
        })
    }
}
