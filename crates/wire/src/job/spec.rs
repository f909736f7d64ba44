//! What a job shall be, to and from messages.

use std::collections::BTreeSet;

use sheaf_model::document::{DEFECTS_MAX, job_defects};
use sheaf_model::job::PRIORITY_MAX;
use sheaf_model::{
    ArrayRange, BackendName, Defect, FailureClass, JobName, JobSpec, ModuleRef, NameError, NodeListRules,
    Retry, Span, Subtasks,
};

use crate::proto::v1;
use crate::{ApiError, Caller};

const CLASSES: [(FailureClass, v1::FailureClass); 4] = [
    (FailureClass::Exit, v1::FailureClass::Exit),
    (FailureClass::Lost, v1::FailureClass::Lost),
    (FailureClass::Timeout, v1::FailureClass::Timeout),
    (FailureClass::Backend, v1::FailureClass::Backend),
];

/// Everything that is wrong with a spec.
struct Defects(Vec<Defect>);

impl Defects {
    fn wrong(&mut self, path: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Defect::new(path, problem, remedy));
    }
}

/// A spec as a request has it.
pub(super) fn read(message: v1::JobSpec, caller: &Caller) -> Result<JobSpec, ApiError> {
    let request_id = caller.request_id(message.request_id.clone())?;
    let document = document(&message.name);
    let mut spec = of(message).map_err(|defects| {
        ApiError::Invalid(defects.into_iter().map(|defect| defect.of(document.as_str())).collect())
    })?;
    spec.request_id = request_id;
    Ok(spec)
}

/// What a defect is said of, if the name is one.
fn document(name: &str) -> String {
    JobName::new(name).map(|name| format!("Job {name}")).unwrap_or_default()
}

/// The spec of an answer: what the server sent must be right, or it is of another version.
pub(super) fn answered(message: Option<v1::JobSpec>) -> Result<JobSpec, ApiError> {
    let message = message.ok_or_else(|| ApiError::Internal("the answer has no spec".to_owned()))?;
    let request_id = (!message.request_id.is_empty()).then(|| message.request_id.as_str().into());
    let spec = of(message).map_err(|defects| {
        let defects: Vec<_> = defects.iter().map(ToString::to_string).collect();
        ApiError::Internal(format!("the answer holds a job that is not valid here: {}", defects.join(", ")))
    })?;
    Ok(JobSpec { request_id, ..spec })
}

fn of(message: v1::JobSpec) -> Result<JobSpec, Vec<Defect>> {
    let mut defects = Defects(Vec::new());
    let name = JobName::new(&message.name).map_err(|e| defects.wrong("name", e.problem, e.remedy)).ok();
    let module = ModuleRef::parse(&message.module);
    let module = module.map_err(|e| defects.wrong("module", e.problem, e.remedy)).ok();
    let subtasks = message.array.map_or(Subtasks::Items, |range| {
        let (first, last, step) = (range.first, range.last, range.step.unwrap_or(1));
        Subtasks::Array(ArrayRange { first, last, step })
    });
    let priority = message.priority.map_or(Ok(50), priority_of).unwrap_or_else(|defect| {
        defects.0.push(defect);
        0
    });
    let retry = message.retry.map_or_else(Retry::default, |retry| self::retry(&retry, &mut defects));
    let node_list_rules = NodeListRules::parse(&message.node_list_rules).unwrap_or_else(|errors| {
        for (index, error) in errors {
            defects.wrong(format!("node_list_rules[{index}]"), error.to_string(), error.remedy);
        }
        NodeListRules::default()
    });
    let backends = names("backends", &message.backends, BackendName::new, &mut defects);
    let after = names("after", &message.after, JobName::new, &mut defects);
    let (Some(name), Some(module)) = (name, module) else { return Err(defects.0) };
    let spec = JobSpec {
        priority,
        max_running: message.max_running,
        retry,
        timeout: message.timeout_ms.map(Span),
        node_list_rules,
        backends,
        after,
        labels: message.labels,
        owner: message.owner,
        ..JobSpec::new(name, module, subtasks)
    };
    defects.0.extend(job_defects(&spec).into_iter().map(as_field));
    if defects.0.is_empty() { Ok(spec) } else { Err(defects.0) }
}

