//! From a subtask to what its runner needs: everything rendered.

use sheaf_model::session::OrderedSubtask;
use sheaf_model::{Attempt, Bytes, Facts, Scope, SubtaskScope, Template};

use super::{Job, Place};
use crate::keeper::OutputLimits;
use crate::runner::Start;

/// What is kept of what an attempt writes: its beginning falls away first.
const OUTPUT: OutputLimits = OutputLimits { file: Bytes(1 << 20), files: 2 };
/// The kernel takes no longer variable; who needs more reads the file.
const VARIABLE_MAX: usize = 100 << 10;

/// The error is for people; trying again does not help.
pub(super) fn start(
    place: &Place,
    facts: &Facts,
    job: &Job,
    subtask: &OrderedSubtask,
    ticket: u64,
) -> Result<Start, String> {
    let attempt = Attempt { job: job.id, subtask: subtask.subtask, number: subtask.attempt };
    let dir = place.attempt(attempt).join("dir");
    let (dir_text, binary) = (dir.to_string_lossy(), place.binary.to_string_lossy());
    let name = job.spec.name.as_str();
    let item = subtask.item.value();
    let scope = Scope {
        bucket: None,
        node_name: facts.name.as_str(),
        node_hostname: &facts.hostname,
        node_labels: &facts.labels,
        dir: Some(&dir_text),
        files: Some(&dir_text),
        sheaf: &binary,
        artifact: None,
        subtask: Some(SubtaskScope {
            job: name,
            subtask: subtask.subtask,
            attempt: subtask.attempt,
            item: &item,
        }),
    };
    let render = |place: String, template: &Template| {
        template.render(&scope).map_err(|error| format!("{place}: {error}"))
    };
    let exec = job.module.exec.as_ref().ok_or("the module says nothing to execute")?;
    let args = exec.args.iter().enumerate();
    let mut env = vec![
        ("SHEAF_NODE".to_owned(), facts.name.to_string()),
        ("SHEAF_DIR".to_owned(), dir_text.clone().into_owned()),
        ("SHEAF_JOB".to_owned(), name.to_owned()),
        ("SHEAF_SUBTASK".to_owned(), subtask.subtask.to_string()),
        ("SHEAF_ATTEMPT".to_owned(), subtask.attempt.to_string()),
    ];
    let text = subtask.item.as_str();
    if text.len() <= VARIABLE_MAX {
        env.push(("SHEAF_ITEM".to_owned(), text.to_owned()));
    }
    for (name, value) in &exec.env {
        env.push((name.clone(), render(format!("exec.env.{name}"), value)?));
    }
    let mut files = Vec::new();
    if !item.is_number() {
        files.push(("item.json".to_owned(), text.to_owned()));
    }
    for (name, content) in &job.module.files {
        files.push((name.to_string(), render(format!("files.{name}"), content)?));
    }
    Ok(Start {
        ticket,
        program: render("exec.command".to_owned(), &exec.command)?,
        args: args.map(|(n, arg)| render(format!("exec.args[{n}]"), arg)).collect::<Result<_, _>>()?,
        env,
        files,
        dir,
        output: place.output(attempt),
        limits: OUTPUT,
        timeout: job.spec.timeout,
        stop: job.module.stop,
    })
}