/// Fields that a document writes in another way have names of their own in messages.
fn as_field(mut defect: Defect) -> Defect {
    const NAMES: [(&str, &str); 3] =
        [("timeout", "timeout_ms"), ("retry.backoff", "retry.backoff_max_ms"), ("subtasks.array", "array")];
    if let Some((_, name)) = NAMES.iter().find(|(path, _)| *path == defect.path) {
        defect.path = (*name).to_owned();
    }
    defect
}

/// The priority that a number says.
pub(super) fn priority_of(number: u32) -> Result<u8, Defect> {
    match u8::try_from(number) {
        Ok(priority) if priority <= PRIORITY_MAX => Ok(priority),
        _ => Err(Defect::new(
            "priority",
            format!("{number} is above the highest"),
            format!("0 to {PRIORITY_MAX}, higher first"),
        )),
    }
}

fn retry(message: &v1::JobRetry, defects: &mut Defects) -> Retry {
    let default = Retry::default();
    let backoff_min = message.backoff_min_ms.map_or(default.backoff_min, Span);
    let backoff_max = message.backoff_max_ms.map_or(default.backoff_max.max(backoff_min), Span);
    let mut retry_on = BTreeSet::new();
    for (index, number) in message.retry_on.iter().flat_map(|on| &on.classes).enumerate() {
        match CLASSES.iter().find(|(_, known)| i32::from(*known) == *number) {
            Some((class, _)) => {
                retry_on.insert(*class);
            }
            None if defects.0.len() > DEFECTS_MAX => break,
            None => defects.wrong(
                format!("retry.retry_on.classes[{index}]"),
                format!("{number} has no meaning"),
                "1 (exit), 2 (lost), 3 (timeout) or 4 (backend)",
            ),
        }
    }
    Retry {
        max_attempts: message.max_attempts.unwrap_or(default.max_attempts),
        backoff_min,
        backoff_max,
        retry_on: if message.retry_on.is_some() { retry_on } else { default.retry_on },
    }
}

/// Names; those that are none are left out.
fn names<N>(
    field: &str,
    texts: &[String],
    read: impl Fn(&str) -> Result<N, NameError>,
    defects: &mut Defects,
) -> Vec<N> {
    let mut names = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        if defects.0.len() > DEFECTS_MAX {
            break;
        }
        match read(text) {
            Ok(name) => names.push(name),
            Err(error) => defects.wrong(format!("{field}[{index}]"), error.problem, error.remedy),
        }
    }
    names
}

/// A spec as a message, with nothing left open.
pub(super) fn write(spec: JobSpec) -> v1::JobSpec {
    let class = |class: &FailureClass| match class {
        FailureClass::Exit => v1::FailureClass::Exit,
        FailureClass::Lost => v1::FailureClass::Lost,
        FailureClass::Timeout => v1::FailureClass::Timeout,
        FailureClass::Backend => v1::FailureClass::Backend,
        FailureClass::Refused => v1::FailureClass::Refused,
    };
    let classes = spec.retry.retry_on.iter().map(|it| class(it).into()).collect();
    v1::JobSpec {
        name: spec.name.as_str().to_owned(),
        module: spec.module.to_string(),
        array: match spec.subtasks {
            Subtasks::Array(range) => {
                Some(v1::ArrayRange { first: range.first, last: range.last, step: Some(range.step) })
            }
            Subtasks::Items => None,
        },
        priority: Some(spec.priority.into()),
        max_running: spec.max_running,
        retry: Some(v1::JobRetry {
            max_attempts: Some(spec.retry.max_attempts),
            backoff_min_ms: Some(spec.retry.backoff_min.0),
            backoff_max_ms: Some(spec.retry.backoff_max.0),
            retry_on: Some(v1::RetryOn { classes }),
        }),
        timeout_ms: spec.timeout.map(|span| span.0),
        node_list_rules: spec.node_list_rules.texts(),
        backends: spec.backends.iter().map(|name| name.as_str().to_owned()).collect(),
        after: spec.after.iter().map(|name| name.as_str().to_owned()).collect(),
        labels: spec.labels,
        owner: spec.owner,
        request_id: spec.request_id.map(|id| id.0).unwrap_or_default(),
    }
}
